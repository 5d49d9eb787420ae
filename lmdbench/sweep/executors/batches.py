"""The runs of a launch, put together into jobs, and what is known of a job in a queue."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmdbench.core.errors import UserError
from lmdbench.runs.options import IN_SWEEPS, RunOptions
from lmdbench.sweep.config.sbatch import asks_for_gpus

if TYPE_CHECKING:
    from lmdbench.sweep.config.resources import Resources
    from lmdbench.sweep.executors.jobs import RunJob

Item = TypeVar("Item")
LEAST_MINUTES = 10  # of a job whose time is estimated: it imports, and may decode images first
IDLE_SECONDS = 120.0  # that a worker job waits, with no run to do, for what others train


@dataclass(frozen=True)
class Ask:
    """What a run asks of a queue otherwise than the rest of its sweep.

    ``options``: of sbatch, by long names with dashes, in alphabetical order; False or "" leaves one
    out. ``minutes``: the time limit, or where ``summed`` the share of this run in it. ``alone``: it
    shares no array task with other runs.
    """

    options: tuple[tuple[str, str | int | bool], ...] = ()
    minutes: int | None = None
    summed: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Batch:
    """A job array. ``units``: the runs of its array tasks, none where there is no such task.

    ``after``: keys of runs in earlier batches or already queued. All are of one array task, which
    all tasks of this batch wait for; where it is ``aligned`` they are of one array, and each task
    waits for the one of its own number there. ``awaited``: indices of units with a run that others
    of the launch start from. ``ask``: that of each of its runs. ``workers``: array tasks that all
    take runs of its one unit as they become ready, instead of one that does them in turn.
    """

    units: tuple[tuple[RunJob, ...], ...]
    after: tuple[str, ...] = ()
    aligned: bool = False
    awaited: frozenset[int] = frozenset()
    ask: Ask = Ask()
    workers: int = 0

    @property
    def tasks(self) -> list[int]:
        """Numbers of the array tasks that there are."""
        if self.workers:
            return list(range(self.workers))
        return [index for index, unit in enumerate(self.units) if unit]

    @property
    def runs(self) -> list[RunJob]:
        return [run for unit in self.units for run in unit]

    def jobs(self, job: str) -> dict[str, str]:
        """Key → id of the array task that has it, once the batch is job ``job``."""
        array = len(self.units) > 1
        return {
            run.key: f"{job}_{index}" if array else job
            for index, unit in enumerate(self.units)
            for run in unit
        }


Unit = tuple["RunJob", ...]
Place = tuple[object, int | None]  # an array and the number in it; a job, and None


def units(
    nodes: Sequence[tuple[RunJob, str | None]],
    runs_per_job: int,
    queued: Mapping[str, str],
    largest: int,
    asks: Mapping[str, Ask] | None = None,
) -> list[Batch]:
    """Runs to job arrays, each array after those that it waits for.

    ``nodes``: runs with the key of what each starts from. ``queued``: key → job id of runs in the
    queue already. ``asks``: by key, of the runs that ask for something of their own. An array has
    at most ``largest`` tasks, and runs that ask for the same. An array task gets up to
    ``runs_per_job`` runs, all in one set-up: its images are loaded once.

    Runs that wait for nothing share arrays. What starts from the runs of an array is laid in arrays
    beside it, one task behind each of its tasks: there are hardly more arrays than runs fill, and
    still each run waits for the task that has its own stage 1, and for no other. Where runs are
    packed it waits for the others of that task, too. As only success ends such a wait, runs behind
    a task that ends otherwise never begin, and are another launch's.
    """
    order = {run.key: number for number, (run, _) in enumerate(nodes)}
    awaited = {needs for _, needs in nodes if needs}
    places: dict[str, Place] = {key: _place_of(job) for key, job in queued.items()}
    batches: list[Batch] = []
    left = list(nodes)
    while left:
        waiting = {run.key for run, _ in left}
        ready = [(run, needs) for run, needs in left if needs not in waiting]
        if not ready:
            raise ValueError("runs that wait for each other")
        for batch in _level(ready, runs_per_job, places, largest, asks or {}):
            places |= _places_in(batch)
            held = (i for i in batch.tasks if any(run.key in awaited for run in batch.units[i]))
            batches.append(replace(batch, awaited=frozenset(held)))
        done = {run.key for run, _ in ready}
        left = [node for node in left if node[0].key not in done]
    # What starts from the first runs comes before the last ones.
    return sorted(batches, key=lambda batch: min(order[run.key] for run in batch.runs))


def _place_of(job: str) -> Place:
    array, _, index = job.partition("_")
    return (array, int(index)) if index.isdigit() else (job, None)


def _places_in(batch: Batch) -> dict[str, Place]:
    array, several = object(), len(batch.units) > 1
    return {
        run.key: (array, index if several else None)
        for index, unit in enumerate(batch.units)
        for run in unit
    }


def _level(
    ready: Sequence[tuple[RunJob, str | None]],
    runs_per_job: int,
    places: Mapping[str, Place],
    largest: int,
    asks: Mapping[str, Ask],
) -> Iterator[Batch]:
    """The arrays of runs that wait for no other of these."""
    groups: dict[tuple[object, Ask], dict[int | None, list[tuple[RunJob, str | None]]]] = {}
    for run, needs in ready:
        array, index = places.get(needs or "", (None, None))
        columns = groups.setdefault((array, asks.get(run.key, Ask())), {})
        columns.setdefault(index, []).append((run, needs))
    for (array, ask), columns in groups.items():
        size = 1 if ask.alone else runs_per_job
        packed = {i: _packed([run for run, _ in runs], size) for i, runs in columns.items()}
        above = {run.key: needs for runs in columns.values() for run, needs in runs}
        for some, aligned in _arrays(packed, largest):
            keys = (above[run.key] for unit in some for run in unit)
            after = dict.fromkeys(key for key in keys if key) if array is not None else ()
            yield Batch(some, tuple(after), aligned, ask=ask)


def _arrays(
    columns: Mapping[int | None, Sequence[Unit]], largest: int
) -> Iterator[tuple[tuple[Unit, ...], bool]]:
    """Units to as few arrays as can be, and whether each is aligned with that it waits for.

    ``columns``: number of an array task → the units that wait for it. Their first units become
    aligned arrays, one for each row; what long columns have beyond gets arrays of its own.
    """
    longest = max(map(len, columns.values())) if len(columns) > 1 else 0
    rows = min(range(longest + 1), key=lambda rows: _arrays_needed(columns, rows, largest))
    for row in range(rows):
        tasks = sorted((i, units[row]) for i, units in columns.items() if len(units) > row)
        for some in _cut(tasks, largest):
            if len(some) == 1:
                yield (some[0][1],), False
            else:
                having: dict[int | None, Unit] = dict(some)
                yield tuple(having.get(i, ()) for i in range((some[-1][0] or 0) + 1)), True
    for units in columns.values():
        for rest in _cut(units[rows:], largest):
            yield tuple(rest), False


def _arrays_needed(columns: Mapping[int | None, Sequence[Unit]], rows: int, largest: int) -> int:
    lengths = [len(units) for units in columns.values()]
    aligned = (sum(length > row for length in lengths) for row in range(rows))
    rest = (max(0, length - rows) for length in lengths)
    return sum(math.ceil(tasks / largest) for tasks in (*aligned, *rest))


def _cut(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def resources_of(batch: Batch, resources: Resources) -> Resources:
    """What a batch is submitted with: that of its sweep, and what its runs ask for instead."""
    minutes = job_minutes(batch.ask, resources, max(map(len, batch.units)))
    sbatch = {name.replace("_", "-"): value for name, value in resources.sbatch.items()}
    return replace(resources, time_minutes=minutes, sbatch={**sbatch, **dict(batch.ask.options)})


def job_minutes(ask: Ask, resources: Resources, runs: int = 1) -> int | None:
    """Time limit of a job of so many runs that ask for the same; None where there is none."""
    if ask.minutes is None or not ask.summed:
        return resources.time_minutes if ask.minutes is None else ask.minutes
    least = max(LEAST_MINUTES, math.ceil(2 * resources.signal_seconds / 60))
    wanted = max(ask.minutes * runs, least)
    return min(wanted, resources.time_most or wanted)


def _packed(runs: Iterable[RunJob], size: int) -> list[tuple[RunJob, ...]]:
    together: dict[object, list[RunJob]] = {}
    for run in runs:
        together.setdefault(run.request.context, []).append(run)
    return [tuple(some) for members in together.values() for some in _cut(members, size)]


@dataclass(frozen=True)
class Work:
    """What all jobs of a launch are told."""

    results: Path
    cache: Path
    plugins: tuple[Path, ...] = ()
    run: RunOptions = IN_SWEEPS


def job_content(
    unit: Sequence[RunJob], resources: Resources, work: Work, *, awaited: bool = False
) -> dict[str, Any]:
    """What ``slurm_job.SweepJob`` carries out, as plain data.

    ``awaited``: other jobs wait for its success, which then is that of any of its runs.
    """
    return {
        "awaited": awaited,
        "jobs": [run.to_json() for run in unit],
        "results": str(work.results.absolute()),
        "cache": str(work.cache.absolute()),
        "plugins": [str(path.absolute()) for path in work.plugins],
        "run": asdict(work.run),
        "gpu": asks_for_gpus(resources.sbatch),
        "threads": resources.threads,
        "runs_per_gpu": resources.runs_per_gpu,
        "patience": resources.patience,
        "retry": resources.retry.to_json(),
        "time_minutes": resources.time_minutes,
        "signal_seconds": resources.signal_seconds,
    }


def worker_content(resources: Resources, work: Work, folder: Path) -> dict[str, Any]:
    """What ``pull_job.PullJob`` works on, as plain data. ``folder``: the sweep's."""
    return {
        **job_content((), resources, work),
        "folder": str(folder.absolute()),
        "idle": IDLE_SECONDS,
    }


@dataclass(frozen=True)
class Queued:
    """A job that has not ended. ``job``: 123, or 123_4 of an array; ``left``: seconds."""

    job: str
    name: str
    index: int | None
    state: str
    reason: str = ""
    node: str = ""
    left: float | None = None

    @property
    def stuck(self) -> bool:
        """Whether it will never begin by itself: SLURM has put it on hold, as a node could not
        start it, or what it waits for did not succeed."""
        held = "requeued held" in self.reason or self.reason == "DependencyNeverSatisfied"
        return self.state == "PENDING" and held


class Full(UserError):
    """The queue takes no more jobs, or no array as large as this one.

    ``certain``: it says so itself, and does not only speak of some limit.
    """

    def __init__(self, text: str, *, certain: bool) -> None:
        super().__init__(text)
        self.certain = certain


class Unsure(UserError):
    """It is not known whether a job was submitted; its name in the queue may tell later."""
