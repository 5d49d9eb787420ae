"""Seesaw loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Choice, above, at_least
from lmdbench.methods.ldam_drw import CosineHead
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

LEAST_P = 0.01  # of the own class, in the compensation factor's denominator, as in the code


def log_seesaw_factors(logits: Tensor, labels: Tensor, seen: Tensor, p: float, q: float) -> Tensor:
    """log S_yj, (B, C), with S = mitigation × compensation; 0 for the own class. No gradient.

    logits (B, C) float, labels (B,) int64, seen (C,): images of each class so far.
    """
    log_seen = seen.clamp(min=1).log()
    mitigation = p * (log_seen - log_seen[labels, None]).clamp(max=0)
    log_p = logits.detach().log_softmax(dim=1)
    log_p_own = log_p.gather(1, labels[:, None]).clamp(min=math.log(LEAST_P))
    compensation = q * (log_p - log_p_own).clamp(min=0)
    return mitigation + compensation


def seesaw_loss(logits: Tensor, labels: Tensor, seen: Tensor, p: float, q: float) -> Tensor:
    """Mean of −log (e^{z_y} / Σ_j S_yj e^{z_j}). Shapes as of ``log_seesaw_factors``."""
    return F.cross_entropy(logits + log_seesaw_factors(logits, labels, seen, p, q), labels)


@register_method("seesaw")
class Seesaw(Method):
    """Cross-entropy in which the push of an image on every other class is scaled:

        L = −log (e^{z_y} / (e^{z_y} + Σ_{j≠y} S_yj e^{z_j})),  S_yj = M_yj C_yj,
        M_yj = min(1, N_j / N_y)^p,  C_yj = max(1, σ_j / σ_y)^q,  z = τ cos θ + b.

    Mitigation M spares classes rarer than the own one; N counts the images seen so far.
    Compensation C takes that back where the image is mistaken for such a class; σ is the softmax of
    z. The head is a cosine classifier (normalised linear activation)."""

    title = "Seesaw loss"
    version = 2
    source = (
        "Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation, CVPR 2021, eq. 4 to 8, "
        "and section 4.4 for images; official code in mmdetection, seesaw_loss.py"
    )
    deviations = (
        "q is 1, as the paper has it for image classification (from memory); for segmentation, in "
        "the official code, it is 2.",
        "The authors' settings are the paper's for ImageNet-LT (from memory); the official code "
        "has configurations for segmentation on LVIS only.",
        "The head's weights begin at length 1, as those of other cosine heads here; the official "
        "code's have standard deviation .01.",
    )
    authors = {"epochs": 90, "lr": 0.2, "batch_size": 512, "schedule": "cosine"}
    replayable = True
    accumulates = True
    seen: Tensor  # (C,): images of each class so far

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        # Ranges: the paper's tables 5, 11 and 7 (from memory).
        p: Annotated[float, Choice(0.2, 0.4, 0.6, 0.8, 1.0, 1.2)] = (
            0.8  # exponent of the mitigation factor; 0: none
        )
        q: Annotated[float, Choice(0.5, 1.0, 1.5, 2.0, 2.5)] = (
            1.0  # exponent of the compensation factor; 0: none
        )
        scale: Annotated[float, Choice(10.0, 15.0, 20.0, 25.0, 30.0)] = 20.0  # τ, of the cosines

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, p=0, q=0)
            above(self, scale=0)

    def build(self, encoder: Encoder) -> None:
        C = self.task.num_classes
        head = CosineHead(encoder.out_features, C, self.settings.scale, bias=True)
        self.model = Classifier(encoder, head)
        self.register_buffer("seen", torch.zeros(C))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.seen.scatter_add_(0, batch.labels, torch.ones_like(batch.labels, dtype=torch.float32))
        return super().step(batch)

    def loss(self, batch: Batch) -> Tensor:
        s = self.settings
        return seesaw_loss(self.model(batch.images), batch.labels, self.seen, s.p, s.q)
