"""Names to classes: decorators, built-in packages, entry points and plug-in files."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from lmdbench.core.errors import UserError

T = TypeVar("T")


def unknown(
    kind: str, name: str, known: list[str], titles: Mapping[str, str] | None = None
) -> UserError:
    """The error for a name that is none of the known ones: near matches first, then the list.

    ``titles``: known names → what else they may be called."""
    near = _near(name, known, titles or {})
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return UserError(f"unknown {kind} {name!r}. {hint}Known: {', '.join(known) or 'none'}.")


def _near(name: str, known: list[str], titles: Mapping[str, str]) -> list[str]:
    """The known names that may be meant: the same but for case, or else those that hold it, then
    those that look like it, nearest first; three at most."""
    typed = name.lower()
    if not typed:
        return []
    same = [k for k in known if typed in (k.lower(), titles.get(k, "").lower())]
    if same:
        return same
    lowered = {k.lower(): k for k in known}
    holding = difflib.get_close_matches(typed, [k for k in lowered if typed in k], cutoff=0)
    close = difflib.get_close_matches(typed, lowered, cutoff=0.5)
    return [lowered[k] for k in dict.fromkeys([*holding, *close])][:3]


class Registry(Generic[T]):
    """Classes of one kind by name.

    The built-in ones are found by importing every module of ``package``; third parties come by
    the entry-point group of the same name or by ``load_plugin``. All of that waits for the first
    look-up.
    """

    def __init__(self, kind: str, base: type[T], package: str) -> None:
        self.kind = kind
        self.base = base
        self.package = package
        self._classes: dict[str, type[T]] = {}
        self._loaded = False
        self.broken: dict[str, str] = {}  # entry point → why it could not be imported

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator. Raises TypeError for a wrong base class, ValueError for a taken name."""

        def decorate(cls: type[T]) -> type[T]:
            if not (isinstance(cls, type) and issubclass(cls, self.base)):
                raise TypeError(f"{self.kind} {name!r} must be a subclass of {self.base.__name__}")
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"{self.kind} {name!r}: a name has letters, digits, - and _ only")
            if not cls.__module__.startswith(f"{self.package}."):
                self._load()  # a third party's name must not take a built-in one's place
            if name in self._classes:
                taken = self._classes[name]
                raise ValueError(
                    f"{self.kind} {name!r} is already registered by "
                    f"{taken.__module__}.{taken.__qualname__}; choose another name"
                )
            self._classes[name] = cls
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return decorate

    def names(self) -> list[str]:
        self._load()
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """The class of that name. Raises UserError with near matches and the list of all."""
        self._load()
        if name not in self._classes:
            titles = {key: getattr(cls, "title", "") for key, cls in self._classes.items()}
            raise unknown(self.kind, name, self.names(), titles)
        return self._classes[name]

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry_point in importlib.metadata.entry_points(group=self.package):
            try:
                entry_point.load()
            except Exception as error:  # a broken plug-in must not take the harness down
                self.broken[entry_point.value] = f"{type(error).__name__}: {error}"


def load_plugin(path: Path) -> None:
    """Import a Python file, whose decorators register its methods and data sets.

    Raises UserError, naming the file, if it is absent or does not import.
    """
    if not path.is_file():
        raise UserError(f"plug-in {path}: no such file")
    name = f"lmdbench_plugin_{path.stem}"
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
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(f"plug-in {path}: {kind}{error}") from error
