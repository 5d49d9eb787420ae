"""What a method says of itself: title, source, deviations; read from its file without running it.

Importing a method imports torch, which takes longer than all the rest of a report.
"""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "lmdbench.methods"  # of the built-in methods, and the group of others' entry points
PLUGIN = "lmdbench_plugin_"  # in the name of a module that --plugin loaded
ATTRIBUTES = ("title", "source", "deviations")


@dataclass(frozen=True)
class About:
    """A method in its own words; empty where its file is not known or says nothing."""

    title: str = ""
    source: str = ""
    deviations: tuple[str, ...] = ()


def about_methods() -> dict[str, About]:
    """Name → what the method says of itself, of every method that can be found."""
    classes: dict[str, ast.ClassDef] = {}
    names: dict[str, str] = {}
    for file in _files():
        with suppress(OSError, ValueError, SyntaxError):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    classes[node.name] = node
                    if name := _registered(node):
                        names[name] = node.name
    return {name: _about(cls, classes) for name, cls in names.items()}


def _files() -> Iterator[Path]:
    """The files of the built-in methods, of other packages' and of plug-ins that are loaded."""
    package = importlib.util.find_spec(PACKAGE)
    for folder in (package and package.submodule_search_locations) or ():
        yield from sorted(Path(folder).glob("*.py"))
    for entry in importlib.metadata.entry_points(group=PACKAGE):
        with suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(entry.module)
            if spec is not None and spec.origin:
                yield Path(spec.origin)
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(PLUGIN) and module.__file__:
            yield Path(module.__file__)


def _registered(node: ast.ClassDef) -> str:
    """The name in ``@register_method("name")``, empty for another class."""
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Name(id="register_method"), args=[ast.Constant(value=str(name))]
            ):
                return name
    return ""


def _about(name: str, classes: Mapping[str, ast.ClassDef]) -> About:
    texts = {}
    for attribute in ATTRIBUTES:
        with suppress(ValueError, RecursionError):
            texts[attribute] = _attribute(name, attribute, classes)
    deviations = texts.get("deviations") or ()
    return About(
        str(texts.get("title", "")),
        str(texts.get("source", "")),
        tuple(map(str, deviations)) if isinstance(deviations, tuple) else (),
    )


def _attribute(name: str, attribute: str, classes: Mapping[str, ast.ClassDef]) -> object:
    """A class attribute, of the class or of those it builds on. Raises ValueError for another
    expression than texts, tuples of them, also of another class's in part, and f-strings of other
    classes' texts."""
    node = classes.get(name)
    if node is None:
        raise ValueError(f"{name} is not among the methods' files")
    for statement in node.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=target)], value=value)
                | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value)
            ) if target == attribute:
                return _value(value, classes)
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            return _attribute(base.id, attribute, classes)
    raise ValueError(f"{name} has no {attribute}")


def _values(parts: Iterable[ast.expr], classes: Mapping[str, ast.ClassDef]) -> Iterator[object]:
    for part in parts:
        match part:
            case ast.Starred(value=several):
                inner = _value(several, classes)
                yield from inner if isinstance(inner, tuple) else (inner,)
            case _:
                yield _value(part, classes)


def _value(node: ast.expr, classes: Mapping[str, ast.ClassDef]) -> object:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=parts):
            return tuple(_values(parts, classes))
        case ast.Subscript(value=value, slice=ast.Slice(lower=None, upper=ast.expr() as end)):
            whole = _value(value, classes)
            if isinstance(whole, tuple):
                return whole[: ast.literal_eval(end)]
        case ast.JoinedStr(values=parts):
            return "".join(str(_value(part, classes)) for part in parts)
        case ast.FormattedValue(value=value, format_spec=None):
            return _value(value, classes)
        case ast.Attribute(value=ast.Name(id=cls), attr=attribute):
            return _attribute(cls, attribute, classes)
    raise ValueError(f"{ast.unparse(node)} is no text")
