"""What a SLURM job does: carry out some runs in turn, and go on after a requeue.

Made where jobs are submitted; run on a node by submitit. torch is imported there only.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmdbench.core.errors import RunFailed
from lmdbench.core.progress import PREPARING, Progress, Watched

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


BUSY_SECONDS = 10.0  # between two looks at runs that others have
FRUITLESS_STOPS = 3  # time limits reached in a row without an epoch done
EARLY_SECONDS = 120.0  # that a job may be told earlier of its time limit than asked for


class SweepJob:
    """What a job carries out: some runs, in turn. Pickled by submitit as plain data.

    It ends with an exception if a run failed or could not be done, for SLURM to show it as FAILED;
    where others wait for its success only if none was done: they look whether theirs is there.
    """

    def __init__(self, payload: Mapping[str, Any]) -> None:
        self.payload = dict(payload)
        self.failed: dict[str, str] = {}  # key → why: not tried again after a requeue
        self.fruitless = 0  # stops at the time limit since an epoch was last done
        self.started = 0.0
        self.at_work = False  # on a run, which an exception fails
        self.waiting = False  # for runs that others have
        self.out_of_time = False

    def __call__(self) -> None:
        _survive_failing_checkpoints()
        self.work()

    def work(self) -> None:
        """The same in any process, without what SLURM needs."""
        self.started = time.monotonic()
        self.at_work = self.waiting = False
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see ``cancel``; may be ignored

        import torch

        from lmdbench.core.environment import limit_threads
        from lmdbench.core.registry import load_plugin
        from lmdbench.runs.options import RunOptions
        from lmdbench.sweep.executors.jobs import RunJob
        from lmdbench.sweep.executors.worker import Worker

        payload = self.payload
        if payload["threads"]:
            torch.set_num_threads(payload["threads"])
        else:
            limit_threads()
        for path in payload["plugins"]:
            load_plugin(path)
        log = Log(self)
        worker = Worker(
            Path(payload["results"]),
            Path(payload["cache"]),
            torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            log,
            options=RunOptions.from_json(payload["run"]),
            patience=payload["patience"],
            wait_for_dead=True,
        )
        jobs = map(RunJob.from_json, payload["jobs"])
        left = deque(job for job in jobs if job.key not in self.failed)
        undone: dict[str, str] = {}
        passed = 0
        while left and not self.out_of_time:
            job = left.popleft()
            self.at_work = True
            outcome = worker.carry_out(job)
            self.at_work = False
            self.waiting = outcome.kind == "busy"
            if self.waiting:
                # Its holder may be killed yet, as this job's former life may be: keep at it.
                left.append(job)
                passed += 1
                if passed >= len(left):
                    log.say(f"{outcome.text}; waiting")
                    passed = 0
                    time.sleep(BUSY_SECONDS)
                continue
            passed = 0
            self.fruitless = 0
            log.say(f"{job.key}: {outcome.kind} {outcome.text}".rstrip())
            if outcome.kind != "done":
                into = self.failed if outcome.kind == "failed" else undone
                into[job.key] = outcome.text
        undone |= self.failed
        if undone:
            reasons = "; ".join(f"{key}: {text}" for key, text in undone.items())
            text = f"{len(undone)} of {len(payload['jobs'])} runs not done: {reasons}"
            if not payload.get("awaited") or len(undone) == len(payload["jobs"]):
                raise RunFailed(text)
            log.say(text)

    def checkpoint(self) -> DelayedSubmission:
        """Called in a signal handler, in the middle of anything: only says how the job goes on.

        Raises RunFailed, which then fails the run at work, where no epoch fits into a job. While
        none is at work (libraries are being imported) there are some more tries.
        """
        from submitit.helpers import DelayedSubmission

        minutes, notice = self.payload["time_minutes"], self.payload["signal_seconds"]
        ran = time.monotonic() - self.started
        if not self.waiting and ran > 60 * minutes - notice - EARLY_SECONDS:  # no preemption
            self.fruitless += 1
        if self.fruitless >= FRUITLESS_STOPS * (1 if self.at_work else 2):
            self.out_of_time = True
            raise RunFailed(
                f"the time limit of {minutes} min is shorter than an epoch, or than what comes "
                "before or after them all: raise time in [slurm]"
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


class Log(Progress):
    """Plain lines for the log of a job; tells the job of epochs. A full disk costs lines only."""

    def __init__(self, job: SweepJob) -> None:
        self._job = job
        self._name, self._epochs, self._percent = "", 0, 0

    def say(self, text: str) -> None:
        with suppress(OSError):
            print(time.strftime("%H:%M:%S"), text, flush=True)

    def prepare(self, done: int, total: int, what: str = PREPARING) -> None:
        percent = 100 * done // max(total, 1)
        if percent // 10 != self._percent // 10:
            self.say(f"{what}: {percent} %")
        self._percent = percent

    def begin(self, run: Watched, epoch: int, epochs: int) -> None:
        self._job.waiting = False
        self._name, self._epochs = run.title, epochs
        self.say(f"{self._name}: {f'resuming after epoch {epoch}' if epoch else 'starting'}")

    def epoch(self, row: Mapping[str, float]) -> None:
        self._job.fruitless = 0
        told = {k: v for k, v in row.items() if k != "epoch" and not math.isnan(v)}
        scores = "  ".join(f"{k} {v:.4g}" for k, v in told.items())
        self.say(f"{self._name}: epoch {row['epoch']:.0f}/{self._epochs}  {scores}")
