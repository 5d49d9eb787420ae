"""What a pool has to do, and who watches it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lmdbench.sweep.executors.messages import GivenJob, Outcome

if TYPE_CHECKING:
    from lmdbench.sweep.executors.jobs import RunJob


@dataclass(frozen=True)
class PoolJob:
    """A run to do. ``title``: for people. ``needs``: key of a run of the pool that comes first."""

    run: RunJob | GivenJob
    title: str
    needs: str | None = None

    @property
    def key(self) -> str:
        return self.run.key

    @cached_property
    def setup(self) -> str:
        """What it has in common with runs that use the same images."""
        return json.dumps(self.run.to_json()["request"]["context"], sort_keys=True)


@dataclass(frozen=True)
class Slot:
    """A place for one worker. ``visible``: what it may see of CUDA; None: what the pool may."""

    name: str
    device: str
    visible: str | None = ""


class PoolWatcher:
    """Who watches a pool, which calls it at least every half second (``count``); says nothing.

    ``event``: of a slot's worker, as ``worker.Events`` writes them.
    """

    def begin(self, slots: Sequence[Slot], jobs: Sequence[PoolJob]) -> None: ...
    def started(self, slot: Slot, job: PoolJob) -> None: ...
    def event(self, slot: Slot, event: Mapping[str, Any]) -> None: ...
    def ended(self, job: PoolJob, outcome: Outcome) -> None: ...  # busy: back in the queue
    def elsewhere(self, job: PoolJob) -> None: ...  # others brought it to its end
    def died(self, slot: Slot, what: str) -> None: ...
    def count(self, counts: Mapping[str, int]) -> None: ...  # done failed lost running queued
    def end(self) -> None: ...
