"""Sharpness-aware minimisation, the more for the rarer classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from lmdbench.core.settings import LogUniform, Uniform, at_least
from lmdbench.methods.sam import SharpnessAware
from lmdbench.training.method import register_method


def flat_shares(class_counts: Tensor, scale: float, gamma: float) -> Tensor:
    """κ_j = s (1 − π_j)^γ with π_j = n_j / N: (C,). Above 1 where s is."""
    return scale * (1 - class_counts / class_counts.sum()) ** gamma


@register_method("focal-sam")
class FocalSAM(SharpnessAware):
    """`sam` for a share of each class's loss, larger for rarer classes, and plain descent of the
    rest:

        g = ∇Σ_i (1 − κ_{y_i}) ℓ_i/B at θ + ∇Σ_i κ_{y_i} ℓ_i/B at θ + ε,  κ_j = s (1 − π_j)^γ,

    with ε a step of length ρ up the gradient of the second sum, and ℓ the balanced softmax loss."""

    title = "Focal-SAM"
    source = (
        "Li et al., Focal-SAM: Focal Sharpness-Aware Minimization for Long-Tailed Classification, "
        "ICML 2025; as in scongl/Focal-SAM, focal_sam.py"
    )
    deviations = (
        "ρ is the same throughout; official for ImageNet-LT: .1, from 80 % of the epochs on .2.",
        "The authors' values are CIFAR-100-LT's; official for CIFAR-10-LT: ρ .2, γ 3, s .5; for "
        "ImageNet-LT: γ .8, s .8; for iNaturalist 2018: ρ .2, γ 2, s 1.1.",
        "The official code adds 1e-9 to the class shares within the logarithm.",
    )
    authors = {
        "rho": 0.3,
        "gamma": 3.2,
        "epochs": 200,
        "batch_size": 64,
        "lr": 0.1,
        "weight_decay": 1e-3,
        "schedule": "cosine",
    }
    passes = (2, 3)
    goes_back_twice = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(SharpnessAware.Settings):
        rho: Annotated[float, LogUniform(0.01, 1.0)] = 0.1  # ρ, how far up; 0: the loss alone
        loss: Literal["ce", "balanced-softmax", "ldam-drw"] = (
            "balanced-softmax"  # whose minima are to be flat
        )
        gamma: Annotated[float, Uniform(0.0, 4.0)] = (
            0.8  # γ, how much less of a frequent class is to be flat; 0: the same share of all
        )
        share: Annotated[float, Uniform(0.2, 1.2)] = 0.8  # s, of the rarest classes; 0: plain

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, gamma=0, share=0)

    def flat_weights(self) -> Tensor:
        return flat_shares(self.task.class_counts, self.settings.share, self.settings.gamma)

    def plain_weights(self) -> Tensor:
        return 1 - self.flat_weights()
