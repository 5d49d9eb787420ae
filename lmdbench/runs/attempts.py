"""The attempts at a run and how each ended: a journal beside the run, no part of its science.

``attempts.jsonl`` only grows, a JSON object a line: ``begin`` by the worker that trains, ``end`` by
it or by the process that saw it die, ``forget`` where somebody had the run tried again. A line that
cannot be understood is skipped. Nothing of it is needed to go on, and nobody reads it of finished
runs.
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lmdbench.core.claim import Claim, slurm_job
from lmdbench.core.errors import DiskError
from lmdbench.core.files import HOST, patiently
from lmdbench.core.gpu_memory import GPU_IS_FULL

ATTEMPTS = "attempts.jsonl"

# done: finished. failed: it broke, and ``failed.txt`` has more. stopped: told to, in order; goes on
# later. died: its process ended, or was ended, without a word.
How = Literal["done", "failed", "stopped", "died"]
Cause = Literal[
    "memory", "gpu-memory", "time", "signal", "stall", "node", "cancelled", "crash", "unknown"
]
OTHERS_DOING: tuple[Cause, ...] = ("node", "cancelled")  # deaths that say nothing of the run

# torch, numpy, C++ and the system, of the machine's
MEMORY_IS_FULL = (
    *("can't allocate memory", "not enough memory", "Unable to allocate", "std::bad_alloc"),
    *("MemoryError", "Cannot allocate memory"),
)


@dataclass(frozen=True)
class Attempt:
    """One worker's work on a run. ``epoch``: epochs done as it began; None where it died before.

    ``how`` is empty while no end is noted. ``began``, ``ended``: seconds since 1970. ``process``:
    host and process id.
    """

    token: str
    process: tuple[str, int]
    job: str | None = None
    began: float | None = None
    epoch: int | None = None
    how: How | Literal[""] = ""
    cause: Cause | Literal[""] = ""
    reason: str = ""
    ended: float | None = None


def begin(directory: Path, token: str) -> None:
    """Note that this process begins, or goes on with, the run whose claim has this token."""
    _append(directory, {"what": "begin", **_process(token), "epoch": epochs_done(directory)})


def end(directory: Path, token: str, how: How, cause: Cause | str = "", reason: str = "") -> None:
    """Note how this process's work on a run ended. Of several ends the last counts."""
    _append(directory, {"what": "end", **_process(token), **_ending(how, cause, reason)})


def end_of(
    directory: Path, pid: int, how: How, cause: Cause, reason: str, since: float = 0.0
) -> None:
    """Note how a process of this machine ended that worked on a run, and may not have said so.

    ``since``: when the process began, in seconds since 1970; another had its number before.
    """
    mine = [one for one in attempts(directory) if one.process == (HOST, pid)]
    known = mine and (not mine[-1].how or (mine[-1].began or -1.0) >= since)
    token = mine[-1].token if known else uuid.uuid4().hex
    line = {"what": "end", **_process(token), "pid": pid, **_ending(how, cause, reason)}
    with suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        _append(directory, line)


def forget(directory: Path) -> None:
    """Have what went wrong so far count no more: the run is tried again by somebody's will."""
    if (directory / ATTEMPTS).exists():
        _append(directory, {"what": "forget", "time": time.time()})


def attempts(directory: Path, *, since_forgotten: bool = False) -> list[Attempt]:
    """All that is known of the attempts at a run, oldest first; of damaged lines nothing."""
    found: dict[str, Attempt] = {}
    for line in _lines(directory / ATTEMPTS):
        with suppress(KeyError, TypeError, ValueError, OverflowError):
            _take(found, line, since_forgotten)
    return list(found.values())


def died(directory: Path) -> list[Attempt]:
    """The attempts that died since an epoch was last finished, or the run was tried again by will.

    Also those of which no end is known, and whose process is gone: their ``how`` is empty. Not
    those for which the run can't be blamed.
    """
    found = attempts(directory, since_forgotten=True)
    if not found:
        return []
    alive = _living_token(directory)
    dead: list[Attempt] = []
    reached: int | None = epochs_done(directory)
    now = reached
    for attempt, following in zip(reversed(found), [None, *reversed(found[1:])], strict=True):
        if following is not None and following.epoch is not None:
            reached = following.epoch
        if reached != now:
            break
        if attempt.token != alive and _is_death(attempt, following):
            dead.append(attempt)
    return dead[::-1]


def deaths(directory: Path) -> int:
    """How many attempts in a row died without an epoch done: what bounds how often it is tried."""
    return len(died(directory))


def cause_of(error: BaseException) -> Cause:
    """Why a run fails by an exception of its own: memory, of the machine or a GPU, or a crash."""
    full = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    return "memory" if full else cause_in(f"{type(error).__name__}: {error}")


def cause_in(words: str) -> Cause:
    """The same of an exception's own line, or a library's last words."""
    if any(one in words for one in GPU_IS_FULL):
        return "gpu-memory"
    return "memory" if any(one in words for one in MEMORY_IS_FULL) else "crash"


def epochs_done(directory: Path) -> int:
    """Epochs that ``history.csv`` has; it is as old as the checkpoint, or a moment younger."""
    try:
        return max(0, patiently((directory / "history.csv").read_bytes).count(b"\n") - 1)
    except OSError:
        return 0


def _is_death(attempt: Attempt, following: Attempt | None) -> bool:
    if attempt.how == "died":
        return attempt.cause not in OTHERS_DOING
    # A process that began again did not die, though a full disk had no place for its end.
    return not attempt.how and not (following and following.process == attempt.process)


def _living_token(directory: Path) -> str | None:
    with suppress(OSError, DiskError):
        holder = Claim(directory / "running.json").holder() or {}
        return holder.get("token") if holder.get("alive") else None
    return None


def _take(found: dict[str, Attempt], line: Mapping[str, Any], since_forgotten: bool) -> None:
    """Bring one line of the journal into what was found in those before."""
    if line["what"] == "forget":
        if since_forgotten:
            found.clear()
        return
    token, at = str(line["token"]), float(line["time"])
    process, job = (str(line["host"]), int(line["pid"])), line.get("job")
    attempt = found.get(token, Attempt(token, process, job))
    if line["what"] == "begin":
        found[token] = Attempt(token, process, job, at, int(line["epoch"]))
    elif line["what"] == "end" and line["how"] in get_args(How):
        found[token] = Attempt(
            token,
            attempt.process,
            attempt.job,
            attempt.began,
            attempt.epoch,
            line["how"],
            line["cause"] if line["cause"] in get_args(Cause) else "",
            str(line["reason"]),
            at,
        )


def _process(token: str) -> dict[str, Any]:
    return {
        "time": time.time(),
        "token": token,
        "host": HOST,
        "pid": os.getpid(),
        "job": slurm_job(),
    }


def _ending(how: How, cause: str, reason: str) -> dict[str, Any]:
    return {"how": how, "cause": cause, "reason": " ".join(reason.split())}


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        content = patiently(path.read_bytes).decode(errors="replace")
    except OSError:
        return
    for text in content.split("\n"):
        with suppress(ValueError, RecursionError):
            line = json.loads(text)
            if isinstance(line, dict):
                yield line


def _append(directory: Path, line: Mapping[str, Any]) -> None:
    """In one write, so that lines of several processes do not mix. A bad disk costs the line."""
    with suppress(OSError), (directory / ATTEMPTS).open("ab+") as file:
        start = b""
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            start = b"" if file.read(1) == b"\n" else b"\n"  # after one that broke off
        file.write(start + json.dumps(line).encode() + b"\n")
