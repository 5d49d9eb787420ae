"""How long `lmdbench report` and `compare` take over 200 rows of 5 seeds, from the shell.

    python benchmarks/report_of_200.py

Writes 200 rows × 5 seeds in the shape of ISIC-2019-LT (8 classes) and 8 of these rows to temporary
folders, and runs each command in a process of its own: its seconds, how often longer than over 8
rows, and its peak memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from compare_of_500 import CLASSES, SHARES, write_run

COMMANDS = {
    "compare": ("compare",),
    "compare, all pairs": ("compare", "--pairwise", "--format", "csv"),
    "compare, LaTeX": ("compare", "--format", "latex"),
    "plot forest": ("plot", "forest", "--output", "forest.pdf"),
    "plot confusion": ("plot", "confusion", "--output", "confusion.png"),
    "report": ("report", "--no-images", "--output", "report.html"),
}


def measured(words: tuple[str, ...], results: Path) -> tuple[float, float]:
    """Seconds, and peak memory in MB, of a command over a results folder."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "lmdbench", *words, "--results", str(results)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=results.parent,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(words)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--few", type=int, default=8, help="rows to compare with")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    asked = parser.parse_args()
    labels = np.repeat(np.arange(len(CLASSES)), np.round(SHARES * asked.images).astype(int))
    ids = np.array([f"ISIC_{number:07d}" for number in range(len(labels))])
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder) / "many", Path(folder) / "few"
        for row in range(asked.rows):
            for seed in range(asked.seeds):
                for results in (many, few) if row < asked.few else (many,):
                    write_run(results, row, seed, labels, ids)
        print(f"{asked.rows} rows of {asked.seeds} seeds, {len(labels):,} test images")
        for name, words in COMMANDS.items():
            least, _ = measured(words, few)
            seconds, memory = measured(words, many)
            times = f"{seconds / least:4.1f} × {asked.few} rows"
            print(f"{name:20}{seconds:6.1f} s  ({times})  {memory:5.0f} MB")


if __name__ == "__main__":
    main()
