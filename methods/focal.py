"""Focal loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Choice, at_least
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def focal_loss(logits: Tensor, labels: Tensor, gamma: float, reduction: str = "mean") -> Tensor:
    """−(1 − p_y)^γ log p_y with p = softmax(logits): the mean, or with "none" each image's, (B,).

    logits (B, C) float, labels (B,) int64. log(1 − p_y) is the other classes' share, which keeps
    value and gradient finite where p_y rounds to 0 or to 1.
    """
    log_p = F.log_softmax(logits, dim=1)
    own = labels[:, None]
    log_p_y = log_p.gather(1, own)
    log_rest = log_p.scatter(1, own, -float("inf")).logsumexp(dim=1, keepdim=True)
    losses = -((gamma * log_rest).exp() * log_p_y).squeeze(1)
    return losses.mean() if reduction == "mean" else losses


@register_method("focal")
class Focal(Method):
    """Cross-entropy that turns from examples already well classified to the hard ones."""

    title = "Focal loss"
    source = "Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, eq. 4"
    deviations = (
        "Softmax over the classes, as in the code of LDAM-DRW; the paper has a sigmoid for each "
        "class, and its code, facebookresearch/Detectron, offers both.",
        "No α weights and no bias initialised to the class prior: both are the paper's additions "
        "for object detection.",
    )
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        # Range: of the paper's table 1b (from memory).
        gamma: Annotated[float, Choice(0.5, 1.0, 2.0, 5.0)] = (
            2.0  # how strongly the well classified are played down; 0 is cross-entropy
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, gamma=0)

    def loss(self, batch: Batch) -> Tensor:
        return focal_loss(self.model(batch.images), batch.labels, self.settings.gamma)
