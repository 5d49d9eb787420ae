"""What was launched: one file for each array of jobs and each pool of local workers.

It is written before the queue hears of the jobs, which carry its name: what became of a launch can
be told even if this process ends in between.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, file_system_time, read_json, write_json
from lmdbench.core.system import user_id

SWEEPS = "sweeps"  # the folder below the results that sweeps keep their records in
LAUNCHES = "launches"
LAUNCHING = "launching.json"  # the claim of who launches, for all sweeps of a results folder
FOLLOWING = "following.json"
FORMAT = 1


@dataclass(frozen=True)
class Launch:
    """Runs handed to an executor as a job, on SLURM as an array of jobs, or to a pool here.

    ``units``: keys of the runs, in lists that are worked off in turn: array tasks, in their order.
    ``job``: its id, on SLURM the number of the array; None where it is not known. ``sweeps``: names
    of those that it was launched for. ``submitted``: when, by the clock that also stamps what runs
    leave. ``user``: id of who launched it.
    """

    name: str
    kind: str  # of the executor
    units: tuple[tuple[str, ...], ...]
    submitted: float = field(default_factory=time.time)  # seconds since 1970
    sweeps: tuple[str, ...] = ()
    user: int = field(default_factory=user_id)
    job: str | None = None
    cancelled: bool = False
    redoes: bool = False  # finished runs that changed are among them
    offered: bool = False  # its jobs take these runs, and others of the sweep, as they become ready


def launch_name(sweep: str) -> str:
    """A name that no other launch has; squeue shows it as the job's."""
    return f"{sweep}-{time.strftime('%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"


def launch_path(folder: Path, name: str) -> Path:
    """The record of a launch, in a sweep's folder."""
    return folder / LAUNCHES / f"{name}.json"


def pool_claim(folder: Path, name: str) -> Claim:
    """What a pool holds while it lives, so that others know that its queue is worked off."""
    return Claim(folder / LAUNCHES / f"{name}.claim")


def follow_claim(folder: Path) -> Claim:
    """What a process holds that submits the runs of a sweep as room comes in a queue."""
    return Claim(folder / FOLLOWING)


def begin_launch(folder: Path, launch: Launch) -> Launch:
    """Write a new record, and return it as it was written: with the file system's time."""
    launch = replace(launch, submitted=file_system_time(folder.parent))
    write_launch(folder, launch)
    return launch


def write_launch(folder: Path, launch: Launch) -> None:
    path = launch_path(folder, launch.name)
    with disk_errors(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"format": FORMAT, **asdict(launch)})


def read_launches(results: Path, damaged: list[Path] | None = None) -> list[tuple[Path, Launch]]:
    """Every launch of every sweep in a results folder with its sweep's folder, oldest first.

    Sweeps may share runs, so one must know what another has queued. Records that cannot be
    understood or read are left out, and added to ``damaged``.
    """
    found = []
    for path in results.glob(f"{SWEEPS}/*/{LAUNCHES}/[!.]*.json"):  # no half-written ones
        try:
            found.append((path.parents[1], _launch(read_json(path))))
        except (UserError, KeyError, TypeError, ValueError, AttributeError):
            if damaged is not None and os.path.lexists(path):  # else sbatch refused it meanwhile
                damaged.append(path)
    return sorted(found, key=lambda item: item[1].submitted)


def _launch(content: dict[str, Any]) -> Launch:
    if content.pop("format") != FORMAT:
        raise ValueError("of another version")
    units: Sequence[Sequence[str]] = content.pop("units")
    sweeps: Sequence[str] = content.pop("sweeps")
    launch = Launch(**content, units=tuple(map(tuple, units)), sweeps=tuple(sweeps))
    words = [
        launch.name,
        launch.kind,
        *launch.sweeps,
        *(key for unit in launch.units for key in unit),
    ]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("no names")
    return replace(launch, submitted=float(launch.submitted), user=int(launch.user))
