"""What a SLURM job does: see some runs carried out by processes of their own, and go on after a
requeue.

Made where jobs are submitted; run on a node by submitit. It loads no torch: its workers do.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmdbench.core.claim import slurm_job
from lmdbench.core.cores import usable_cores
from lmdbench.core.errors import RunFailed
from lmdbench.core.gpus import NoGpu
from lmdbench.core.progress import clock
from lmdbench.core.system import signals
from lmdbench.runs.attempts import epochs_done
from lmdbench.runs.options import RunOptions
from lmdbench.sweep.config.retry import Retry
from lmdbench.sweep.executors.local import make_slots
from lmdbench.sweep.executors.messages import GivenJob, Outcome
from lmdbench.sweep.executors.pool import AtWork, Pool, PoolOptions, fail
from lmdbench.sweep.executors.sources import FixedList, Source
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher, Slot

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


FRUITLESS_STOPS = 3  # time limits reached in a row without an epoch done
EARLY_SECONDS = 120.0  # that a job may be told earlier of its time limit than asked for
# Where SLURM says which GPUs a job has, and how many
GPU_NUMBERS = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
GPU_COUNTS = ("SLURM_GPUS_ON_NODE", "SLURM_GPUS", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_PER_TASK")
# SLURM sends these to all processes of a step. The job decides what they mean for its workers,
# which go on while it is given time to end, and stop when it says so.
SHIELD = signals("SIGTERM", "SIGUSR2")


class SweepJob:
    """What a job carries out: some runs, in turn. Pickled by submitit as plain data.

    It ends with an exception if a run failed or could not be done, for SLURM to show it as FAILED;
    where others wait for its success only if none was done: they look whether theirs is there. A
    run whose process dies or hangs takes nothing of what is behind it along.
    """

    pool: Pool | None = None
    chains = True  # what a run starts from is trained here, too, where it is not finished

    def __init__(self, payload: Mapping[str, Any]) -> None:
        self.payload = dict(payload)
        self.failed: dict[str, str] = {}  # key → why: not tried again after a requeue
        self.fruitless = 0  # stops at the time limit since an epoch was last done and saved
        self.started = 0.0
        self.at_work = False  # on a run, which the time limit fails
        self.waiting = False  # for runs that others have
        self.out_of_time = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "pool": None}

    def __call__(self) -> None:
        _survive_failing_checkpoints()
        self._note_sigterm()
        self.chains = False
        self.work()

    def work(self) -> None:
        """The same in any process, without what SLURM needs."""
        self.started = time.monotonic()
        self.at_work = self.waiting = self.out_of_time = False
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see ``cancel``; may be ignored
        watcher = JobLines(self)
        source = self.source(watcher)
        options = self.pool_options()
        slots = job_slots(options, watcher.say)[: max(1, source.waiting)]
        self.pool = JobPool(source, options, watcher, slots, SHIELD)
        at_work: list[AtWork] = []
        try:
            with self.pool.stopping():
                try:
                    self.pool.work()
                except RunFailed:
                    at_work = self.pool.at_work
                    raise
        except RunFailed as error:
            for one in at_work:
                one.note("failed", "time", str(error))
                fail(one.directory, str(error))
            raise
        self.end(source, watcher)

    def source(self, watcher: JobLines) -> Source:
        """Where its runs come from."""
        jobs = [PoolJob(GivenJob(job["key"], job), job["key"]) for job in self.payload["jobs"]]
        left = [job for job in jobs if job.key not in self.failed]
        return FixedList(left, Path(self.payload["results"]), watcher)

    def end(self, source: Source, watcher: JobLines) -> None:
        """Say what became of the runs. Raises RunFailed for those that are not done."""
        found = {key: one.text for key, one in source.outcomes.items() if one.kind != "done"}
        undone = {**found, **self.failed}
        if undone:
            reasons = "; ".join(f"{key}: {text}" for key, text in undone.items())
            text = f"{len(undone)} of {len(self.payload['jobs'])} runs not done: {reasons}"
            if not self.payload.get("awaited") or len(undone) == len(self.payload["jobs"]):
                raise RunFailed(text)
            watcher.say(text)

    def pool_options(self) -> PoolOptions:
        """What its workers work on, as told where the job was submitted."""
        payload = self.payload
        return PoolOptions(
            results=Path(payload["results"]),
            cache=Path(payload["cache"]),
            folder=Path(payload["results"]),  # its workers write into its own log
            name=f"job-{slurm_job() or os.getpid()}",
            runs_per_gpu=payload.get("runs_per_gpu", 1),
            needs_gpu=bool(payload.get("gpu")) or granted_gpus(),
            threads=payload["threads"] or usual_threads(),
            patience=payload["patience"],
            run=RunOptions.from_json(payload["run"]),
            plugins=tuple(map(Path, payload["plugins"])),
            chains=self.chains,
            wait_for_dead=True,
            retry=Retry.from_json(payload.get("retry", {})),
        )

    def _note_sigterm(self) -> None:
        """What is at work when SLURM ends the job did not die by itself: note so, and go on."""
        handler = signal.getsignal(signal.SIGTERM)

        def handle(number: int, frame: Any) -> None:
            # This one is not sent early, but some time passed before the job could count.
            limit = self._ran() > 54 * self.payload["time_minutes"] - 15
            why = "at its time limit" if limit else "cancelled, preempted or requeued"
            for one in self.pool.at_work if self.pool else ():
                text = f"SLURM ended its job ({why})"
                one.note("died" if limit else "stopped", "time" if limit else "cancelled", text)
            if callable(handler):
                handler(number, frame)

        signal.signal(signal.SIGTERM, handle)

    def _at_its_limit(self) -> bool:
        minutes, notice = self.payload["time_minutes"], self.payload["signal_seconds"]
        return self._ran() > 60 * minutes - notice - EARLY_SECONDS

    def _ran(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self.started

    def checkpoint(self) -> DelayedSubmission:
        """Called in a signal handler, in the middle of anything: only says how the job goes on.

        Raises RunFailed, which then fails the run at work, where no epoch fits into a job. While
        none is at work (libraries are being imported) there are some more tries.
        """
        from submitit.helpers import DelayedSubmission

        if not self.waiting and self._at_its_limit():  # no preemption
            self.fruitless += 1
        if self.fruitless >= FRUITLESS_STOPS * (1 if self.at_work else 2):
            self.out_of_time = True
            minutes = self.payload["time_minutes"]
            raise RunFailed(
                f"the time limit of {minutes} min is shorter than an epoch (or checkpoint_every), "
                "or than what comes before or after them all: raise time in [slurm]"
            )
        return DelayedSubmission(self)


def _survive_failing_checkpoints() -> None:
    """Keep a full disk, or a controller that is away, from failing the run that is signalled.

    submitit's handler writes the pickle anew and calls scontrol; an exception of that would come
    up in the middle of the training. The old pickle serves as well, and a job that cannot be
    requeued is worked on until SLURM kills it, and launched again later.

    submitit's handling of SIGTERM, to ignore it, stays as well: SLURM sends that at the start of
    the grace time, and a job that ends by itself then is not requeued.
    """
    from submitit.core.job_environment import JobEnvironment

    number = JobEnvironment._usr_sig()
    handler = signal.getsignal(number)

    def handle(signum: int, frame: Any) -> None:
        assert callable(handler)
        try:
            try:
                handler(signum, frame)
            except (OSError, AssertionError):  # before its requeue
                JobEnvironment()._requeue(0)
                sys.exit(1)
        except (OSError, subprocess.SubprocessError) as error:
            with suppress(OSError):
                print(f"not requeued: {error}", flush=True)

    signal.signal(number, handle)


class JobPool(Pool):
    """A job's workers. What goes wrong in them stands in the log of the job."""

    def log_path(self, slot: Slot) -> Path:  # noqa: ARG002
        with suppress(OSError):
            return Path(os.readlink("/proc/self/fd/2"))
        return Path("/dev/stderr")

    @contextmanager
    def _log(self, slot: Slot) -> Iterator[int]:  # noqa: ARG002
        yield 2


