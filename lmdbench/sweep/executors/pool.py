"""A pool of worker processes: one for each slot, fed from a source of jobs.

The pool itself trains nothing and never loads torch. A worker that dies is started anew and its job
goes back to the source. Workers end with the pool, however it ends: their input ends with it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from lmdbench.core.errors import UserError
from lmdbench.core.system import signals
from lmdbench.runs import attempts
from lmdbench.runs.options import IN_SWEEPS, RunOptions
from lmdbench.runs.state import mark_failed
from lmdbench.runs.steps import is_stopped
from lmdbench.sweep.config.retry import AS_USUAL, Retry
from lmdbench.sweep.executors import oom
from lmdbench.sweep.executors.messages import Outcome, Start
from lmdbench.sweep.executors.pauses import Signs, Watch, where_it_hangs
from lmdbench.sweep.executors.sources import Source
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher, Slot

MOST_DEATHS = 3  # of workers as they start, before a device is given up
MOST_LOSSES = 3  # of a GPU, beneath as many runs without an epoch done, before it is given up
MOST_HANGS = 2  # of a run without an epoch done, before it fails
START_SECONDS = 120.0  # as ``stall``, for libraries to be imported
DUMP_SECONDS = 5.0  # at most, for a worker to write where it hangs
DUMP_LOOK_SECONDS = 0.05
LOOK_SECONDS = 0.5
STOP_SECONDS = 8.0  # for workers to stop by themselves
REST_SECONDS = 10.0  # that a worker keeps its device's memory while it has no job
BY_OTHERS = signals("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU")
WORKERS = "workers"  # the folder of their logs, in the sweep's


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """``folder``: the sweep's. ``name``: of the launch, for its logs.

    ``workers``: on the CPU. ``gpus``: numbers of those that this process may use. Neither: all
    GPUs, or one worker on the CPU where there are none, unless it ``needs_gpu``. ``threads``: of
    the CPU for a run; None: an equal share of the cores. ``chains``, ``wait_for_dead``: see
    ``messages.Start``.
    """

    results: Path
    cache: Path
    folder: Path
    name: str
    workers: int | None = None
    gpus: tuple[int, ...] | None = None
    runs_per_gpu: int = 1
    needs_gpu: bool = False
    threads: int | None = None
    patience: float = 600.0
    run: RunOptions = IN_SWEEPS
    plugins: tuple[Path, ...] = ()
    chains: bool = True
    wait_for_dead: bool = False
    retry: Retry = AS_USUAL


@dataclass(frozen=True)
class AtWork:
    """A run that a worker process trains. ``since``: when that began, in seconds since 1970."""

    directory: Path
    pid: int
    since: float

    def note(self, how: attempts.How, cause: attempts.Cause, reason: str) -> None:
        """Note how it ends, in its journal; what the worker says later counts more."""
        attempts.end_of(self.directory, self.pid, how, cause, reason, self.since)


@dataclass
class Hang:
    """A worker that makes no steps, and is being ended. ``pause``: seconds; ``log``: bytes then."""

    pause: float
    log: int
    since: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class _Worker:
    """A slot with its process, if there is one."""

    slot: Slot
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    leaving: bool = False  # it said that it takes no further job, or was told to end
    job: PoolJob | None = None
    last: PoolJob | None = None  # that its process did
    free_since: float = 0.0
    buffer: bytes = b""
    unusable: str = ""
    failed_starts: int = 0
    signs: Signs = field(default_factory=Signs)
    at: Path | None = None  # the directory of the run that it trains: the job's, or one it needs
    began: float = 0.0  # its process, in seconds since 1970
    hung: Hang | None = None
    kills: int = 0  # by the kernel, for lack of memory, as its process began
    lost: str = ""  # how its process ended where its GPU broke, after ``a worker``
    lost_at: set[str] = field(default_factory=set)  # keys, since an epoch was done here

    @property
    def retired(self) -> bool:
        return self.failed_starts >= MOST_DEATHS or len(self.lost_at) >= MOST_LOSSES

    @property
    def output(self) -> IO[bytes]:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, message: Mapping[str, Any]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died; its output tells
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def free(self) -> None:
        self.last, self.job = self.job, None
        self.free_since = time.monotonic()

    def rest(self) -> None:
        """Let go of the device's memory while there is no job: its process ends with its input."""
        if self.ready and time.monotonic() - self.free_since > REST_SECONDS:
            assert self.process is not None
            self.leaving = True
            with suppress(OSError):
                if self.process.stdin:
                    self.process.stdin.close()

    def forget_process(self) -> None:
        assert self.process is not None
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                if stream:
                    stream.close()
        self.process, self.job, self.last, self.ready, self.leaving = None, None, None, False, False
        self.at, self.hung, self.lost = None, None, ""


