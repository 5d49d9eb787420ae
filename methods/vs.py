"""Vector-scaling loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Uniform, at_least
from lmdbench.methods.logit_adjustment import log_prior
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def vs_loss(
    logits: Tensor, labels: Tensor, class_counts: Tensor, gamma: float, tau: float
) -> Tensor:
    """Mean cross-entropy of Δ_j z_j + ι_j. logits (B, C) float, labels (B,) int64, counts (C,)."""
    scale = (class_counts / class_counts.max()) ** gamma
    return F.cross_entropy(scale * logits + tau * log_prior(class_counts), labels)


@register_method("vs")
class VectorScaling(Method):
    """Cross-entropy of logits that are scaled and shifted by class in training, and only there:

        L = CE(Δ z + ι, y),  Δ_j = (n_j / max_k n_k)^γ,  ι_j = τ log π_j.

    The shift acts early in training; the scale goes on acting once every training image is right,
    where it makes the margins of rare classes wider. γ = 0 is logit adjustment, and τ = 0 the CDT
    loss (class-dependent temperatures)."""

    title = "Vector-scaling (VS) loss"
    version = 2
    source = (
        "Kini et al., Label-Imbalanced and Group-Sensitive Classification under "
        "Overparameterization, NeurIPS 2021; γ and τ as in the official code, "
        "orparask/VS-Loss, class_imbalance/losses.py"
    )
    deviations = (
        "After the warm-up the benchmark's schedule; official (CIFAR): the learning rate times .01 "
        "at 80 % and again at 90 % of the epochs.",
    )
    authors = {"epochs": 200, "lr": 0.1, "weight_decay": 2e-4}
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        gamma: Annotated[float, Uniform(0.0, 0.5)] = 0.3  # of the scale; 0: none
        tau: Annotated[float, Uniform(0.0, 2.0)] = 1.0  # of the shift; 0: none

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, gamma=0, tau=0)

    def loss(self, batch: Batch) -> Tensor:
        s, counts = self.settings, self.task.class_counts
        return vs_loss(self.model(batch.images), batch.labels, counts, s.gamma, s.tau)
