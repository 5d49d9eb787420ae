"""What a person sees while a download works: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lmdbench.core.progress import LINE_SECONDS, clock
from lmdbench.download.disk_space import size
from lmdbench.download.watch import Watch


class Lines(Watch):
    """Plain lines, for log files: one when something begins and one every few seconds."""

    def say(self, text: str) -> None:
        print(f"{text}\n", end="", file=sys.stderr, flush=True)  # whole, if interrupted

    def begin(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        self._name, self._total, self._unit, self._first = name, total, unit, done
        self._started = self._last_line = time.monotonic()
        self.say(f"{name}: {self._amount(done)}")

    def update(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last_line < LINE_SECONDS and done != self._total:
            return
        self._last_line = now
        left = ""
        if self._total is not None and done > self._first:
            each = (now - self._started) / (done - self._first)
            left = f"  {clock(each * (self._total - done))} left"
        self.say(f"{self._name}: {self._amount(done)}{left}")

    def _amount(self, done: int) -> str:
        if self._unit == "bytes":
            return size(done) if self._total is None else f"{size(done)} of {size(self._total)}"
        return f"{done:,} {self._unit}" if self._total is None else f"{done:,} of {self._total:,}"


class Bars(Watch):
    """A live bar on a terminal, with speed and time left."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars: Progress | None = None

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        self.end()
        of_bytes: tuple[ProgressColumn, ...] = (DownloadColumn(), TransferSpeedColumn())
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            *(of_bytes if unit == "bytes" else (MofNCompleteColumn(),)),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
        )
        self._task = self._bars.add_task(name, total=total, completed=done)
        self._bars.start()

    def update(self, done: int) -> None:
        if self._bars is not None:
            self._bars.update(self._task, completed=done)

    def end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def watcher(quiet: bool) -> Watch:
    """The right kind of progress for where the output goes."""
    if quiet:
        return Watch()
    return Bars() if sys.stderr.isatty() else Lines()
