"""One run of a sweep as a worker gets it: plain data that the run is planned from anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.runs.code_digest import combined
from lmdbench.runs.plan import PlannedRun
from lmdbench.runs.request import Experiments, Request


@dataclass(frozen=True)
class Task:
    """A run: the request that leads to it, and which link of that request's chain it is.

    ``key``: its directory below the results folder, which is its name throughout the sweep.
    ``id`` and ``code`` (a digest of the method's code) are as planned: a worker that comes to
    others does not begin.
    """

    key: str
    id: str
    code: str
    request: Request
    depth: int  # 0: the first of the chain

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "request": self.request.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Task:
        return cls(**{**content, "request": Request.from_json(content["request"])})


def planned_run(task: Task, experiments: Experiments) -> PlannedRun:
    """The run of a task, planned anew.

    Raises UserError where it is not the run that was launched, or its method's code has changed.
    """
    request = task.request
    chain = request.plan(experiments.of(request.setup)).chain
    if task.depth >= len(chain) or chain[task.depth].spec.id != task.id:
        raise UserError(
            f"{task.key}: the same request comes to another run here than where it was launched: "
            "other images, settings, version of lmdbench or of a method; lmdbench sweep retry"
        )
    run = chain[task.depth]
    if combined(run.code) != task.code:
        raise UserError(
            f"{task.key}: the code of {run.spec.method} (or lmdbench's training and views, or the "
            "backbone's) has changed since the sweep was launched; "
            "lmdbench sweep retry takes what is here now"
        )
    return run
