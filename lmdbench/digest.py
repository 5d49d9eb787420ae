"""What a method's code is, in a digest that comments and texts don't change."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import inspect
import sys
from pathlib import Path

from lmdbench.method import METHODS, Method

# Class attributes that only describe
TEXTS = {"title", "source", "deviations", "authors", "passes", "needs_images", "of_encoder"}
RANGES = {"Annotated", "Uniform", "LogUniform", "Times", "Choice"}  # of a setting's search


def method_digest(method: type[Method]) -> str:
    """SHA-256 of the code that defines a method: its own file and the method files it builds on.

    Comments, docstrings, formatting and descriptions don't count.
    """
    own = _packages_of_methods()
    pending = {cls.__module__ for cls in method.__mro__ if _is_own(cls.__module__, own)}
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        for value in vars(sys.modules.get(name) or importlib.import_module(name)).values():
            origin = value.__name__ if inspect.ismodule(value) else _module_of(value)
            if origin and origin not in seen and _is_own(origin, own):
                pending.add(origin)
    digest = hashlib.sha256()
    for name in sorted(seen):
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None:
            digest.update(f"{name}\n".encode() + code_of(Path(file)))
    return digest.hexdigest()


def _module_of(value: object) -> str | None:
    module = getattr(value, "__module__", None)
    return module if isinstance(module, str) else None


def _packages_of_methods() -> set[str]:
    """Top-level packages of third parties, and plug-ins, that registered methods."""
    modules = {METHODS.get(name).__module__.partition(".")[0] for name in METHODS.names()}
    return modules - {"lmdbench"}


def _is_own(module: str, packages: set[str]) -> bool:
    """Whether a module belongs to methods: built in, a plug-in, or a third party's."""
    if module.startswith(("lmdbench.methods.", "lmdbench.calibration")):
        return True
    return module in sys.modules and module.partition(".")[0] in packages


def code_of(path: Path) -> bytes:
    """What a file's code comes to: without comments, docstrings, formatting and descriptions."""
    status = path.stat()
    return _content(path, (status.st_mtime_ns, status.st_size, status.st_ino))


@functools.lru_cache(maxsize=256)  # a look at a sweep asks for the same files 500 times
def _content(path: Path, _stamp: tuple[int, int, int]) -> bytes:
    """A file's code without what only describes it; a compiled file's bytes.

    ``_stamp`` changes when the file is edited.
    """
    if path.suffix != ".py":
        return path.read_bytes()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if not isinstance(node, documented):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.ClassDef):
            node.body = [line for line in node.body if not _describes(line)] or [ast.Pass()]
    return ast.unparse(_WithoutRanges().visit(tree)).encode()


class _WithoutRanges(ast.NodeTransformer):
    """Leaves out where settings are searched: ``Annotated[float, LogUniform(…)]`` is ``float``."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        match node.annotation:
            case ast.Subscript(
                value=ast.Name("Annotated"),
                slice=ast.Tuple(elts=[kind, ast.Call(func=ast.Name(name))]),
            ) if name in RANGES:
                node.annotation = kind
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.module in ("typing", "lmdbench.settings"):
            node.names = [alias for alias in node.names if alias.name not in RANGES]
        return node if node.names else None


def _describes(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id in TEXTS for target in statement.targets
    )
