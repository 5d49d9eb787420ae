"""What share of a refit's test images look unlike those it was trained on: 5 % would be right.

    python benchmarks/unlike_of_refits.py [--epochs 20 --seeds 0 --results FOLDER]

A run with validation images and its refit without any are trained on each data set. Printed is the
share of their test images below the threshold: of the run by its validation images, of the refit as
it is carried over. The images are those of LMDBENCH_TEST_DATA, by default ../shared/data.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from lmdbench.core.folders import default_cache
from lmdbench.data.store.files import read_finished, store_folders, store_name
from lmdbench.runs.likeness import reference_of
from lmdbench.runs.prediction import load_run
from lmdbench.runs.record import read_record
from lmdbench.runs.whole import saved_predictions

ROOT = Path(os.environ.get("LMDBENCH_TEST_DATA", "../shared/data"))
DATA_SETS, SIZE = ("isic2019", "hyper-kvasir"), 32


def train(data_set: str, results: Path, *words: str) -> None:
    of_images = ("--dataset", data_set, "--data-root", str(ROOT / data_set), "--allow-missing")
    command = [sys.executable, "-m", "lmdbench", "run", "--method", "ce", *of_images, *words]
    subprocess.run([*command, "--results", str(results), "--quiet"], check=True)


def runs_of(data_set: str, results: Path, epochs: int, seed: int) -> tuple[Path, Path]:
    """A run and its refit, trained where they are not there."""
    new = ("--backbone", "small", "--image-size", str(SIZE), "--seeds", str(seed))
    train(data_set, results, *new, "--set", f"epochs={epochs}")
    found = [path.parent for path in results.glob(f"{data_set}/*/ce/seed{seed}-*/done")]
    specs = {path: read_record(path).spec for path in found}
    (run,) = (p for p, s in specs.items() if s.refit is None and s.settings["epochs"] == epochs)
    train(data_set, results, "--refit", str(run))
    refits = results.glob(f"{data_set}/*-refit*/ce/seed{seed}-*")
    by_run = {(read_record(path).spec.refit or {})["run"]: path for path in refits}
    return run, by_run[specs[run].id]


def share_unlike(directory: Path) -> tuple[float, int]:
    """Of the run's test images, and how many these are."""
    run = load_run(directory, torch.device("cpu"))
    reference = reference_of(run, default_cache())
    assert reference is not None
    name = store_name(str(run.record.results_name))
    stores = map(read_finished, store_folders(default_cache() / "stores", name, SIZE))
    store = next(s for s in stores if s is not None and s.digest == run.record.digests["store"])
    place = {image: row for row, image in enumerate(store.hashes)}
    test = saved_predictions(directory, run.record, ["test"])["test"].ids
    pixels = torch.from_numpy(store.pixels[[place[str(image)] for image in test]])
    scores = reference.scores(np.concatenate([run.features(p) for p in pixels.split(64)]))
    return float((scores < reference.threshold).mean()), len(test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--results", type=Path, default=Path("results/unlike-of-refits"))
    options = parser.parse_args()
    for seed in options.seeds:
        for data_set in DATA_SETS:
            run, refit = runs_of(data_set, options.results, options.epochs, seed)
            (own, images), (carried, _) = share_unlike(run), share_unlike(refit)
            print(
                f"{data_set}, seed {seed}, {images} test images: {own:.1%} look unlike the run's,"
            )
            print(f"  {carried:.1%} unlike the refit's", flush=True)


if __name__ == "__main__":
    main()
