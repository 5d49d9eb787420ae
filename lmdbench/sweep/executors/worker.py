"""Carry out jobs one after another: in a SLURM job, or as a process of its own that a pool feeds.

``python -m lmdbench.sweep.executors.worker`` reads JSON lines from standard input, ``{"start": …}``
first and then ``{"job": …}``, and answers with events, one JSON object a line. It ends with its
input.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import json
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch

from lmdbench.core.claim import DEAD_AFTER_SECONDS, Claim
from lmdbench.core.environment import lost_device
from lmdbench.core.errors import DeviceLost, DiskError, RunFailed, UserError
from lmdbench.core.files import disk_errors
from lmdbench.core.progress import PREPARING, Progress, Watched
from lmdbench.core.registry import load_plugin
from lmdbench.data.store.store import Store, open_store
from lmdbench.runs.execution import execute, keeping_all, lacking
from lmdbench.runs.options import IN_SWEEPS, RunOptions
from lmdbench.runs.plan import PlannedRun
from lmdbench.runs.request import Contexts, RunContext
from lmdbench.runs.state import last_error, mark_failed, run_state
from lmdbench.runs.whole import damage
from lmdbench.runs.workplace import Busy, Workplace, holder_text
from lmdbench.sweep.executors.jobs import RunJob, planned_run
from lmdbench.sweep.executors.messages import Outcome, Start
from lmdbench.sweep.executors.orphans import end_with_parent

LONGEST_PAUSE = 30.0  # seconds between two tries while a disk is unusable
LOOK_SECONDS = 1.0  # between two signs of life while it waits for a disk, or a claim's holder
TICK_SECONDS = 0.5  # between two events of one kind within an epoch
STOPPING = (signal.SIGTERM, signal.SIGINT)
STOP_SECONDS = 10.0  # for a worker to stop by itself once its input has ended


class NotReady(UserError):
    """What a run starts from is not finished."""


@dataclass(frozen=True)
class _Failure:
    text: str  # one line
    details: str = ""  # for failed.txt; empty: it is there


class Worker:
    """Carries out jobs in this process; tables and stores are opened once for all of them.

    ``patience``: seconds of waiting, for each job, for a disk that is full, read-only or away.
    ``wait_for_dead``: watch the holder of a claim until it shows that it lives: a requeued job
    meets the claim of its own former life on another machine. ``chains``: train what a run starts
    from, too, where that is not finished.
    """

    def __init__(
        self,
        results: Path,
        cache: Path,
        device: torch.device,
        progress: Progress,
        *,
        options: RunOptions = IN_SWEEPS,
        patience: float,
        wait_for_dead: bool,
        chains: bool = True,
    ) -> None:
        self.results = results
        self.cache = cache
        self.device = device
        self.progress = progress
        self.patience = patience
        self.options = options
        self.wait_for_dead = wait_for_dead
        self.chains = chains
        self.spoiled = ""  # why this process can't use its device any more
        self._contexts = Contexts(
            results, cache, files=True, say=progress.say, progress=progress.prepare
        )
        self._stores: dict[RunContext, Store] = {}

    def carry_out(self, job: RunJob) -> Outcome:
        """Do a run, with ``chains`` also what it needs that is not there. KeyboardInterrupt and
        DeviceLost pass through."""
        if self.spoiled:
            return Outcome("gave-up", self.spoiled)
        failure: _Failure | None = None
        pause, waited = 1.0, 0.0
        while True:
            try:
                failure = failure or self._attempt(job)
                return Outcome("done") if failure is None else self._note(job, failure)
            except NotReady as error:
                return Outcome("not-ready", str(error))
            except Busy as error:
                if not self.wait_for_dead or _lives(error.claim, self.progress.alive):
                    return Outcome("busy", str(error))
                continue
            except DeviceLost as error:
                self.spoiled = f"this process {error.how}"
                raise
            except DiskError as error:
                if waited >= self.patience:
                    if failure is not None:
                        return Outcome("failed", failure.text)
                    return Outcome("gave-up", str(error))
                if not waited:
                    self.progress.say(f"{job.key}: {error}. Trying again for {self.patience:.0f} s")
            finally:
                self._free_memory()
            pause = min(pause, max(self.patience - waited, 0.01))
            self._rest(pause)
            waited += pause
            pause = min(2 * pause, LONGEST_PAUSE)

    def _attempt(self, job: RunJob) -> _Failure | None:
        """Why the run fails; None where it is finished. Raises Busy, NotReady, DiskError
        and DeviceLost."""
        run = None
        try:
            run = planned_run(job, self._contexts)
            if run.state != "finished" and (broken := _failed_ancestor(run)):
                return broken
            place = self._workplace(job, run)
            if not self.chains and (above := lacking(run, place)):
                raise NotReady(f"its stage 1 ({above.title}) is {_how_far(above)}; launch again")
            execute(run, place)
        except (DiskError, Busy, NotReady, DeviceLost):
            raise
        except RunFailed as error:
            if how := lost_device(self.device):
                self.spoiled = f"this process {how}"
            details = ""
            if run_state(self.results / job.key) != "failed":
                details = "".join(traceback.format_exception(error))
            return (run and _failed_ancestor(run)) or _Failure(str(error), details)
        except UserError as error:
            return _Failure(str(error), f"{error}\n")
        except Exception as error:
            if how := lost_device(self.device):
                raise DeviceLost(job.key, how) from error
            if isinstance(error, OSError) and error.errno and error.errno != errno.ENOENT:
                raise DiskError(f"{job.key}: {error}") from error
            line = traceback.format_exception_only(error)[-1].strip()
            return _Failure(f"{job.key}: {line}", traceback.format_exc())
        return None

    def _workplace(self, job: RunJob, run: PlannedRun) -> Workplace:
        asked = job.request.context
        if asked not in self._stores:
            context = run.context
            self._stores[asked] = open_store(
                context.prepared, context.image_size, self.cache, self.progress.prepare
            )
            for line in self._stores[asked].survey.lines:
                self.progress.say(line)
        place = Workplace(self._stores[asked], self.device, self.progress, self.options)
        return keeping_all(place) if job.starts_others else place

    def _note(self, job: RunJob, failure: _Failure) -> Outcome:
        """Leave ``failed.txt`` in the run's directory, unless it is there or the run finished.

        Raises DiskError.
        """
        directory = self.results / job.key
        with disk_errors(directory):
            unmarked = failure.details and run_state(directory) != "finished"
            if unmarked and not mark_failed(directory, failure.details):
                claim = Claim(directory / "running.json")
                return Outcome("busy", f"{job.key}: being trained {holder_text(claim)}")
        return Outcome("failed", failure.text)

    def _rest(self, seconds: float) -> None:
        """Sleep, and let it be known all the while that this process does not hang."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
            self.progress.alive()

    def _free_memory(self) -> None:
        """Others may share the GPU."""
        gc.collect()
        if self.device.type == "cuda" and not self.spoiled:
            torch.cuda.empty_cache()


