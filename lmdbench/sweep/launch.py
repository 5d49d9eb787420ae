"""Hand the runs of a sweep to workers: a pool on this machine, or jobs elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors
from lmdbench.runs import attempts
from lmdbench.runs.options import RunOptions
from lmdbench.sweep.asks import asks
from lmdbench.sweep.executors import LOCAL, JobExecutor
from lmdbench.sweep.executors.batches import Batch, units
from lmdbench.sweep.executors.watcher import PoolJob
from lmdbench.sweep.launch_record import (
    LAUNCHING,
    SWEEPS,
    Launch,
    begin_launch,
    launch_name,
    pool_claim,
)
from lmdbench.sweep.learned import learned
from lmdbench.sweep.lost import OF_JOBS
from lmdbench.sweep.plan import Node, SweepPlan
from lmdbench.sweep.status import Overview, RunStatus, State

LAUNCH: tuple[State, ...] = ("missing", "lost")  # what a launch takes
PULL: tuple[State, ...] = (
    "missing",
    "lost",
    "running",
    "stalled",
)  # what a worker takes, or waits for
RETRY: tuple[State, ...] = ("failed", "lost", "damaged", "stalled")
WAIT_SECONDS = 0.5
USUAL_ARRAY_SIZE = 1001


@dataclass(frozen=True)
class LaunchSet:
    """The runs to launch, each after what it needs, and those held back with the reason."""

    nodes: tuple[Node, ...]
    held: Mapping[str, str] = field(default_factory=dict)  # key → why


def choose(
    overview: Overview, states: Sequence[State], options: RunOptions, *, join: bool = False
) -> LaunchSet:
    """The runs in one of the states, and what belongs with them.

    Under ``RETRY``, runs never begun that start from a retried one come along. With
    ``redo`` changed, changed runs are taken too, and everything that starts from them. Held back
    are runs that start from one that failed, or changed, and is not taken. ``join``: take what
    other pools have queued, too.
    """
    chosen: dict[str, Node] = {}
    redone: set[str] = set()
    held: dict[str, str] = {}
    most = overview.plan.sweep.resources.retry.attempts
    for key, status in overview.runs.items():
        node, state = status.node, status.state
        if status.unreadable and state in states:
            held[key] = status.note
            continue
        above = overview.runs[node.needs] if node.needs else None
        redo = options.redoes_changed and (
            state == "changed" or (state == "done" and node.needs in redone)
        )
        follows = state == "missing" and node.needs in chosen
        if not (redo or follows or state in states or (join and status.pooled)):
            continue
        if "failed" not in states and (why := _given_up(status, most)):
            held[key] = why
            continue
        if above is not None and above.node.key not in chosen:
            if above.node.key in held or above.state in ("failed", "damaged"):
                what = "is damaged" if above.state == "damaged" else "failed or is held back"
                held[key] = f"{above.node.title} {what}, which it starts from"
                continue
            if above.state == "changed" and not options.accept_changed:
                held[key] = f"{above.node.title} has changed, which it starts from: {above.note}"
                continue
        chosen[key] = node
        if redo:
            redone.add(key)
    return LaunchSet(tuple(chosen.values()), held)


def note_ends(overview: Overview) -> None:
    """Write why runs are lost into their journals, where only the queue or a log tells: what grows
    with the cause, and what counts as a death of their own, follows from those."""
    for status in overview.runs.values():
        if status.state != "lost" or status.cause not in OF_JOBS:
            continue
        directory = status.node.run.directory
        known = attempts.attempts(directory)
        if known and (not known[-1].how or known[-1].cause in ("signal", "unknown")):
            attempts.end(directory, known[-1].token, "died", status.cause, status.note)


def _given_up(status: RunStatus, most: int) -> str:
    """Why a launch leaves a run alone: it died too often; empty where it did not."""
    dead = attempts.died(status.node.run.directory) if status.state in LAUNCH else []
    if len(dead) < most:
        return ""
    last = dead[-1].reason or "nobody saw how"
    return (
        f"it died {len(dead)} times without an epoch done, the last time: {last}; retry tries again"
    )


@contextmanager
def launching(results: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Only one process at a time decides what to launch; the others wait, then see what it did."""
    with disk_errors(results):
        (results / SWEEPS).mkdir(parents=True, exist_ok=True)
    claim = Claim(results / SWEEPS / LAUNCHING)
    said = False
    while not claim.acquire():
        if not said:
            say("another launch is being made in this results folder; waiting for it")
            said = True
        time.sleep(WAIT_SECONDS)
    try:
        yield
    finally:
        claim.release()


