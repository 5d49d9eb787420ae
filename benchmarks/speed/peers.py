"""What ours is compared with: Gaussians, virtual features and M-step of ICC as they are commonly
written, by numpy and a DataLoader over a TensorDataset; and training as a bare loop, without the
harness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lmdbench.bench.timing import LEAST, PATIENCE, Timing, time_once
from lmdbench.bench.workload import BareStep, Workload
from lmdbench.training.views.augmentation import VIEWS

CPU = torch.device("cpu")
READY_BATCHES = 4  # of float images that the bare loop holds
# What the targets' round of ICC works on. The images' size does not matter: the features are given.
ROUND = Workload(CPU, "plain", None, image_size=32)


def measure_peer(w: Workload = ROUND) -> dict[str, Any]:
    """Seconds of both on the same random features, in turn."""
    task = w.task()
    method: Any = w.method("lmd", task)
    width = method.model.encoder.out_features
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(w.images, width, generator=generator).relu()
    labels, ridge = task.train.host_labels, method.settings.ridge
    task.streams.start_epoch(1)

    def ours() -> None:
        method.m_step(features, *method.gaussians(features))

    head = nn.Linear(width, w.classes)
    s = method.settings
    sgd = torch.optim.SGD(
        head.parameters(), lr=s.head_lr, momentum=s.momentum, weight_decay=s.weight_decay
    )

    def other() -> None:
        drawn = numpy_features(features.numpy(), labels.numpy(), w.virtual_per_class, ridge)
        train_head(head, sgd, *drawn, s.head_batch_size)

    ours()  # not counted; the other has nothing to warm up
    times: list[tuple[float, float]] = []
    while not times or (
        len(times) < LEAST and sum(map(sum, times)) < PATIENCE * w.seconds * len(times[0])
    ):
        times.append((time_once(ours, CPU), time_once(other, CPU)))
    timing, peer = (Timing(seconds) for seconds in zip(*times, strict=True))
    return {
        "features_wide": width,
        "classes": w.classes,
        "virtual_per_class": w.virtual_per_class,
        "ours_seconds": timing.median,
        "ours_spread_percent": 100 * timing.spread,
        "peer_seconds": peer.median,
        "peer_spread_percent": 100 * peer.spread,
        "times_as_fast": peer.median / timing.median,
    }


def numpy_features(
    features: np.ndarray, labels: np.ndarray, per_class: int, ridge: float
) -> tuple[Tensor, Tensor]:
    """``per_class`` draws from the Gaussian of each class's features, class after class, float32,
    with their labels."""
    random = np.random.default_rng(0)
    drawn = []
    for c in range(labels.max() + 1):
        own = features[labels == c]
        covariance = ridge * np.eye(own.shape[1])
        if len(own) > 1:
            covariance += np.cov(own, rowvar=False)
        drawn.append(random.multivariate_normal(own.mean(axis=0), covariance, per_class))
    stacked = torch.from_numpy(np.concatenate(drawn)).float()
    return stacked, torch.arange(len(drawn)).repeat_interleave(per_class)


def train_head(
    head: nn.Linear,
    optimizer: torch.optim.Optimizer,
    features: Tensor,
    labels: Tensor,
    batch_size: int,
) -> None:
    """One pass of cross-entropy over the features, shuffled."""
    for x, y in DataLoader(TensorDataset(features, labels), batch_size, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(head(x), y).backward()
        optimizer.step()


def bare_loops(w: Workload) -> dict[str, Callable[[], None]]:
    """An epoch of a loop without the harness: over float images that lie ready in memory, and over
    uint8 images of which it makes the strong view. Same model, batches and optimiser."""
    task = w.task("plain")
    method = w.method("ce", task)
    model, labels = method.model, task.train.host_labels
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    step = BareStep(model, sgd, task)
    generator = torch.Generator().manual_seed(0)
    held = min(w.images, READY_BATCHES * w.batch_size)
    ((_, (pixels,)),) = task.train.fetch(iter([[torch.arange(held)]]))
    strong = VIEWS["strong"]
    ready = torch.cat([strong(part, generator) for part in pixels.split(w.batch_size)])
    ready = ready.contiguous(memory_format=torch.channels_last)

    def loop(view: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def train() -> None:
            model.train()
            for rows in torch.randperm(w.images, generator=generator).split(w.batch_size):
                if len(rows) > 1:  # batch norm can't train on one
                    step(view(rows % held), labels[rows])

        return train

    return {
        "bare_loop": loop(lambda rows: ready[rows]),
        "bare_loop_with_views": loop(lambda rows: strong(pixels[rows], generator)),
    }
