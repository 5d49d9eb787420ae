"""Names to what people add: decorators, built-in packages, entry points and plug-in files."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, ParamSpec, TypeVar

from lmdbench.core.code import closure, source_of
from lmdbench.core.errors import UserError
from lmdbench.core.folders import expanded
from lmdbench.core.words import listed

T = TypeVar("T")
P = ParamSpec("P")

PLUGIN_MODULE = "lmdbench_plugin_"  # before a plug-in file's name, as a module


def unknown(
    kind: str, name: str, known: list[str], titles: Mapping[str, str] | None = None
) -> UserError:
    """The error for a name that is none of the known ones: near matches first, then the list.

    ``titles``: known names → what else they may be called."""
    near = _near(name, known, titles or {})
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return UserError(f"unknown {kind} {name!r}. {hint}Known: {listed(known) or 'none'}.")


def unlisted(kind: str, name: str, known: list[str], listing: str) -> UserError:
    """The same for names that are too many for a line; ``listing`` is the command that has them."""
    near = _near(name, known, {})
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return UserError(f"unknown {kind} {name!r}. {hint}All of them: `{listing}`.")


def _near(name: str, known: list[str], titles: Mapping[str, str]) -> list[str]:
    """The known names that may be meant, three at most: the same but for case, or else initials;
    or else those that hold it, look much like it, are words of it, or look like it at all."""
    typed = name.lower()
    if not typed:
        return []
    same = [k for k in known if typed in (k.lower(), titles.get(k, "").lower())]
    same = same or [k for k in known if k.lower() == _initials(typed) or _initials(k) == typed]
    if same:
        return same[:3]
    lowered = {k.lower(): k for k in known}
    holding = difflib.get_close_matches(typed, [k for k in lowered if typed in k], cutoff=0)
    close = [difflib.get_close_matches(typed, lowered, cutoff=cutoff) for cutoff in (0.8, 0.5)]
    words = _words(typed)
    within = [k for k in lowered if k in words]
    return [lowered[k] for k in dict.fromkeys([*holding, *close[0], *within, *close[1]])][:3]


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.lower())


def _initials(name: str) -> str:
    """Of several words; empty for one."""
    words = _words(name)
    return "".join(word[0] for word in words) if len(words) > 1 else ""


def misspelt(cls: Any, base: Any, known: Collection[str]) -> Iterator[str]:
    """What to say of each public name of a class's own that nothing reads, but that looks like one
    of ``base`` that is read, and that the class does not say itself."""
    for name, value in vars(cls).items():
        if name.startswith("_") or name in known:
            continue
        alike = [
            key
            for key in known
            if key not in vars(cls) and callable(getattr(base, key, None)) == callable(value)
        ]
        # Of functions there are more that are helpers of one's own.
        cutoff = 0.85 if callable(value) else 0.8
        if near := difflib.get_close_matches(name, alike, n=1, cutoff=cutoff):
            yield f"nothing reads its {name}. Did you mean {near[0]}?"


def first_line(thing: object) -> str:
    """Of what a class or function says of itself."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


