"""MiSLAS: mixup, then label-aware smoothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from torch import Tensor

from lmdbench.core.settings import Choice, at_least, at_most
from lmdbench.methods.lws import LearnableWeightScaling, ScaledHead
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, Start, register_method
from lmdbench.training.task import Batch


def smoothing_factors(class_counts: Tensor, head: float, tail: float) -> Tensor:
    """ε_j = ε_tail + (ε_head − ε_tail) sin(π/2 · (n_j − n_min) / (n_max − n_min)), (C,).

    Where all classes are of one size, it is ε_tail for all.
    """
    least, most = class_counts.min(), class_counts.max()
    place = (class_counts - least) / (most - least).clamp(min=1)
    return tail + (head - tail) * (math.pi / 2 * place).sin()


def label_aware_smoothing_loss(logits: Tensor, labels: Tensor, factors: Tensor) -> Tensor:
    """Mean of −(1 − ε_y) log p_y − ε_y/C Σ_j log p_j.

    logits (B, C) float, labels (B,) int64, factors (C,): ε of each class.
    """
    log_p = logits.log_softmax(dim=1)
    own = log_p.gather(1, labels[:, None]).squeeze(1)
    smoothing = factors[labels]
    return -((1 - smoothing) * own + smoothing * log_p.mean(dim=1)).mean()


@register_method("mislas")
class MiSLAS(LearnableWeightScaling):
    """Stage 2 on the frozen encoder of a mixup run, in class-balanced batches. The head is that of
    stage 1; it goes on at a small learning rate, and a scale of each class's logit, as in lws, is
    learned at the full one. Labels are smoothed, most those of the largest class, of which the
    network is too sure:

        L = −(1 − ε_y) log p_y − ε_y/C Σ_j log p_j,
        ε_j = ε_tail + (ε_head − ε_tail) sin(π/2 · (n_j − n_min) / (n_max − n_min)).

    Batch norm is in training mode, so that its statistics follow the balanced batches while its
    weights stay (shift learning)."""

    title = "Mixup shifted label-aware smoothing (MiSLAS)"
    source = (
        "Zhong et al., Improving Calibration for Long-Tailed Recognition, CVPR 2021; "
        "losses and settings as in the official code, dvlab-research/MiSLAS, for ImageNet-LT"
    )
    deviations = (
        "ε is shared out over all classes, as in the official code; the paper's formula has the "
        "others only (from memory).",
        "Of the shapes of ε that the paper tries, the concave one alone, the official default.",
        "One image of a class at a time; the official code draws four in a row (from memory).",
        "With bn=train dropout, where the encoder has it, is on as well, as in the official code.",
        "Learning rate and weight decay are those of the benchmark's stage 1 (.01 at batch 128, "
        "none); official: .1 at 256 and .0005 (ImageNet-LT), in its first stage too, which has 180 "
        "epochs and a cosine.",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    authors = {"batch_size": 256, "lr": 0.1, "weight_decay": 5e-4}
    starts_from = Start("mixup", alpha=0.2)
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.HeadSettings):
        # Ranges: from the official recipes.
        smooth_head: Annotated[float, Choice(0.1, 0.2, 0.3, 0.4)] = 0.3  # ε of the largest class
        smooth_tail: float = 0.0  # ε of the smallest class
        linear_lr: Annotated[float, Choice(0.05, 0.2, 0.5)] = (
            0.05  # learning rate of the linear head, as a share of that of the scales
        )
        bn: Literal["eval", "train"] = "train"  # of the frozen encoder; train: shift learning

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, smooth_head=0, smooth_tail=0, linear_lr=0)
            at_most(self, smooth_head=1, smooth_tail=1)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        self.head.linear.requires_grad_(True)

    @property
    def head(self) -> ScaledHead:
        return cast(ScaledHead, self.model.head)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optimizer = self.new_optimizer([self.head.scale])
        linear = {"params": list(self.head.linear.parameters())}
        optimizer.add_param_group({**linear, "lr": self.settings.lr * self.settings.linear_lr})
        return {self.settings.optimizer: optimizer}

    def loss(self, batch: Batch) -> Tensor:
        s = self.settings
        factors = smoothing_factors(self.task.class_counts, s.smooth_head, s.smooth_tail)
        return label_aware_smoothing_loss(self.model(batch.images), batch.labels, factors)