def _failed_ancestor(run: PlannedRun) -> _Failure | None:
    """Why what a run needs, and is not there, is not to be had."""
    failed, link = None, run.ancestor
    while link is not None and link.state != "finished":
        failed = link if link.state in ("failed", "damaged") else failed
        link = link.ancestor
    if failed is None:
        return None
    text = f"it starts from {failed.title}, which failed: {last_error(failed.directory)}"
    if failed.state == "damaged":
        text = f"it starts from {failed.title}, which is damaged, {damage(failed.directory)}; "
        text += "lmdbench sweep retry trains that anew"
    return _Failure(f"{run.title}: {text}", f"{text}\n")


def _how_far(above: PlannedRun) -> str:
    """Where what a run starts from stands, after ``is``."""
    if above.state == "running":
        return (
            f"not there yet: it is trained {holder_text(Claim(above.directory / 'running.json'))}"
        )
    return f"not there: {'it changed' if above.state == 'finished' else above.state}"


def _lives(claim: Claim, alive: Callable[[], None]) -> bool:
    """Whether the holder of a claim renews it. Takes until it does, or is dead.

    ``alive``: called at each look."""
    first = claim.heartbeat()
    deadline = time.monotonic() + 2 * DEAD_AFTER_SECONDS
    while time.monotonic() < deadline:
        if not (claim.holder() or {}).get("alive"):
            return False
        if claim.heartbeat() != first:
            return True
        alive()
        time.sleep(LOOK_SECONDS)
    return True


