"""Jobs that a pool takes as they become ready, beside other workers anywhere that do the same.

What is ready is told by the run directories alone; claims keep two workers off one run. Needs no
torch.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from lmdbench.core.claim import DEAD_AFTER_SECONDS, Claim
from lmdbench.core.errors import DiskError
from lmdbench.runs import attempts
from lmdbench.runs.state import last_error, run_state
from lmdbench.sweep.config.retry import AS_USUAL
from lmdbench.sweep.executors.batches import IDLE_SECONDS
from lmdbench.sweep.executors.messages import Outcome
from lmdbench.sweep.executors.sources import BUSY_SECONDS, Source
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher

SPREAD = 16  # of equals that come next, one is taken at random: workers seldom meet on a run
LAST_SHARE = 0.05  # of its time in which a worker begins no run any more …
MOST_LAST_SECONDS = 300.0  # … but not longer
MOST_REFUSALS = 5  # by workers, of a run whose stage 1 looks finished


@dataclass(frozen=True)
class Patience:
    """How long a worker works. ``idle``: seconds that it waits, with no run to do, for what others
    train; ``seconds``: in all, None for as long as there is something to do."""

    idle: float = IDLE_SECONDS
    seconds: float | None = None


class Pulled(Source):
    """Jobs, each ready once the run that it ``needs`` is finished, whoever trains that.

    First come those that others wait for, then those of the set-up that the worker did last, then
    the others in order. Those whose workers died ``most_deaths`` times without an epoch done are
    left. ``why_over``: why no job is given any more, while some are left.
    """

    def __init__(
        self,
        jobs: Iterable[PoolJob],
        results: Path,
        watcher: PoolWatcher,
        patience: Patience = Patience(),
        most_deaths: int = AS_USUAL.attempts,
    ) -> None:
        super().__init__(watcher)
        self.results = results
        self.patience = patience
        self.most_deaths = most_deaths
        self.began = time.monotonic()
        self.why_over = ""
        self.left: dict[str, PoolJob] = {}  # that nobody has finished, as far as is known
        self.mine: set[str] = set()  # of those: at work here
        self._since: dict[str, float | None] = {}
        self._places: dict[str, int] = {}
        self._not_before: dict[str, float] = {}  # key → when to look again at a run
        self._seen: dict[str, tuple[str, int]] = {}  # key → heartbeat of its claim at first sight
        self._renewed: set[str] = set()  # of those that others have: where it changed since
        self._refusals: Counter[str] = Counter()
        self._came_back: set[str] = set()  # from workers, and not looked at since
        self._nothing_until = 0.0
        self._idle_since: float | None = None
        self._random = random.Random()
        self.offer(jobs)

    @property
    def deadline(self) -> float | None:
        seconds = self.patience.seconds
        return None if seconds is None else self.began + seconds

    @property
    def late(self) -> bool:
        """Whether what begins now would not come far."""
        seconds = self.patience.seconds
        if seconds is None:
            return False
        margin = min(LAST_SHARE * seconds, MOST_LAST_SECONDS)
        return time.monotonic() > self.began + seconds - margin

    def offer(self, jobs: Iterable[PoolJob], since: float | None = None) -> None:
        """Add jobs; those that are over are tried again.

        ``since``: finished ones are done again, unless they were finished after it, in seconds
        since 1970 by the clock of the results folder.
        """
        for job in jobs:
            self.left[job.key] = job
            self._since[job.key] = since
            self._places.setdefault(job.key, len(self._places))
            self._not_before.pop(job.key, None)
            self._refusals.pop(job.key, None)
            self.outcomes.pop(job.key, None)
        self._nothing_until = 0.0

    # What the pool asks

    def next(self, last: PoolJob | None) -> PoolJob | None:
        now = time.monotonic()
        if self.late or now < self._nothing_until:
            return None
        job = next(filter(self._is_ready, list(self._in_order(last))), None)
        if job is None:
            self._nothing_until = now + BUSY_SECONDS
            if self._idle_since is None:
                self._idle_since = now
        else:
            self._idle_since = None
        return job

    def taken(self, job: PoolJob) -> None:
        self.mine.add(job.key)

    def busy(self, job: PoolJob, outcome: Outcome) -> None:  # noqa: ARG002
        self._came_back.add(job.key)
        self._later(job)

    def died(self, job: PoolJob) -> None:
        self.mine.discard(job.key)

    def ended(self, job: PoolJob, outcome: Outcome) -> None:
        if outcome.kind == "not-ready":  # what it starts from looked finished
            self._refusals[job.key] += 1
            if self._refusals[job.key] < MOST_REFUSALS:
                self._came_back.add(job.key)
                self._later(job)
                return
        self.mine.discard(job.key)
        self.left.pop(job.key, None)
        self._nothing_until = 0.0  # others may wait for it
        super().ended(job, outcome)

    @property
    def over(self) -> bool:
        now = time.monotonic()
        if not self.left:
            return True
        if self.late:
            self.why_over = "its time is up"
            return True
        if self._idle_since is None or self.mine or self._came_back & self.left.keys():
            return False
        waited = now - self._idle_since
        if self._others_train_what_is_needed():
            self.why_over = f"nothing became ready within {self.patience.idle:.0f} s"
            return waited > self.patience.idle
        self.why_over = "nothing is ready, nor are others at what is needed"
        return waited > 2 * DEAD_AFTER_SECONDS or not self._in_doubt()

    @property
    def waiting(self) -> int:
        return len(self.left) - len(self.mine)

    # What is ready

    def _in_order(self, last: PoolJob | None) -> Iterator[PoolJob]:
        needed = {job.needs for job in self.left.values()}
        setup = last.setup if last else None

        def rank(job: PoolJob) -> tuple[bool, bool]:
            return job.key not in needed, setup is not None and job.setup != setup

        jobs = sorted(
            (job for key, job in self.left.items() if key not in self.mine),
            key=lambda job: (*rank(job), self._places[job.key]),
        )
        for _, equals in groupby(jobs, rank):
            yield from self._spread(list(equals))

    def _spread(self, jobs: Sequence[PoolJob]) -> Iterator[PoolJob]:
        for first in range(0, len(jobs), SPREAD):
            some = list(jobs[first : first + SPREAD])
            self._random.shuffle(some)
            yield from some

    def _is_ready(self, job: PoolJob) -> bool:
        """Whether a job may begin now. Forgets it where it is over."""
        if job.key not in self.left or self._not_before.get(job.key, 0.0) > time.monotonic():
            return False
        self._came_back.discard(job.key)
        if job.needs is not None and not self._is_there(job.needs):
            return False
        try:
            return self._look(job)
        except (OSError, DiskError):  # away for a while
            self._later(job)
            return False

    def _look(self, job: PoolJob) -> bool:
        directory = self.results / job.key
        state = run_state(directory)
        if state == "finished" and self._counts(directory, self._since[job.key]):
            self._leave(job, Outcome("done", "by another worker"))
        elif state == "failed":
            self._leave(job, Outcome("failed", f"{last_error(directory)} (by another worker)"))
        elif state == "running":
            self._later(job)
            self._watch(job.key)
        elif (count := attempts.deaths(directory)) >= self.most_deaths:
            self.ended(job, Outcome("gave-up", f"its worker died {count} times"))
        else:
            return True
        return False

    def _is_there(self, key: str) -> bool:
        """Whether a run that another starts from is over; a failed one fails that as well."""
        if key in self.left:
            return False
        outcome = self.outcomes.get(key)
        if outcome is not None:
            return outcome.kind in ("done", "failed")
        with suppress(OSError, DiskError):
            return run_state(self.results / key) in ("finished", "failed")
        return False

    def _counts(self, directory: Path, since: float | None) -> bool:
        return since is None or (directory / "done").stat().st_mtime > since

    def _leave(self, job: PoolJob, outcome: Outcome) -> None:
        """Others brought the job to its end."""
        self.left.pop(job.key, None)
        self.outcomes[job.key] = outcome
        self.watcher.elsewhere(job)

    def _later(self, job: PoolJob) -> None:
        self.mine.discard(job.key)
        self._not_before[job.key] = time.monotonic() + BUSY_SECONDS

    # When to stop

    def _others_train_what_is_needed(self) -> bool:
        return any(job.needs in self._seen for job in self.left.values() if job.needs in self.left)

    def _watch(self, key: str) -> None:
        """Remember the heartbeat of a run that others have."""
        beat = Claim(self.results / key / "running.json").heartbeat()
        if self._seen.setdefault(key, beat) != beat:
            self._renewed.add(key)

    def _in_doubt(self) -> bool:
        """Whether others may have died at a run, as this worker's own former life on another node:
        their claims were not renewed since they were first seen."""
        return any(key in self.left and key not in self._renewed for key in self._seen)
