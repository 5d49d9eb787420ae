"""Why runs are lost: from their journals, their jobs' logs, and what the queue still tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.runs import attempts
from lmdbench.runs.attempts import Attempt
from lmdbench.sweep.ends import ends_of
from lmdbench.sweep.executors import LOCAL, job_executor
from lmdbench.sweep.executors.reasons import Reason, of_log
from lmdbench.sweep.launch_record import Launch, pool_claim

NOT_SHARED = (
    "it left no log; are the results on a file system that the compute nodes share, and can they "
    "write there?"
)
# What the end of a job says of a run that its own journal can't.
OF_JOBS = ("memory", "time", "node", "cancelled")


@dataclass(frozen=True)
class Lost:
    """A run that nobody works on any more. ``folder``: of the sweep that launched it; ``job``: that
    was to do it."""

    directory: Path
    folder: Path
    launch: Launch
    job: str | None = None

    @cached_property
    def last(self) -> Attempt | None:
        """The last attempt since it was launched."""
        found = attempts.attempts(self.directory)
        return found[-1] if found and (found[-1].began or 0.0) >= self.launch.submitted else None

    @property
    def last_job(self) -> str | None:
        """The job that worked on it last, or was to."""
        return (self.last and self.last.job) or self.job

    @property
    def log(self) -> Path | None:
        return job_log(self.folder, self.launch, self.last_job)


def job_log(folder: Path, launch: Launch, job: str | None) -> Path | None:
    """What a job of a launch prints, once it has begun. ``folder``: of the sweep."""
    if launch.kind == LOCAL or not job:
        return None
    with suppress(UserError):  # an executor of a plug-in that is not loaded
        return job_executor(launch.kind).log(folder, launch.name, job)
    return None


def why_lost(lost: Mapping[str, Lost]) -> dict[str, Reason]:
    """Key → why its run is lost. Queues are asked once for all, of jobs not asked for before."""
    ends = _ends(lost.values())
    return {key: _why(one, ends.get(one.last_job or "", Reason())) for key, one in lost.items()}


def _ends(lost: Iterable[Lost]) -> dict[str, Reason]:
    asked: dict[tuple[Path, str], set[str]] = {}
    for one in lost:
        if one.launch.kind != LOCAL and one.last_job:
            asked.setdefault((one.folder, one.launch.kind), set()).add(one.last_job)
    return {
        job: reason
        for (folder, kind), jobs in asked.items()
        for job, reason in ends_of(folder, kind, sorted(jobs)).items()
    }


def _why(lost: Lost, end: Reason) -> Reason:
    last = lost.last
    own = Reason()
    if last is not None and last.how == "died":
        own = Reason(last.cause or "unknown", last.reason)
    elif last is not None and last.how == "stopped":
        own = Reason("cancelled", last.reason)
    if lost.launch.kind == LOCAL:
        return own or _of_pool(lost)
    said = of_log(lost.log) if lost.log else Reason()
    if own and own.cause not in ("signal", "unknown", "cancelled"):
        return own
    if said.sure:
        return end if end.cause == said.cause == "cancelled" else said
    if end.cause in OF_JOBS:
        return end
    if own:
        return own
    if said:
        return Reason(said.cause, f"its job is gone, which said last: {said.text}")
    if lost.log is not None and not lost.log.exists():
        told = f" ({end.text})" if end else ""
        return Reason(end.cause, f"its job is gone{told}, and {NOT_SHARED}")
    if end:
        return Reason(end.cause, f"its job is gone: {end.text}")
    return Reason(text="its job is gone, without a word in its log")


def _of_pool(lost: Lost) -> Reason:
    """Of a run that a pool on some machine had."""
    holder = pool_claim(lost.folder, lost.launch.name).holder()
    if holder is None:
        return Reason("cancelled", "its launch was stopped, or gave it up")
    where = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    return Reason(text=f"its launch ({where}) was killed, or its machine went down")
