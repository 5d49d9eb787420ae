"""What a person sees of a run or a download: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lmdbench.core.words import size

if TYPE_CHECKING:
    from rich import progress as bars

LINE_SECONDS = 10.0  # between two plain lines of one run
PREPARING = "preparing images"
COMPUTING = "computing features"


class Watched(Protocol):
    """A run, as far as it is shown."""

    @property
    def title(self) -> str: ...
    @property
    def directory(self) -> Path: ...


class Progress:
    """Who watches work, and says nothing. Called from the training loop; must be quick. A download
    calls it from one thread, but for ``say``."""

    def begin(self, run: Watched, epoch: int, epochs: int) -> None: ...
    def tick(self, done: int, total: int) -> None: ...
    def epoch(self, row: Mapping[str, float]) -> None: ...
    def end(self) -> None: ...
    def say(self, text: str) -> None: ...
    def prepare(self, done: int, total: int, what: str = PREPARING) -> None: ...
    def alive(self) -> None: ...  # nothing to show, but it goes on

    def start(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Something that is no run begins, of which ``done`` of ``total`` units ("bytes" or
        "images") are there; a total of None is unknown."""

    def update(self, done: int) -> None: ...


class Lines(Progress):
    """Plain lines, for log files: the first and last epoch, and one every few seconds between."""

    def __init__(self) -> None:
        self._last_line = 0.0
        self._prepared: tuple[str, int, float] | None = None  # what, how many, when: last line

    def say(self, text: str) -> None:
        with suppress(OSError):  # a full disk costs lines only
            print(f"{text}\n", end="", file=sys.stderr, flush=True)  # whole, if interrupted

    def prepare(self, done: int, total: int, what: str = PREPARING) -> None:
        now = time.monotonic()
        before = self._prepared
        if before is None or before[0] != what:
            left = ""
        elif done < total and now - before[2] < LINE_SECONDS:
            return
        else:
            speed = (done - before[1]) / max(now - before[2], 1e-9)
            left = f"  {clock((total - done) / speed)} left" if done < total and speed > 0 else ""
        self.say(f"{what}: {100 * done // total} %{left}")
        self._prepared = what, done, now

    def begin(self, run: Watched, epoch: int, epochs: int) -> None:
        self._name, self._first, self._epochs = run.title, epoch, epochs
        self._started, self._last_line = time.monotonic(), 0.0
        self.say(f"{self._name}: {f'resuming after epoch {epoch}' if epoch else 'starting'}")

    def epoch(self, row: Mapping[str, float]) -> None:
        number = int(row["epoch"])
        now = time.monotonic()
        if now - self._last_line < LINE_SECONDS and number < self._epochs:
            return
        self._last_line = now
        left = (now - self._started) / (number - self._first) * (self._epochs - number)
        self.say(f"{self._name}: epoch {number}/{self._epochs}  {shown(row)}  {clock(left)} left")

    def start(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        self._name, self._first, self._total, self._unit = name, done, total, unit
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


class Bars(Progress):
    """A live bar on a terminal, with loss, validation score and time left."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bars: bars.Progress | None = None
        self._task: bars.TaskID
        self._done = 0

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def prepare(self, done: int, total: int, what: str = PREPARING) -> None:
        if self._bars is None:
            from rich.progress import TaskProgressColumn

            self._open(what, total, TaskProgressColumn())
        self.update(done)
        if done == total:
            self.end()

    def begin(self, run: Watched, epoch: int, epochs: int) -> None:
        from rich.progress import MofNCompleteColumn, TextColumn

        self._done = epoch
        self._open(run.title, epochs, MofNCompleteColumn(), TextColumn("epochs"))
        self.update(epoch)

    def start(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        from rich.progress import DownloadColumn, MofNCompleteColumn, TransferSpeedColumn

        amount = (DownloadColumn(), TransferSpeedColumn())
        self._open(name, total, *(amount if unit == "bytes" else (MofNCompleteColumn(),)))
        self.update(done)

    def update(self, done: float) -> None:
        if self._bars is not None:
            self._bars.update(self._task, completed=done)

    def tick(self, done: int, total: int) -> None:
        # Whole epochs are counted by ``epoch``; several passes in one must not overshoot it.
        self.update(self._done + min(done / total, 0.99))

    def epoch(self, row: Mapping[str, float]) -> None:
        self._done = int(row["epoch"])
        if self._bars is not None:
            self._bars.update(self._task, completed=self._done, scores=shown(row))

    def end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _open(self, name: str, total: int | None, *amount: bars.ProgressColumn) -> None:
        from rich import progress as bars

        self.end()
        self._bars = bars.Progress(
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=16),
            *amount,
            bars.TimeRemainingColumn(),
            bars.TextColumn("left"),
            bars.TextColumn(
                "{task.fields[scores]}", markup=False
            ),  # last: cut where there is no room
            console=self._console,
        )
        self._task = self._bars.add_task(name, total=total, scores="")
        self._bars.start()


def watcher(quiet: bool) -> Progress:
    """The right kind of progress for where the output goes."""
    if quiet:
        return Progress()
    return Bars() if sys.stderr.isatty() else Lines()


def shown(row: Mapping[str, float]) -> str:
    """Loss and validation score of an epoch, for people."""
    logs = [
        f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in row.items()
        if name not in ("epoch", "seconds", "validation_balanced_accuracy")
    ]
    score = row["validation_balanced_accuracy"]
    scores = [] if math.isnan(score) else [f"validation {100 * score:.1f} %"]
    return "  ".join([*logs[:3], *scores])


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
