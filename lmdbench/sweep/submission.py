"""Runs of a sweep into a queue as jobs: as many as it takes, in as few arrays as can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from lmdbench.core.errors import UserError
from lmdbench.core.words import count
from lmdbench.sweep.asks import asks
from lmdbench.sweep.executors import JobExecutor
from lmdbench.sweep.executors.batches import Ask, Batch, Full, Unsure, Work, resources_of, units
from lmdbench.sweep.launch import forget_failures, owners, queued_jobs
from lmdbench.sweep.launch_record import (
    Launch,
    begin_launch,
    launch_name,
    launch_path,
    read_launches,
    write_launch,
)
from lmdbench.sweep.learned import learned
from lmdbench.sweep.plan import Node, SweepPlan
from lmdbench.sweep.status import Overview


@dataclass(frozen=True)
class Submitted:
    """What came of a submission. ``left``: the runs that there is no room for, and ``why``.

    ``most``: the user's jobs that the queue holds at a time, where it was found out.
    """

    runs: int
    left: tuple[Node, ...] = ()
    why: str = ""
    most: int | None = None
    lacking: int = 0  # workers that there is no room for, beside those that do the runs


def submit_all(
    plan: SweepPlan,
    nodes: Sequence[Node],
    overview: Overview,
    executor: JobExecutor,
    work: Work,
    say: Callable[[str], None],
    most: int | None = None,
    *,
    patient: bool = False,
) -> Submitted:
    """Hand the runs over as jobs, until all are or no more are taken.

    No more than ``max_jobs`` of the sweep's jobs, or ``most`` of the user's, are in the queue then.
    An array that the queue takes for too large is halved until one fits. ``patient``: nothing is
    submitted before half of what there may be is free, or nothing else waits for a node: a few at a
    time would come to many arrays. Raises UserError where the
    executor refuses for another reason; what came before is submitted, and the same launch goes on
    from there.
    """
    cancel_stuck(nodes, overview, executor)
    submission = Submission(plan, overview, executor, work, say, most)
    return submission.carry_out(nodes, patient=patient)


def cancel_stuck(nodes: Sequence[Node], overview: Overview, executor: JobExecutor) -> None:
    """Cancel jobs of these runs that are on hold for ever, or hang: they stand in the way."""
    launched = [overview.runs[node.key] for node in nodes]
    stuck = [
        status.job
        for status in launched
        if (status.stuck or status.state == "stalled") and status.executor == executor.name
    ]
    if stuck:
        executor.asked(executor.cancel, [job for job in dict.fromkeys(stuck) if job])


class Submission:
    """One submission, batch by batch. ``room``: for how many jobs; None: not known."""

    def __init__(
        self,
        plan: SweepPlan,
        overview: Overview,
        executor: JobExecutor,
        work: Work,
        say: Callable[[str], None],
        most: int | None,
    ) -> None:
        self.plan, self.executor, self.work, self.say = plan, executor, work, say
        self.overview = overview
        self.jobs = queued_jobs(overview, executor)
        self.asks: Mapping[str, Ask] = {}
        self.largest = executor.largest
        self.most = most
        self.arrays = self.runs = 0
        self.why = ""
        self.waiting = False  # jobs of it for a node
        self.room = self._room()

    def carry_out(self, nodes: Sequence[Node], *, patient: bool) -> Submitted:
        left = {node.key: node for node in nodes}
        self.asks, told = learned(self.plan, nodes, asks(self.plan, nodes))
        for line in told:
            self.say(line)
        if self.room is not None and patient and self.waiting and 2 * self.room < self._most():
            self.why = self.limit()
        while left and not self.why:
            if self.room is not None and self.room < 1:
                self.why = self.limit()
                break
            for batch in self._batches(list(left.values())):
                if self.room is not None and len(batch.tasks) > self.room:
                    break  # the rest is cut anew
                if not self.taken(batch):
                    break
                for run in batch.runs:
                    del left[run.key]
        return Submitted(self.runs, tuple(left.values()), self.why, self.most)

    def _batches(self, nodes: Sequence[Node]) -> list[Batch]:
        largest = self.largest if self.room is None else min(self.largest, self.room)
        per_job = self.plan.sweep.resources.packed
        pairs = [(node.job, node.needs) for node in nodes]
        return units(pairs, per_job, self.jobs, largest, self.asks)

    def taken(self, batch: Batch) -> bool:
        """Submit a batch. False where the queue is too full: ``why``, or ``largest`` is smaller."""
        try:
            self._submit(batch)
        except Full as full:
            if len(batch.tasks) > 1:
                self.largest = len(batch.tasks) // 2
                return False
            mine = len(self.executor.queue({}, ()))
            if not (mine or full.certain):
                raise UserError(str(full)) from full
            self.most = mine
            self.why = self.limit()
            return False
        if self.room is not None:
            self.room -= len(batch.tasks)
        return True

    def _submit(self, batch: Batch) -> None:
        plan, name = self.plan, launch_name(self.plan.sweep.name)
        keys = tuple(tuple(run.key for run in unit) for unit in batch.units)
        kind, redoes = self.executor.name, self.work.run.redoes_changed
        launch = Launch(
            name, kind, keys, sweeps=owners(plan), redoes=redoes, offered=bool(batch.workers)
        )
        launch = begin_launch(plan.folder, launch)
        before = f" ({self.arrays} job arrays were submitted before)" if self.arrays else ""
        resources = resources_of(batch, plan.sweep.resources)
        try:
            job = self.executor.hand_over(batch, name, plan.folder, resources, self.work, self.jobs)
        except Unsure as error:
            raise Unsure(f"{error}{before}; look at its status before launching again") from error
        except UserError as error:
            with suppress(OSError):
                launch_path(plan.folder, name).unlink(missing_ok=True)
            if isinstance(error, Full):
                raise
            raise UserError(f"{error}{before}; when that is mended, launch again") from error
        most = plan.sweep.resources.retry.attempts
        forget_failures([plan.nodes[run.key] for run in batch.runs], launch, most)
        write_launch(plan.folder, replace(launch, job=job))
        self.jobs |= batch.jobs(job)
        self.arrays, self.runs = self.arrays + 1, self.runs + len(batch.runs)
        jobs, runs = len(batch.tasks), len(batch.runs)
        self.say(f"submitted job {job}: {count(jobs, 'job')}, {count(runs, 'run')}")

    def _room(self) -> int | None:
        """How many jobs may still be submitted; None: as many as the queue takes."""
        max_jobs = self.plan.sweep.resources.max_jobs
        if max_jobs is None and self.most is None:
            return None
        names = {
            launch.name: launch.job
            for _, launch in read_launches(self.plan.results)
            if launch.kind == self.executor.name and self.plan.sweep.name in launch.sweeps
        }
        jobs = self.executor.queue(names, ())
        self.waiting = any(
            job.name in names and job.state == "PENDING" and job.reason != "Dependency"
            for job in jobs
        )
        rooms = []
        if max_jobs is not None:
            rooms.append(max_jobs - sum(job.name in names for job in jobs))
        if self.most is not None:  # others' jobs may count as well: with none, one is tried
            rooms.append(max(self.most - len(jobs), not jobs))
        return min(rooms)

    def _most(self) -> int:
        """Jobs that may be in the queue at a time."""
        limits = (self.most, self.plan.sweep.resources.max_jobs)
        return min(limit for limit in limits if limit is not None)

    def limit(self) -> str:
        max_jobs = self.plan.sweep.resources.max_jobs
        if self.most is not None and self._most() == self.most:
            return f"the queue takes no more than {self.most} jobs of yours at a time"
        return f"max_jobs is {max_jobs}"
