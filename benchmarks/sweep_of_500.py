"""How long `lmdbench sweep plan` and `status` take for 500 runs, apart from Python's own imports.

    python benchmarks/sweep_of_500.py --data-root ~/data

Plans isic2019 at several imbalance factors from its official tables, in a new results folder; then
again with 400 runs finished, 50 failed, 30 begun and 20 never begun. No image is needed. The
figures are the whole command's time less that of a process that only imports what it imports.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lmdbench.cli.sweep_common import load_plan
from lmdbench.sweep.plan import Node

SWEEP = """
name = "five-hundred"
seeds = "0-19"
methods = ["ce", "focal", "crt", "lws", "balms"]
[[datasets]]
name = "isic2019"
imbalance_factor = [100, 200, 300, 400, 500]
weights = "none"
"""
IMPORTS = (
    "import json, pandas, scipy.stats, torch, torchvision, sklearn.model_selection, rich.table, "
    "lmdbench.cli.sweep.{0}, lmdbench.sweep.status, lmdbench.sweep.calibrate, "
    "lmdbench.runs.request; "
    "from lmdbench.training.method import METHODS; METHODS.names(); "
    "from lmdbench.data.dataset import DATASETS; DATASETS.names()"
)


def pretend(number: int, node: Node) -> None:
    """A run directory as a finished, failed or interrupted run leaves it, without its arrays."""
    if number >= 480:
        return
    directory = node.run.directory
    directory.mkdir(parents=True)
    record = replace(
        node.run.describe(),
        digests={**node.run.code, "store": "0", "ancestor": None},
        seconds=3600.0,
        epochs=node.run.length,
        device="a GPU",
        attempts=1,
    )
    record.write(directory)
    rows = "".join(f"{n + 1},0.5,0.4,36.0\n" for n in range(node.run.length or 0))
    header = "epoch,loss,validation_balanced_accuracy,seconds\n"
    (directory / "history.csv").write_text(header + rows)
    if number < 400:
        (directory / "done").write_text("now\n")
    elif number < 450:
        (directory / "failed.txt").write_text("Traceback\nValueError: nothing\n")


def seconds(command: list[str], repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True)
        found.append(time.perf_counter() - started)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sweep, results = Path(name) / "sweep.toml", Path(name) / "results"
        sweep.write_text(SWEEP)
        words = [str(sweep), "--results", str(results), "--data-root", str(options.data_root)]
        for what in ("nothing begun", "400 done, 50 failed, 30 lost, 20 missing"):
            for command in ("plan", "status"):
                lmdbench = [sys.executable, "-m", "lmdbench", "sweep", command, *words]
                whole = seconds(lmdbench, options.repeats)
                imports = seconds([sys.executable, "-c", IMPORTS.format(command)], options.repeats)
                beyond = min(whole) - min(imports)
                print(
                    f"{command:6}  {what}: {min(whole):.2f} s, imports {min(imports):.2f} s, "
                    f"beyond them {beyond:.2f} s (medians {statistics.median(whole):.2f} and "
                    f"{statistics.median(imports):.2f})",
                    flush=True,
                )
            if not results.exists():
                planned = load_plan(str(sweep), results, options.data_root)
                for number, node in enumerate(planned.nodes.values()):
                    pretend(number, node)


if __name__ == "__main__":
    main()
