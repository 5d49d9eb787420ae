"""Class-balanced focal loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Choice, at_least, below
from lmdbench.methods.focal import focal_loss
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def class_balanced_weights(class_counts: Tensor, beta: float) -> Tensor:
    """w_j ∝ (1 − β) / (1 − β^{n_j}), the inverse of the effective number of images; Σ_j w_j = C.

    class_counts (C,); β from 0 (equal weights) to below 1 (inverse frequency, in the limit).
    """
    inverse = (1 - beta) / (1 - beta ** class_counts.double())
    return (inverse / inverse.sum() * len(inverse)).to(class_counts.dtype)


def sigmoid_focal_loss(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Σ_j −(1 − p_j)^γ log p_j with p_j = sigmoid(z_j) for the own class and sigmoid(−z_j) for each
    other one: (B,). logits (B, C) float, labels (B,) int64."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    signed = torch.where(own, logits, -logits)
    return -((gamma * F.logsigmoid(-signed)).exp() * F.logsigmoid(signed)).sum(dim=1)


@register_method("cb-focal")
class ClassBalancedFocal(Method):
    """The focal loss, weighted by the inverse of each class's effective number of images:

        L = 1/B Σ_i w_{y_i} FL(z_i, y_i),  FL = −(1 − p_y)^γ log p_y,
        w_j ∝ (1 − β) / (1 − β^{n_j}),  Σ_j w_j = C.

    Of n images that overlap, (1 − β^n) / (1 − β) count as new; β near 1 is inverse frequency. The
    sum is over softmax probabilities here, or (form=sigmoid) over one binary loss a class."""

    title = "Class-balanced focal loss"
    version = 2
    source = (
        "Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, "
        "section 4, with the initial bias of 5.2; bias and division by the batch size as in the "
        "official code, richardaecn/class-balanced-loss, model_base.py and cifar_main.py"
    )
    deviations = (
        "Softmax over the classes, as is usual in long-tailed recognition; the paper's focal loss "
        "has a sigmoid for each class: form=sigmoid.",
        "With form=sigmoid, weight decay acts on the head's bias too; the official code leaves it "
        "out.",
        "The learning rate rises in five steps from a fifth; the official code's rises step by "
        "step from 0.",
        "After the warm-up the benchmark's schedule; official (CIFAR): the learning rate times .01 "
        "at 80 % and again at 90 % of the epochs.",
    )
    authors = {"form": "sigmoid", "gamma": 1.0, "epochs": 200, "lr": 0.1, "weight_decay": 2e-4}
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        # Ranges: those of the paper's experiments.
        beta: Annotated[float, Choice(0.9, 0.99, 0.999, 0.9999)] = (
            0.9999  # how fast images of a class come to overlap; 0 weighs all classes alike
        )
        gamma: Annotated[float, Choice(0.5, 1.0, 2.0)] = (
            2.0  # how strongly the well classified are played down; 0 is cross-entropy
        )
        form: Literal["softmax", "sigmoid"] = "softmax"  # of the probabilities

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, beta=0, gamma=0)
            below(self, beta=1)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        if self.settings.form == "sigmoid":  # at first every class has probability 1/C
            bias = -math.log(self.task.num_classes - 1)
            nn.init.constant_(cast(nn.Linear, self.model.head).bias, bias)

    def loss(self, batch: Batch) -> Tensor:
        s = self.settings
        logits = self.model(batch.images)
        if s.form == "sigmoid":
            losses = sigmoid_focal_loss(logits, batch.labels, s.gamma)
        else:
            losses = focal_loss(logits, batch.labels, s.gamma, reduction="none")
        weights = class_balanced_weights(self.task.class_counts, s.beta)
        return (weights[batch.labels] * losses).mean()
