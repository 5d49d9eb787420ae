"""One run of a sweep as a worker gets it: plain data that the run is planned from anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.runs.code_digest import combined
from lmdbench.runs.plan import PlannedRun
from lmdbench.runs.request import Contexts, RunRequest


@dataclass(frozen=True)
class RunJob:
    """A run: the request that leads to it, and which link of that request's chain it is.

    ``key``: its directory below the results folder, which is its name throughout the sweep.
    ``id`` and ``code`` (a digest of the method's code) are as planned: a worker that comes to
    others does not begin. ``starts_others``: of the same sweep, so that it keeps its weights.
    """

    key: str
    id: str
    code: str
    request: RunRequest
    depth: int  # 0: the first of the chain
    starts_others: bool = False

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "request": self.request.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunJob:
        return cls(**{**content, "request": RunRequest.from_json(content["request"])})


def planned_run(job: RunJob, contexts: Contexts) -> PlannedRun:
    """The run of a job, planned anew.

    Raises UserError where it is not the run that was launched, or its method's code has changed.
    """
    request = job.request
    chain = request.plan(contexts.of(request.context)).chain
    if job.depth >= len(chain) or chain[job.depth].spec.id != job.id:
        raise UserError(
            f"{job.key}: the same request comes to another run here than where it was launched: "
            "other images, settings, version of lmdbench or of a method; lmdbench sweep retry"
        )
    run = chain[job.depth]
    if combined(run.code) != job.code:
        raise UserError(
            f"{job.key}: the code of {run.spec.method} (or lmdbench's training and views, or the "
            "backbone's) has changed since the sweep was launched; "
            "lmdbench sweep retry takes what is here now"
        )
    return run
