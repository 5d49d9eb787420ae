"""The executors that lmdbench brings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmdbench.core.errors import UserError
from lmdbench.sweep.executors import (
    EXECUTORS,
    LOCAL,
    Executor,
    JobExecutor,
    register_executor,
    slurm,
)
from lmdbench.sweep.executors.batches import Batch, Queued, Work

if TYPE_CHECKING:
    from lmdbench.sweep.config.resources import Resources
    from lmdbench.sweep.executors.reasons import Reason


@EXECUTORS.register(LOCAL)
class Local(Executor):
    title = "A pool of workers on this machine, as long as the launch"


@register_executor("slurm", title="Job arrays on a SLURM cluster, through sbatch")
class Slurm(JobExecutor):
    """See ``slurm``."""

    has_workers = True

    @property
    def largest(self) -> int:  # type: ignore[override]
        return slurm.max_array_size()

    def check(self, resources: Resources) -> None:
        if resources.time_minutes is None and not resources.auto_time:
            raise UserError(
                '--on slurm needs the time limit of a job; add [slurm] with time = "8h" to the file'
            )

    def hand_over(
        self,
        batch: Batch,
        name: str,
        folder: Path,
        resources: Resources,
        work: Work,
        jobs: Mapping[str, str],
    ) -> str:
        return slurm.submit(batch, name, folder / slurm.SUBMITIT, resources, work, jobs)

    def preview(
        self, batch: Batch, name: str, folder: Path, resources: Resources, jobs: Mapping[str, str]
    ) -> str:
        return slurm.script(batch, name, folder / slurm.SUBMITIT, resources, jobs)

    def queue(
        self,
        launches: Mapping[str, str | None],  # noqa: ARG002
        users: Iterable[int],
    ) -> list[Queued]:
        return slurm.queue(users)

    def cancel(self, ids: Sequence[str]) -> None:
        slurm.cancel(ids)

    def ends(self, ids: Sequence[str]) -> Mapping[str, Reason]:
        return slurm.ends(ids)

    def log(self, folder: Path, name: str, job: str) -> Path:  # noqa: ARG002
        return slurm.job_log(folder, job)

    def waits_for(self, job: str) -> bool:
        return job[0].isdigit()
