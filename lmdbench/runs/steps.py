"""When a run last made a step, and when that is too long ago.

The training thread itself leaves a small file in the run's directory, every few seconds at most: a
heartbeat's thread goes on beating in a run that hangs. Its time is the last step's, by the clock of
the file system.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmdbench.core.files import file_system_time, patiently

STEPS = "steps.json"
WRITE_SECONDS = 5.0
TIMES = 10  # its longest pause so far, before a run counts as hanging
FIRST_TIMES = 6  # of the least, before the first epoch is done: weights, images, compiling
TOLD_SECONDS = 30.0  # from which on a pause is told, where it is much longer than an epoch
TOLD_TIMES = 5  # an epoch's usual length
RECENT = 20  # epochs whose median is usual
FRESH_SECONDS = 30.0  # age of a heartbeat, beyond which its thread does not beat


def patience(least: float, longest: float, *, begun: bool) -> float:
    """Seconds without a step after which a run hangs. ``longest``: pause so far, in seconds.

    ``begun``: an epoch is done, so that its pauses are known.
    """
    return max(least if begun else FIRST_TIMES * least, TIMES * longest)


@dataclass
class Steps:
    """Notes the steps of one attempt. ``token``: of its claim. Never raises; costs nothing."""

    directory: Path
    token: str
    longest: float = 0.0  # seconds between two steps
    epochs: list[float] = field(default_factory=list)  # seconds of each
    last: float = field(default_factory=time.monotonic)
    written: float | None = None

    def made(self) -> None:
        """A step was made just now."""
        now = time.monotonic()
        if self.epochs:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        if self.written is None or now - self.written >= WRITE_SECONDS:
            self._write(now)

    def epoch(self, seconds: float) -> None:
        self.epochs.append(seconds)
        self.longest = max(self.longest, time.monotonic() - self.last)
        self.written = None
        self.made()

    def over(self) -> None:
        with suppress(OSError):
            (self.directory / STEPS).unlink(missing_ok=True)

    def _write(self, now: float) -> None:
        usual = statistics.median(self.epochs[-RECENT:]) if self.epochs else None
        content = {"token": self.token, "usual": usual, "longest": self.longest}
        with suppress(OSError):
            (self.directory / STEPS).write_text(json.dumps(content))
            self.written = now


@dataclass(frozen=True)
class Pause:
    """``seconds`` since a living run's last step; ``usual``: those of an epoch, None where none is
    done; ``hangs``: it is too long."""

    seconds: float
    usual: float | None
    hangs: bool

    @property
    def is_told(self) -> bool:
        return self.hangs or self.seconds > max(TOLD_SECONDS, TOLD_TIMES * (self.usual or 0.0))

    @property
    def text(self) -> str:
        usual = f" (usual: {_seconds(self.usual)} an epoch)" if self.usual is not None else ""
        return f"{_seconds(self.seconds)} since its last step{usual}"


def pause(directory: Path, holder: Mapping[str, Any], least: float | None) -> Pause | None:
    """How long ago the last step of the run was that ``holder`` has claimed; None: not known.

    ``least``: see ``patience``; None: nothing hangs. A process that is suspended makes no steps
    and no heartbeats either: it has no pause.
    """
    try:
        content = json.loads(patiently((directory / STEPS).read_bytes))
        if content["token"] != holder.get("token") or _suspended(holder):
            return None
        usual, longest = content["usual"], float(content["longest"])
        usual = None if usual is None else float(usual)
        now, last = file_system_time(directory), (directory / STEPS).stat().st_mtime
        beat = (directory / "running.json").stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not holder.get("here") or now - beat < FRESH_SECONDS:
        now = min(now, beat)  # as long as it was seen alive
    seconds = max(0.0, now - last)
    begun = usual is not None
    hangs = least is not None and seconds > patience(least, longest, begun=begun)
    return Pause(seconds, usual, hangs)


def _suspended(holder: Mapping[str, Any]) -> bool:
    return bool(holder.get("here")) and is_stopped(int(holder["pid"]))


def is_stopped(pid: int) -> bool:
    """Whether a process of this machine is suspended, by SIGSTOP or by SLURM."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] in (["T"], ["t"])


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