class JobLines(PoolWatcher):
    """Plain lines for the log of a job; tells the job of epochs. A full disk costs lines only."""

    def __init__(self, job: SweepJob) -> None:
        self._job = job
        self._began: dict[str, float] = {}
        self._titles: dict[Slot, str] = {}
        self._busy: set[str] = set()
        self._begun: dict[Slot, tuple[Path, int]] = {}  # a run, and its epochs done as it began
        self._epochs, self._told = 0, ("", -1)

    def say(self, text: str) -> None:
        with suppress(OSError):
            print(time.strftime("%H:%M:%S"), text, flush=True)

    def started(self, slot: Slot, job: PoolJob) -> None:
        self._began[job.key] = time.monotonic()
        self._titles[slot] = job.title
        if job.key not in self._busy:  # which is only looked at
            self._job.waiting = False

    def event(self, slot: Slot, event: Mapping[str, Any]) -> None:
        kind, title = event["event"], self._titles.get(slot, slot.name)
        if kind == "begin":
            self._job.waiting, self._epochs = False, event["epochs"]
            epoch = event["epoch"]
            self._begun[slot] = Path(event["directory"]), epoch
            self.say(f"{title}: {f'resuming after epoch {epoch}' if epoch else 'starting'}")
        elif kind == "epoch":
            if self._saved_more(slot):
                self._job.fruitless = 0
            self.say(f"{title}: epoch {_scores(event['row'], self._epochs)}")
        elif kind == "say":
            self.say(event["text"])
        elif kind == "prepare":
            self._prepare(event["what"], 100 * event["done"] // max(1, event["total"]))

    def _saved_more(self, slot: Slot) -> bool:
        """Whether a run has a later checkpoint than it began with: other epochs are done again."""
        directory, epoch = self._begun[slot]
        return epochs_done(directory) > epoch

    def _prepare(self, what: str, percent: int) -> None:
        tenth = what, percent // 10
        if tenth != self._told:
            self.say(f"{what}: {percent} %")
        self._told = tenth

    def ended(self, job: PoolJob, outcome: Outcome) -> None:
        if outcome.kind == "busy":
            self._job.waiting = True
            if job.key not in self._busy:
                self._busy.add(job.key)
                self.say(f"{outcome.text}; waiting")
            return
        self._job.fruitless = 0
        if outcome.kind == "failed":
            self._job.failed[job.key] = outcome.text
        took = clock(time.monotonic() - self._began.get(job.key, time.monotonic()))
        self.say(f"{job.title}: {outcome.kind} {outcome.text or f'in {took}'}")

    def died(self, slot: Slot, what: str) -> None:
        self.say(f"{slot.name}: {what}")

    def count(self, counts: Mapping[str, int]) -> None:
        self._job.at_work = counts["running"] > 0 and not self._job.waiting


def granted_gpus() -> bool:
    """Whether SLURM gave this job GPUs: their numbers, or how many."""
    given = any(os.environ.get(name, "") not in ("", "NoDevFiles") for name in GPU_NUMBERS)
    counts = (os.environ.get(name, "").rpartition(":")[2] for name in GPU_COUNTS)
    return given or any(text not in ("", "0") for text in counts)


def job_slots(options: PoolOptions, say: Callable[[str], None]) -> list[Slot]:
    """Where a job's workers work. Raises RunFailed where it asked for a GPU and would work on the
    CPU; where it asked for none it does, and says so if which GPUs there are is not known."""
    try:
        return make_slots(options)
    except NoGpu as error:
        if not options.needs_gpu:
            say(f"no GPU was asked for, so the CPU is used: {error.why}")
            return make_slots(replace(options, workers=1))
        raise RunFailed(
            f"node {platform.node()}: {error.why}; leave the node out (exclude in [slurm]), or ask "
            "for no GPU to work on the CPU"
        ) from error


def usual_threads() -> int:
    """Of the CPU for a run, where nobody said how many in the sweep's file."""
    said = os.environ.get("OMP_NUM_THREADS") or os.environ.get("MKL_NUM_THREADS") or ""
    return int(said) if said.isdigit() and int(said) else max(1, usable_cores())


def _scores(row: Mapping[str, float], epochs: int) -> str:
    told = {k: v for k, v in row.items() if k != "epoch" and v == v}  # NaN: none
    scores = "  ".join(f"{k} {v:.4g}" for k, v in told.items())
    return f"{row['epoch']:.0f}/{epochs}  {scores}"
