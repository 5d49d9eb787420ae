"""Logit adjustment in the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Uniform, at_least
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def log_prior(class_counts: Tensor) -> Tensor:
    """log π_j with π_j = n_j / N: (C,)."""
    return (class_counts / class_counts.sum()).log()


def floored_log(prior: Tensor) -> Tensor:
    """log (π + 1e-9), as several official codes guard it: (C,)."""
    return (prior + 1e-9).log()


def logit_adjusted_loss(logits: Tensor, labels: Tensor, class_counts: Tensor, tau: float) -> Tensor:
    """Mean cross-entropy of z + τ log π. logits (B, C) float, labels (B,) int64, counts (C,)."""
    return F.cross_entropy(logits + tau * log_prior(class_counts), labels)


@register_method("logit-adjustment")
class LogitAdjustment(Method):
    """Cross-entropy of logits shifted by the log class prior in training, and only there:

        L = CE(z + τ log π, y),  prediction argmax_j z_j.

    A rare class has to win by a margin that its prior would cost it. At τ = 1 the plain logits are
    consistent for the balanced error, and the loss is that of `balanced-softmax`."""

    title = "Logit adjustment (loss)"
    source = (
        "Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, eq. 10; official code "
        "google-research/google-research, logit_adjustment"
    )
    deviations = (
        "The benchmark's schedule and plain momentum; official: Nesterov momentum, warm-up over 20 "
        "of 1,241 epochs, step by step, and a tenth of the learning rate from each of the epochs "
        "604, 926 and 1,128 on (CIFAR-10-LT; for CIFAR-100-LT 22 of 1,419, and 691, 1,059, 1,290).",
        "The official penalty, 1e-4 times the sum of squares, is a weight decay of 2e-4 here, "
        "where the penalty is halved; it spares batch norm.",
        "The authors' settings are those of the official code for CIFAR-10-LT.",
    )
    authors = {"epochs": 1241, "lr": 0.1, "weight_decay": 2e-4}
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        tau: Annotated[float, Uniform(0.0, 2.0)] = (
            1.0  # how strongly the prior is taken out; 0 is cross-entropy
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, tau=0)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.model(batch.images)
        return logit_adjusted_loss(logits, batch.labels, self.task.class_counts, self.settings.tau)
