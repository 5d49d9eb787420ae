"""Values of the authors' own code, and the random numbers that it was given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

VALUES = Path(__file__).parent / "values"  # a file a method: counts → seed → quantity → value
COUNTS = {
    "isic": (9012, 2898, 1949, 1409, 426, 282, 104, 90),
    "tiny": (500, 20, 3, 1, 1),
}
B, D = 16, 32  # of the values: images of a batch, width of features


class Case:
    """One seed on one set of class counts. Draws are float64, in the order of the calls."""

    def __init__(self, counts: str, seed: int, values: dict[str, float]) -> None:
        self.counts = torch.tensor(COUNTS[counts], dtype=torch.float64)
        self.C = len(self.counts)
        self.values = values
        self.random = np.random.RandomState(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.from_numpy(self.random.standard_normal(shape))

    def unit(self, *shape: int) -> Tensor:
        """The same with its last axis at length 1."""
        x = self.normal(*shape)
        return x / x.norm(dim=-1, keepdim=True)

    def labels(self, n: int) -> Tensor:
        return torch.from_numpy(self.random.randint(0, self.C, n))

    def permutation(self, n: int) -> Tensor:
        return torch.from_numpy(self.random.permutation(n))

    def uniform(self, *shape: int) -> Tensor:
        return torch.as_tensor(self.random.uniform(size=shape or None), dtype=torch.float64)


def read_values(name: str) -> dict[str, dict[str, dict[str, float]]]:
    return json.loads((VALUES / f"{name}.json").read_text(encoding="utf-8"))


def cases(name: str) -> pytest.MarkDecorator:
    """Runs a test on the values of a method: each ``released`` makes a ``Case``."""
    params = [
        pytest.param((counts, int(seed), values), id=f"{counts}-{seed}")
        for counts, seeds in read_values(name).items()
        for seed, values in seeds.items()
    ]
    return pytest.mark.parametrize("released", params)


def gradient_norm(loss: Tensor, *leaves: Tensor) -> float:
    """The L2 norm of the gradient by all the leaves together."""
    gradients = torch.autograd.grad(loss, leaves, retain_graph=True)
    return torch.cat([g.flatten() for g in gradients]).norm().item()