def pool_jobs(nodes: Sequence[Node]) -> list[PoolJob]:
    """What a pool is given; a run that is not among them is not waited for."""
    keys = {node.key for node in nodes}
    return [
        PoolJob(node.job, node.title, node.needs if node.needs in keys else None) for node in nodes
    ]


def pulled_jobs(nodes: Sequence[Node]) -> list[PoolJob]:
    """What workers take as it becomes ready; what a run starts from may be anybody's."""
    return [PoolJob(node.job, node.title, node.needs) for node in nodes]


@contextmanager
def opened_pool(
    plan: SweepPlan, nodes: Sequence[Node], options: RunOptions, *, forget: bool = True
) -> Iterator[str]:
    """A launch on this machine: recorded, and claimed as long as the pool lives. Its name.

    ``forget``: that the runs failed before.
    """
    name = launch_name(plan.sweep.name)
    keys = tuple((node.key,) for node in nodes)
    launch = Launch(name, LOCAL, keys, sweeps=owners(plan), redoes=options.redoes_changed)
    launch = begin_launch(plan.folder, launch)
    if forget:
        forget_failures(nodes, launch, plan.sweep.resources.retry.attempts)
    claim = pool_claim(plan.folder, name)
    claim.acquire()
    try:
        yield name
    finally:
        claim.release()


def batches(
    plan: SweepPlan, nodes: Sequence[Node], overview: Overview, executor: JobExecutor, largest: int
) -> tuple[list[Batch], dict[str, str]]:
    """The job arrays of a launch, and what they may wait for in the queue already: key → job."""
    queued = queued_jobs(overview, executor)
    per_job = plan.sweep.resources.packed
    pairs = [(node.job, node.needs) for node in nodes]
    return units(
        pairs, per_job, queued, largest, learned(plan, nodes, asks(plan, nodes))[0]
    ), queued


def queued_jobs(overview: Overview, executor: JobExecutor) -> dict[str, str]:
    """Key → id of the job that has it, of what a new job of the executor can wait for."""
    return {
        key: status.job
        for key, status in overview.runs.items()
        if status.state in ("queued", "running", "stalled")
        and status.executor in ("", executor.name)
        if status.job and executor.waits_for(status.job)
    }


def owners(plan: SweepPlan) -> tuple[str, ...]:
    """Names of the sweeps that a launch of this one is for."""
    return (plan.sweep.name, *plan.belongs_to)


def forget_failures(nodes: Sequence[Node], launch: Launch, most: int) -> None:
    """Take back that runs failed before the launch, or died ``most`` times, which tries them again:
    what starts from them must not fail for it while they wait. Their logs keep what happened."""
    for node in nodes:
        if node.run.state == "failed" or attempts.deaths(node.run.directory) >= most:
            attempts.forget(node.run.directory)
        path = node.run.directory / "failed.txt"
        with disk_errors(path.parent), suppress(FileNotFoundError):
            if path.stat().st_mtime <= launch.submitted:
                path.unlink()


def most_array_tasks(executor: JobExecutor) -> int:
    """Of this cluster; SLURM's usual limit where there is none."""
    try:
        return executor.largest
    except UserError:
        return USUAL_ARRAY_SIZE
