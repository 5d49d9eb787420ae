"""Sharpness-aware minimisation for the rare classes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from lmdbench.core.settings import LogUniform, at_least
from lmdbench.methods.sam import SharpnessAware
from lmdbench.training.method import register_method

TAIL_WEIGHT = 2  # in the official code, and no setting of it


@register_method("imbsam")
class ImbalancedSAM(SharpnessAware):
    """`sam` for the loss of the tail, the classes of fewer than η images; the loss of the other
    ones is descended as it is:

        g = ∇L_head(θ) + 2 ∇L_tail(θ + ε),  ε = ρ ∇L_tail/‖∇L_tail‖,

    both losses sums over a part of the batch, divided by all its images. Where a batch has no
    image of the tail, it is the plain step."""

    title = "Imbalanced SAM (ImbSAM)"
    source = (
        "Zhou et al., ImbSAM: A Closer Look at Sharpness-Aware Minimization in Class-Imbalanced "
        "Recognition, ICCV 2023; as in cool-xuan/Imbalanced_SAM"
    )
    deviations = (
        "η is 300 by default, for data sets of some thousand images; official: 20 (CIFAR-100-LT, "
        "whose largest class has 500).",
        "The official code as released calls its step by other names than it has, and does not "
        "run; built is what it says.",
        "The tail's loss counts twice, as in the official code at 94a22ba; at 7949cbc, once.",
    )
    authors = {
        "tail": 20,
        "epochs": 200,
        "batch_size": 64,
        "weight_decay": 1e-3,
        "schedule": "cosine",
    }
    passes = (2, 3)
    goes_back_twice = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(SharpnessAware.Settings):
        tail: Annotated[int, LogUniform(20, 1000)] = (
            300  # η: classes of fewer training images are the tail; 0: none is
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, tail=0)

    def flat_weights(self) -> Tensor:
        return TAIL_WEIGHT * self.in_tail

    def plain_weights(self) -> Tensor:
        return 1 - self.in_tail

    @property
    def in_tail(self) -> Tensor:
        """1 for the classes of the tail, else 0: (C,)."""
        counts = self.task.class_counts
        return (counts < self.settings.tail).to(counts.dtype)
