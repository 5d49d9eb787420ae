"""What features that are kept cost and lose beside an encoder that is run at each step.

    python benchmarks/frozen_features.py [--image-size 64] [--epochs 10] [--seeds 2] [--views 0 1 4]

A linear head is trained by cross-entropy on the real dermoscopy images: on kept features of the
test view and of K drawn strong views, and on a fresh strong view of each image at each step, the
encoder frozen. Printed are training images a second, and the balanced accuracy on test images, mean
and standard deviation over seeds; and the speed of training the whole network. The images are
those of LMDBENCH_TEST_DATA, by default ../shared/data.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from lmdbench.core.randomness import Streams, derived_seed
from lmdbench.data.store.store import Store, open_store
from lmdbench.evaluation.metrics import balanced_accuracy
from lmdbench.models.backbones import build_encoder, get_backbone, with_drawn_views
from lmdbench.runs.frozen import open_features
from lmdbench.runs.model import logits_of, train_epoch
from lmdbench.runs.plan import ResolvedContext
from lmdbench.runs.request import Contexts, RunContext
from lmdbench.training.method import METHODS, Method
from lmdbench.training.task import Images, Task

ROOT = Path(os.environ.get("LMDBENCH_TEST_DATA", "../shared/data"))
CPU = torch.device("cpu")
BACKBONE, LEARNING_RATE = "efficientnet-lite0", 0.03
WHOLE_EPOCHS = 1  # of the whole network, for its speed


def images(context: ResolvedContext, store: Store, part: str, views: int | None) -> Images:
    """A part's images, or the kept features of them with so many drawn views in training."""
    data = context.prepared.split.parts[part]
    labels = torch.from_numpy(np.asarray(data.labels, dtype=np.int64))
    if views is None:
        return Images(store.pixels, store.rows(data.ids), labels, CPU)
    backbone = with_drawn_views(context.backbone, views) if views else context.backbone
    quiet = (lambda _: None), (lambda *_: None)
    features = open_features(store, backbone, context.weights, CPU, None, *quiet)
    rows = features.places(data.ids, drawn=part == "train")
    return Images(features.rows, rows, labels, CPU)


def trained(
    context: ResolvedContext, train: Images, test: Images, seed: int, epochs: int, *, frozen: bool
) -> Iterator[tuple[Method, Task]]:
    """A method after each epoch, from its beginning on."""
    classes = context.prepared.split.classes
    task = Task(classes, train, test, Streams(seed, CPU), CPU)
    torch.manual_seed(derived_seed(seed, "init", 0))
    backbone = context.backbone if frozen else get_backbone(BACKBONE)
    encoder = build_encoder(backbone, context.weights)
    ce = METHODS.get("ce")
    settings = ce.Settings(epochs=epochs, lr=LEARNING_RATE, schedule="cosine")
    method = ce(task, settings, encoder)
    method.start_training()
    yield method, task
    for number in range(epochs):
        train_epoch(method, task, number)
        yield method, task


def measured(
    context: ResolvedContext, train: Images, test: Images, seed: int, epochs: int, frozen: bool
) -> tuple[float, float]:
    """Training images a second, and the balanced accuracy on test images after the last epoch."""
    run = trained(context, train, test, seed, epochs, frozen=frozen)
    method, task = next(run)
    started = time.perf_counter()
    for _ in run:
        pass
    rate = epochs * len(train) / (time.perf_counter() - started)
    logits = logits_of(method, task, test)
    return rate, balanced_accuracy(test.host_labels.numpy(), logits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--views", type=int, nargs="+", default=[0, 1, 4, 8])
    asked = parser.parse_args()
    cache = Path(os.environ.get("LMDBENCH_CACHE") or tempfile.mkdtemp())
    setup = RunContext(
        dataset="isic2019",
        data_root=ROOT,
        allow_missing=True,
        backbone=BACKBONE,
        image_size=asked.image_size,
        tuning="head",
    )
    context = Contexts(Path(), cache, files=True).of(setup)
    store = open_store(context.prepared, asked.image_size, cache)

    def report(name: str, views: int | None, seeds: int, epochs: int, frozen: bool) -> None:
        parts = [images(context, store, part, views) for part in ("train", "test")]
        rates, scores = zip(
            *(measured(context, *parts, seed, epochs, frozen) for seed in range(seeds)),
            strict=True,
        )
        spread = f" ± {100 * np.std(scores, ddof=1):.1f}" if seeds > 1 else ""
        scored = f"{100 * np.mean(scores):.1f}{spread}" if frozen else "not scored"
        print(f"{name:45}{np.median(rates):12,.0f} images/s   {scored}", flush=True)

    for views in asked.views:
        text = f"features of {views} drawn views" if views else "features of the test view"
        report(text, views, asked.seeds, asked.epochs, frozen=True)
    report("a fresh view a step, the encoder frozen", None, asked.seeds, asked.epochs, frozen=True)
    report("a fresh view a step, the whole network", None, 1, WHOLE_EPOCHS, frozen=False)


if __name__ == "__main__":
    main()
