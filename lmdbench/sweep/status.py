"""What has become of each run of a sweep, told from directories, launches and the queues."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from lmdbench.core.claim import Claim
from lmdbench.core.errors import Damaged, DiskError, UserError
from lmdbench.core.files import read_text
from lmdbench.core.system import user_id
from lmdbench.core.words import count
from lmdbench.runs import state as run_states
from lmdbench.runs.index import RunIndex
from lmdbench.runs.plan import PlannedRun, staleness_of
from lmdbench.runs.record import RunRecord
from lmdbench.runs.state import last_error
from lmdbench.runs.steps import pause
from lmdbench.runs.whole import damage
from lmdbench.sweep.executors import LOCAL, job_executor
from lmdbench.sweep.executors.batches import Queued
from lmdbench.sweep.executors.reasons import last_words as last_words
from lmdbench.sweep.executors.reasons import of_pending
from lmdbench.sweep.launch_record import LAUNCHING, SWEEPS, Launch, pool_claim, read_launches
from lmdbench.sweep.lost import Lost, job_log, why_lost
from lmdbench.sweep.plan import Node, SweepPlan

State = Literal[
    "done", "running", "stalled", "queued", "failed", "lost", "damaged", "changed", "missing"
]
STATES: tuple[State, ...] = get_args(State)
# failed: it broke, and its directory says how. changed: finished by other code than is here now.
# stalled: a worker has it and makes no steps any more.
# damaged: finished, and a file of it can't be what was written there or can't be read.
# lost: begun or launched, not finished, and nobody works on it or will. missing: never begun.

RECORD_GONE = "it was done, but its run.json is gone: it is moved aside and trained anew"
NO_JOB = "its job is gone from SLURM's queue, and its process {pid} goes on"
ENDED_BADLY: tuple[State, ...] = ("failed", "lost", "stalled", "damaged", "missing")
RECENT_EPOCHS = 5  # whose mean length tells the time left
MOST_CLOSELY = 2000  # runs of a sweep up to which `status` looks also for changes in place


@dataclass(frozen=True)
class RunStatus:
    """The state of a run, and what is known of where and how far it is.

    ``job``: its id, or the process in a pool. ``epoch`` of ``epochs`` done; ``left``:
    seconds. ``note``: why it failed, was lost or is changed, or the queue's reason.
    """

    node: Node
    state: State
    job: str | None = None
    host: str | None = None
    epoch: int | None = None
    epochs: int | None = None
    left: float | None = None
    note: str = ""
    cause: str = ""  # of a lost run, as its journal calls it
    pooled: bool = False  # queued in a pool of local workers
    stuck: bool = False  # its job is in the queue, but on hold for ever
    log: Path | None = None  # of the job, where there is one
    unreadable: bool = False  # damaged for want of a permission or a disk, which no retry mends
    executor: str = ""  # that it was last launched on
    offered: bool = False  # to workers that are alive, and not begun by one of them


@dataclass(frozen=True)
class QueueEntry:
    """Where a launch put a run: still in SLURM's queue, in a living pool, or in neither."""

    folder: Path  # of the sweep that was launched
    launch: Launch
    index: int  # of the unit in its launch
    queued: Queued | None = None
    pool: bool = False
    coming: bool = False  # sbatch is at work right now
    workers: int = 0  # jobs that are alive and take runs like this one as they become ready

    @property
    def alive(self) -> bool:
        return (
            self.pool
            or self.coming
            or self.workers > 0
            or (self.queued is not None and not self.queued.stuck)
        )

    @property
    def is_gone(self) -> bool:
        """Whether it was submitted as a job of its own, which a queue that answers has no more."""
        return self.job is not None and self.queued is None and not self.launch.offered

    @property
    def job(self) -> str | None:
        if self.queued is not None:
            return self.queued.job
        if self.launch.job is None:
            return None
        array = len(self.launch.units) > 1
        return f"{self.launch.job}_{self.index}" if array else self.launch.job

    @property
    def log(self) -> Path | None:
        return job_log(self.folder, self.launch, self.job)


