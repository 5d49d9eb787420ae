"""Gaussian clouded logit adjustment (GCL): the classifier of the second stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.errors import UserError
from lmdbench.core.settings import Uniform, above, at_least
from lmdbench.methods.gcl_stage1 import GaussianCloudedLogits, cloud_sizes
from lmdbench.methods.ldam_drw import CosineHead
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

BETA, BETA_SPREAD = 0.9999, 1e-5  # of the largest class, and how much more for the rarest


class EffectiveNumberSampler:
    """Draws image i, with replacement, at a rate of (1 − β_j) / (1 − β_j^{n_j}) with j its class
    and β_j = .9999 + 10⁻⁵ δ_j: class by class nearly, but not quite, equally often."""

    def __init__(self, labels: Tensor) -> None:
        counts = torch.bincount(labels).double()
        present = counts > 0
        beta = BETA + BETA_SPREAD * cloud_sizes(counts.clamp(min=1))
        rates = torch.where(present, (1 - beta) / (1 - beta**counts), 0.0)
        self._rates = rates[labels]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self._rates, n, replacement=True, generator=generator)


def focused(losses: Tensor, gamma: float) -> Tensor:
    """Mean of (1 − p_y)^γ CE with p_y = e^{−CE}, the factor without gradient. losses (B,)."""
    return ((1 - (-losses.detach()).exp()) ** gamma * losses).mean()


@register_method("gcl")
class GCL(GaussianCloudedLogits):
    """The cosine classifier of `gcl-stage1`, trained further on the frozen encoder:

        L = mean of (1 − p_y)^γ CE,  CE = −log p_y,
        p = softmax(s (cos θ − a δ |ε| − m e_y)),

    on images drawn by the class-based effective number: at a rate of (1 − β_j) / (1 − β_j^{n_j}),
    β_j = .9999 + 10⁻⁵ δ_j. Clouds δ and noise ε are those of the first stage. Clouds on
    balanced images favour rare classes twice; cloud=0 leaves it to the sampling."""

    title = "GCL (Gaussian clouded logit adjustment)"
    version = 2
    source = (
        "Li et al., Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment, CVPR "
        "2022; loss and margin from the official code Keke921/GCLLoss, losses.py and "
        "cifar_train_classifier.py, the sampler from CBEffectNumSampler in its sampler.py"
    )
    deviations = (
        "Images are drawn by the class-based effective number, as the paper has it; the official "
        "command draws classes equally often: beside the rarest, a class of 1,000 images 5 % less "
        "often than here, and one of 5,000 a fifth less.",
        "No mixup, for the same augmentation as every other method; the official recipe mixes "
        "images (α = 1) in both stages.",
        "The learning rate is the benchmark's for heads, five times the official one: a fiftieth "
        "of the .1 in the official command, which is for CIFAR-10-LT.",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    authors = {"epochs": 30, "batch_size": 64, "lr": 0.002, "weight_decay": 2e-4}
    starts_from = "gcl-stage1"
    trains = "head"
    sampler = EffectiveNumberSampler

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.HeadSettings):
        cloud: Annotated[float, Uniform(0.0, 1.0)] = 0.5  # a, the size of the rarest class's cloud
        scale: float = 20.0  # s, of the cosines
        margin: float = 0.1  # m, of every own class, in cosine
        gamma: float = 1.0  # how strongly the well classified are played down

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, cloud=0, margin=0, gamma=0)
            above(self, scale=0)

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        theirs = ancestor.model.head
        if not isinstance(theirs, CosineHead):
            raise UserError(
                f"{self.name} goes on with a cosine head, and the head of {ancestor.name} is a "
                f"{type(theirs).__name__}: {self.start_instead(ancestor)}"
            )
        with torch.no_grad():
            cast(CosineHead, self.model.head).weight.copy_(theirs.weight)

    def loss(self, batch: Batch) -> Tensor:
        s, labels = self.settings, batch.labels
        clouded = self.clouded(self.model(batch.images))
        lowered = clouded - s.scale * s.margin * F.one_hot(labels, clouded.shape[1])
        return focused(F.cross_entropy(lowered, labels, reduction="none"), s.gamma)
