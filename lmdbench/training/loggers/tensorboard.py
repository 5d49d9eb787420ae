"""Event files for TensorBoard."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from lmdbench.core.files import HOST
from lmdbench.training.loggers import Logger, Rows, Scores, register_logger

logger = logging.getLogger("lmdbench")

FOLDER = "tensorboard"  # in the run directory


@register_logger(
    "tensorboard", title="Event files for TensorBoard", needs="tensorboard", extra="tensorboard"
)
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