@dataclass(frozen=True)
class Overview:
    """All runs of a sweep by key; ``silent``: why a queue could not be read that should.

    ``no_room``: after a launch, how many runs the queue did not take yet. ``workers``: jobs of the
    sweep that are alive and take runs as they become ready.
    """

    plan: SweepPlan
    runs: Mapping[str, RunStatus]
    silent: str = ""
    no_room: int = 0
    workers: int = 0
    damaged: tuple[Path, ...] = ()  # records of launches that can't be understood

    def count(self, *states: State) -> int:
        return sum(status.state in states for status in self.runs.values())

    def keys(self, *states: State) -> list[str]:
        return [key for key, status in self.runs.items() if status.state in states]


class Finished:
    """The finished runs of a sweep, each read once; see ``RunIndex``."""

    def __init__(self, plan: SweepPlan, *, closely: bool = True) -> None:
        self.index = RunIndex(plan.results, closely=closely)
        self._code: dict[tuple[str, str], Mapping[str, str]] = {}  # of method and backbone

    def staleness(self, run: PlannedRun, record: RunRecord) -> str | None:
        """See ``plan.staleness_of``; of a record that can't be used, why."""
        try:
            return staleness_of(run, record, self._above(run), self._code_of(run))
        except UserError as error:
            return str(error)

    def _above(self, run: PlannedRun) -> RunRecord | None:
        """What the run it starts from recorded, if that is finished and can be read."""
        with suppress(OSError, Damaged, DiskError):
            return self.index.read(run.ancestor.directory)[1] if run.ancestor else None
        return None

    def _code_of(self, run: PlannedRun) -> Mapping[str, str]:
        what = run.spec.method, run.spec.backbone
        if what not in self._code:
            self._code[what] = run.code
        return self._code[what]


def look(plan: SweepPlan, finished: Finished | None = None) -> Overview:
    """The state of every run now. Changes nothing but the index of runs.

    ``finished``: what an earlier look knew, for who looks again and again.
    """
    finished = Finished(plan) if finished is None else finished
    finished.index.begin()
    damaged: list[Path] = []
    launches = read_launches(plan.results, damaged)
    unfinished = {key for key, node in plan.nodes.items() if not _is_done(node, finished)}
    submitted = {
        launch.kind
        for _, launch in launches
        if launch.kind != LOCAL and not launch.cancelled
        if launch.redoes or not all(map(unfinished.isdisjoint, launch.units))
    }
    silent, jobs = "", []
    for kind in submitted:
        named = {launch.name: launch.job for _, launch in launches if launch.kind == kind}
        try:
            jobs += job_executor(kind).queue(named, {launch.user for _, launch in launches})
        except UserError as error:
            silent = str(error)
    silent = silent or _unclear(plan, damaged, {kind for _, one in launches for kind in [one.kind]})
    launcher = Claim(plan.results / SWEEPS / LAUNCHING).holder() or {}
    another = bool(launcher.get("alive")) and launcher.get("pid") != os.getpid()
    places = _places(launches, jobs, another)
    stall = plan.sweep.resources.retry.stall
    runs = {
        key: _status(node, finished, places.get(key), bool(silent), stall)
        for key, node in plan.nodes.items()
    }
    finished.index.save()
    workers = _workers(launches, jobs).get(plan.folder, 0)
    runs = _with_reasons(runs, places)
    told = {key: _behind(one, runs) for key, one in runs.items()}
    return Overview(plan, told, silent, workers=workers, damaged=tuple(damaged))


def _workers(launches: Iterable[tuple[Path, Launch]], jobs: Iterable[Queued]) -> Counter[Path]:
    """Folder of a sweep → how many of its worker jobs are alive."""
    folders = {launch.name: folder for folder, launch in launches if launch.offered}
    return Counter(folders[job.name] for job in jobs if job.name in folders and not job.stuck)


def _behind(status: RunStatus, runs: Mapping[str, RunStatus]) -> RunStatus:
    """With the reason why a lost run never began, where that is what it starts from."""
    above = runs.get(status.node.needs or "")
    begun = status.epoch is not None or (status.log is not None and status.log.exists())
    if status.state != "lost" or begun or above is None or above.state not in ENDED_BADLY:
        return status
    why = f": {above.note}" if above.note else ""
    return replace(status, note=f"its stage 1, {above.node.title}, is {above.state}{why}")