class Registry(Generic[T]):
    """What people add of one kind, by name: classes, functions or objects.

    The built-in ones come by importing ``home``, a module or every module of a package; third
    parties come by the entry-point group of the registry's name or by ``load_plugin``. All of that
    waits for the first look-up.

    ``kind``: what one is called in messages. ``group``: the entry-point group. ``base``: the class
    that those registered by ``register`` must be subclasses of. ``title``: a line on one of them.
    """

    def __init__(
        self,
        kind: str,
        home: str,
        *,
        group: str,
        base: type | None = None,
        title: Callable[[T], str] = lambda thing: str(getattr(thing, "title", "")),
    ) -> None:
        self.kind = kind
        self.home = home
        self.group = group
        self.base = base
        self.title = title
        self._things: dict[str, T] = {}
        self._origins: dict[str, str] = {}  # name → what registered it
        self._files: dict[str, str] = {}  # name → the plug-in file that added it, as a module
        self._installed: set[str] = set()  # names that entry points added
        self._loaded = False
        self.broken: dict[str, str] = {}  # entry point → why it could not be imported

    def register(self, name: str) -> Callable[[T], T]:
        """Class decorator, which gives the class its ``name``. Raises UserError as ``add``, and for
        a wrong base class."""

        def decorate(cls: T) -> T:
            if self.base is not None and not (isinstance(cls, type) and issubclass(cls, self.base)):
                raise UserError(f"{self.kind} {name!r} must be a subclass of {self.base.__name__}")
            self.add(name, cls, cls)
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return decorate

    def add(self, name: str, thing: T, origin: Any) -> None:
        """Register a thing; ``origin`` is the class or function that a message names for it.

        Raises UserError for a name that is taken, or that holds other than letters, digits, - and
        underscores.
        """
        if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name)):
            raise UserError(f"{self.kind} {name!r}: a name has letters, digits, - and _ only")
        if not hasattr(origin, "__qualname__"):
            kind = type(origin).__name__
            raise TypeError(f"{self.kind} {name!r} is a {kind}; register a function (def) or class")
        if not origin.__module__.startswith("lmdbench."):
            self._load()  # a third party's name must not take a built-in one's place
        if name in self._things:
            ours = self._origins[name].startswith("lmdbench.")
            by = "built in" if ours else f"already registered by {self.whence(name)}"
            raise UserError(f"{self.kind} {name!r} is {by}; choose another name")
        self._things[name] = thing
        self._origins[name] = f"{origin.__module__}:{origin.__qualname__}"

    def names(self) -> list[str]:
        """All names, in order of the alphabet."""
        return sorted(self.all())

    def all(self) -> Mapping[str, T]:
        """Name → thing, in the order of registration, the built-in ones first."""
        self._load()
        return MappingProxyType(self._things)

    def __contains__(self, name: object) -> bool:
        return name in self.all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())

    def __getitem__(self, name: str) -> T:
        return self.get(name)

    def get(self, name: str) -> T:
        """What has that name. Raises UserError with near matches and the list of all."""
        known = self.all()
        if name not in known:
            titles = {key: self.title(thing) for key, thing in known.items()}
            raise unknown(self.kind, name, self.names(), titles)
        return known[name]

    def origin(self, name: str) -> str:
        """``module:name`` of the class or function that is registered so."""
        self.get(name)
        return self._origins[name]

    def is_built_in(self, name: str) -> bool:
        """Whether it is of this repository, and not of a plug-in or another package."""
        return self.origin(name).startswith("lmdbench.")

    def whence(self, name: str) -> str:
        """Where it comes from, for people: ``lmdbench``, a plug-in's file, or another module."""
        module = self.origin(name).partition(":")[0]
        if module.startswith(PLUGIN_MODULE):
            return f"{module.removeprefix(PLUGIN_MODULE)}.py"
        return "lmdbench" if module.startswith("lmdbench.") else module

    def plugin(self, name: str) -> list[str]:
        """The module of the plug-in file that added a name, if one did."""
        return [self._files[name]] if name in self._files else []

    def note_plugin(self, module: str, names: set[str]) -> None:
        """Remember the plug-in file that added names, but for what it loaded of others."""
        self._files = dict.fromkeys(names - self._installed, module) | self._files

    def added(self) -> set[str]:
        """The names that third parties have registered so far; loads nothing."""
        return {name for name in self._things if not self._origins[name].startswith("lmdbench.")}

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        home = importlib.import_module(self.home)
        for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
            importlib.import_module(f"{self.home}.{module.name}")
        for entry_point in importlib.metadata.entry_points(group=self.group):
            try:
                entry_point.load()
            except Exception as error:  # a broken plug-in must not take the harness down
                self.broken[entry_point.value] = f"{type(error).__name__}: {error}"
        self._installed = self.added()


