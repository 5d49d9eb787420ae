"""Long-tail recognition by reflective learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Uniform, above, at_least, at_most
from lmdbench.methods.glmc import soft_cross_entropy
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

FIRST_SMOOTHING = 0.1  # of the first epoch's labels, when no medians are known


def alike_labels(medians: Tensor, share: float) -> Tensor:
    """Soft labels (C, C), a row a class: (1 − share) its own, and a share by the softmax of the
    cosines of its median with all. medians (C, D)."""
    directions = F.normalize(medians, dim=1)
    alike = (directions @ directions.T).softmax(dim=1)
    return (1 - share) * torch.eye(len(medians), device=medians.device) + share * alike


def divided(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits (B, C) over the number of the batch's images of the image's own class."""
    return logits / (labels[:, None] == labels).sum(dim=1, keepdim=True)


def review_loss(logits: Tensor, earlier: Tensor, right: Tensor, temperature: float) -> Tensor:
    """T² mean KL(softmax(r/T) ‖ softmax(s/T)) over the images of which ``right`` (B,) bool is true;
    0 without any. logits s and earlier r (B, C)."""
    log_p = (logits / temperature).log_softmax(dim=1)
    log_r = (earlier / temperature).log_softmax(dim=1)
    by_image = (log_r.exp() * (log_r - log_p)).sum(dim=1)
    return temperature**2 * (right * by_image).sum() / right.sum().clamp(min=1)


def without_conflict(gradient: Tensor, other: Tensor) -> Tensor:
    """``other``, less its part against ``gradient`` where their product is negative."""
    product = (gradient * other).sum()
    projected = other - product / gradient.square().sum() * gradient
    return torch.where(product < 0, projected, other)


@register_method("ltrl")
class ReflectiveLearning(Method):
    """Balanced softmax with three ways to look back. Labels are soft by how alike classes are, by
    the medians m of their features in the last epoch; what the network made of an image in the last
    epoch, r_i, teaches it where that was right; and the gradient h of this review gives way to that
    of the loss, g, where both are at odds, in each tensor of parameters:

        L = CE(z + log n, .99 y + .01 softmax_j cos(m_y, m_j)),
        R = T² mean KL(softmax(r_i/T) ‖ softmax(s_i/T)) over argmax r_i = y_i,
        θ ← θ − lr (g + h'),  h' = h − min(0, g·h) g/‖g‖².

    s_i are the logits over the number of the batch's images of the own class, and become r_i."""

    title = "Reflective learning (LTRL), with balanced softmax"
    source = (
        "Zhao et al., LTRL: Boosting Long-tail Recognition via Reflective Learning, ECCV 2024; as "
        "in the official code fistyee/LTRL"
    )
    deviations = (
        "An image that was not yet seen is not reviewed; in the official code its zeros count as "
        "right for class 0, all of whose images are pulled towards no opinion in the first epoch.",
        "Logits are divided by the class's images in the batch, as in the official code, so that "
        "large classes are hardly reviewed; it doesn't say whether that is meant.",
        "Medians are without gradient, and those of a class without images in an epoch stay.",
        "On top of balanced softmax alone; official also on SADE and RIDE, with the review thrice.",
        "The warm-up's and the benchmark's schedule, without Nesterov momentum; official: with it, "
        "and a tenth of the learning rate from each of the epochs 160 and 180 of 200 on.",
    )
    authors = {"epochs": 200, "lr": 0.1, "weight_decay": 5e-4}
    passes = (1, 2)
    scaffolding = ("earlier", "seen", "medians")
    replayable = True
    goes_back_twice = True
    earlier: Tensor
    seen: Tensor
    medians: Tensor
    met: Tensor
    soft_labels: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        soft: Annotated[float, Uniform(0.0, 0.2)] = 0.01  # share of the labels by likeness
        temperature: float = 2.0  # T, of the review

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, soft=0)
            at_most(self, soft=1)
            above(self, temperature=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        N, C, D = len(self.task.train), self.task.num_classes, encoder.out_features
        self.register_buffer("earlier", torch.zeros(N, C))  # r
        self.register_buffer("seen", torch.zeros(N, dtype=torch.bool))
        self.register_buffer("medians", torch.zeros(C, D))
        self.register_buffer("met", torch.zeros(N, D), persistent=False)  # features, of this epoch
        self.register_buffer("soft_labels", torch.zeros(C, C), persistent=False)

    def epoch(self, number: int) -> dict[str, float]:
        C = self.task.num_classes
        labels = alike_labels(self.medians, self.settings.soft)
        if number == 0:
            labels = (1 - FIRST_SMOOTHING) * torch.eye(C) + FIRST_SMOOTHING / C
        self.soft_labels.copy_(labels)
        logs = super().epoch(number)
        for c in range(C):
            own = self.met[self.task.train.labels == c]
            if len(own):
                self.medians[c] = own.median(dim=0).values  # the lower one of two
        return logs

    def step(self, batch: Batch) -> dict[str, Tensor]:
        labels, places = batch.labels, batch.positions
        with self.task.autocast():
            features = self.model.encoder(batch.images)
        logits = self.model.logits(features)
        targets = self.soft_labels[labels]
        loss = soft_cross_entropy(logits + self.task.class_counts.log(), targets)
        earlier, now = self.earlier[places], divided(logits, labels)
        right = self.seen[places] & (earlier.argmax(dim=1) == labels)
        review = review_loss(now, earlier, right, self.settings.temperature)
        first = self.gradients(loss, again=True)
        second = self.gradients(review)
        self.update_along(g + without_conflict(g, h) for g, h in zip(first, second, strict=True))
        self.remember(places, features, now)
        return {"loss": loss.detach(), "review": review.detach()}

    @torch.no_grad()
    def remember(self, places: Tensor, features: Tensor, logits: Tensor) -> None:
        self.earlier.index_copy_(0, places, logits.to(self.earlier.dtype))
        self.met.index_copy_(0, places, features.to(self.met.dtype))
        self.seen.index_fill_(0, places, True)
