"""How long virtual features and M-step of a round of ICC take on the CPU, beside numpy's
multivariate_normal (a class at a time) and a DataLoader over a TensorDataset with autograd and SGD.

    python benchmarks/speed/icc.py [--images 4888] [--classes 7] [--per-class 5000] [--width 512]

The features are random, not negative as an encoder's, and their classes a long tail. Both sides
work in turn, after one round of each that is not counted; the figures are the least of the
repeats, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import time

import torch
from peers import CPU, numpy_features, train_head
from torch import nn

from lmdbench.bench.workload import long_tail
from lmdbench.training import gaussians as cal
from lmdbench.training.engine import Execution

RIDGE, LR, MOMENTUM, DECAY = 0.01, 1e-5, 0.9, 1e-4  # LMD's
PARTS = ("features", "m_step")  # Gaussians of real features and draws from them; the head


def head_and_sgd(width: int, classes: int) -> tuple[nn.Linear, torch.optim.Optimizer]:
    head = nn.Linear(width, classes)
    return head, torch.optim.SGD(head.parameters(), LR, MOMENTUM, weight_decay=DECAY)


def theirs(features: torch.Tensor, labels: torch.Tensor, s: argparse.Namespace) -> list[float]:
    """Seconds of each part."""
    started = time.perf_counter()
    drawn = numpy_features(features.numpy(), labels.numpy(), s.per_class, RIDGE)
    between = time.perf_counter()
    train_head(*head_and_sgd(s.width, s.classes), *drawn, s.batch_size)
    return [between - started, time.perf_counter() - between]


def ours(features: torch.Tensor, labels: torch.Tensor, s: argparse.Namespace) -> list[float]:
    """Seconds of each part, which alternate."""
    training = cal.HeadTraining(*head_and_sgd(s.width, s.classes), s.batch_size, Execution(CPU))
    random = torch.Generator().manual_seed(0)
    began, training_seconds = time.perf_counter(), 0.0
    places = cal.places_by_class(labels, s.classes, CPU)
    means, covariances = cal.class_gaussians(features, places, RIDGE)
    means, roots = means.float(), cal.covariance_roots(covariances).float()
    for counts in cal.shuffled_chunks([s.per_class] * s.classes, training.chunk, random):
        drawn = cal.virtual_features(counts, means, roots, random)
        chunk = cal.shuffled(drawn, counts, random)
        started = time.perf_counter()
        training(*chunk)
        training_seconds += time.perf_counter() - started
    return [time.perf_counter() - began - training_seconds, training_seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    for name, default in (("images", 4888), ("classes", 7), ("per-class", 5000), ("width", 512)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch-size", type=int, default=352, help="virtual features an update")
    parser.add_argument("--repeats", type=int, default=3)
    sizes = parser.parse_args()
    torch.manual_seed(0)
    counts = torch.tensor(long_tail(sizes.images, sizes.classes))
    labels = torch.arange(sizes.classes).repeat_interleave(counts)
    mixing = torch.randn(sizes.width, sizes.width) / sizes.width**0.5
    features = (torch.randn(sizes.images, sizes.width) @ mixing).relu_()
    seen: dict[str, list[list[float]]] = {"theirs": [], "ours": []}
    for _ in range(1 + sizes.repeats):
        seen["theirs"].append(theirs(features, labels, sizes))
        seen["ours"].append(ours(features, labels, sizes))
    print(f"{torch.get_num_threads()} threads, {vars(sizes)}")
    print(f"{'':10}{'numpy s':>10}{'lmdbench s':>12}{'ratio':>8}")
    columns = {
        side: [min(part) for part in zip(*((*t, sum(t)) for t in found[1:]), strict=True)]
        for side, found in seen.items()
    }
    for part, other, own in zip((*PARTS, "both"), *columns.values(), strict=True):
        print(f"{part:10}{other:10.3f}{own:12.3f}{other / own:8.1f}")


if __name__ == "__main__":
    main()