def _unclear(plan: SweepPlan, damaged: Sequence[Path], kinds: Collection[str]) -> str:
    """Of launches whose records are damaged, one that may still be at work: nobody knows on which
    runs. Empty where none is."""
    named: dict[str, str | None] = {path.stem: None for path in damaged}
    for path in damaged:
        if (pool_claim(path.parents[1], path.stem).holder() or {}).get("alive"):
            return f"{path}: damaged, and its pool of workers is at work; wait for it or stop it"
    for kind in {*kinds, plan.sweep.resources.on} - {LOCAL} if named else ():
        try:
            jobs = job_executor(kind).queue(named, {user_id()})
        except UserError as error:
            return str(error)
        if names := sorted({job.name for job in jobs} & named.keys()):
            return (
                f"the record of launch {names[0]} is damaged, and its jobs are in the queue; wait "
                f"for them, or cancel them (scancel --name {names[0]})"
            )
    return ""


def _is_done(node: Node, finished: Finished) -> bool:
    """Whether a run is finished, even if its record is of another version."""
    directory = node.run.directory
    try:
        return finished.index.exists(directory) and finished.index.read(directory)[0] == "finished"
    except Damaged:
        return False
    except (OSError, UserError):
        return _says_done(node)


def _says_done(node: Node) -> bool:
    return all(_is_there(node.run.directory / name) for name in ("done", "run.json"))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _places(
    launches: Iterable[tuple[Path, Launch]], jobs: Iterable[Queued], launching: bool
) -> Mapping[str, QueueEntry]:
    """Key → where it was put: a place that is alive, else the last one."""
    jobs = list(jobs)
    by_name = {(job.name, job.index or 0): job for job in jobs}
    crews = _workers(launches, jobs)
    found: dict[str, QueueEntry] = {}
    for folder, launch in launches:
        pool = launch.kind == LOCAL and bool(
            (pool_claim(folder, launch.name).holder() or {}).get("alive")
        )
        coming = launching and launch.kind != LOCAL and launch.job is None
        for index, keys in enumerate(launch.units):
            place = QueueEntry(
                folder, launch, index, by_name.get((launch.name, index)), pool, coming,
                crews[folder] if launch.offered and not launch.cancelled else 0,
            )  # fmt: skip
            for key in keys:
                if place.alive or not (key in found and found[key].alive):
                    found[key] = place
    return found


def _status(
    node: Node, finished: Finished, place: QueueEntry | None, silent: bool, stall: float | None
) -> RunStatus:
    try:
        told = _told(node, finished, place, silent, stall)
        return told if place is None else replace(told, executor=place.launch.kind)
    except OSError as error:  # a directory of somebody else's, a disk that is away
        why = f"{node.run.directory} cannot be read: {error.strerror}"
    except UserError as error:
        why = str(error)
    if _says_done(node):
        return RunStatus(node, "damaged", note=why, unreadable=True)
    return RunStatus(node, "failed", note=why)


