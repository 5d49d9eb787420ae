"""How long `lmdbench compare` takes over 500 runs of 5,000 test images, from the shell.

    python benchmarks/compare_of_500.py

Writes 100 rows × 5 seeds in the shape of ISIC-2019-LT (8 classes) to a temporary folder and times
the whole command, a new process each time, beside one that only reads the same predictions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lmdbench.evaluation.predictions import Predictions, save_predictions
from lmdbench.runs.record import FORMAT, spec_id

CLASSES = ["NV", "MEL", "BCC", "BKL", "AK", "SCC", "VASC", "DF"]
GROUPS = {"head": CLASSES[:2], "medium": CLASSES[2:5], "tail": CLASSES[5:]}
SHARES = np.array([2575, 828, 557, 402, 122, 81, 30, 26]) / 4621
READ = """
import sys
from pathlib import Path
from lmdbench.evaluation.predictions import load_predictions
for path in Path(sys.argv[1]).glob("*/*/*/*/predictions.npz"):
    load_predictions(path, ["test"])
"""


def write_run(results: Path, row: int, seed: int, labels: np.ndarray, ids: np.ndarray) -> None:
    """A finished run as training leaves it, with logits drawn around the truth."""
    method = "lmd" if row == 0 else "ce"
    spec = {
        "method": method,
        "method_version": 1,
        "settings": {"lr": row / 100},
        "selection": "last",
        "ancestor": None,
        "dataset": "isic2019",
        "results_name": "isic2019",
        "split": {
            "name": "published",
            "seed": 42,
            "imbalance_factor": 100.0,
            "fingerprint": "f" * 64,
        },
        "seed": seed,
        "backbone": "resnet18",
        "weights": "IMAGENET1K_V1",
        "image_size": 224,
        "precision": "mixed",
    }
    id_ = spec_id(spec)
    counts = np.bincount(labels, minlength=len(CLASSES)).tolist()
    record = {
        "format": FORMAT,
        "id": id_,
        "spec": spec,
        "results_name": "isic2019",
        "split_label": "published-if100",
        "ancestor": None,
        "classes": CLASSES,
        "class_counts": {"train": counts, "validation": counts, "test": counts},
        "groups": GROUPS,
        "partial": None,
        "synthetic": False,
        "changed_settings": spec["settings"],
    }
    rng = np.random.default_rng([row, seed])
    logits = rng.normal(size=(len(labels), len(CLASSES)))
    logits[np.arange(len(labels)), labels] += 1 + row / 100
    predictions = Predictions(ids, labels, logits.astype(np.float32))
    directory = results / "isic2019" / "published-if100" / method / f"seed{seed}-{id_[:8]}"
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(json.dumps(record))
    parts = {"validation": predictions, "test": predictions}
    save_predictions(directory / "predictions.npz", parts)
    (directory / "done").touch()


def seconds(command: list[str], repeats: int) -> float:
    """The shortest of several runs of a process."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    labels = np.repeat(np.arange(len(CLASSES)), np.round(SHARES * asked.images).astype(int))
    ids = np.array([f"ISIC_{number:07d}" for number in range(len(labels))])
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        for row in range(asked.rows):
            for seed in range(asked.seeds):
                write_run(results, row, seed, labels, ids)
        lmdbench = [sys.executable, "-m", "lmdbench"]
        compared = seconds([*lmdbench, "compare", "--results", folder], asked.repeats)
        calibrated = seconds(
            [*lmdbench, "compare", "--calibrate", "temperature", "--results", folder],
            asked.repeats,
        )
        read = seconds([sys.executable, "-c", READ, folder], asked.repeats)
        started = seconds([*lmdbench, "compare", "--help"], asked.repeats)
    print(f"{asked.rows * asked.seeds} runs of {len(labels):,} test images")
    print(f"compare        {compared:5.1f} s  ({compared / read:.1f} × reading)")
    print(f"  --calibrate  {calibrated:5.1f} s  (as many validation images)")
    print(f"reading alone  {read:5.1f} s")
    print(f"compare --help {started:5.1f} s")


if __name__ == "__main__":
    main()
