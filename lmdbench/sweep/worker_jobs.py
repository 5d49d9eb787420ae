"""Jobs in a queue that each take the next run of a sweep that is ready, until none is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lmdbench.core.words import count
from lmdbench.sweep.executors import JobExecutor
from lmdbench.sweep.executors.batches import Batch, Work
from lmdbench.sweep.executors.offers import Offer, withdraw, write_offer
from lmdbench.sweep.launch import forget_failures, owners, pulled_jobs
from lmdbench.sweep.launch_record import Launch, begin_launch, launch_name, write_launch
from lmdbench.sweep.plan import Node, SweepPlan
from lmdbench.sweep.status import Overview
from lmdbench.sweep.submission import Submission, Submitted, cancel_stuck


def works_by_workers(plan: SweepPlan, executor: JobExecutor | None) -> bool:
    return executor is not None and executor.has_workers and bool(plan.sweep.resources.worker_jobs)


def workers_lack(overview: Overview, more: int = 0) -> int:
    """How many workers are to be submitted, with so many runs more than are offered already."""
    wanted = overview.plan.sweep.resources.worker_jobs or 0
    offered = sum(status.offered for status in overview.runs.values())
    return max(0, min(wanted, offered + more) - overview.workers)


def submit_workers(
    plan: SweepPlan,
    nodes: Sequence[Node],
    overview: Overview,
    executor: JobExecutor,
    work: Work,
    say: Callable[[str], None],
    most: int | None = None,
) -> Submitted:
    """Offer the runs to the sweep's workers, and submit those that lack of ``[slurm] workers``.

    Never more than so many are alive, nor more than there are runs. Raises as ``submit_all``.
    """
    cancel_stuck(nodes, overview, executor)
    if not overview.workers:
        withdraw(plan.folder)  # what was offered before is offered anew, or over
    launch = Launch(
        launch_name(plan.sweep.name),
        executor.name,
        (tuple(node.key for node in nodes),),
        sweeps=owners(plan),
        redoes=work.run.redoes_changed,
        offered=True,
    )
    if nodes:
        launch = begin_launch(plan.folder, launch)
        since = launch.submitted if launch.redoes else None
        write_offer(plan.folder, launch.name, Offer(tuple(pulled_jobs(nodes)), work.run, since))
        forget_failures(nodes, launch, plan.sweep.resources.retry.attempts)
    crew = _Crew(plan, overview, executor, work, say, most)
    lacking = crew.submit(nodes, workers_lack(overview, len(nodes)))
    if nodes:
        write_launch(plan.folder, replace(launch, job=""))
    alive = overview.workers + crew.submitted
    runs = f"{count(len(nodes), 'run')} {'is' if len(nodes) == 1 else 'are'}"
    say(f"{runs} offered to {count(alive, 'worker')}, {crew.submitted} of them new")
    left = () if alive else tuple(nodes)
    return Submitted(len(nodes) - len(left), left, crew.why, crew.most, lacking if alive else 0)


class _Crew(Submission):
    submitted = 0

    def submit(self, nodes: Sequence[Node], lacking: int) -> int:
        """Submit workers, as many as the queue takes. Returns how many it does not take."""
        offered = [one.node for one in self.overview.runs.values() if one.offered]
        runs = tuple(node.job for node in nodes or offered)
        while lacking and not self.why:
            if self.room is not None and self.room < 1:
                self.why = self.limit()
                break
            room = lacking if self.room is None else min(lacking, self.room)
            batch = Batch((runs,), workers=min(room, self.largest))
            if self.taken(batch):
                lacking -= batch.workers
                self.submitted += batch.workers
        return lacking
