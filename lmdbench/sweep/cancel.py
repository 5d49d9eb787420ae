"""Stop what a sweep has under way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

from lmdbench.core.claim import Claim
from lmdbench.core.words import count
from lmdbench.sweep.executors import LOCAL, job_executor
from lmdbench.sweep.executors.offers import withdraw
from lmdbench.sweep.launch_record import (
    Launch,
    follow_claim,
    pool_claim,
    read_launches,
    write_launch,
)
from lmdbench.sweep.plan import SweepPlan

STOP_SECONDS = 30.0  # that a pool gets to stop its workers
POLL_SECONDS = 0.2


def cancel(plan: SweepPlan, say: Callable[[str], None]) -> tuple[int, int]:
    """Cancel the sweep's own jobs and stop its pool on this machine.

    Returns how many jobs and pools were stopped, and how many pools could not be.

    What is finished stays, and every run keeps its finished epochs. Runs that another sweep has
    queued stay queued. Raises UserError where a queue does not answer.
    """
    launches = [
        (folder, launch) for folder, launch in read_launches(plan.results) if _is_of(launch, plan)
    ]
    stopped = left = 0
    follower = follow_claim(plan.folder)
    if (follower.holder() or {}).get("alive"):  # first, or it would submit anew
        _stop_process(follower, "the launch that follows", say)
    for folder, launch in launches:
        claim = pool_claim(folder, launch.name)
        if launch.kind == LOCAL and (claim.holder() or {}).get("alive"):
            done = _stop_process(claim, "the pool of workers", say)
            stopped, left = stopped + done, left + (not done)
    for kind in dict.fromkeys(launch.kind for _, launch in launches if launch.kind != LOCAL):
        submitted = {
            launch.name: (folder, launch)
            for folder, launch in launches
            if launch.kind == kind and not launch.cancelled
        }
        if not submitted:
            continue
        executor = job_executor(kind)
        named = {name: launch.job for name, (_, launch) in submitted.items()}
        jobs = [job for job in executor.queue(named, ()) if job.name in submitted]
        executor.asked(executor.cancel, [job.job for job in jobs])
        ended = {job.name for job in jobs}
        for name, (folder, launch) in submitted.items():
            if launch.offered:
                withdraw(folder, [name])
            elif name not in ended:
                continue
            write_launch(folder, replace(launch, cancelled=True))
        if jobs:
            say(f"cancelled {count(len(jobs), 'job')}")
        stopped += len(jobs)
    return stopped, left


def _is_of(launch: Launch, plan: SweepPlan) -> bool:
    """Whether a launch is the sweep's: its name, and runs of it, as another file may have the name.

    What a sweep's `tune` launched has runs of its own.
    """
    if plan.sweep.name not in launch.sweeps:
        return False
    tuned = launch.sweeps[0] != plan.sweep.name
    return tuned or any(not plan.nodes.keys().isdisjoint(keys) for keys in launch.units)


def _stop_process(claim: Claim, what: str, say: Callable[[str], None]) -> bool:
    """Stop what holds a claim, if it is on this machine and ours. Whether that worked."""
    holder = claim.holder() or {}
    pid, host = int(holder.get("pid", 0)), holder.get("host")
    if not holder.get("here") or not pid:
        say(f"{what} runs on {host} (process {pid}): cancel it there")
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        say(f"{what} (process {pid}) is somebody else's, who must cancel it")
        return False
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + STOP_SECONDS
    while (claim.holder() or {}).get("alive") and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if (claim.holder() or {}).get("alive"):
        say(f"{what} (process {pid}) has not stopped yet; look again in a minute")
        return False
    say(f"stopped {what} (process {pid})")
    return True