@dataclass
class Pool:
    """Works a source's jobs off. ``options.threads`` must be given."""

    source: Source
    options: PoolOptions
    watcher: PoolWatcher
    slots: Sequence[Slot]
    shield: Collection[signal.Signals] = ()  # signals that workers never get
    deaths: Counter[str] = field(default_factory=Counter)  # since an epoch was done, by job's key

    def __post_init__(self) -> None:
        self.workers = [_Worker(slot) for slot in self.slots]
        self.selector = selectors.DefaultSelector()
        self.watch = Watch()
        self.source.most_deaths = self.options.retry.attempts

    def work(self) -> None:
        """Until the source is over, or its deadline. Raises UserError where no worker can work."""
        while (self.running or not self.source.over) and not self._late():
            self._hand_out()
            self._count()
            if all(worker.retired for worker in self.workers):
                raise UserError(f"no worker can work here: {self.workers[0].unusable}")
            for key, _ in self.selector.select(LOOK_SECONDS):
                self._read(key.data)
            self._end_what_hangs()
        self._count()

    def _late(self) -> bool:
        deadline = self.source.deadline
        return deadline is not None and time.monotonic() > deadline

    @property
    def running(self) -> int:
        return sum(worker.job is not None for worker in self.workers)

    @property
    def at_work(self) -> list[AtWork]:
        return [
            AtWork(worker.at, worker.process.pid, worker.began)
            for worker in self.workers
            if worker.process is not None and worker.job is not None and worker.at is not None
        ]

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Stop all workers at the end: in order, or after another Ctrl-C at once."""
        try:
            yield
        finally:
            processes = [worker.process for worker in self.workers if worker.process]
            for one in self.at_work:
                one.note("stopped", "cancelled", "the pool of its worker was stopped")
            try:
                for process in processes:
                    for stream in (process.stdin, process.stdout):
                        with suppress(OSError):
                            if stream:
                                stream.close()
                    process.send_signal(signal.SIGINT)
                deadline = time.monotonic() + STOP_SECONDS
                for process in processes:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline - time.monotonic()))
            finally:
                for process in processes:
                    kill_group(process)
                    process.wait()

    def _hand_out(self) -> None:
        for worker in self.workers:
            if worker.job is not None or worker.leaving or worker.retired:
                continue
            job = self.source.next(worker.last)
            if job is None:
                worker.rest()
                continue
            if worker.process is None:
                self._start(worker)
            if worker.ready:
                self.source.taken(job)
                worker.job, worker.at = job, self.options.results / job.key
                worker.signs = Signs()
                self.watcher.started(worker.slot, job)
                worker.send({"job": job.run.to_json()})

    def _count(self) -> None:
        kinds = Counter(outcome.kind for outcome in self.source.outcomes.values())
        self.watcher.count(
            {
                "done": kinds["done"],
                "failed": kinds["failed"],
                "lost": kinds["gave-up"] + kinds["not-ready"],
                "running": self.running,
                "queued": self.source.waiting,
            }
        )

    # The workers

    def _start(self, worker: _Worker) -> None:
        with self._log(worker.slot) as log, shielded(self.shield):
            worker.process = subprocess.Popen(
                [sys.executable, "-m", "lmdbench.sweep.executors.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(worker.slot),
                start_new_session=True,  # Ctrl-C is for this process, which stops them in order
            )
        worker.ready = worker.leaving = False
        worker.buffer = b""
        worker.signs, worker.began, worker.kills = Signs(), time.time(), oom.kills()
        os.set_blocking(worker.output.fileno(), False)
        self.selector.register(worker.output, selectors.EVENT_READ, worker)
        worker.send({"start": self._words(worker.slot).to_json()})

    def _words(self, slot: Slot) -> Start:
        options = self.options
        assert options.threads is not None
        return Start(
            results=options.results.absolute(),
            cache=options.cache.absolute(),
            device=slot.device,
            threads=options.threads,
            patience=options.patience,
            run=options.run,
            plugins=tuple(path.absolute() for path in options.plugins),
            chains=options.chains,
            wait_for_dead=options.wait_for_dead,
        )

    def _environment(self, slot: Slot) -> dict[str, str]:
        threads = str(self.options.threads)
        return {
            "TORCHINDUCTOR_COMPILE_THREADS": threads,  # else one a processor
            **os.environ,
            **({} if slot.visible is None else {"CUDA_VISIBLE_DEVICES": slot.visible}),
            "OMP_NUM_THREADS": threads,
        }

    def log_path(self, slot: Slot) -> Path:
        name = f"{self.options.name}-{slot.name.replace(' ', '-').lower()}.log"
        return self.options.folder / WORKERS / name

    @contextmanager
    def _log(self, slot: Slot) -> Iterator[int]:
        """Where a worker's errors go; nowhere, while the disk is unusable."""
        path = self.log_path(slot)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError:
            descriptor = os.open(os.devnull, os.O_WRONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _read(self, worker: _Worker) -> None:
        chunk = worker.output.read()
        if chunk is None:
            return
        if not chunk:
            self._gone(worker)
            return
        *lines, worker.buffer = (worker.buffer + chunk).split(b"\n")
        for line in lines:
            self._hear(worker, json.loads(line))

    def _hear(self, worker: _Worker, event: Mapping[str, Any]) -> None:
        kind, job = event["event"], worker.job
        worker.signs.seen(kind)
        if kind == "ready":
            worker.ready, worker.failed_starts = True, 0
            worker.free_since = time.monotonic()
        elif kind == "unusable":
            worker.unusable, worker.failed_starts = str(event["text"]), MOST_DEATHS
        elif kind == "lost":
            worker.lost = str(event["how"])
        elif kind != "outcome":
            if job is not None:
                self._follow(worker, job, event)
                self.watcher.event(worker.slot, event)
        elif job is not None:
            worker.free()
            worker.leaving = bool(event["last"]) or worker.hung is not None
            outcome = Outcome(event["kind"], event["text"])
            if outcome.kind == "busy":
                self.source.busy(job, outcome)
            else:
                self.source.ended(job, outcome)

    def _follow(self, worker: _Worker, job: PoolJob, event: Mapping[str, Any]) -> None:
        if event["event"] == "begin":
            worker.at = Path(event["directory"])
        elif event["event"] == "epoch":
            self.deaths[job.key] = 0
            worker.lost_at.clear()

    def _gone(self, worker: _Worker) -> None:
        """A worker's process has ended: it died, unless it said so before."""
        assert worker.process is not None
        self.selector.unregister(worker.output)
        pid, code = worker.process.pid, worker.process.wait()
        job, at, hung, lost = worker.job, worker.at, worker.hung, worker.lost
        how = lost or ending(code)
        if hung is not None:
            how = self._hanging(worker.slot, hung)
        log = self.log_path(worker.slot)
        started, began = worker.ready, worker.began
        worker.forget_process()
        if not started:
            worker.failed_starts += 1
            worker.unusable = worker.unusable or f"a worker {how} as it started: see {log}"
            self.watcher.died(worker.slot, worker.unusable)
        elif job is not None and at is not None:
            if lost:
                worker.lost_at.add(job.key)
            cause = cause_of(code, worker.kills) if hung is None else "stall"
            attempts.end_of(at, pid, "died", cause, f"its worker {how}: see {log}", began)
            self._died(worker.slot, job, at, how)
            if worker.retired:
                worker.unusable = f"a worker {how}, beneath {MOST_LOSSES} runs: see {log}"
                self.watcher.died(worker.slot, f"{worker.unusable}; it is left alone")

    def _died(self, slot: Slot, job: PoolJob, at: Path, how: str) -> None:
        """A worker died at a job, which is tried again, given up, or fails if it always hangs."""
        self.deaths[job.key] += 1
        dead = attempts.died(at)
        number = max(self.deaths[job.key], len(dead))  # its journal may not be writable
        hangs = sum(one.cause == "stall" for one in dead)
        if hangs >= MOST_HANGS:
            text = f"its worker {how}; it hung {hangs} times without an epoch done"
            fail(at, text)
            self.source.ended(job, Outcome("failed", text))
        elif number < self.options.retry.attempts:
            self.source.died(job)
            self.watcher.died(slot, f"its worker {how}; {job.title} goes back into the queue")
        else:
            del self.deaths[job.key]  # whoever offers it again wants it tried anew
            times = f"its worker died {number} times, the last one {how}"
            self.source.ended(job, Outcome("gave-up", f"{times}: see {self.log_path(slot)}"))

    # Those that hang

    def _end_what_hangs(self) -> None:
        slept, least = self.watch.slept(), self.options.retry.stall
        for worker in self.workers:
            worker.signs.forgive(slept)
            if least is None or worker.process is None:
                continue
            if worker.hung is not None and time.monotonic() - worker.hung.since > STOP_SECONDS:
                kill_group(worker.process)
            if is_stopped(worker.process.pid):
                worker.signs.suspended()
            pause = self._too_long(worker, least)
            if pause:
                self._end_hanging(worker, worker.process, pause)

    def _too_long(self, worker: _Worker, least: float) -> float | None:
        """Seconds without a step of a worker that has something to do, if they are too many."""
        if worker.hung is not None or (worker.ready and worker.job is None):
            return None
        return worker.signs.pause(least if worker.ready else max(least, START_SECONDS))

    def _end_hanging(self, worker: _Worker, process: subprocess.Popen[bytes], pause: float) -> None:
        """Have it write where it is, and then end it: in order at first."""
        log = self.log_path(worker.slot)
        worker.leaving = True
        worker.hung = Hang(pause, log.stat().st_size if log.exists() else 0)
        process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + DUMP_SECONDS
        while process.poll() is None and time.monotonic() < end:
            if where_it_hangs(log, worker.hung.log):
                break
            time.sleep(DUMP_LOOK_SECONDS)
        process.send_signal(signal.SIGINT)

    def _hanging(self, slot: Slot, hung: Hang) -> str:
        """How a worker ended that hung, after ``its worker``."""
        where = where_it_hangs(self.log_path(slot), hung.log)
        return f"made no step for {hung.pause:.0f} s{where and f', {where}'}"


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a worker and what it started."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)  # it leads a session of its own
    process.kill()


@contextmanager
def shielded(signals: Collection[signal.Signals]) -> Iterator[None]:
    """A process that is started meanwhile never gets these, which are blocked in it from birth."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fail(directory: Path, text: str) -> None:
    """Mark a run as failed, if another does not have it by now and the disk takes it."""
    with suppress(OSError, UserError):
        mark_failed(directory, f"{text}\n")


def cause_of(code: int, kills: int) -> attempts.Cause:
    """Why a process ended, as far as its exit code tells. ``kills``: ``oom.kills`` as it began."""
    if code == -signal.SIGKILL and oom.kills() > kills:
        return "memory"
    return "signal" if code < 0 and -code in BY_OTHERS else "crash"


def ending(code: int) -> str:
    """How a process ended, after ``a worker``."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", as happens when memory runs out" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
