"""A pool of workers on this machine: one process for each GPU, or share of one, or for the CPU.

A worker that dies is started anew and its run goes back into the queue. Workers end with the pool,
however it ends: their input ends with it.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from lmdbench.core.cores import usable_cores
from lmdbench.core.errors import Interrupted, UserError
from lmdbench.runs import attempts
from lmdbench.runs.options import IN_SWEEPS, RunOptions
from lmdbench.runs.state import last_error
from lmdbench.sweep.executors.jobs import RunJob
from lmdbench.sweep.executors.worker import Outcome, Start

MOST_DEATHS = 3  # of workers, before a run is left alone or a device is given up
BUSY_SECONDS = 3.0  # before a run that another worker has is looked at again
LOOK_SECONDS = 0.5
STOP_SECONDS = 8.0  # for workers to stop by themselves
BY_OTHERS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU)
WORKERS = "workers"  # the folder of their logs, in the sweep's


@dataclass(frozen=True)
class PoolJob:
    """A run to do. ``title``: for people. ``needs``: key of a run of the pool that comes first."""

    run: RunJob
    title: str
    needs: str | None = None

    @property
    def key(self) -> str:
        return self.run.key


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """``folder``: the sweep's. ``name``: of the launch, for its logs.

    ``workers``: on the CPU. ``gpus``: numbers of those that this process may use. Neither: all
    GPUs, or one worker on the CPU where there are none. ``threads``: of the CPU for a run; None:
    an equal share of the cores.
    """

    results: Path
    cache: Path
    folder: Path
    name: str
    workers: int | None = None
    gpus: tuple[int, ...] | None = None
    runs_per_gpu: int = 1
    threads: int | None = None
    patience: float = 600.0
    run: RunOptions = IN_SWEEPS
    plugins: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Slot:
    """A place for one worker. ``visible``: what it may see of CUDA."""

    name: str
    device: str
    visible: str = ""


@dataclass(frozen=True)
class PoolSummary:
    """Key → what became of it: done, failed, or gave-up with the reason."""

    outcomes: Mapping[str, Outcome]


class PoolWatcher:
    """Who watches a pool, which calls it at least every half second (``count``); says nothing.

    ``event``: of a slot's worker, as ``worker.Events`` writes them.
    """

    def begin(self, slots: Sequence[Slot], jobs: Sequence[PoolJob]) -> None: ...
    def started(self, slot: Slot, job: PoolJob) -> None: ...
    def event(self, slot: Slot, event: Mapping[str, Any]) -> None: ...
    def ended(self, job: PoolJob, outcome: Outcome) -> None: ...  # busy: back in the queue
    def died(self, slot: Slot, what: str) -> None: ...
    def count(self, counts: Mapping[str, int]) -> None: ...  # done failed lost running queued
    def end(self) -> None: ...


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    CUDA is not asked: a process that did would hold memory on each.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        end = next((n for n, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:end]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return parse_listing(listed.stdout) if listed.returncode == 0 else []


def parse_listing(text: str) -> list[str]:
    """The devices that ``nvidia-smi -L`` names: the parts of a GPU that is divided, else GPUs."""
    found: list[str] = []
    whole = ""
    for line in text.splitlines():
        uuid = line.rpartition("(UUID: ")[2].removesuffix(")")
        if line.startswith("GPU "):
            found.append(uuid)
            whole = uuid
        elif line.strip().startswith("MIG "):
            if found[-1:] == [whole]:
                found.pop()
            found.append(uuid)
    return found


def make_slots(options: PoolOptions) -> list[Slot]:
    """Where workers work. Raises UserError for a GPU that is not there."""
    there = gpus() if options.workers is None else []
    chosen = range(len(there)) if options.gpus is None else options.gpus
    if options.workers is None and options.gpus is not None:
        for number in options.gpus:
            if not 0 <= number < len(there):
                raise UserError(
                    f"GPU {number} is asked for, and this machine shows {len(there)}; choose "
                    "others with --gpus, or work on the CPU with --workers N"
                )
    if options.workers is not None or not chosen:
        return [Slot(f"CPU {n}", "cpu") for n in range(options.workers or 1)]
    shares = [""] if options.runs_per_gpu == 1 else [f".{n}" for n in range(options.runs_per_gpu)]
    return [Slot(f"GPU {n}{share}", "cuda", there[n]) for share in shares for n in chosen]


def run_locally(jobs: Sequence[PoolJob], options: PoolOptions, watcher: PoolWatcher) -> PoolSummary:
    """Work the jobs off. Takes until each is done, failed or given up.

    Raises Interrupted after Ctrl-C, with all workers stopped, and UserError where none can work.
    """
    slots = make_slots(options)
    # Of all slots, also those that find no run: bits depend on threads, and must not on how many
    # runs are left.
    threads = options.threads or max(1, usable_cores() // len(slots))
    slots = slots[: max(1, len(jobs))]
    pool = _Pool(jobs, replace(options, threads=threads), watcher, slots)
    watcher.begin(slots, jobs)
    try:
        with pool.stopping():
            pool.work()
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; every finished epoch is saved: the same command goes on from there"
        ) from None
    finally:
        watcher.end()
    return PoolSummary({job.key: pool.outcomes[job.key] for job in jobs})


@dataclass(eq=False)
class _Worker:
    """A slot with its process, if there is one."""

    slot: Slot
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    leaving: bool = False  # it said that it takes no further job
    job: PoolJob | None = None
    buffer: bytes = b""
    unusable: str = ""
    failed_starts: int = 0

    @property
    def retired(self) -> bool:
        return self.failed_starts >= MOST_DEATHS

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


@dataclass
class _Pool:
    jobs: Sequence[PoolJob]
    options: PoolOptions
    watcher: PoolWatcher
    slots: Sequence[Slot]
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workers = [_Worker(slot) for slot in self.slots]
        self.selector = selectors.DefaultSelector()
        self.queue = list(self.jobs)
        self.titles = {job.key: job.title for job in self.jobs}
        self.not_before: dict[str, float] = {}  # key → when to look again at a busy run
        self.deaths: Counter[str] = Counter()  # of workers, by the key of what they worked on
        self.failed_before = {job.key: self._failed_at(job) for job in self.jobs}

    def work(self) -> None:
        while len(self.outcomes) < len(self.jobs):
            self._hand_out()
            self._count()
            if all(worker.retired for worker in self.workers):
                raise UserError(f"no worker can work here: {self.workers[0].unusable}")
            for key, _ in self.selector.select(LOOK_SECONDS):
                self._read(key.data)
        self._count()

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Stop all workers at the end: in order, or after another Ctrl-C at once."""
        try:
            yield
        finally:
            processes = [worker.process for worker in self.workers if worker.process]
            try:
                for process in processes:
                    for stream in (process.stdin, process.stdout):
                        with suppress(OSError):
                            if stream:
                                stream.close()
                    process.send_signal(signal.SIGTERM)
                deadline = time.monotonic() + STOP_SECONDS
                for process in processes:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(max(0.0, deadline - time.monotonic()))
            finally:
                for process in processes:
                    process.kill()
                    process.wait()

    # The queue

    def _next(self) -> PoolJob | None:
        """The first job that may begin now. Ends those on the way that can't be done any more, or
        that another worker did in vain."""
        now = time.monotonic()
        for job in list(self.queue):
            above = self.outcomes.get(job.needs) if job.needs else None
            if above is not None and above.kind == "gave-up":
                reason = f"{self.titles[job.needs or '']}, which it starts from, is not there"
                self._end(job, Outcome("gave-up", reason))
            elif job.needs in self.titles and above is None:
                continue
            elif self.not_before.get(job.key, 0.0) <= now:
                if self._failed_at(job) in (None, self.failed_before[job.key]):
                    return job
                reason = last_error(self._directory(job))
                self._end(job, Outcome("failed", f"{reason} (by another worker)"))
        return None

    def _hand_out(self) -> None:
        for worker in self.workers:
            if worker.job is not None or worker.leaving or worker.retired:
                continue
            job = self._next()
            if job is None:
                return
            if worker.process is None:
                self._start(worker)
            if worker.ready:
                self.queue.remove(job)
                worker.job = job
                self.watcher.started(worker.slot, job)
                worker.send({"job": job.run.to_json()})

    def _end(self, job: PoolJob, outcome: Outcome) -> None:
        if job in self.queue:
            self.queue.remove(job)
        self.outcomes[job.key] = outcome
        self.watcher.ended(job, outcome)

    def _count(self) -> None:
        kinds = Counter(outcome.kind for outcome in self.outcomes.values())
        running = sum(worker.job is not None for worker in self.workers)
        self.watcher.count(
            {
                "done": kinds["done"],
                "failed": kinds["failed"],
                "lost": kinds["gave-up"],
                "running": running,
                "queued": len(self.jobs) - len(self.outcomes) - running,
            }
        )

    def _directory(self, job: PoolJob) -> Path:
        return self.options.results / job.key

    def _failed_at(self, job: PoolJob) -> int | None:
        try:
            return (self._directory(job) / "failed.txt").stat().st_mtime_ns
        except OSError:
            return None

    # The workers

    def _start(self, worker: _Worker) -> None:
        options = self.options
        assert options.threads is not None
        start = Start(
            results=options.results.absolute(),
            cache=options.cache.absolute(),
            device=worker.slot.device,
            threads=options.threads,
            patience=options.patience,
            run=options.run,
            plugins=tuple(path.absolute() for path in options.plugins),
        )
        with self._log(worker.slot) as log:
            worker.process = subprocess.Popen(
                [sys.executable, "-m", "lmdbench.sweep.executors.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={
                    "TORCHINDUCTOR_COMPILE_THREADS": str(options.threads),  # else one a processor
                    **os.environ,
                    "CUDA_VISIBLE_DEVICES": worker.slot.visible,
                    "OMP_NUM_THREADS": str(options.threads),
                },
                start_new_session=True,  # Ctrl-C is for this process, which stops them in order
            )
        worker.ready = worker.leaving = False
        worker.buffer = b""
        os.set_blocking(worker.output.fileno(), False)
        self.selector.register(worker.output, selectors.EVENT_READ, worker)
        worker.send({"start": start.to_json()})

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
        if kind == "ready":
            worker.ready, worker.failed_starts = True, 0
        elif kind == "unusable":
            worker.unusable, worker.failed_starts = str(event["text"]), MOST_DEATHS
        elif kind != "outcome":
            if job is not None:
                self.watcher.event(worker.slot, event)
        elif job is not None:
            worker.job = None
            worker.leaving = bool(event["last"])
            outcome = Outcome(event["kind"], event["text"])
            if outcome.kind == "busy":
                self.not_before[job.key] = time.monotonic() + BUSY_SECONDS
                self.queue.append(job)
                self.watcher.ended(job, outcome)
            else:
                self._end(job, outcome)

    def _gone(self, worker: _Worker) -> None:
        """A worker's process has ended: it died, unless it said so before."""
        assert worker.process is not None
        self.selector.unregister(worker.output)
        pid, code = worker.process.pid, worker.process.wait()
        for stream in (worker.process.stdin, worker.process.stdout):
            with suppress(OSError):
                if stream:
                    stream.close()
        job, started = worker.job, worker.ready
        worker.process, worker.job, worker.ready, worker.leaving = None, None, False, False
        how = _ending(code)
        log = self.log_path(worker.slot)
        if not started:
            worker.failed_starts += 1
            worker.unusable = worker.unusable or f"a worker {how} as it started: see {log}"
            self.watcher.died(worker.slot, worker.unusable)
        elif job is not None:
            self.deaths[job.key] += 1
            reason = f"its worker {how}: see {log}"
            attempts.end_of(self._directory(job), pid, "died", cause_of(code), reason)
            if self.deaths[job.key] < MOST_DEATHS:
                self.queue.insert(0, job)
                what = f"its worker {how}; {job.title} goes back into the queue"
                self.watcher.died(worker.slot, what)
            else:
                times = f"its worker died {MOST_DEATHS} times, the last one {how}: see {log}"
                self._end(job, Outcome("gave-up", times))


def cause_of(code: int) -> attempts.Cause:
    """Why a process ended, as far as its exit code tells."""
    return "signal" if code < 0 and -code in BY_OTHERS else "crash"


def _ending(code: int) -> str:
    """How a process ended, after ``a worker``."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", as happens when memory runs out" if -code == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