# A process of its own


@dataclass
class Events(Progress):
    """A watcher that writes what it sees as events, for the process that feeds this one."""

    output: TextIO
    _last: dict[str, float] = field(default_factory=dict)  # event → when it was written

    def write(self, event: str, **content: Any) -> None:
        with suppress(OSError):  # nobody reads any more: the input ends as well, and tells
            self.output.write(json.dumps({"event": event, **content}) + "\n")
            self.output.flush()

    def begin(self, run: Watched, epoch: int, epochs: int) -> None:
        where = str(run.directory)
        self.write("begin", title=run.title, directory=where, epoch=epoch, epochs=epochs)

    def tick(self, done: int, total: int) -> None:
        self._sometimes("tick", done=done, total=total)

    def epoch(self, row: Mapping[str, float]) -> None:
        self.write("epoch", row=dict(row))

    def say(self, text: str) -> None:
        self.write("say", text=text)

    def prepare(self, done: int, total: int, what: str = PREPARING) -> None:
        self._sometimes("prepare", done=done, total=total, what=what)

    def alive(self) -> None:
        self._sometimes("alive")

    def _sometimes(self, event: str, **content: int | str) -> None:
        now = time.monotonic()
        if now - self._last.get(event, 0.0) >= TICK_SECONDS:
            self._last[event] = now
            self.write(event, **content)


def main() -> int:
    """Work off the jobs that standard input brings. Exit code 130 where it ended amid one."""
    end_with_parent()
    # What a library prints must not end up among the events, and no child may read the jobs.
    lines = os.fdopen(os.dup(0), encoding="utf-8")
    events = Events(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for number in STOPPING:
        signal.signal(number, _stop)
    faulthandler.register(signal.SIGUSR1)
    inbox: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
    working = threading.Event()
    threading.Thread(target=_read, args=(lines, inbox, working), daemon=True).start()
    try:
        first = inbox.get()
        worker = first and _start(Start.from_json(first["start"]), events)
        last = False
        while worker and not last and (message := inbox.get()):
            working.set()
            outcome = worker.carry_out(RunJob.from_json(message["job"]))
            working.clear()
            # Claims that it could not remove from an unusable disk end with the process.
            last = bool(worker.spoiled) or outcome.kind == "gave-up"
            events.write("outcome", **asdict(outcome), last=last)
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        events.write("unusable", text=str(error))
        return 2
    except DeviceLost as error:
        traceback.print_exception(error)
        events.write("lost", how=error.how)
        return 1
    return 0


def _stop(*_: object) -> None:
    """Stop, once: what is being put in order then is not to be disturbed."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _start(start: Start, events: Events) -> Worker:
    torch.set_num_threads(start.threads)
    for path in start.plugins:
        load_plugin(path)
    device = torch.device(start.device)
    if device.type == "cuda":
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"{start.device} can't be used: {reason}") from error
    worker = Worker(
        start.results,
        start.cache,
        device,
        events,
        options=start.run,
        patience=start.patience,
        wait_for_dead=start.wait_for_dead,
        chains=start.chains,
    )
    events.write("ready")
    return worker


def _read(
    lines: TextIO, inbox: queue.SimpleQueue[Mapping[str, Any] | None], working: threading.Event
) -> None:
    """Bring lines to the inbox; at their end, stop the process whatever it does."""
    for line in lines:
        inbox.put(json.loads(line))
    inbox.put(None)
    if working.is_set():
        os.kill(os.getpid(), signal.SIGINT)  # SIGTERM may be blocked
    time.sleep(STOP_SECONDS)
    os._exit(130)


if __name__ == "__main__":
    os._exit(main())  # at once: no thread that still reads gets in the way of Python's own end
