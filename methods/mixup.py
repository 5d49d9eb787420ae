"""Mixup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.randomness import Streams
from lmdbench.core.settings import Choice, at_least
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def draw_beta(a: float, b: float, generator: torch.Generator) -> float:
    """A number from Beta(a, b), drawn by numpy: torch's own Beta takes no generator."""
    seed = torch.randint(2**63 - 1, (), generator=generator)
    return float(np.random.default_rng(int(seed)).beta(a, b))


def mixed_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, share: float) -> Tensor:
    """share · CE(labels) + (1 − share) · CE(others), which is cross-entropy with mixed labels.

    logits (B, C) float, labels and others (B,) int64.
    """
    first, second = F.cross_entropy(logits, labels), F.cross_entropy(logits, others)
    return share * first + (1 - share) * second


def mix_up(batch: Batch, alpha: float, streams: Streams) -> tuple[Tensor, Tensor, float]:
    """λ x + (1 − λ) x' with x' the batch in another order and one λ ~ Beta(α, α): the mixed images
    (B, 3, H, W), the labels (B,) of x', and λ, which is 1 where α is 0."""
    share = draw_beta(alpha, alpha, streams.get("mixup")) if alpha > 0 else 1.0
    on_device = streams.get("mixup", on_device=True)  # else each step would wait for a copy
    order = torch.randperm(len(batch), generator=on_device, device=batch.labels.device)
    mixed = share * batch.images + (1 - share) * batch.images[order]
    return mixed, batch.labels[order], share


@register_method("mixup")
class Mixup(Method):
    """Every image of a batch is mixed with another one of it, and so are their labels:

        x̃ = λ x + (1 − λ) x',  L = λ CE(f(x̃), y) + (1 − λ) CE(f(x̃), y'),  λ ~ Beta(α, α),

    with one λ for the batch and x' the batch in another order. The network comes to behave linearly
    between images, and is less sure of itself."""

    title = "Mixup"
    source = (
        "Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018; official code "
        "facebookresearch/mixup-cifar10, train.py"
    )
    deviations = (
        "α is .2, from the range of .1 to .4 that the paper recommends for ImageNet (from memory) "
        "and as MiSLAS has it there, so that mislas starts from the same run; the official code, "
        "for CIFAR-10, has 1.",
        "The benchmark's schedule; official (CIFAR-10): the learning rate divided by 10 after 100 "
        "and 150 of 200 epochs.",
    )
    needs_images = "it mixes images, and the encoder sees the mixture"
    authors = {"alpha": 1.0, "epochs": 200, "lr": 0.1, "weight_decay": 1e-4}

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        # Range: those of the paper's experiments on ImageNet and CIFAR (from memory).
        alpha: Annotated[float, Choice(0.1, 0.2, 0.4, 1.0)] = (
            0.2  # of the Beta distribution; small: most λ near 0 or 1; 0 is cross-entropy
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, alpha=0)

    def loss(self, batch: Batch) -> Tensor:
        mixed, others, share = mix_up(batch, self.settings.alpha, self.task.streams)
        return mixed_cross_entropy(self.model(mixed), batch.labels, others, share)
