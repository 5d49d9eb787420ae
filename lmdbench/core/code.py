"""What Python code comes to: without comments and descriptions, and with what it imports."""

from __future__ import annotations

import ast
import functools
import importlib.util
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from lmdbench.core.files import read_bytes

# Class attributes that only describe
TEXTS = {"title", "source", "deviations", "authors", "passes", "needs_images", "of_encoder"}
RANGES = {"Annotated", "Uniform", "LogUniform", "Times", "Choice"}  # of a setting's search

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(ROOT / folder for folder in ("lmdbench", "methods", "datasets"))
PACKAGE_FOLDERS = {"site-packages", "dist-packages"}
Definition = tuple[str, str]  # a module and a name at its top


def file_of(name: str) -> Path | None:
    """The file of a module; None for one that has none, or is not there. Nothing is imported."""
    module = sys.modules.get(name)
    if module is not None:
        file: str | None = getattr(module, "__file__", None)
        return Path(file) if file else None
    path, spec = None, None
    parts = name.split(".")
    for k in range(len(parts)):
        if k and path is None:
            return None  # below a module that is no package
        spec = _found(".".join(parts[: k + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def files_of(names: Iterable[str]) -> dict[str, Path]:
    """Of modules that must be there, name → file. Raises LookupError for one that has none."""
    files = {}
    for name in names:
        file = file_of(name)
        if file is None:
            raise LookupError(f"the module {name} has no file: what its code is can't be told")
        files[name] = file
    return files


def _found(name: str, path: Iterable[str] | None) -> ModuleSpec | None:
    """What ``import`` would find, with the finders of editable installs too."""
    for finder in sys.meta_path:
        spec = finder.find_spec(name, None if path is None else list(path))
        if spec is not None:
            return spec
    return None


# Of modules that are loaded: module → what it was loaded by, and its source then
LOADED: dict[str, tuple[object, bytes]] = {}


def source_of(name: str, file: Path) -> bytes:
    """The content of a module's file; of one that is loaded as it was when it was first asked for,
    since what runs is not what the file becomes by an edit. ``importlib.reload`` has it read anew.
    """
    module = sys.modules.get(name)
    if module is None:
        return read_bytes(file)
    loaded_by = module.__spec__ or module  # a script has no spec
    if LOADED.get(name, (None,))[0] is not loaded_by:
        LOADED[name] = loaded_by, read_bytes(file)
    return LOADED[name][1]


@functools.cache
def is_loose(file: Path) -> bool:
    """Whether a file is neither lmdbench's own nor an installed package's."""
    return not any(file.resolve().is_relative_to(root) for root in (*OURS, *_libraries()))


@functools.cache
def _libraries() -> tuple[Path, ...]:
    """The folders of Python and of installed packages: this environment's, the user's, that of
    another environment below this one, and those that PYTHONPATH names."""
    own = {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}
    return tuple(Path(one).resolve() for one in {*own, *filter(_holds_packages, sys.path)})


def _holds_packages(folder: str) -> bool:
    path = Path(folder)
    return path.name in PACKAGE_FOLDERS or any(path.glob("*.dist-info"))


def imported_by(name: str, file: Path) -> tuple[str, ...]:
    """The names that a module's imports, wherever in the file they stand, may mean as modules."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return _imports(package, source_of(name, file)) if file.suffix == ".py" else ()


@functools.lru_cache(maxsize=512)
def _imports(package: str, source: bytes) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []
        for one in names:
            parts = one.split(".")
            found |= dict.fromkeys(".".join(parts[: k + 1]) for k in range(len(parts)))
    return tuple(found)


def _base(node: ast.ImportFrom, package: str) -> str:
    """The module that a ``from … import`` names; empty where that leads out of its package."""
    try:
        return importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:
        return ""


def closure(roots: Iterable[str], followed: tuple[str, ...]) -> dict[str, Path]:
    """Modules and what they import, name → file: of lmdbench's those whose names begin as one of
    the ``followed``, of others what is in no installed package, or in the package of a root."""
    pending = list(roots)
    packages = {name.partition(".")[0] for name in pending} - {"lmdbench"}
    found: dict[str, Path] = {}
    while pending:
        name = pending.pop()
        file = file_of(name)
        if name in found or file is None:
            continue
        found[name] = file
        for other in imported_by(name, file):
            if other not in found and _belongs(other, followed, packages):
                pending.append(other)
    return found


def _belongs(name: str, followed: tuple[str, ...], packages: Collection[str]) -> bool:
    top = name.partition(".")[0]
    if top == "lmdbench":
        return name.startswith(followed)
    if top in packages:
        return True
    file = None if _is_installed(top) else file_of(name)
    return file is not None and is_loose(file)


@functools.cache  # what is installed stays so for as long as a process lives
def _is_installed(top: str) -> bool:
    if top in sys.stdlib_module_names:
        return True
    file = file_of(top)
    return file is not None and not is_loose(file)


def code_of(name: str, file: Path) -> bytes:
    """What a module's code comes to: without comments, docstrings, formatting and descriptions; of
    a compiled one its bytes."""
    source = source_of(name, file)
    return _unparsed(source) if file.suffix == ".py" else source


@functools.lru_cache(maxsize=256)  # a look at a sweep asks for the same files 500 times
def _unparsed(source: bytes) -> bytes:
    return ast.unparse(bare(source)).encode()


def bare(source: bytes) -> ast.Module:
    """Code without comments, docstrings and descriptions."""
    tree = ast.parse(source)
    methods = _methods(tree)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if not isinstance(node, documented):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.ClassDef) and node.name in methods:
            node.body = [line for line in node.body if not _describes(line)] or [ast.Pass()]
    _WithoutRanges().visit(tree)
    return tree


def _methods(tree: ast.Module) -> set[str]:
    """The names of classes that are methods: registered as such, or subclasses of those."""
    found, classes = {"Method"}, [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    for cls in classes:
        registered = (one.func for one in cls.decorator_list if isinstance(one, ast.Call))
        named = {_last_name(one) for one in (*registered, *cls.bases)}
        if "register_method" in named or named & found:
            found.add(cls.name)
    return found


def _last_name(node: ast.expr) -> str:
    """``register`` of ``register`` and of ``methods.register``."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


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


# Parts of a module


def definitions(roots: Iterable[Definition]) -> dict[Definition, bytes]:
    """The code of functions, classes and constants at the top of modules and of all that they name
    there or in other modules of the same package.

    A name that its module does not have stands for all of the module. Raises LookupError for a root
    whose module is not there.
    """
    found: dict[Definition, bytes] = {}
    pending = list(roots)
    files_of(module for module, _ in pending)
    while pending:
        module, name = one = pending.pop()
        file = file_of(module)
        if one in found or file is None:
            continue
        tops, imports = _tops(module.rpartition(".")[0], source_of(module, file))
        if name not in tops:
            found[one] = code_of(module, file)
            continue
        found[one], names = tops[name]
        package = module.rpartition(".")[0]
        for used, attribute in names:
            base, imported = imports.get(used, ("", ""))
            if used in tops:
                pending.append((module, used))
            elif base == package and attribute and file_of(f"{base}.{imported}"):
                pending.append((f"{base}.{imported}", attribute))
            elif base.rpartition(".")[0] == package and file_of(base):
                pending.append((base, imported))
    return found


@functools.lru_cache(maxsize=64)
def _tops(
    package: str, source: bytes
) -> tuple[dict[str, tuple[bytes, frozenset[tuple[str, str]]]], dict[str, Definition]]:
    """Of a module in a package each name that its top binds, with the code of the statements that
    do and the names in them; and what it imports from where, by the name it has here. A name comes
    with what is asked of it: ``warps.sample`` is ("warps", "sample"), and ("warps", "")."""
    tops: dict[str, list[ast.stmt]] = {}
    imports: dict[str, Definition] = {}
    for statement in bare(source).body:
        if isinstance(statement, ast.ImportFrom):
            base = _base(statement, package)
            imports |= {a.asname or a.name: (base, a.name) for a in statement.names}
        elif not isinstance(statement, ast.Expr | ast.Import):  # of registries one looks up names
            for name in _bound(statement):
                tops.setdefault(name, []).append(statement)
    texts = {
        name: (
            b"\n".join(ast.unparse(statement).encode() for statement in statements),
            frozenset(word for statement in statements for word in _words(statement)),
        )
        for name, statements in tops.items()
    }
    return texts, imports


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and isinstance(
            node.ctx, ast.Store
        ):
            inner: ast.expr = node
            while isinstance(inner, ast.Attribute | ast.Subscript):
                inner = inner.value
            if isinstance(inner, ast.Name):
                found.add(inner.id)
    return found


def _words(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id, ""
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
