"""How jobs of a sweep that are gone ended, as their queue told while it still knew.

SLURM forgets a job after minutes (MinJobAge), and its accounting is often not there. What it said
is remembered in the sweep's folder, which may be thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_text, write_text
from lmdbench.sweep.executors import job_executor
from lmdbench.sweep.executors.reasons import Reason

FILE = "ends.json"


def ends_of(folder: Path, kind: str, jobs: Collection[str]) -> Mapping[str, Reason]:
    """Job → how it ended, of those of which that is known. ``folder``: the sweep's; ``kind``: of
    the executor, which is asked only for jobs of which it did not tell before: its accounting may
    have been away."""
    known = _read(folder / FILE)
    new = [job for job in jobs if job not in known]
    if new:
        with suppress(UserError):
            executor = job_executor(kind)
            if told := executor.asked(executor.ends, new):
                known |= told
                _write(folder / FILE, known)
    return {job: known[job] for job in jobs if known.get(job)}


def _read(path: Path) -> dict[str, Reason]:
    try:
        content = json.loads(read_text(path))
        return {str(job): Reason(one["cause"], str(one["text"])) for job, one in content.items()}
    except (OSError, UserError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _write(path: Path, known: Mapping[str, Reason]) -> None:
    with suppress(OSError, UserError):
        write_text(path, json.dumps({job: asdict(one) for job, one in known.items()}))
