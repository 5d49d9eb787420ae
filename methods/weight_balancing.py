"""Weight balancing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from lmdbench.core.settings import Choice, LogUniform, Uniform, at_least, at_most, below
from lmdbench.methods.cb_focal import class_balanced_weights
from lmdbench.methods.rw import weighted_cross_entropy
from lmdbench.methods.tau_norm import linear_head
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, Start, register_method
from lmdbench.training.task import Batch


def norm_limit(weight: Tensor, share: float) -> Tensor:
    """δ, the share of the way from the smallest norm of a class's weights to the largest: a scalar.

    weight (C, D).
    """
    norms = weight.norm(dim=1)
    return torch.lerp(norms.min(), norms.max(), share)


def project_(weight: Tensor, limit: Tensor) -> None:
    """w_j ← w_j · min(1, δ/‖w_j‖) for the weights (C, D) of each class, in place."""
    norms = weight.norm(dim=1, keepdim=True)
    weight.mul_((limit / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=1))


@register_method("weight-balancing")
class WeightBalancing(Method):
    """The head of a cross-entropy run with strong weight decay, trained on with the encoder frozen
    so that no class's weights outgrow the others': by class-balanced cross-entropy, weight decay,
    and MaxNorm, which projects the weights back into a ball after every update:

        L = −w_y log p_y, w_j ∝ (1 − β)/(1 − β^{n_j});  then w_j ← w_j · min(1, δ/‖w_j‖).

    δ lies a tenth of the way from the smallest to the largest norm that stage 1 ended with. CB + WD
    + Max in the paper's tables."""

    title = "Weight balancing (CB + WD + Max)"
    version = 2
    source = (
        "Alshammari et al., Long-Tailed Recognition via Weight Balancing, CVPR 2022; δ "
        "and settings from the official code, ShadeAlsha/LTR-weight-balancing (CIFAR100-LT)"
    )
    deviations = (
        "Class-balanced weights are on cross-entropy; the official code has them on the binary "
        "cross-entropy of the softmax's outputs, averaged over images and classes, whose gradient "
        "is C/2 (well classified) to C − 1 (at chance) times smaller, so that the same weight "
        "decay is that much stronger there.",
        "The weights are projected after every update; the official code's after every epoch.",
        "Weight decay of stage 1 is the official one for CIFAR100-LT (.005). That of the head, .1 "
        "there, keeps a head on short features from learning; .003 is as good on validation images "
        "of dermoscopy and far better on drawn ones. The paper tunes it for each data set: see "
        "`lmdbench tune`.",
        "The frozen encoder's batch norm is in evaluation mode; the official code has it in "
        "training mode: bn=train.",
        "Stage 1 has the benchmark's recipe but for its weight decay; the official one has 320 "
        "epochs of batches of 64, and a cosine schedule.",
        "The cosine schedule goes down step by step; the official code's epoch by epoch, one epoch "
        "ahead, so that its last epoch trains nothing.",
    )
    authors = {"batch_size": 64, "weight_decay": 0.1, "bn": "train"}
    starts_from = Start("ce", weight_decay=5e-3)
    trains = "head"
    replayable = True
    accumulates = True
    limit: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.HeadSettings):
        weight_decay: Annotated[float, LogUniform(1e-3, 1.0)] = 3e-3  # of the head
        beta: Annotated[float, Choice(0.9, 0.99, 0.999, 0.9999)] = (
            0.9999  # of the class weights; 0: none, towards 1: inverse frequency
        )
        max_norm: Annotated[float, Uniform(0.0, 1.0)] = (
            0.1  # δ's place between the smallest (0) and the largest (1) norm of stage 1
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, beta=0, max_norm=0)
            at_most(self, max_norm=1)
            below(self, beta=1)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        self.register_buffer("limit", torch.tensor(torch.inf))

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        head = linear_head(ancestor, self)
        self.model.head.load_state_dict(head.state_dict())
        self.limit.copy_(norm_limit(head.weight.detach(), self.settings.max_norm))

    def loss(self, batch: Batch) -> Tensor:
        weights = class_balanced_weights(self.task.class_counts, self.settings.beta)
        return weighted_cross_entropy(self.model(batch.images), batch.labels, weights)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        logs = super().step(batch)
        with torch.no_grad():
            project_(cast(nn.Linear, self.model.head).weight, self.limit)
        return logs
