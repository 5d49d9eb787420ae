"""What plan, status, compare and list cost where thousands of runs are finished.

    python benchmarks/many_runs.py --runs 10000

Plans a sweep of the drawn data set, of `ce`, `focal` and `crt` with many learning rates and ten
seeds, and writes each run's directory as training leaves it, with logits drawn around the truth.
Then each command runs in a process of its own where a few runs are finished, and twice where many
are: operations on files of the results folder and of all else (both counted by strace, where it is
there), seconds of the processor, and memory, which importing torch has a part of.
``--keep FOLDER`` leaves the runs there, and takes those that lie there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from lmdbench.cli.sweep_common import load_plan
from lmdbench.evaluation.predictions import Predictions
from lmdbench.runs.index import FOLDER
from lmdbench.sweep.plan import Node, SweepPlan

SEEDS = 10
ENTRIES = 3  # methods that are asked for, each with every learning rate
SETTLED = 3.0  # seconds after which a file that was just written counts as one that stays as it is
SWEEP = """
name = "many"
seeds = "0-{last}"
datasets = ["demo"]
[[methods]]
name = "ce"
set = {{ lr = {rates} }}
[[methods]]
name = "focal"
set = {{ lr = {rates} }}
[[methods]]
name = "crt"
set = {{ "ce.lr" = {rates} }}
"""
COMMANDS = {
    "sweep status": ["sweep", "status", "{sweep}"],
    "sweep plan": ["sweep", "plan", "{sweep}", "--summary"],
    "results list": ["results", "list"],
    "compare": ["compare"],
}


def sweep_text(runs: int) -> str:
    """A sweep of about so many runs."""
    seeds = min(SEEDS, max(1, runs // ENTRIES))
    rates = [round(0.001 * (k + 1), 6) for k in range(max(1, runs // (ENTRIES * seeds)))]
    return SWEEP.format(last=seeds - 1, rates=rates)


def write_runs(planned: SweepPlan, size: int = 0) -> None:
    """Finish every run of a plan; ``size``: bytes of what stands for its weights. Of those that
    are finished the record is written anew, as by the code that is here now."""
    models: dict[str, str] = {}
    for number, node in enumerate(planned.nodes.values()):
        model = hashlib.sha256(f"{number}".encode()).digest() + bytes(size)
        models[node.key] = hashlib.sha256(model).hexdigest()
        write_run(node, number, model, models)


def write_run(node: Node, number: int, model: bytes, models: dict[str, str]) -> None:
    """A finished run as training leaves it."""
    models_of = {"ancestor": models.get(node.needs or ""), "model": models[node.key]}
    record = replace(
        node.run.describe(),
        digests={**node.run.code, "store": "0" * 64, **models_of},
        versions={"python": "3.12.0", "torch": "2.6.0", "lmdbench": "1"},
        device="a GPU",
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T01:00:00+00:00",
        attempts=1,
        seconds=3600.0,
        epochs=node.run.length,
        precision_used="float32",
    )
    directory = node.run.directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.json").write_text(json.dumps(record.to_json(), indent=2))
    if (directory / "done").exists():
        return
    write_predictions(node, number)
    (directory / "model.safetensors").write_bytes(model)
    rows = "".join(f"{n + 1},0.5,0.4,36.0\n" for n in range(node.run.length or 0))
    header = "epoch,loss,validation_balanced_accuracy,seconds\n"
    (directory / "history.csv").write_text(header + rows)
    (directory / "run.log").write_text("begun\nfinished\n")
    (directory / "done").write_text("2026-01-01T01:00:00+00:00\n")


def write_predictions(node: Node, number: int) -> None:
    """As ``evaluation.predictions`` writes them, but not forced to the disk."""
    split, rng = node.run.context.prepared.split, np.random.default_rng(number)
    arrays = {}
    for part in ("validation", "test"):
        labels = np.repeat(np.arange(len(split.classes)), split.counts(part))
        logits = rng.normal(size=(len(labels), len(split.classes))).astype(np.float32)
        logits[np.arange(len(labels)), labels] += 1
        ids = np.array([f"{part}-{k:05d}" for k in range(len(labels))])
        made = Predictions(ids, labels, logits)
        arrays |= {f"{part}_{name}": getattr(made, name) for name in ("ids", "labels", "logits")}
    np.savez(node.run.directory / "predictions.npz", **arrays)  # type: ignore[arg-type]


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, code)
"""


def measure(words: Sequence[str]) -> tuple[float, float, int]:
    """Seconds of the processor, MiB at most, and the exit code of a command.

    It is started by a small process: what a child has at most counts from its parent's memory on.
    """
    words = [sys.executable, "-c", MEASURE, *words]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    seconds, memory, code = told.split()
    return float(seconds), float(memory), int(code)


def operations(words: Sequence[str], results: Path) -> tuple[int, int] | None:
    """A command's operations on files below ``results``, and on all others; None without strace."""
    if shutil.which("strace") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        strace = ["strace", "-f", "-y", "-o", str(log), "-e", "trace=%file,%desc"]
        subprocess.run([*strace, *words], stdout=subprocess.DEVNULL, check=False)
        with log.open(errors="replace") as lines:
            inside = [str(results) in line for line in lines if "(" in line]
    return sum(inside), len(inside) - sum(inside)


@contextmanager
def folder_for_runs(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder).resolve()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--only", nargs="*", choices=list(COMMANDS), default=list(COMMANDS))
    asked = parser.parse_args()
    with folder_for_runs(asked.keep) as folder:
        few = made(folder / "few", ENTRIES)
        many = made(folder / "many", asked.runs)
        time.sleep(SETTLED)
        print(f"{'':14} {'':12} {'on results':>10} {'other':>8} {'CPU':>8} {'memory':>9}")
        for name in asked.only:
            tell(name, "few", few)
            shutil.rmtree(many.results / FOLDER, ignore_errors=True)
            tell(name, "many, first", many, index=False)
            tell(name, "many, second", many)


def made(folder: Path, runs: int) -> SweepPlan:
    """A planned sweep in a folder, with about so many runs, all finished."""
    folder.mkdir(exist_ok=True)
    sweep = folder / "many.toml"
    sweep.write_text(sweep_text(runs))
    planned = load_plan(str(sweep), folder / "results", None)
    write_runs(planned)
    print(f"{folder.name}: {len(planned.nodes):,} finished runs", flush=True)
    return planned


def tell(name: str, look: str, planned: SweepPlan, *, index: bool = True) -> None:
    """Measure a command and print it. Without ``index`` there is none when it begins."""
    words = [word.format(sweep=planned.sweep.source) for word in COMMANDS[name]]
    words = [sys.executable, "-m", "lmdbench", *words, "--results", str(planned.results)]
    counted = operations(words, planned.results)
    if not index:
        shutil.rmtree(planned.results / FOLDER, ignore_errors=True)
    seconds, memory, code = measure(words)
    counts = "{:10,} {:8,}".format(*counted) if counted else f"{'–':>10} {'–':>8}"
    failed = f"  exit code {code}" if code else ""
    print(f"{name:14} {look:12} {counts} {seconds:6.1f} s {memory:5.0f} MiB{failed}", flush=True)


if __name__ == "__main__":
    main()
