"""Stop what a sweep has under way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from lmdbench.files import HOST
from lmdbench.sweep.plan import SweepPlan
from lmdbench.sweep.record import pool_claim, read_launches, write_launch
from lmdbench.sweep.slurm import cancel as cancel_jobs
from lmdbench.sweep.slurm import queue

STOP_SECONDS = 30.0  # that a pool gets to stop its workers
POLL_SECONDS = 0.2


def cancel(plan: SweepPlan, say: Callable[[str], None]) -> int:
    """Cancel the sweep's own jobs and stop its pool on this machine. Returns how many units.

    What is finished stays, and every run keeps its finished epochs. Runs that another sweep has
    queued stay queued. Raises UserError where SLURM does not answer.
    """
    launches = [
        launch
        for folder, launch in read_launches(plan.results)
        if folder == plan.folder and not launch.cancelled
    ]
    stopped = 0
    names = {launch.name for launch in launches if launch.kind == "slurm"}
    if names:
        jobs = [job for job in queue() if job.name in names]
        cancel_jobs([job.job for job in jobs])
        stopped += len(jobs)
        if jobs:
            say(f"cancelled {len(jobs)} jobs")
    for launch in launches:
        if launch.kind == "local":
            stopped += _stop_pool(plan, launch.name, say)
        write_launch(plan.folder, replace(launch, cancelled=True))
    return stopped


def _stop_pool(plan: SweepPlan, name: str, say: Callable[[str], None]) -> int:
    claim = pool_claim(plan.folder, name)
    holder = claim.holder() or {}
    if not holder.get("alive"):
        return 0
    pid, host = int(holder.get("pid", 0)), holder.get("host")
    if host != HOST or not pid:
        say(f"a pool of workers runs on {host} (process {pid}): cancel it there")
        return 0
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while (claim.holder() or {}).get("alive") and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if (claim.holder() or {}).get("alive"):
        say(f"the pool of workers (process {pid}) does not stop yet; it will")
    else:
        say(f"stopped the pool of workers (process {pid})")
    return 1
