"""What a person sees of a pool of workers: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmdbench.core.progress import Lines, clock
from lmdbench.sweep.executors.messages import Outcome
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher, Slot

REFRESH_SECONDS = 0.25
MOST_EVENTS = 8  # shown at the bottom
BAR = 10  # columns


def pool_watcher(sweep: str) -> PoolWatcher:
    """The right kind of view for where the output goes."""
    return Screen(sweep) if sys.stderr.isatty() else PlainLines()


@dataclass
class Work:
    """What a slot's worker does: the epochs of its run, and since when."""

    job: PoolJob
    title: str
    began: float = field(default_factory=time.monotonic)
    first: int = 0  # epoch that it began or went on at
    epoch: float = 0.0
    epochs: int = 0
    row: Mapping[str, float] = field(default_factory=dict)
    preparing: str = ""

    def hear(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        if kind == "begin":
            self.title, self.preparing = run_title(self.job, event), ""
            self.first, self.epochs = event["epoch"], event["epochs"]
            self.epoch, self.row, self.began = self.first, {}, time.monotonic()
        elif kind == "tick":
            self.epoch = math.floor(self.epoch) + min(event["done"] / event["total"], 0.99)
        elif kind == "epoch":
            self.row = event["row"]
            self.epoch = int(self.row["epoch"])
        elif kind == "prepare":
            self.preparing = f"{event['what']} {percent(event)}"

    @property
    def left(self) -> float | None:
        """Seconds, from the epochs since it began."""
        done = self.epoch - self.first
        if done <= 0:
            return None
        return (time.monotonic() - self.began) / done * (self.epochs - self.epoch)


def run_title(job: PoolJob, event: Mapping[str, Any]) -> str:
    """What is being trained: the job's run, or one it needs that was not there."""
    own = str(event["directory"]).endswith(job.key)
    return job.title if own else f"{event['title']} (for {job.title})"


def percent(event: Mapping[str, Any]) -> str:
    return f"{100 * event['done'] // max(1, event['total'])} %"


@dataclass(frozen=True)
class _Named:
    title: str


class PlainLines(PoolWatcher):
    """Plain lines, for log files: a run's beginning and end, and an epoch now and then."""

    def begin(self, slots: Sequence[Slot], jobs: Sequence[PoolJob]) -> None:
        self._lines = {slot: Lines() for slot in slots}
        self._jobs: dict[Slot, PoolJob] = {}
        self._began: dict[str, float] = {}
        self._busy: set[str] = set()
        self._ended, self._all = 0, len(jobs)

    def started(self, slot: Slot, job: PoolJob) -> None:
        self._jobs[slot] = job
        self._began[job.key] = time.monotonic()

    def event(self, slot: Slot, event: Mapping[str, Any]) -> None:
        lines, job = self._lines[slot], self._jobs[slot]
        if event["event"] == "begin":
            named: Any = _Named(f"{slot.name}: {run_title(job, event)}")
            lines.begin(named, event["epoch"], event["epochs"])
        elif event["event"] == "epoch":
            lines.epoch(event["row"])
        elif event["event"] == "say":
            lines.say(f"{slot.name}: {event['text']}")
        elif event["event"] == "prepare":
            lines.prepare(event["done"], event["total"], f"{slot.name}: {event['what']}")

    def ended(self, job: PoolJob, outcome: Outcome) -> None:
        seconds = time.monotonic() - self._began.get(job.key, time.monotonic())
        if outcome.kind == "busy":
            if job.key not in self._busy:
                self._busy.add(job.key)
                Lines().say(ending(job, outcome, seconds))
            return
        self._ended += 1
        Lines().say(f"{self._ended}/{self._all} {ending(job, outcome, seconds)}")

    def elsewhere(self, job: PoolJob) -> None:  # noqa: ARG002
        self._ended += 1

    def died(self, slot: Slot, what: str) -> None:
        Lines().say(f"{slot.name}: {what}")


def ending(job: PoolJob, outcome: Outcome, seconds: float) -> str:
    """What became of a run, in a line."""
    if outcome.kind == "done":
        return f"{job.title}: done in {clock(seconds)}"
    if outcome.kind == "busy":
        return f"{outcome.text}; looking again later"
    word = "failed" if outcome.kind == "failed" else "left undone"
    return f"{job.title}: {word}: {outcome.text}"


class Screen(PoolWatcher):
    """A live view: how far all is, a row for each worker, and what happened last."""

    def __init__(self, sweep: str, console: Console | None = None) -> None:
        self.sweep = sweep
        self.console = console or Console(stderr=True)
        self.counts: Mapping[str, int] = {}
        self.work: dict[Slot, Work | None] = {}
        self.happened: deque[str] = deque(maxlen=MOST_EVENTS)
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)  # of runs, by kind
        self._drawn = 0.0
        self._live: Live | None = None

    # What happens

    def begin(self, slots: Sequence[Slot], jobs: Sequence[PoolJob]) -> None:
        self.work = dict.fromkeys(slots)
        self.waiting = {job.key: job for job in jobs}
        self.total = len(jobs)
        self._live = Live(self.view(), console=self.console, auto_refresh=False)
        self._live.start()

    def started(self, slot: Slot, job: PoolJob) -> None:
        self.waiting.pop(job.key, None)
        self.work[slot] = Work(job, job.title)

    def event(self, slot: Slot, event: Mapping[str, Any]) -> None:
        work = self.work[slot]
        assert work is not None
        work.hear(event)
        if event["event"] == "say":
            self._tell(f"{slot.name}: {event['text']}")

    def ended(self, job: PoolJob, outcome: Outcome) -> None:
        self.waiting.pop(job.key, None)
        seconds = 0.0
        for slot, work in self.work.items():
            if work is not None and work.job is job:
                self.work[slot] = None
                seconds = time.monotonic() - work.began
                if outcome.kind == "done" and work.epochs > work.first:
                    whole = seconds * work.epochs / (work.epochs - work.first)
                    self.seconds[kind_of(job)].append(whole)
        if outcome.kind == "busy":
            self.waiting[job.key] = job
        else:
            self._tell(ending(job, outcome, seconds), keep=outcome.kind != "done")

    def elsewhere(self, job: PoolJob) -> None:
        self.waiting.pop(job.key, None)

    def died(self, slot: Slot, what: str) -> None:
        work, self.work[slot] = self.work[slot], None
        if work is not None:
            self.waiting[work.job.key] = work.job
        self._tell(f"{slot.name}: {what}", keep=True)

    def count(self, counts: Mapping[str, int]) -> None:
        self.counts = counts
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._live.update(self.view(), refresh=True)

    def end(self) -> None:
        if self._live is not None:
            self._live.update(self.view(), refresh=True)
            self._live.stop()
            self._live = None

    def _tell(self, text: str, *, keep: bool = False) -> None:
        """``keep``: above the view, where it stays to be read."""
        if keep and self._live is not None:
            self.console.print(text, markup=False, highlight=False)
        else:
            self.happened.append(text)

    # What is seen

    @property
    def left(self) -> float | None:
        """Seconds until all is done, from the runs that ended and the epochs of those going on."""
        known = [seconds for runs in self.seconds.values() for seconds in runs]
        running = [work for work in self.work.values() if work is not None]
        lefts = [work.left for work in running]
        if not known and self.waiting:
            return None
        mean = sum(known) / len(known) if known else None
        total = 0.0
        for job in self.waiting.values():
            own = self.seconds.get(kind_of(job)) or known
            total += sum(own) / len(own)
        for left in lefts:
            if left is None and mean is None:
                return None
            total += left if left is not None else mean or 0.0
        longest = max((left for left in lefts if left is not None), default=0.0)
        return max(total / max(1, len(self.work)), longest)

    def view(self) -> Group:
        """Never taller than the terminal."""
        room = max(4, self.console.height - 5)
        slots = list(self.work)
        events = min(len(self.happened), max(2, room - len(slots)))
        shown = slots if len(slots) <= room - events else slots[: max(1, room - events - 1)]
        parts: list[Any] = [self._summary(), self._rows(shown)]
        if len(shown) < len(slots):
            parts.append(Text(f"… and {len(slots) - len(shown)} more workers", style="dim"))
        for line in list(self.happened)[len(self.happened) - events :]:
            parts.append(Text(line, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _summary(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True, overflow="ellipsis", max_width=20)
        grid.add_column()
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, justify="right")
        done = self.total - sum(self.counts.get(n, 0) for n in ("running", "queued"))
        counted = " · ".join(f"{n} {name}" for name, n in self.counts.items() if n)
        left = self.left if self.counts.get("running") or self.waiting else None
        grid.add_row(
            Text(self.sweep, style="bold"),
            ProgressBar(self.total, done if self.counts else 0, width=BAR),
            Text(counted),
            Text("" if left is None else f"{clock(left)} left"),
        )
        return grid

    def _rows(self, slots: Sequence[Slot]) -> Table:
        table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("", no_wrap=True)
        table.add_column("run", ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column("", width=BAR)
        for name in ("epoch", "loss", "valid.", "left"):
            table.add_column(name, justify="right", no_wrap=True)
        for slot in slots:
            table.add_row(Text(slot.name), *self._row(self.work[slot]))
        return table

    def _row(self, work: Work | None) -> list[Any]:
        if work is None:
            return [Text("–", style="dim"), "", "", "", "", ""]
        if not work.epochs:
            note = f"{work.preparing} for {work.title}" if work.preparing else work.title
            return [Text(note), "", "", "", "", ""]
        losses = [
            value
            for name, value in work.row.items()
            if name not in ("epoch", "seconds", "validation_balanced_accuracy")
        ]
        score = work.row.get("validation_balanced_accuracy", math.nan)
        return [
            Text(work.title),
            ProgressBar(work.epochs, work.epoch, width=BAR),
            f"{math.floor(work.epoch)}/{work.epochs}",
            f"{losses[0]:.3g}" if losses else "",
            "" if math.isnan(score) else f"{100 * score:.1f} %",
            "" if work.left is None else clock(work.left),
        ]


def kind_of(job: PoolJob) -> str:
    """Runs that take about as long: those of a method on a data set's split."""
    return job.key.rpartition("/")[0]