def _told(
    node: Node, finished: Finished, place: QueueEntry | None, silent: bool, stall: float | None
) -> RunStatus:
    directory = node.run.directory
    state, why = _read(node, finished)
    gone = state == "missing" and finished.index.exists(directory) and _is_there(directory / "done")
    if place is None and state == "missing" and not gone:  # most of a fresh sweep
        return RunStatus(node, "missing")
    if state == "finished":
        if why and place is not None and place.alive and place.launch.redoes:
            return RunStatus(node, "queued", job=place.job, note=why, pooled=place.pool)
        return RunStatus(node, "changed" if why else "done", note=why or "")
    if state == "damaged":
        note = why or damage(directory)
        since = place is not None and not _changed(directory / "done", place)
        if place is not None and place.alive and since:  # launched to be trained anew
            return RunStatus(node, "queued", job=place.job, note=note, pooled=place.pool)
        return RunStatus(node, "damaged", note=note)
    epochs = node.run.length
    epoch, left = _progress(directory / "history.csv", epochs)
    job, log = (place.job, place.log) if place else (None, None)
    if state == "running":
        holder: dict[str, Any] = Claim(directory / "running.json").holder() or {}
        where = holder.get("job") or f"process {holder.get('pid', '?')}"
        told = place.queued.state if place and place.queued else ""
        rests = told not in ("", "RUNNING")
        orphaned = place is not None and not silent and place.is_gone and place.job == where
        found = None if rests else pause(directory, holder, stall)
        note = told.lower() if rests else (found.text if found and found.is_told else "")
        note = note or (NO_JOB.format(pid=holder.get("pid", "?")) if orphaned else "")
        return RunStatus(
            node, "stalled" if found and found.hangs else "running", where, holder.get("host"),
            epoch, epochs, left, note=note, log=log,
        )  # fmt: skip
    at: dict[str, Any] = {"job": job, "epoch": epoch, "epochs": epochs, "log": log}
    if place is not None and (place.alive or (silent and _submitted(place))):
        failed_since = state == "failed" and _changed(directory / "failed.txt", place)
        if not failed_since:
            queued = place.queued
            note = _of_queued(queued) if queued is not None else ""
            host = (queued and queued.node) or None
            if place.workers:
                at |= {"job": None, "log": None, "offered": True}
                host, note = None, f"offered to {count(place.workers, 'worker')}"
            return RunStatus(node, "queued", host=host, note=note, pooled=place.pool, **at)
    if state == "failed":
        return RunStatus(node, "failed", note=last_error(directory), **at)
    stuck = place is not None and place.queued is not None
    if gone:
        return RunStatus(node, "lost", note=RECORD_GONE, stuck=stuck, **at)
    if state == "interrupted" or (place is not None and _submitted(place)):
        return RunStatus(node, "lost", note=_not_at_work(place), stuck=stuck, **at)
    return RunStatus(node, "missing")


def _of_queued(job: Queued) -> str:
    """Why a run is not at work whose job is in the queue."""
    if job.state == "PENDING":
        return of_pending(job.reason)
    return f"in a job that is {job.state.lower()}"


def _read(node: Node, finished: Finished) -> tuple[run_states.State, str | None]:
    """A run's state, and why it is changed if it is finished and that."""
    directory = node.run.directory
    if not finished.index.exists(directory):
        return "missing", None
    try:
        state, record = finished.index.read(directory)
    except Damaged as error:
        if not _says_done(node):
            raise
        return "damaged", str(error)
    except DiskError:
        raise
    except UserError as error:  # its record is of another version
        return "finished", str(error)
    return state, finished.staleness(node.run, record) if record is not None else None


def _submitted(place: QueueEntry) -> bool:
    """Whether a queue other than this machine's was given the run, and not told to forget it."""
    return place.launch.kind != LOCAL and not place.launch.cancelled


def _not_at_work(place: QueueEntry | None) -> str:
    """Why nobody works on a run, where its launch alone tells."""
    if place is None:
        return "interrupted"
    if place.queued is not None:
        return f"its job is stuck: {of_pending(place.queued.reason)}"
    if place.launch.cancelled:
        return "cancelled"
    return ""


def _with_reasons(
    runs: Mapping[str, RunStatus], places: Mapping[str, QueueEntry]
) -> dict[str, RunStatus]:
    """The same with why runs are lost of which nothing was said yet."""
    lost = {
        key: Lost(one.node.run.directory, place.folder, place.launch, place.job)
        for key, one in runs.items()
        if one.state == "lost" and not one.note and (place := places.get(key))
    }
    told = dict(runs)
    for key, reason in why_lost(lost).items():
        text = reason.text
        if places[key].launch.offered and lost[key].last is None:
            text = "no worker is left that takes it"
        log = lost[key].log
        told[key] = replace(
            runs[key], note=text, cause=reason.cause, job=lost[key].last_job, log=log
        )
    return told


def _changed(path: Path, place: QueueEntry) -> bool:
    """Whether a file is younger than a launch."""
    try:
        return path.stat().st_mtime > place.launch.submitted
    except OSError:
        return False


def _progress(history: Path, epochs: int | None) -> tuple[int | None, float | None]:
    """Epochs done, and seconds left at the pace of the last ones."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(history), newline="")))
        done = int(rows[-1]["epoch"])
        seconds = [float(row["seconds"]) for row in rows[-RECENT_EPOCHS:]]
    except (OSError, ValueError, KeyError, TypeError, IndexError, csv.Error):
        return None, None
    left = None if epochs is None else sum(seconds) / len(seconds) * (epochs - done)
    return done, left
