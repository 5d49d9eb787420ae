"""Who else is told of a run's epochs: TensorBoard, from the rows of ``history.csv``, if asked."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from lmdbench.core.errors import UserError
from lmdbench.core.files import HOST

logger = logging.getLogger("lmdbench")

Log = Literal["tensorboard"]
Rows = Sequence[Mapping[str, float]]  # of history.csv, an epoch each
FOLDER = "tensorboard"  # in the run directory


class Listener(Protocol):
    """Told of a run's history. What goes wrong with it must never cost the run."""

    def update(self, history: Rows) -> None:
        """All rows there are: when an attempt begins, and after each epoch."""

    def close(self) -> None: ...


class Nobody:
    def update(self, history: Rows) -> None: ...
    def close(self) -> None: ...


def check_log(log: Log | None) -> None:
    """Raise UserError where the package that ``--log`` needs is not installed."""
    if log == "tensorboard" and importlib.util.find_spec("tensorboard") is None:
        raise UserError(
            "--log tensorboard (in a sweep: log) needs the package tensorboard: "
            'pip install "lmdbench[tensorboard]", or leave it out'
        )


def listener(log: Log | None, directory: Path) -> Listener:
    """The listener of a run directory. Raises UserError as ``check_log``."""
    check_log(log)
    return Nobody() if log is None else TensorBoard(directory / FOLDER)


class TensorBoard:
    """Event files of scalars: every column of the history, at the step of its epoch.

    The history is the truth: an attempt writes all of it anew into a file of its own and empties
    those of earlier attempts, so that there are neither gaps nor doubles, however they ended. After
    a write that failed (a full disk) the next epoch does the same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: BinaryIO | None = None
        self._written = 0  # rows of the history in the file

    def update(self, history: Rows) -> None:
        try:
            if self._file is None and history:
                self._file = self._new_file(history)
            self._write(history)
        except OSError as error:
            logger.warning("TensorBoard: %s; the next epoch tries again", error)
            self.close()

    def close(self) -> None:
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
