"""How often the kernel ended processes because memory ran out, as far as it tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


def kills() -> int:
    """In this process's control group; of the whole machine where that can't be read. 0: unknown.

    To be compared with an earlier count: a worker that was ended by SIGKILL meanwhile ran out.
    """
    for path in (*_of_own_group(), PROC / "vmstat"):
        for line in _read(path).splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill" and number.strip().isdigit():
                return int(number)
    return 0


def _of_own_group() -> Iterator[Path]:
    for line in _read(PROC / "self/cgroup").splitlines():
        _, kinds, path = line.split(":", 2) if line.count(":") >= 2 else ("", "none", "")
        if kinds == "":  # version 2
            yield CGROUPS / path.lstrip("/") / "memory.events"
        elif "memory" in kinds.split(","):
            yield CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
