"""Who else is told of a run: of its settings, of each epoch, and of its scores in the end."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, TypeVar

from lmdbench.core.errors import UserError
from lmdbench.core.files import HOST
from lmdbench.core.registry import Registry, misspelt, registrar

logger = logging.getLogger("lmdbench")

Rows = Sequence[Mapping[str, float]]  # of history.csv, an epoch each
Scores = Mapping[str, Mapping[str, float | None]]  # part → metric → value, None where undefined
FOLDER = "tensorboard"  # in the run directory


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
        finished; None where it was stopped or failed."""


LoggerClass = TypeVar("LoggerClass", bound=type)
LOGGERS: Registry[type[Logger]] = Registry("logger", __name__, group="lmdbench.loggers")


@registrar
def register_logger(
    name: str, *, title: str, needs: str | None = None
) -> Callable[[LoggerClass], LoggerClass]:
    """Decorator of a class with the methods of ``Logger``, which it may be derived from.

    ``title``: a line on it. ``needs``: the package that it imports, told before anything is trained
    where it is not installed. Raises UserError for what makes no sense, and for a taken name.
    """
    for what, text in (("title", title), ("needs", needs)):
        if not (isinstance(text, str) and text.strip()) and not (what == "needs" and text is None):
            raise UserError(f"logger {name!r}: {what} is {text!r}, but must be text")

    def decorate(kind: LoggerClass) -> LoggerClass:
        check_logger(name, kind)
        LOGGERS.add(name, kind, kind)
        kind.name, kind.title, kind.needs = name, title, needs  # type: ignore[attr-defined]
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
    }
    for slip in misspelt(kind, Logger, calls):
        raise UserError(f"logger {name!r}: {slip}")
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
        needs = getattr(LOGGERS.get(name), "needs", None)
        if needs and importlib.util.find_spec(needs) is None:
            ours = LOGGERS.origin(name).startswith("lmdbench.")
            package = f'"lmdbench[{name}]"' if ours else needs
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


@register_logger("tensorboard", title="Event files for TensorBoard", needs="tensorboard")
class TensorBoard(Logger):
    """Event files of scalars: every column of the history, at the step of its epoch.

    The history is the truth: an attempt writes all of it anew into a file of its own and empties
    those of earlier attempts, so that there are neither gaps nor doubles, however they ended. After
    a write that failed (a full disk) the next epoch does the same.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._written = 0  # rows of the history in the file

    def begin(
        self,
        record: Mapping[str, Any],  # noqa: ARG002
        settings: Mapping[str, Any],  # noqa: ARG002
        directory: Path,
    ) -> None:
        self.folder = directory / FOLDER

    def epoch(self, history: Rows) -> None:
        try:
            if self._file is None and history:
                self._file = self._new_file(history)
            self._write(history)
        except OSError as error:
            logger.warning("TensorBoard: %s; the next epoch tries again", error)
            self.end(None)

    def end(self, scores: Scores | None) -> None:  # noqa: ARG002
        if self._file is not None:
            with suppress(OSError):  # of lines that could not be written before
                self._file.close()
        self._file, self._written = None, 0

    def _new_file(self, history: Rows) -> BinaryIO:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self.folder.mkdir(exist_ok=True)
        for old in self.folder.glob("events.out.tfevents.*"):
            if old.stat().st_size:
                os.truncate(old, 0)  # a viewer that reads it would not get over its end otherwise
            else:
                old.unlink()
        # TensorBoard reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{HOST}.{os.getpid()}"
        file = (self.folder / name).open("xb")
        first = int(history[0]["epoch"])
        begin = SessionLog(status=SessionLog.START)  # what a viewer has read before is void
        for event in (Event(file_version="brain.Event:2"), Event(step=first, session_log=begin)):
            event.wall_time = time.time() - sum(row["seconds"] for row in history)
            _append(file, event.SerializeToString())
        return file

    def _write(self, history: Rows) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        left = list(history[self._written :])
        now = time.time()
        for number, row in enumerate(left, start=1):
            values = [
                Summary.Value(tag=name, simple_value=value)
                for name, value in row.items()
                if name != "epoch" and math.isfinite(value)
            ]
            event = Event(step=int(row["epoch"]), summary=Summary(value=values))
            event.wall_time = now - sum(later["seconds"] for later in left[number:])
            assert self._file is not None
            _append(self._file, event.SerializeToString())
        if self._file is not None:
            self._file.flush()
        self._written = len(history)


def _append(file: BinaryIO, event: bytes) -> None:
    from tensorboard.summary.writer.record_writer import RecordWriter

    RecordWriter(file).write(event)
