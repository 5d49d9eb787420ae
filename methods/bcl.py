"""Balanced contrastive learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Choice, Uniform, above, at_least
from lmdbench.methods.ldam_drw import CosineHead
from lmdbench.methods.logit_adjustment import logit_adjusted_loss
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def class_averaged_losses(
    anchors: Tensor, others: Tensor, classes: Tensor, num_classes: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """−1/|P_i| Σ_{p ∈ P_i} log (e^{f_i·f_p/τ} / Σ_c mean_{a ∈ A_c} e^{f_i·f_a/τ}) of each anchor i:
    (N,), 0 where it has no positives; and |P_i|, (N,) int64.

    anchors (N, D) of unit length, which are the first of the others (M, D); classes of the others
    (M,) int64. A_c: the others of class c but i itself (class-averaging), P_i: those of i's class.
    """
    N, M = len(anchors), len(others)
    itself = torch.eye(N, M, dtype=torch.bool, device=classes.device)
    positive = (classes[:N, None] == classes) & ~itself
    counts = F.one_hot(classes, num_classes).sum(dim=0)
    members = counts[classes] - positive.long()  # |A_c|, without i itself
    similarities = anchors @ others.T / temperature
    averaged = (
        (similarities - members.to(similarities.dtype).log())
        .masked_fill(itself, -torch.inf)
        .logsumexp(dim=1)
    )
    log_p = similarities - averaged[:, None]
    positives = positive.sum(dim=1)
    return -((positive * log_p).sum(dim=1) / positives.clamp(min=1)), positives


def balanced_contrastive_loss(
    features: Tensor, labels: Tensor, prototypes: Tensor, temperature: float
) -> Tensor:
    """Mean over i of −1/|P_i| Σ_{p ∈ P_i} log (e^{f_i·f_p/τ} / Σ_c mean_{a ∈ A_c} e^{f_i·f_a/τ}).

    features (N, D) of unit length, of all views; labels (N,) int64; prototypes (C, D) of unit
    length. A_c: the prototype of class c (class-complement) and the class's features but for f_i
    itself; each class counts by its mean (class-averaging). P_i = A_{y_i}.
    """
    C = len(prototypes)
    others = torch.cat([features, prototypes])
    classes = torch.cat([labels, torch.arange(C, device=labels.device)])
    losses, _ = class_averaged_losses(features, others, classes, C, temperature)
    return losses.mean()


def projector(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, out)
    )


@register_method("bcl")
class BalancedContrastive(Method):
    """Two branches on one encoder. A cosine head learns by logit-adjusted cross-entropy in one view
    of an image; two further views, projected, learn by a contrastive loss in which every class has
    the same weight (class-averaging) and is always present, by a prototype c_j projected from its
    weights in the head (class-complement):

        L = λ CE(z + log π, y) + μ BCL,
        BCL = −mean_i 1/|P_i| Σ_{p ∈ P_i} log (e^{f_i·f_p/τ} / Σ_j mean_{a ∈ A_j} e^{f_i·f_a/τ}),

    with A_j the batch's features of class j but for f_i itself, and c_j; P_i is that of i's own
    class. The prediction is the plain head's."""

    title = "Balanced contrastive learning (BCL)"
    version = 2
    source = (
        "Zhu et al., Balanced Contrastive Learning for Long-Tailed Visual Recognition, CVPR 2022, "
        "official code FlamieZhu/Balanced-Contrastive-Learning, loss/contrastive.py, "
        "models/resnext.py and main.py (ImageNet-LT)"
    )
    deviations = (
        "All three views are the benchmark's strong view; the official ones are RandAugment for "
        "the head and SimCLR's crops and colours for the contrast.",
        "The benchmark's learning rate and schedule; the official one falls by a cosine.",
        "Batch norm sees all three views together; the official training spreads them over four "
        "devices, each of which normalises its own part.",
        "The prototypes' batch norm is over the classes, as in the official code, where they are "
        "1,000 or more; of two classes it leaves no more than which one is larger.",
    )
    authors = {
        "epochs": 90,
        "batch_size": 256,
        "lr": 0.1,
        "weight_decay": 5e-4,
        "schedule": "cosine",
    }
    views = ("strong", "strong", "strong")
    scaffolding = ("projector", "prototypes")
    passes = (3, 3)
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        ce_weight: float = 1.0  # λ, of the cross-entropy
        contrast_weight: Annotated[float, Uniform(0.1, 1.0)] = 0.35  # μ, of the contrastive loss
        temperature: Annotated[float, Choice(0.07, 0.1)] = 0.07  # τ, of the similarities
        width: int = 1024  # of the projected features
        scale: float = 30.0  # of the head's cosines

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, ce_weight=0, contrast_weight=0, width=1)
            above(self, temperature=0, scale=0)

    def build(self, encoder: Encoder) -> None:
        s, D = self.settings, encoder.out_features
        self.model = Classifier(encoder, CosineHead(D, self.task.num_classes, s.scale))
        self.projector = projector(D, s.width)
        self.prototypes = projector(D, s.width)  # of the head's weights

    def loss(self, batch: Batch) -> Tensor:
        s, n = self.settings, len(batch.labels)
        z = self.model.encoder(torch.cat(batch.views))
        logits = self.model.logits(z[:n])
        with torch.autocast(z.device.type, enabled=False):
            f = F.normalize(self.projector(z.float()), dim=1)[n:]
            c = F.normalize(self.prototypes(cast(CosineHead, self.model.head).weight), dim=1)
            contrast = balanced_contrastive_loss(f, batch.labels.repeat(2), c, s.temperature)
        ce = logit_adjusted_loss(logits, batch.labels, self.task.class_counts, 1.0)
        return s.ce_weight * ce + s.contrast_weight * contrast
