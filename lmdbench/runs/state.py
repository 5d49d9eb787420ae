"""What has become of a run, told from its directory alone; needs nothing that trains."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from lmdbench.core.files import Claim

LENGTHS = ("epochs", "rounds")  # settings that say how long a run is
PRUNED = "pruned.txt"  # says when the weights of a finished run were removed

State = Literal["missing", "interrupted", "running", "failed", "finished"]


def run_state(directory: Path) -> State:
    """What a run directory holds, told by its state files alone."""
    has_record = (directory / "run.json").exists()
    if has_record and (directory / "done").exists():
        return "finished"
    if (Claim(directory / "running.json").holder() or {}).get("alive"):
        return "running"
    if (directory / "failed.txt").exists():
        return "failed"
    if has_record and (directory / "done").exists():  # since the first look, its claim given up
        return "finished"
    return "interrupted" if has_record else "missing"


def last_error(directory: Path) -> str:
    """What ``failed.txt`` says went wrong, in its first line; empty where that can't be read."""
    with suppress(OSError, ValueError):
        return (directory / "failed.txt").read_text(encoding="utf-8").partition("\n")[0].strip()
    return ""
