"""Whether compiled execution, and bfloat16, leave a method's scores as they are: images of a data
set, several seeds, each trained in every way from the same weights.

    python benchmarks/execution.py --dataset isic2019 --data-root DATA [--seeds 3] [--epochs 8]

On the CPU "compiled" is all of the fast path but the capture of CUDA graphs. Prints the balanced
accuracy of each way and seed, and the mean difference to plain float32 beside the standard
deviation over seeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch

from lmdbench.core.folders import default_cache
from lmdbench.core.randomness import Streams
from lmdbench.data.store.store import Store, open_store
from lmdbench.evaluation.metrics import balanced_accuracy
from lmdbench.runs.model import fit_last, logits_of, new_method, train_epoch
from lmdbench.runs.plan import PlannedRun
from lmdbench.runs.request import Contexts, RunContext, RunRequest
from lmdbench.training.task import Images, Task

WAYS = {
    "plain float32": ("plain", None),
    "compiled float32": ("compiled", None),
    "plain bfloat16": ("plain", torch.bfloat16),
    "compiled bfloat16": ("compiled", torch.bfloat16),
}


def score(run: PlannedRun, store: Store, device: torch.device, way: str) -> float:
    """Test balanced accuracy of a run trained that way."""
    mode, precision = WAYS[way]

    def images(part: str) -> Images:
        data = run.context.prepared.split.parts[part]
        labels = torch.from_numpy(np.asarray(data.labels, dtype=np.int64))
        return Images(store.pixels, store.rows(data.ids), labels, device)

    task = Task(
        classes=run.context.prepared.split.classes,
        train=images("train"),
        validation=images("validation"),
        streams=Streams(run.spec.seed, device),
        device=device,
        precision=precision,
        mode=mode,
    )
    method = new_method(run, task)
    method.start_training()
    for number in range(method.epochs):
        train_epoch(method, task, number)
    fit_last(method, task)
    test = images("test")
    return balanced_accuracy(test.host_labels.numpy(), logits_of(method, task, test))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--method", default="rrl", help="one that starts from no other")
    parser.add_argument("--backbone", default="small")
    parser.add_argument("--image-size", type=int, default=48)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", default="0.05")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    s = parser.parse_args()
    setup = RunContext(
        s.dataset,
        s.data_root,
        allow_missing=s.data_root is not None,
        backbone=s.backbone,
        weights="none",
        image_size=s.image_size,
    )
    settings = {"epochs": str(s.epochs), "lr": s.lr}
    with tempfile.TemporaryDirectory() as results:
        context = Contexts(Path(results), default_cache(), files=True).of(setup)
        store = open_store(context.prepared, s.image_size, default_cache(), lambda *_: None)
        scores: dict[str, list[float]] = {way: [] for way in WAYS}
        for seed in range(s.seeds):
            run = RunRequest(setup, s.method, seed, settings).plan(context)
            for way, found in scores.items():
                found.append(100 * score(run, store, torch.device(s.device), way))
                print(f"seed {seed}  {way:18} {found[-1]:5.1f}", flush=True)
    plain = scores["plain float32"]
    noise = statistics.stdev(plain) if s.seeds > 1 else float("nan")
    print(f"\n{s.method} on {s.dataset}, {s.epochs} epochs: test balanced accuracy (%)")
    for way, found in scores.items():
        change = statistics.mean(a - b for a, b in zip(found, plain, strict=True))
        print(f"{way:18} mean {statistics.mean(found):5.1f}  to plain float32 {change:+5.1f}")
    print(f"standard deviation over seeds, plain float32: {noise:.1f}")


if __name__ == "__main__":
    main()