# What people add → where its registry is; imported when it is asked for.
KINDS: dict[str, str] = {
    "methods": "lmdbench.training.method:METHODS",
    "datasets": "lmdbench.data.dataset:DATASETS",
    "backbones": "lmdbench.models.backbones:BACKBONES",
    "metrics": "lmdbench.evaluation.metrics:METRICS",
    "samplers": "lmdbench.training.samplers:SAMPLERS",
    "views": "lmdbench.training.views.augmentation:VIEWS",
    "plots": "lmdbench.reporting.plots:PLOTS",
    "loggers": "lmdbench.training.loggers:LOGGERS",
    "executors": "lmdbench.sweep.executors:EXECUTORS",
}


def registry_of(kind: str) -> Registry[Any]:
    """The registry of one of ``KINDS``. Raises UserError, with near matches, for another word."""
    if kind not in KINDS:
        raise unknown("kind", kind, list(KINDS))
    module, _, name = KINDS[kind].partition(":")
    registry: Registry[Any] = getattr(importlib.import_module(module), name)
    return registry


def loaded_registries() -> Iterator[Registry[Any]]:
    """The registries whose modules are imported by now."""
    for place in KINDS.values():
        module, _, name = place.partition(":")
        if (registry := getattr(sys.modules.get(module), name, None)) is not None:
            yield registry


def registrar(register: Callable[P, T]) -> Callable[P, T]:
    """A ``register_…``, a decorator with a name and more, whose wrong arguments are told in a line
    that shows the right form."""
    signature = inspect.signature(register)
    needed = [key for key, one in signature.parameters.items() if one.default is one.empty]
    words = ", ".join(['"a-name"', *(f"{key}=…" for key in needed if key != "name")])

    @functools.wraps(register)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            name = signature.bind(*args, **kwargs).arguments["name"]
            problem = "" if isinstance(name, str) else f"{name!r} is no name"
        except TypeError as error:
            problem = str(error)
        if problem:
            raise UserError(f"{problem}; write @{register.__name__}({words})")
        return register(*args, **kwargs)

    return called


def load_plugin(path: Path | str) -> None:
    """Import a Python file, whose decorators register what it adds, of any of ``KINDS``.

    Raises UserError, naming the file, if it is absent, does not import or registers nothing.
    """
    path = expanded(path)
    if not path.is_file():
        raise UserError(f"plug-in {path}: no such file")
    name = f"{PLUGIN_MODULE}{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None:
        if Path(str(loaded.__file__)).resolve() == path.resolve():
            return
        raise UserError(f"plug-in {path}: another plug-in named {path.name} is already loaded")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plug-in {path}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    beside = str(path.resolve().parent)  # helper files; last, so that nothing is hidden by them
    if beside not in sys.path:
        sys.path.append(beside)
    before = _added()
    try:
        spec.loader.exec_module(module)
        if _added() <= before:
            raise UserError("it registers nothing: is the decorator missing?")
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"plug-in {path}: {_why(error)}") from error
    for registry in loaded_registries():
        known = {added for kind, added in before if kind == registry.kind}
        registry.note_plugin(name, registry.added() - known)
    for one, file in closure([name], ()).items():  # before an edit can come between
        source_of(one, file)


def _added() -> set[tuple[str, str]]:
    """Kind and name of all that third parties have registered."""
    return {(registry.kind, name) for registry in loaded_registries() for name in registry.added()}


def _why(error: BaseException) -> str:
    """Why a plug-in does not import, in a line."""
    if isinstance(error, UserError):
        return str(error)
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    package = missing.partition(".")[0]
    if package and importlib.util.find_spec(package) is None:
        return (
            f"it imports {missing}, which is neither installed nor a file beside it: "
            f"pip install {package}"
        )
    return f"{type(error).__name__}: {error}"
