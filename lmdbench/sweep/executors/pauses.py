"""How a pool tells that a worker hangs: from the pauses between what it says, by its own clock."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from lmdbench.runs.steps import patience

ASLEEP_SECONDS = 10.0  # between two looks of a pool that looks every half second: it was suspended


@dataclass
class Signs:
    """A worker's signs of life at one job. Times in seconds of the monotonic clock."""

    last: float = field(default_factory=time.monotonic)
    longest: float = 0.0  # between two, since an epoch was done
    begun: bool = False  # an epoch is done

    def seen(self, event: str) -> None:
        now = time.monotonic()
        if event == "begin":
            self.longest, self.begun = 0.0, False
        elif self.begun:
            self.longest = max(self.longest, now - self.last)
        self.begun = self.begun or event == "epoch"
        self.last = now

    def forgive(self, seconds: float) -> None:
        """Take a time in which nobody was watched for none."""
        self.last += seconds

    def suspended(self) -> None:
        """It is suspended just now: its pause begins when it goes on."""
        self.last = time.monotonic()

    def pause(self, least: float) -> float | None:
        """Seconds since the last one, if that is too long. ``least``: see ``steps.patience``."""
        seconds = time.monotonic() - self.last
        return seconds if seconds > patience(least, self.longest, begun=self.begun) else None


@dataclass
class Watch:
    """When a pool looked last."""

    looked: float = field(default_factory=time.monotonic)

    def slept(self) -> float:
        """Seconds that the pool itself was suspended since it looked last; 0 as a rule."""
        now = time.monotonic()
        gap, self.looked = now - self.looked, now
        return gap if gap > ASLEEP_SECONDS else 0.0


def where_it_hangs(log: Path, start: int) -> str:
    """Where its main thread stood, as ``faulthandler`` wrote it behind ``start``; empty if not."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            text = file.read(1 << 16).decode(errors="replace")
    except OSError:
        return ""
    found = re.search(r'Current thread .*\n\s+File "(.+)", line (\d+) in (.+)', text)
    return f"in {found[3].strip()} ({Path(found[1]).name}:{found[2]})" if found else ""
