"""Who else is told of a run: of its settings, of each epoch, and of its scores in the end."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from lmdbench.core.errors import UserError
from lmdbench.core.registry import Registry, misspelt, registrar

logger = logging.getLogger("lmdbench")

Rows = Sequence[Mapping[str, float]]  # of history.csv, an epoch each
Scores = Mapping[str, Mapping[str, float | None]]  # part → metric → value, None where undefined


class Logger:
    """Told of a run, and does nothing. One is made for each attempt at a run.

    What a logger raises never costs the run: it is a line in ``run.log``, and the logger is told
    nothing more of that attempt.
    """

    def begin(
        self, record: Mapping[str, Any], settings: Mapping[str, Any], directory: Path
    ) -> None:
        """An attempt begins. ``record``: ``run.json`` as it is by now; ``settings``: the method's,
        which stand in it as well; ``directory``: of the run, for files of one's own."""

    def epoch(self, history: Rows) -> None:
        """An epoch is done. All rows of ``history.csv`` so far; an attempt that goes on begins with
        those of the attempts before."""

    def end(self, scores: Scores | None) -> None:
        """The attempt is over. ``scores`` of the validation and test images, where the run is
        finished, and all its files lie in the directory; None where it was stopped."""

    def fail(self, reason: str) -> None:  # noqa: ARG002
        """The attempt failed, for this reason, a line. Unless a logger says otherwise, to it that
        is an ``end`` without scores."""
        self.end(None)


LoggerClass = TypeVar("LoggerClass", bound=type)
LOGGERS: Registry[type[Logger]] = Registry("logger", __name__, group="lmdbench.loggers")


@registrar
def register_logger(
    name: str, *, title: str, needs: str | None = None, extra: str | None = None
) -> Callable[[LoggerClass], LoggerClass]:
    """Decorator of a class with the methods of ``Logger``, which it may be derived from.

    ``title``: a line on it. ``needs``: the package that it imports, told before anything is trained
    where it is not installed; ``extra``: of lmdbench, that brings it along. Raises UserError for
    what makes no sense, and for a taken name.
    """
    for what, text in (("title", title), ("needs", needs), ("extra", extra)):
        if not (isinstance(text, str) and text.strip()) and (what == "title" or text is not None):
            raise UserError(f"logger {name!r}: {what} is {text!r}, but must be text")

    def decorate(kind: LoggerClass) -> LoggerClass:
        check_logger(name, kind)
        LOGGERS.add(name, kind, kind)
        for attribute, text in zip(
            ("name", "title", "needs", "extra"), (name, title, needs, extra), strict=True
        ):
            setattr(kind, attribute, text)
        return kind

    return decorate


def check_logger(name: str, kind: object) -> None:
    """Raise UserError for what is no class, or has not the methods that are called."""
    if not isinstance(kind, type):
        raise UserError(f"logger {name!r} is a {type(kind).__name__}, but must be a class")
    calls: dict[str, tuple[Any, ...]] = {
        "__init__": (),
        "begin": ({}, {}, Path()),
        "epoch": ([],),
        "end": (None,),
        "fail": ("",),
    }
    for slip in misspelt(kind, Logger, calls):
        raise UserError(f"logger {name!r}: {slip}")
    if not hasattr(kind, "fail"):
        del calls["fail"]
    for method, values in calls.items():
        words = ", ".join(list(inspect.signature(getattr(Logger, method)).parameters)[1:])
        if not callable(function := getattr(kind, method, None)):
            raise UserError(f"logger {name!r} has no method {method}({words})")
        try:
            inspect.signature(function).bind(kind, *values)
        except TypeError as error:
            called = f"called {method}({words})" if values else "made without arguments"
            raise UserError(f"logger {name!r}: it is {called}, but {error}") from error
        except ValueError:  # a signature that nobody can tell, as of object.__init__
            continue


def check_loggers(names: Sequence[str]) -> None:
    """Raise UserError for a name that no logger has, or whose package is not installed."""
    for name in names:
        kind = LOGGERS.get(name)
        needs, extra = getattr(kind, "needs", None), getattr(kind, "extra", None)
        if needs and importlib.util.find_spec(needs) is None:
            package = f'"lmdbench[{extra}]"' if extra else needs
            raise UserError(
                f"--log {name} (in a sweep: log) needs the package {needs}: "
                f"pip install {package}, or leave it out"
            )


class Loggers:
    """Several loggers, told alike and never raising. Raises UserError as ``check_loggers``."""

    def __init__(self, names: Sequence[str]) -> None:
        check_loggers(names)
        self._names = dict.fromkeys(names)
        self._loggers: dict[str, Logger] = {}

    def begin(
        self, record: Mapping[str, Any], settings: Mapping[str, Any], directory: Path
    ) -> None:
        for name in self._names:
            with self._guarded(name):
                self._loggers[name] = LOGGERS[name]()
                self._loggers[name].begin(record, settings, directory)

    def epoch(self, history: Rows) -> None:
        rows = tuple(map(MappingProxyType, history))
        self._all(lambda one: one.epoch(rows))

    def end(self, scores: Callable[[], Scores] | None = None) -> None:
        """Once: what comes after is not told any more."""
        self._all(lambda one: one.end(scores and scores()))
        self._loggers.clear()

    def fail(self, reason: str) -> None:
        """As ``end``, of an attempt that failed."""

        def tell(one: Logger) -> None:
            if hasattr(one, "fail"):
                one.fail(reason)
            else:
                one.end(None)

        self._all(tell)
        self._loggers.clear()

    def _all(self, tell: Callable[[Logger], None]) -> None:
        for name, one in list(self._loggers.items()):
            with self._guarded(name):
                tell(one)

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._loggers.pop(name, None)
            line = f"{type(error).__name__}: {error}".partition("\n")[0]
            logger.warning("logger %s: %s; it is told nothing more of this attempt", name, line)
