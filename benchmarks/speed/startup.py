"""How long a run takes to start: from the process's beginning to its first training step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lmdbench.bench.timing import PATIENCE, Timing
from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors

PLUGIN = Path(__file__).with_name("probe.py")
ANSWER = "LMDBENCH_BENCH_ANSWER"  # in the environment: the file that the plug-in writes to
STARTS = 3  # counted at most, after one that makes the demo images where they are absent
ROOM = 64 << 20  # bytes of temporary files, at most


def measure_start(device: torch.device, seconds: float) -> dict[str, Any]:
    """Seconds from the start of ``lmdbench run`` on the demo images, their store there, until the
    first step is done; what compiling took of it stands apart. ``seconds``: as of a workload.

    Raises UserError where there is no room for its files, or the run fails.
    """
    folder = Path(tempfile.gettempdir())
    with disk_errors(folder):
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < ROOM:
            raise UserError(
                f"{folder}: less than {ROOM >> 20} MiB free, which measuring the start of a run "
                "needs; free some, or let TMPDIR name another folder"
            )
        with tempfile.TemporaryDirectory(prefix="lmdbench-bench-") as place:
            _start(device, Path(place), 0)
            starts: list[dict[str, float]] = []
            began = time.monotonic()
            while not starts or (
                len(starts) < STARTS and time.monotonic() - began < PATIENCE * seconds
            ):
                starts.append(_start(device, Path(place), 1 + len(starts)))
    timing = Timing(tuple(s["until_first_step_seconds"] for s in starts))
    return {
        "until_first_step_seconds": timing.median,
        "spread_percent": 100 * timing.spread,
        "repeats": len(starts),
        "preparing_seconds": median(s["preparing_seconds"] for s in starts),
    }


def _start(device: torch.device, place: Path, number: int) -> dict[str, float]:
    answer = place / f"answer-{number}.json"
    command = [sys.executable, "-m", "lmdbench", "run", "--method", "bench-start"]
    command += ["--plugin", str(PLUGIN), "--dataset", "demo", "--set", "epochs=1"]
    command += ["--device", str(device), "--quiet", "--results", str(place / f"results-{number}")]
    began = time.time()
    done = subprocess.run(
        command,
        env={**os.environ, ANSWER: str(answer)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not answer.exists():
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise UserError(f"the run whose start was to be measured failed: {said}")
    told = json.loads(answer.read_text())
    preparing = float(told["preparing_seconds"])
    return {
        "until_first_step_seconds": told["first_step"] - began - preparing,
        "preparing_seconds": preparing,
    }
