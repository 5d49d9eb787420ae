"""Submit the runs of a sweep to a queue, and the rest as room comes: ``launch --follow``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lmdbench.cli.options import stop_on_sigterm
from lmdbench.cli.sweep_common import again, runs
from lmdbench.core.errors import UserError
from lmdbench.core.files import file_system_time
from lmdbench.core.folders import default_cache
from lmdbench.sweep.executors.batches import Unsure, Work
from lmdbench.sweep.launch_record import follow_claim, read_launches

if TYPE_CHECKING:
    from lmdbench.runs.options import RunOptions
    from lmdbench.sweep.executors import JobExecutor
    from lmdbench.sweep.launch import LaunchSet
    from lmdbench.sweep.plan import SweepPlan
    from lmdbench.sweep.status import Overview
    from lmdbench.sweep.submission import Submitted

FIRST_SECONDS, LONGEST_SECONDS = 2.0, 30.0  # between two looks at the queue; doubled in between
MOST_TRIES = 3  # submissions of a run by one follower


def submit(
    planned: SweepPlan,
    chosen: LaunchSet,
    overview: Overview,
    options: RunOptions,
    say: Callable[[str], None],
    executor: JobExecutor,
    most: int | None = None,
    *,
    patient: bool = False,
) -> Submitted:
    """Hand the chosen runs to a queue. ``most``: of the user's jobs that it holds, if known."""
    from lmdbench.sweep.submission import submit_all
    from lmdbench.sweep.worker_jobs import submit_workers, works_by_workers

    work = Work(planned.results, default_cache(), planned.sweep.plugins, options)
    if works_by_workers(planned, executor):
        return submit_workers(planned, chosen.nodes, overview, executor, work, say, most)
    return submit_all(planned, chosen.nodes, overview, executor, work, say, most, patient=patient)


def tell_rest(planned: SweepPlan, submitted: Submitted, say: Callable[[str], None]) -> None:
    """Say what there was no room for, and how it gets into the queue."""
    if submitted.lacking:
        say(f"{submitted.lacking} workers are not submitted: {submitted.why}")
    if not submitted.left:
        return
    total = submitted.runs + len(submitted.left)
    say(
        f"{submitted.runs} of {runs(total)} are submitted: {submitted.why}; "
        f"{again('sweep launch', planned.sweep.argument)} --follow submits the rest as room comes"
    )


def follow(
    planned: SweepPlan,
    options: RunOptions,
    say: Callable[[str], None],
    executor: JobExecutor,
    choose: Callable[[Overview, Callable[[str], None]], LaunchSet],
) -> Overview:
    """Submit what there is room for, again and again until all is submitted.

    Safe to end at any time, and to start again. While SLURM does not answer it waits. A run that is
    lost meanwhile is submitted again, a few times at most. One process at a time follows a sweep:
    raises UserError where another does, and where the sweep is cancelled. Returns how things stand
    in the end.
    """
    claim = follow_claim(planned.folder)
    planned.folder.mkdir(parents=True, exist_ok=True)
    if not claim.acquire():
        holder = claim.holder() or {}
        raise UserError(
            f"process {holder.get('pid')} on {holder.get('host')} follows {planned.sweep.name} "
            "already, and submits the rest"
        )
    stop_on_sigterm()
    try:
        follower = _Follower(planned, options, say, executor, choose)
        pause = FIRST_SECONDS
        while follower.step():
            pause = FIRST_SECONDS if follower.submitted else min(2 * pause, LONGEST_SECONDS)
            time.sleep(pause)
        return follower.overview
    finally:
        claim.release()


@dataclass
class _Follower:
    planned: SweepPlan
    options: RunOptions
    say: Callable[[str], None]
    executor: JobExecutor
    choose: Callable[[Overview, Callable[[str], None]], LaunchSet]
    overview: Overview = field(init=False)
    submitted: int = 0  # runs, at the last step
    most: int | None = None
    silent: str = ""
    since: float = field(init=False)  # by the clock of the file system
    tries: Counter[str] = field(default_factory=Counter)  # key → submissions

    def __post_init__(self) -> None:
        self.since = file_system_time(self.planned.folder)

    def step(self) -> bool:
        """Submit what there is room for. Whether anything is left to submit."""
        from lmdbench.sweep.launch import launching, note_ends
        from lmdbench.sweep.status import look

        self.submitted = 0
        with launching(self.planned.results, self.say):
            if self._cancelled():
                name = self.planned.sweep.name
                raise UserError(f"{name} was cancelled; nothing more is submitted")
            self.overview = look(self.planned)
            if self.overview.silent:
                self._wait_for_slurm(self.overview.silent)
                return True
            note_ends(self.overview)
            told = self.say if not self.tries else lambda _: None
            chosen = self.choose(self.overview, told)
            nodes = tuple(n for n in chosen.nodes if self.tries[n.key] < MOST_TRIES)
            left = bool(nodes) and self._submit(replace(chosen, nodes=nodes))
            self.overview = look(self.planned)
        return left

    def _submit(self, chosen: LaunchSet) -> bool:
        try:
            done = submit(
                self.planned,
                chosen,
                self.overview,
                self.options,
                self.say,
                self.executor,
                self.most,
                patient=True,
            )
        except UserError as error:
            try:
                self.executor.queue({}, ())
            except UserError:  # nobody answers
                self._wait_for_slurm(str(error))
                return True
            if isinstance(error, Unsure):
                return True
            raise
        self.silent, self.most, self.submitted = "", done.most, done.runs
        left = {node.key for node in done.left}
        self.tries.update(node.key for node in chosen.nodes if node.key not in left)
        if self.submitted and left:
            self.say(f"{runs(len(left))} left: {done.why}; the rest follows")
        return bool(left)

    def _wait_for_slurm(self, why: str) -> None:
        if why != self.silent:
            self.say(f"{why}; waiting for it")
        self.silent = why

    def _cancelled(self) -> bool:
        launches = read_launches(self.planned.results)
        return any(
            launch.cancelled and launch.submitted >= self.since
            for folder, launch in launches
            if folder == self.planned.folder
        )
