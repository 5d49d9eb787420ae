"""The code of functions and classes that are in no file: of a notebook's cell or ``python -c``."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from lmdbench.core.code import TEXTS, bare, file_of

PLAIN = (type(None), bool, int, float, complex, str, bytes)


def fileless(things: Iterable[Any], described: type) -> tuple[list[str], set[str]]:
    """The code of those of the functions and classes that have no file, with what they use of their
    own module, by value; and the modules of all else that they use.

    Of subclasses of ``described`` the attributes that only describe don't count.
    """
    found = _Found(described)
    for thing in things:
        if not isinstance(thing, FunctionType | type) or _is_fileless(thing.__module__):
            found.visit("", thing)
    return found.code, found.modules


class _Found:
    def __init__(self, described: type) -> None:
        self.described = described
        self.code: list[str] = []
        self.modules: set[str] = set()
        self._seen: dict[int, Any] = {}  # kept, so that no other object gets one's id

    def visit(self, name: str, thing: Any) -> None:
        if isinstance(thing, PLAIN):
            self.code.append(f"{name} = {thing!r}")
        elif isinstance(thing, ModuleType):
            self._named(name, thing.__name__, "")
        elif id(thing) not in self._seen:
            self._seen[id(thing)] = thing
            for part, inner in self._parts(name, thing):
                self.visit(f"{name}.{part}", inner)

    def _named(self, name: str, module: str, thing: str) -> None:
        """What has a file is known by its own name."""
        self.modules.add(module)
        self.code.append(f"{name} = {module}.{thing}")

    def _parts(self, name: str, thing: Any) -> Iterator[tuple[str, Any]]:
        """What a thing is made of; its own text goes to the code."""
        if isinstance(thing, staticmethod | classmethod):
            yield "", thing.__func__
        elif isinstance(thing, property):
            yield from (("get", thing.fget), ("set", thing.fset))
        elif isinstance(thing, MethodType):
            yield from (("", thing.__func__), ("self", thing.__self__))
        elif isinstance(thing, functools.partial):
            yield from (("", thing.func), ("args", thing.args), ("kwargs", thing.keywords))
        elif isinstance(thing, FunctionType | type):
            thing = inspect.unwrap(thing)
            if not _is_fileless(thing.__module__):
                self._named(name, thing.__module__, thing.__qualname__)
            elif isinstance(thing, FunctionType):
                self.code.append(_text(thing))
                yield from _used(thing)
            else:
                yield from enumerate(thing.__bases__)
                yield from self._attributes(thing)
        elif isinstance(thing, dict):
            yield from sorted(((repr(key), value) for key, value in thing.items()), key=_first)
        elif isinstance(thing, list | tuple):
            yield from ((str(k), value) for k, value in enumerate(thing))
        elif isinstance(thing, set | frozenset):
            yield "", sorted(map(repr, thing))
        elif callable(getattr(thing, "tolist", None)):  # arrays and tensors
            yield "", repr(thing.tolist())
        else:
            of = type(thing)
            told = (of.__module__, of.__qualname__, getattr(thing, "__qualname__", ""))
            yield "", repr(told if hasattr(thing, "__dict__") or told[2] else thing)
            if _is_fileless(of.__module__):
                yield from (("", of), ("", getattr(thing, "__dict__", {})))

    def _attributes(self, cls: type) -> Iterator[tuple[str, Any]]:
        texts = TEXTS if issubclass(cls, self.described) else ()
        for name, value in sorted(vars(cls).items(), key=_first):
            special = name.startswith("__") and not isinstance(value, FunctionType)
            if not (special or name == "_abc_impl" or name in texts):
                yield name, value


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]


def _is_fileless(module: str) -> bool:
    return module not in sys.stdlib_module_names and file_of(module) is None


def _used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Defaults, and the names that a function uses of its module and of functions around it."""
    yield "defaults", function.__defaults__
    yield "keywords", function.__kwdefaults__
    for name in sorted(_global_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not yet filled
            continue


def _global_names(code: CodeType) -> set[str]:
    names = {
        str(step.argval)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    return names.union(*(_global_names(c) for c in code.co_consts if isinstance(c, CodeType)))


def _text(function: FunctionType) -> str:
    """A function's source, where it is kept, or else what it was compiled to."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
        return ast.unparse(bare(source.encode()))
    except (OSError, TypeError, SyntaxError):
        return _compiled(function.__code__, function.__doc__)


def _compiled(code: CodeType, doc: str | None = None) -> str:
    consts = list(code.co_consts)
    if doc is not None and consts[:1] == [doc]:
        consts[0] = None
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return repr((code.co_code, names, code.co_exceptiontable, [_constant(c) for c in consts]))


def _constant(constant: Any) -> str:
    if isinstance(constant, CodeType):
        return _compiled(constant)
    if isinstance(constant, frozenset):  # in an order of its own in every process
        return repr(sorted(map(repr, constant)))
    return repr(constant)
