"""What the code behind a run's numbers is, in digests that comments and texts don't change."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lmdbench.models.backbones import Backbone
from lmdbench.runs.record import CODE_PARTS
from lmdbench.training.method import METHODS, Method

# Class attributes that only describe
TEXTS = {"title", "source", "deviations", "authors", "passes", "needs_images", "of_encoder"}
RANGES = {"Annotated", "Uniform", "LogUniform", "Times", "Choice"}  # of a setting's search

# Part of the code → lmdbench's modules that act on the numbers of every run
SHARED = {
    "loop": (
        *("runs.train", "runs.frozen", "core.randomness", "models.classifier", "models.stages"),
        *(f"training.{name}" for name in ("method", "engine", "task", "prefetch", "samplers")),
    ),
    "views": tuple(f"training.views.{name}" for name in ("augmentation", "blurs", "warps")),
}
LIBRARIES = tuple(
    Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")
)


def code_digests(method: type[Method], backbone: Backbone) -> dict[str, str]:
    """SHA-256 of all code that acts on a run's numbers, by ``CODE_PARTS``.

    Comments, docstrings, formatting and descriptions don't count.
    """
    shared = {
        part: _digest(f"lmdbench.{module}" for module in modules)
        for part, modules in SHARED.items()
    }
    return {"method": method_digest(method), **shared, "backbone": _digest(backbone.code)}


def combined(digests: Mapping[str, str]) -> str:
    """One digest of several."""
    return hashlib.sha256("".join(digests.values()).encode()).hexdigest()


def changed_part(recorded: Mapping[str, str | None], now: Mapping[str, str]) -> str | None:
    """The first of the ``CODE_PARTS`` that is another now than in a record; None if none is. What
    the record lacks, as one of an earlier version may, can't be told."""
    for part in CODE_PARTS:
        if recorded.get(part) not in (None, now[part]):
            return part
    return None


def method_digest(method: type[Method]) -> str:
    """SHA-256 of the code that defines a method: its own file, the method files it builds on, and
    what a plug-in imports from files beside it or elsewhere outside the installed packages."""
    own = _packages_of_methods()
    pending = {cls.__module__ for cls in method.__mro__ if _is_own(cls.__module__, own)}
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        module = sys.modules.get(name) or importlib.import_module(name)
        for value in vars(module).values():
            origin = value.__name__ if inspect.ismodule(value) else _module_of(value)
            if origin and origin not in seen and _is_own(origin, own):
                pending.add(origin)
        pending.update(origin for origin in _helpers(module) if origin not in seen)
    return _digest(seen)


def _digest(modules: Iterable[str]) -> str:
    """Of the code of modules by name; those without a file have none."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        spec = importlib.util.find_spec(name) if name not in sys.modules else None
        file: str | None = spec.origin if spec else getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            digest.update(f"{name}\n".encode() + code_of(Path(file)))
    return digest.hexdigest()


def _helpers(module: object) -> Iterator[str]:
    """The modules outside lmdbench and the installed packages whose files a module's own imports
    name, wherever in the file they stand."""
    file: str | None = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py") or not _is_loose(Path(file)):
        return
    for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            origin: str | None = getattr(sys.modules.get(name), "__file__", None)
            if origin is not None and _is_loose(Path(origin)):
                yield name


def _is_loose(file: Path) -> bool:
    """Whether a file is neither lmdbench's own nor an installed package's."""
    package = Path(__file__).resolve().parents[2]
    own = (package / folder for folder in ("lmdbench", "methods", "datasets"))
    return not any(file.resolve().is_relative_to(root) for root in (*own, *LIBRARIES))


def _module_of(value: object) -> str | None:
    module = getattr(value, "__module__", None)
    return module if isinstance(module, str) else None


def _packages_of_methods() -> set[str]:
    """Top-level packages of third parties, and plug-ins, that registered methods."""
    modules = {METHODS.get(name).__module__.partition(".")[0] for name in METHODS.names()}
    return modules - {"lmdbench"}


def _is_own(module: str, packages: set[str]) -> bool:
    """Whether a module belongs to methods: built in, a plug-in, or a third party's."""
    if module.startswith(("lmdbench.methods.", "lmdbench.training.gaussians")):
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
        if node.module in ("typing", "lmdbench", "lmdbench.settings", "lmdbench.core.settings"):
            node.names = [alias for alias in node.names if alias.name not in RANGES]
        return node if node.names else None


def _describes(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Assign) and all(
        isinstance(target, ast.Name) and target.id in TEXTS for target in statement.targets
    )
