"""LADE: label distribution disentangling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Choice, at_least
from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.logit_adjustment import log_prior
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def lader(logits: Tensor, labels: Tensor, class_counts: Tensor, strength: float) -> Tensor:
    """Σ_c π_c (−mean of f_c over the batch's images of c + E_c + λ E_c²), a scalar, with
    E_c = log 1/B Σ_i e^{f_c(x_i)} p_u(c) / π_c and p_u = 1/C; of a class that the batch lacks, the
    mean is 0. logits f (B, C) float, labels (B,) int64, class_counts (C,), strength λ.
    """
    B, C = logits.shape
    own = F.one_hot(labels, C)
    attraction = (logits * own).sum(dim=0) / own.sum(dim=0).clamp(min=1)
    prior = log_prior(class_counts)
    normaliser = (logits - math.log(C) - prior).logsumexp(dim=0) - math.log(B)
    return (prior.exp() * (-attraction + normaliser + strength * normaliser.square())).sum()


@register_method("lade")
class LADE(Method):
    """Logits that are freed of the training prior in two ways:

        L = CE(f + log π, y) + α Σ_c π_c LADER_c,
        LADER_c = −mean_{y_i = c} f_c(x_i) + E_c + λ E_c²,
        E_c = log 1/B Σ_i e^{f_c(x_i)} / (C π_c).

    The first is balanced softmax. The second draws f_c towards log p(x|c) / p(x) under a uniform
    prior, by a regularised Donsker-Varadhan bound. At test, f + log of the target prior would be
    the logits: with a uniform one, f."""

    title = "LADE (label distribution disentangling)"
    source = (
        "Hong et al., Disentangling Label Distribution for Long-tailed Visual Recognition, CVPR "
        "2021, eq. 15, 16 and 20; official code hyperconnect/LADE, PriorCELoss.py and LADELoss.py"
    )
    deviations = (
        "The target prior is uniform; the paper takes the test set's, which is not to be known "
        "here.",
        "The ratio of uniform and training prior in E_c is that of class c, as in the official "
        "code; the paper (eq. 15, from memory) takes that of each image's own class.",
        "Classes that the batch lacks are regularised too, as in the official code; the paper (eq. "
        "16, from memory) sums over those in the batch.",
        "The benchmark's schedule; official: cosine, epoch by epoch (ImageNet-LT), or 5 epochs of "
        "warm-up, and the learning rate times .01 from epoch 120 and again from 160 of 200 on "
        "(CIFAR-100-LT).",
        "The authors' settings are those of the official command for ImageNet-LT; that for "
        "CIFAR-100-LT of imbalance 100 has 200 epochs, a learning rate of .2, α = .1 and λ = .01.",
    )
    authors = {
        "epochs": 180,
        "batch_size": 256,
        "lr": 0.05,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "alpha": 0.05,
        "strength": 0.5,
    }
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        # Defaults: of the official configuration files but iNaturalist's. Ranges: of its commands.
        alpha: Annotated[float, Choice(0.005, 0.05, 0.1)] = (
            0.1  # weight of the regulariser; 0 is balanced softmax
        )
        strength: Annotated[float, Choice(0.01, 0.1, 0.5)] = 0.1  # λ, of the bound's regulariser

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, alpha=0, strength=0)

    def loss(self, batch: Batch) -> Tensor:
        s, counts = self.settings, self.task.class_counts
        logits = self.model(batch.images)
        regulariser = lader(logits, batch.labels, counts, s.strength)
        return balanced_softmax_loss(logits, batch.labels, counts) + s.alpha * regulariser
