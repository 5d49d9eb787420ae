"""Where a pool's jobs come from. Here: a list of them, each after what it needs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from lmdbench.runs.state import last_error
from lmdbench.sweep.config.retry import AS_USUAL
from lmdbench.sweep.executors.messages import Outcome
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher

BUSY_SECONDS = 3.0  # before a run that another worker has is looked at again


class Source(ABC):
    """Gives a pool its jobs, and is told what becomes of them.

    The pool asks ``next`` whenever a worker is free. The job that it gets is ``taken`` once a
    worker has it, and then comes to one of ``ended``, ``busy`` and ``died``. ``outcomes``: key →
    what became of a job, once and for all.
    """

    most_deaths = AS_USUAL.attempts  # of a run's workers, without an epoch done; the pool says

    def __init__(self, watcher: PoolWatcher) -> None:
        self.watcher = watcher
        self.outcomes: dict[str, Outcome] = {}

    @abstractmethod
    def next(self, last: PoolJob | None) -> PoolJob | None:
        """A job that may begin now; None where there is none. ``last``: what the worker did."""

    @abstractmethod
    def taken(self, job: PoolJob) -> None:
        """A worker has begun the job: it is not to be given to another."""

    @abstractmethod
    def busy(self, job: PoolJob, outcome: Outcome) -> None:
        """Another living worker has the job, which is to be looked at again later."""

    @abstractmethod
    def died(self, job: PoolJob) -> None:
        """The job's worker died, and it is to be tried again."""

    def ended(self, job: PoolJob, outcome: Outcome) -> None:
        """The job is over."""
        self.outcomes[job.key] = outcome
        self.watcher.ended(job, outcome)

    @property
    def deadline(self) -> float | None:
        """When all work is stopped, by ``time.monotonic``; None: not before it is over."""
        return None

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether there is no job to give, and will be none unless one comes back."""

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many jobs it may still give."""


class FixedList(Source):
    """A list of jobs, in order. One whose ``needs`` is in the list waits for it to end.

    Ends by itself those that can't be done any more, or that another worker did in vain.
    """

    def __init__(self, jobs: Sequence[PoolJob], results: Path, watcher: PoolWatcher) -> None:
        super().__init__(watcher)
        self.results = results
        self.queue = list(jobs)
        self.titles = {job.key: job.title for job in jobs}
        self.not_before: dict[str, float] = {}  # key → when to look again at a busy run
        self.failed_before = {job.key: self._failed_at(job) for job in jobs}

    def next(self, last: PoolJob | None) -> PoolJob | None:  # noqa: ARG002
        now = time.monotonic()
        for job in list(self.queue):
            above = self.outcomes.get(job.needs) if job.needs else None
            if above is not None and above.kind in ("gave-up", "not-ready"):
                reason = f"{self.titles[job.needs or '']}, which it starts from, is not there"
                self._drop(job, Outcome("gave-up", reason))
            elif job.needs in self.titles and above is None:
                continue
            elif self.not_before.get(job.key, 0.0) <= now:
                if self._failed_at(job) in (None, self.failed_before[job.key]):
                    return job
                reason = last_error(self.results / job.key)
                self._drop(job, Outcome("failed", f"{reason} (by another worker)"))
        return None

    def taken(self, job: PoolJob) -> None:
        self.queue.remove(job)

    def busy(self, job: PoolJob, outcome: Outcome) -> None:
        self.not_before[job.key] = time.monotonic() + BUSY_SECONDS
        self.queue.append(job)
        self.watcher.ended(job, outcome)

    def died(self, job: PoolJob) -> None:
        self.queue.insert(0, job)

    @property
    def over(self) -> bool:
        return not self.queue

    @property
    def waiting(self) -> int:
        return len(self.queue)

    def _drop(self, job: PoolJob, outcome: Outcome) -> None:
        self.queue.remove(job)
        self.ended(job, outcome)

    def _failed_at(self, job: PoolJob) -> int | None:
        try:
            return (self.results / job.key / "failed.txt").stat().st_mtime_ns
        except OSError:
            return None
