"""What a SLURM job does that takes runs of its sweep as they become ready, until none is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmdbench.sweep.executors.offers import NewOffers
from lmdbench.sweep.executors.pool import PoolOptions
from lmdbench.sweep.executors.pulled import Patience, Pulled
from lmdbench.sweep.executors.slurm_job import JobLines, SweepJob
from lmdbench.sweep.executors.sources import Source
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher

LOOK_SECONDS = 10.0  # between two looks for new offers
REQUEUE_SECONDS = 60.0  # for SLURM to end a job that has queued itself again


class PullJob(SweepJob):
    """Takes what is offered in its sweep's folder. Pickled by submitit as plain data.

    It ends well if it did all that it could: runs that fail say so themselves.
    """

    def source(self, watcher: JobLines) -> Source:
        return Offered(self.payload, watcher)

    def pool_options(self) -> PoolOptions:
        # A run that another has is left to it, and looked at again once there is nothing else.
        return replace(super().pool_options(), chains=False, wait_for_dead=False)

    def end(self, source: Source, watcher: JobLines) -> None:
        assert isinstance(source, Offered)
        if not source.left:
            watcher.say("no run is left to take")
            return
        watcher.say(f"{len(source.left)} runs are left: {source.why_over}")
        if source.late and "SLURM_JOB_ID" in os.environ:
            self.waiting = True  # for its next life, which takes what is left
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(REQUEUE_SECONDS)


class Offered(Pulled):
    """Jobs from a sweep's offers, also those that are made while it works."""

    def __init__(self, payload: Mapping[str, Any], watcher: PoolWatcher) -> None:
        seconds = 60.0 * payload["time_minutes"] - payload["signal_seconds"]
        patience = Patience(payload["idle"], seconds)
        most = payload["retry"]["attempts"]
        super().__init__((), Path(payload["results"]), watcher, patience, most)
        self._offers = NewOffers(Path(payload["folder"]), payload["run"])
        self._look_again = 0.0
        self._take_offers()

    @property
    def deadline(self) -> float | None:
        return None  # SLURM says when

    def next(self, last: PoolJob | None) -> PoolJob | None:
        self._take_offers()
        return super().next(last)

    def _take_offers(self) -> None:
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + LOOK_SECONDS
            for offer in self._offers.take():
                self.offer(offer.jobs, since=offer.since)
