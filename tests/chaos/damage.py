"""Damage to files of a sweep, as a failing disk, a killed copy or a careless hand leaves it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

RUNS = "*/*/*/seed*"
FINISHED = ("predictions.npz", "run.json", "done", "model.safetensors", "heads.safetensors")
UNFINISHED = ("checkpoint.pt", "run.json", "history.csv", "attempts.jsonl", "steps.json")
CLAIM = "running.json"
LAUNCH_CLAIMS = ("sweeps/*.json", "sweeps/*/launches/*.claim")
RECORDS = ("sweeps/*/launches/*.json", "sweeps/*/offers/*.json", "sweeps/*/ends.json", ".index/*")
LONG_AGO = 3600.0  # seconds: older than any claim that counts


def of_finished(results: Path) -> list[Path]:
    return [path for run, done in _runs(results) if done for path in _there(run, FINISHED)]


def of_unfinished(results: Path) -> list[Path]:
    return [path for run, done in _runs(results) if not done for path in _there(run, UNFINISHED)]


def of_claims(results: Path) -> list[Path]:
    return [path for run, _ in _runs(results) for path in _there(run, (CLAIM,))]


def of_launch_claims(results: Path) -> list[Path]:
    """Of pools, and of who launches."""
    return [path for pattern in LAUNCH_CLAIMS for path in results.glob(pattern)]


def of_records(results: Path) -> list[Path]:
    """Of launches and offers, what is remembered of jobs, and the index of runs."""
    return [path for pattern in RECORDS for path in results.glob(pattern) if path.is_file()]


def spoil(path: Path, rng: random.Random, *, aged: bool = False) -> str:
    """Damage a file in place. Returns in which way; empty where it is gone by now.

    ``aged``: as if that had been an hour ago.
    """
    way, change = rng.choice(list(WAYS.items()))
    try:
        content = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(change(content, rng))
        if aged:
            os.utime(path, (time.time() - LONG_AGO,) * 2)
    except OSError:
        return ""
    return way


def run_of(path: Path, results: Path) -> str:
    """The run that a file belongs to: its directory below the results; empty for one of none."""
    parts = path.relative_to(results).parts
    return "/".join(parts[:4]) if len(parts) > 4 and parts[3].startswith("seed") else ""


def _half(content: bytes, rng: random.Random) -> bytes:
    return content[: len(content) // 2]


def _noise(content: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(len(content))


def _nothing(content: bytes, rng: random.Random) -> bytes:
    return b""


WAYS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut short": _half,
    "overwritten": _noise,
    "emptied": _nothing,
}


def _runs(results: Path) -> Iterator[tuple[Path, bool]]:
    """Directories of runs, not those that were moved aside, and whether each is finished."""
    for run in sorted(results.glob(RUNS)):
        if ".old-" not in run.name:
            yield run, (run / "done").exists()


def _there(run: Path, names: tuple[str, ...]) -> list[Path]:
    with suppress(OSError):
        return [run / name for name in names if (run / name).is_file()]
    return []
