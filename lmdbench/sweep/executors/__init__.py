"""Where the runs of a sweep are done, by name: here, on SLURM, or where a plug-in brings them.

``resources.on`` and ``--on`` name one. A launch hands runs over to it as jobs and is done; what
becomes of them is told by their directories, and by which jobs the executor still has. Only
``local`` works the runs off while the launch waits.
"""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, write_json
from lmdbench.core.registry import Registry, registrar
from lmdbench.sweep.executors.batches import Batch, Queued, Unsure, Work, job_content

if TYPE_CHECKING:
    from lmdbench.sweep.config.resources import Resources
    from lmdbench.sweep.executors.reasons import Reason

LOCAL = "local"
JOBS = "jobs"  # the folder of jobs as files and of their logs, in a sweep's


class Executor:
    """Where runs are done. ``title``: a line on it."""

    name: ClassVar[str]
    title: ClassVar[str] = ""


class JobExecutor(Executor, ABC):
    """Takes runs as jobs that go on without the process that hands them over.

    ``folder`` is the sweep's everywhere. What goes wrong is raised as UserError, in one line.
    """

    largest = 1  # array tasks of a job
    has_workers = False  # whether it takes batches of ``workers``

    def check(self, resources: Resources) -> None:
        """Raise UserError for what the sweep's file lacks."""

    @abstractmethod
    def hand_over(
        self,
        batch: Batch,
        name: str,
        folder: Path,
        resources: Resources,
        work: Work,
        jobs: Mapping[str, str],
    ) -> str:
        """Start a batch, or put it in a queue, as a job called ``name``. Returns the job's id.

        ``jobs``: key of a run → id of the job that has it, of what ``batch.after`` names.
        """

    @abstractmethod
    def preview(
        self, batch: Batch, name: str, folder: Path, resources: Resources, jobs: Mapping[str, str]
    ) -> str:
        """What ``hand_over`` would do, for people."""

    @abstractmethod
    def queue(self, launches: Mapping[str, str | None], users: Iterable[int]) -> list[Queued]:
        """The jobs that have not ended. ``launches``: their names → their ids, None where unknown;
        ``users``: ids of those who launched them."""

    @abstractmethod
    def cancel(self, ids: Sequence[str]) -> None:
        """End jobs; those that have ended are no error."""

    @abstractmethod
    def log(self, folder: Path, name: str, job: str) -> Path:
        """What a job prints of what goes wrong."""

    def ends(self, ids: Sequence[str]) -> Mapping[str, Reason]:  # noqa: ARG002
        """How jobs ended that are gone, of those of which the queue still knows it."""
        return {}

    def asked(self, method: Callable[..., Any], *words: Any) -> Any:
        """What one of its methods gives, which may be a plug-in's; errors in one line."""
        try:
            return method(*words)
        except UserError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise UserError(f"{self.name}: {method.__name__} fails with {reason}") from error

    def waits_for(self, job: str) -> bool:  # noqa: ARG002
        """Whether a new job can wait for one of another launch, as its id looks."""
        return False


@dataclass(frozen=True)
class Job:
    """A command that does some runs of a sweep, in turn, wherever it is run.

    It needs this Python and the folders of the sweep. ``name``: no other job has it. ``log``: where
    what it prints belongs. ``after``: ids of jobs that do what it starts from; one that begins
    before them does that itself, or waits.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    after: tuple[str, ...] = ()


class CommandExecutor(JobExecutor):
    """An executor of one's own: subclass it, fill in the three methods, register it."""

    @abstractmethod
    def submit(self, job: Job) -> str:
        """Start a job, or put it in a queue, and return without waiting for it: its id."""

    @abstractmethod
    def alive(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Of these jobs, those that have not ended: id → "running", or another word."""

    def hand_over(
        self,
        batch: Batch,
        name: str,
        folder: Path,
        resources: Resources,
        work: Work,
        jobs: Mapping[str, str],
    ) -> str:
        (unit,) = batch.units
        path = folder / JOBS / f"{name}.json"
        with disk_errors(folder):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, job_content(unit, resources, work))
        job = self.asked(self.submit, self._job(batch, name, folder, jobs))
        if type(job) not in (str, int) or job == "":
            raise Unsure(f"{self.name}: submit gives {job!r}, no id of the job that it started")
        return str(job)

    def preview(
        self,
        batch: Batch,
        name: str,
        folder: Path,
        resources: Resources,  # noqa: ARG002
        jobs: Mapping[str, str],
    ) -> str:
        return " ".join(self._job(batch, name, folder, jobs).command)

    def queue(
        self,
        launches: Mapping[str, str | None],
        users: Iterable[int],  # noqa: ARG002
    ) -> list[Queued]:
        names = {job: name for name, job in launches.items() if job is not None}
        alive = self.asked(self.alive, list(names))
        if not isinstance(alive, Mapping):
            raise UserError(
                f"{self.name}: alive gives {type(alive).__name__}, but must give a table of those "
                'of the jobs that have not ended, id → a word, as in {"17": "running"}'
            )
        words = {str(job): str(word).upper() for job, word in alive.items()}
        return [Queued(job, names[job], None, word) for job, word in words.items() if job in names]

    def log(self, folder: Path, name: str, job: str) -> Path:  # noqa: ARG002
        return folder / JOBS / f"{name}.log"

    def _job(self, batch: Batch, name: str, folder: Path, jobs: Mapping[str, str]) -> Job:
        path = folder.absolute() / JOBS / f"{name}.json"
        command = (sys.executable, "-m", "lmdbench.sweep.executors.job_file", str(path))
        after = dict.fromkeys(jobs[key] for key in batch.after if key in jobs)
        return Job(name, command, self.log(folder.absolute(), name, ""), tuple(after))


EXECUTORS: Registry[type[Executor]] = Registry(
    "executor", f"{__name__}.built_in", group="lmdbench.executors", base=Executor
)


@registrar
def register_executor(name: str, *, title: str) -> Callable[[type[Any]], type[Any]]:
    """Class decorator: make an executor available to ``--on`` and to ``on`` in sweep files.

    Raises UserError for what makes no sense in it, and for a taken name.
    """

    def decorate(cls: type[Any]) -> type[Any]:
        if problem := _problem(cls, title):
            raise UserError(f"executor {name!r}: {problem}")
        cls.title = title
        return EXECUTORS.register(name)(cls)

    return decorate


def _problem(cls: Any, title: Any) -> str:
    if not (isinstance(title, str) and title.strip()):
        return f'title is {title!r}, but must be text, as in title="…"'
    if not (isinstance(cls, type) and issubclass(cls, JobExecutor)):
        return "it must be a class made from CommandExecutor"
    for method in sorted(cls.__abstractmethods__):
        written = inspect.signature(getattr(cls, method)).replace(return_annotation=str)
        words = ", ".join(written.parameters)
        return f"it has no {method}; write def {method}({words})"
    try:
        inspect.signature(cls).bind()
    except TypeError as error:
        return f"it must be made without arguments: {error}"
    for method in ("submit", "alive", "cancel") if issubclass(cls, CommandExecutor) else ():
        try:
            inspect.signature(getattr(cls, method)).bind(None, None)
        except TypeError:
            words = ", ".join(inspect.signature(getattr(CommandExecutor, method)).parameters)
            return f"its {method} can't be called; write def {method}({words})"
    return ""


def job_executor(name: str) -> JobExecutor:
    """The executor of that name, which takes jobs. Raises UserError for a name that is none's."""
    executor = EXECUTORS.get(name)()
    assert isinstance(executor, JobExecutor)
    return executor
