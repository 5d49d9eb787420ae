"""Class-enhancement contrastive learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Choice, Uniform, above, at_least, at_most
from lmdbench.methods.bcl import class_averaged_losses
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

LEAST_F1 = 0.01  # as which a lower one counts


def proxies_of(class_counts: Tensor) -> Tensor:
    """How many proxies each class has: 1 of the largest, else ⌊n_max / n_c / 10⌋ + 2: (C,) int64.

    class_counts (C,).
    """
    ratio = class_counts.max() / class_counts
    return torch.where(ratio == 1, 1, (ratio / 10).floor() + 2).long()


def hybrid_proxy_loss(
    features: Tensor,
    labels: Tensor,
    proxies: Tensor,
    owners: Tensor,
    num_classes: int,
    temperature: float,
) -> Tensor:
    """Mean over all features and proxies i of −1/|P_i| Σ_{p ∈ P_i} log (e^{f_i·f_p/τ} / Σ_a
    e^{f_i·f_a/τ} / m_a), m_a being how many of a's class there are besides i.

    features (N, D) of all views and proxies (P, D), of unit length; labels (N,) and owners (P,),
    the proxies' classes, int64. What has no other of its class is left out.
    """
    items, classes = torch.cat([features, proxies]), torch.cat([labels, owners])
    losses, positives = class_averaged_losses(items, items, classes, num_classes, temperature)
    return losses.sum() / (positives > 0).sum()


def curriculum_weights(
    epoch: int, ends: tuple[float, float, float], class_counts: Tensor, f1: Tensor
) -> Tensor:
    """Of each class's images in epoch 1, 2, …: (C,).

    Up to the first of the ends 1; up to the second w^t, w_c ∝ 1/n_c; up to the third, the last
    epoch, w^t, w_c ∝ 1/F1_c; Σ w = C, and t rises from 0 to 1 in each part. class_counts, f1 (C,).
    """
    E1, E2, E = ends
    if epoch <= E1:
        return torch.ones_like(class_counts)
    by_count = epoch <= E2
    inverse = 1 / (class_counts if by_count else f1.clamp(min=LEAST_F1))
    weights = inverse / inverse.sum() * len(inverse)
    return weights ** ((epoch - E1) / (E2 - E1) if by_count else (epoch - E2) / (E - E2))


def f1_by_class(logits: Tensor, labels: Tensor) -> Tensor:
    """2 TP / (2 TP + FP + FN) of each class, 1 of one without images: (C,).

    logits (N, C) float, labels (N,) int64.
    """
    C = logits.shape[1]
    predicted, true = F.one_hot(logits.argmax(dim=1), C), F.one_hot(labels, C)
    images = true.sum(dim=0)
    hits = (predicted * true).sum(dim=0)
    f1 = 2 * hits / (predicted.sum(dim=0) + images).clamp(min=1)
    return torch.where(images > 0, f1, 1.0).to(logits.dtype)


@register_method("ecl")
class ClassEnhancementContrastive(Method):
    """Learned proxies, more of them the rarer the class, take part in a class-averaged contrastive
    loss on two views, as anchors too; the head learns by cross-entropy of the first view, with
    weights that follow a curriculum: none until epoch E1, then ever more by the inverse frequency
    until E2, then, anew from none, by the inverse F1 of the classes on validation:

        L = λ CE_w(z, y) + μ BHP,  w = 1;  w_c ∝ n_c^{−t},  t = (e − E1)/(E2 − E1);
        w_c ∝ F1_c^{−t},  t = (e − E2)/(E − E2),
        BHP = −mean_i 1/|P_i| Σ_{p ∈ P_i} log (e^{f_i·f_p/τ} / Σ_j mean_{a ∈ A_j} e^{f_i·f_a/τ}),

    with A_j the features and proxies of class j but i itself, and P_i those of i's class. The
    network is updated at each batch, the proxies once an epoch, along the sum of their gradients.
    The prediction is the head's."""

    title = "Class-enhancement contrastive learning (ECL)"
    source = (
        "Zhang et al., Class-Enhancement Contrastive Learning for Long-tailed Skin Lesion "
        "Classification, MICCAI 2023; official code zylbuaa/ECL, models/loss.py, models/ecl.py and "
        "train.py (ISIC 2018 and 2019)"
    )
    deviations = (
        "The F1 of each class on validation weights the loss from E2 on, as the paper has it: "
        "validation images shape the training, and scores on them are no longer those of images "
        "held out.",
        "An F1 below .01 counts as .01, and that of a class without validation images as 1; in the "
        "official code an F1 of 0 has infinite weight, and the loss is no number.",
        "An anchor without another of its class in the batch, as the one proxy of the largest "
        "class can be, is left out; in the official code the loss is then no number.",
        "E1 and E2 are shares of the epochs; official: 20 and 50 of 100.",
        "The last epoch's network; the official code takes the best one on validation.",
        "Both views are the benchmark's strong view; the official ones are flips with jittered "
        "colours, and crops with rotations, jitter and grey; images are not normalised there.",
        "The benchmark's learning rate and schedule, for both optimisers; official: a cosine by "
        "epochs, one epoch ahead.",
        "The last, incomplete batch of an epoch is used; the official code drops it.",
    )
    authors = {"batch_size": 64, "lr": 0.002, "weight_decay": 1e-4, "schedule": "cosine"}
    views = ("strong", "strong")
    scaffolding = ("projector", "proxies", "owners", "gradient", "weights")
    passes = (2, 2)
    uses_validation = True
    replayable = True

    weights: Tensor
    owners: Tensor
    gradient: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        # Ranges: the choices of the official code.
        ce_weight: Annotated[float, Choice(0.5, 1.0, 2.0)] = 2.0  # λ, of the cross-entropy
        contrast_weight: Annotated[float, Choice(0.5, 1.0, 2.0)] = 1.0  # μ, of the contrastive loss
        temperature: float = 0.1  # τ, of the similarities
        width: int = 128  # of the projected features and the proxies
        plain_until: Annotated[float, Uniform(0.2, 0.4)] = 0.2  # E1, as a share of the epochs
        counts_until: Annotated[float, Uniform(0.5, 0.7)] = 0.5  # E2, as a share of the epochs

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, ce_weight=0, contrast_weight=0, width=1, plain_until=0)
            at_least(self, counts_until=self.plain_until)
            at_most(self, plain_until=1, counts_until=1)
            above(self, temperature=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        D, width = encoder.out_features, self.settings.width
        self.projector = nn.Sequential(
            nn.Linear(D, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        )
        C = self.task.num_classes
        counts = torch.bincount(self.task.train.host_labels, minlength=C)
        owners = torch.arange(C).repeat_interleave(proxies_of(counts))
        self.proxies = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(owners), width)))
        self.register_buffer("owners", owners)
        self.register_buffer("gradient", torch.zeros_like(self.proxies))  # summed over an epoch
        self.register_buffer("weights", torch.ones(C))  # of the classes in this epoch

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        trained = (p for p in self.parameters() if p.requires_grad)
        network = [p for p in trained if p is not self.proxies]
        proxies = self.new_optimizer([self.proxies])
        return {"network": self.new_optimizer(network), "proxies": proxies}

    def epoch(self, number: int) -> dict[str, float]:
        s, E, counts = self.settings, self.epochs, self.task.class_counts
        ends = s.plain_until * E, s.counts_until * E, float(E)
        f1 = torch.ones_like(counts)
        if number > 0 and ends[1] < number + 1:
            validation = self.task.validation
            f1 = f1_by_class(self.logits(validation), validation.labels)
        self.weights.copy_(curriculum_weights(number + 1, ends, counts, f1))
        self.gradient.zero_()
        logs = super().epoch(number)
        self.update_along([self.gradient], "proxies")
        return logs

    def step(self, batch: Batch) -> dict[str, Tensor]:
        with self.task.autocast():
            loss = self.loss(batch)
        *of_network, of_proxies = self.gradients(loss)
        self.update_along(of_network, "network")
        # In float16 an update whose gradients are not finite is left out.
        self.gradient += torch.where(of_proxies.isfinite().all(), of_proxies, 0.0)
        return {"loss": loss.detach()}

    def loss(self, batch: Batch) -> Tensor:
        s, views = self.settings, [self.model.encoder(view) for view in batch.views]
        ce = F.cross_entropy(self.model.logits(views[0]), batch.labels, weight=self.weights)
        with torch.autocast(views[0].device.type, enabled=False):
            f = F.normalize(torch.cat([self.projector(z.float()) for z in views]), dim=1)
            proxies = F.normalize(self.proxies, dim=1)
            y, C = batch.labels.repeat(2), self.task.num_classes
            contrast = hybrid_proxy_loss(f, y, proxies, self.owners, C, s.temperature)
        return s.ce_weight * ce + s.contrast_weight * contrast
