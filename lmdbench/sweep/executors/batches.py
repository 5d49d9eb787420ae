"""The runs of a launch, put together into jobs, and what is known of a job in a queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmdbench.core.errors import UserError
from lmdbench.runs.options import IN_SWEEPS, RunOptions

if TYPE_CHECKING:
    from lmdbench.sweep.config.resources import Resources
    from lmdbench.sweep.executors.jobs import RunJob


@dataclass(frozen=True)
class Batch:
    """A job array. ``units``: the runs of its array tasks. ``after``: what all its runs wait for.

    ``after`` are keys of runs in earlier batches or already queued, all of one array task.
    """

    units: tuple[tuple[RunJob, ...], ...]
    after: tuple[str, ...] = ()

    def jobs(self, job: str) -> dict[str, str]:
        """Key → id of the array task that has it, once the batch is job ``job``."""
        array = len(self.units) > 1
        return {
            run.key: f"{job}_{index}" if array else job
            for index, unit in enumerate(self.units)
            for run in unit
        }


def units(
    nodes: Sequence[tuple[RunJob, str | None]],
    runs_per_job: int,
    queued: Mapping[str, str],
    largest: int,
) -> list[Batch]:
    """Runs to job arrays, each array after those that it waits for.

    ``nodes``: runs with the key of what each starts from. ``queued``: key → job id of runs in the
    queue already. Runs that wait for nothing share arrays of at most ``largest`` tasks. The others
    share one only with those that wait for the same array task, so that none waits longer than it
    must. An array task gets up to ``runs_per_job`` runs, all in one set-up: its images are loaded
    once.
    """
    batches: list[Batch] = []
    place: dict[str, object] = dict(queued)  # key → what one can wait for
    left = list(nodes)
    while left:
        waiting = {run.key for run, _ in left}
        ready = [(run, needs) for run, needs in left if needs not in waiting]
        if not ready:
            raise ValueError("runs that wait for each other")
        groups: dict[object, list[tuple[RunJob, str | None]]] = {}
        for run, needs in ready:
            groups.setdefault(place.get(needs) if needs else None, []).append((run, needs))
        for group, members in groups.items():
            after = dict.fromkeys(needs for _, needs in members if needs and group is not None)
            packed = _packed([run for run, _ in members], runs_per_job)
            for unit in packed:
                array_task = object()
                place |= {run.key: array_task for run in unit}
            for first in range(0, len(packed), largest):
                batches.append(Batch(tuple(packed[first : first + largest]), tuple(after)))
        done = {run.key for run, _ in ready}
        left = [node for node in left if node[0].key not in done]
    return batches


def _packed(runs: Iterable[RunJob], size: int) -> list[tuple[RunJob, ...]]:
    together: dict[object, list[RunJob]] = {}
    for run in runs:
        together.setdefault(run.request.context, []).append(run)
    return [
        tuple(members[first : first + size])
        for members in together.values()
        for first in range(0, len(members), size)
    ]


@dataclass(frozen=True)
class Work:
    """What all jobs of a launch are told."""

    results: Path
    cache: Path
    plugins: tuple[Path, ...] = ()
    run: RunOptions = IN_SWEEPS


def job_content(unit: Sequence[RunJob], resources: Resources, work: Work) -> dict[str, Any]:
    """What ``slurm_job.SweepJob`` carries out, as plain data."""
    return {
        "jobs": [run.to_json() for run in unit],
        "results": str(work.results.absolute()),
        "cache": str(work.cache.absolute()),
        "plugins": [str(path.absolute()) for path in work.plugins],
        "run": asdict(work.run),
        "threads": resources.threads,
        "patience": resources.patience,
        "time_minutes": resources.time_minutes,
        "signal_seconds": resources.signal_seconds,
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
        """Whether SLURM has put it on hold by itself, as a node could not start it: it never will
        be, unless somebody releases it."""
        return self.state == "PENDING" and "requeued held" in self.reason


class Unsure(UserError):
    """It is not known whether a job was submitted; its name in the queue may tell later."""
