"""Flexible sampling."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Uniform, at_least, at_most, below
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.samplers import InstanceSampler, SamplerChoice
from lmdbench.training.task import Batch

LEAST_ANCHORS = 2  # of a class, where it has as many

logger = logging.getLogger("lmdbench")


class ActiveSampler:
    """Every image of the active set (n,) once an epoch, in random order."""

    def __init__(self, active: Tensor) -> None:
        self._active = active.cpu()
        self._places = InstanceSampler(self._active)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self._active[self._places.draw(n, generator)]


def first_of_each(order: Tensor, labels: Tensor, many: Tensor) -> Tensor:
    """The first of each class in an order of positions (n,), so many of each (C,). labels (N,)."""
    ordered = labels[order]
    return torch.cat([order[ordered == c][:most] for c, most in enumerate(many.tolist())])


def anchors_of(features: Tensor, labels: Tensor, share: float) -> Tensor:
    """Positions of the min(n_c, max(2, ⌊s n_max⌋)) images of each class nearest to its mean.

    features (N, D), labels (N,) int64.
    """
    counts = torch.bincount(labels)
    distances = features.new_zeros(len(features))
    for c in labels.unique():
        own = features[labels == c]
        distances[labels == c] = (own - own.mean(dim=0)).norm(dim=1)
    most = max(LEAST_ANCHORS, int(counts.max().item() * share))
    return first_of_each(distances.argsort(stable=True), labels, counts.clamp(max=most))


def queries_per_class(
    unused: Tensor, accuracies: Tensor, share: float, *, divided: bool = True
) -> Tensor:
    """max(1, ⌊q |U_c| p_c⌋), at most |U_c|, with p_c = (1 − acc_c) C / Σ_k (1 − acc_k): (C,) int64;
    p_c once more divided by C where ``divided``. unused and accuracies (C,)."""
    wrong = (1 - accuracies).double()
    C, total = len(wrong), wrong.sum()
    p = wrong * (C / total) if total > 1e-8 else torch.ones_like(wrong)
    wanted = unused * share * (p / C if divided else p)
    return torch.minimum(wanted.long().clamp(min=1), unused.long())


def disagreement(logits: Tensor) -> Tensor:
    """H(mean_t p_t) − mean_t H(p_t) of T passes (T, B, C): (B,)."""
    p = logits.softmax(dim=2)

    def entropy(p: Tensor) -> Tensor:
        return -(p * (p + 1e-10).log()).sum(dim=-1)

    return entropy(p.mean(dim=0)) - entropy(p).mean(dim=0)


@register_method("fs")
class FlexibleSampling(Method):
    """Cross-entropy on an active set that grows. It begins with anchors, of each class the images
    nearest to the mean of its features: min(n_c, max(2, ⌊s n_max⌋)) of them. After 30 % of the
    epochs, whenever the accuracy on validation has not risen for a while, images come in for good,

        ⌊q |U_c| p_c / C⌋ of class c, at least 1,  p_c = (1 − acc_c) C / Σ_k (1 − acc_k),

    of the |U_c| unused ones those on which T passes with dropout disagree most (BALD):

        H(mean_t p_t) − mean_t H(p_t).

    Validation images steer the training, also by each class's accuracy on them."""

    title = "Flexible sampling (FS), as in the rewritten code"
    source = (
        "Ju et al., Flexible Sampling for Long-tailed Skin Lesion Classification, MICCAI 2022; "
        "rules as in the authors' code PyJulie/FlexSampling at 17745eb, flexsampling/core, a "
        "rewrite with the paper's section numbers"
    )
    deviations = (
        "The paper's own s, warm-up, patience and loss are not known; these are the code's.",
        "A later commit of the code, 8f31c0c, pre-trains the encoder without labels, has a "
        "class-balanced focal loss, and adds about C times as many images; of these, division=none "
        "is the last alone.",
        "Dropout of .1 is before the head; the official code puts it after modules that a ResNet "
        "has none of, so that all scores are equal there.",
        "The benchmark's optimiser; official: Adam (adamw without weight decay).",
        "Warm-up and patience are shares of the epochs, .3 and .1, which are 30 and 10 of the "
        "official 100.",
        "The last, incomplete batch of an epoch is used; the official code drops it.",
    )
    authors = {"batch_size": 64, "optimizer": "adamw", "lr": 3e-4}
    uses_validation = True
    scaffolding = ("active", "best", "waited")
    passes = (1, 1)  # once all images are active
    active: Tensor
    best: Tensor
    waited: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        anchors: Annotated[float, Uniform(0.05, 0.5)] = (
            0.1  # s, of the largest class: anchors of a class at most; 1: all images at once
        )
        warm: float = 0.3  # share of the epochs on anchors alone
        patience: float = 0.1  # share of the epochs without a better accuracy before images come in
        query: Annotated[float, Uniform(0.05, 0.5)] = 0.1  # q, of a class's unused images
        division: Literal["classes", "none"] = (
            "classes"  # what the share of a class is once more divided by
        )
        passes: int = 10  # T, with dropout, for an image's score
        dropout: float = 0.1  # before the head

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, anchors=0, warm=0, patience=0, query=0, passes=1, dropout=0)
            at_most(self, anchors=1, warm=1, patience=1, query=1)
            below(self, dropout=1)

    def build(self, encoder: Encoder) -> None:
        linear = nn.Linear(encoder.out_features, self.task.num_classes)
        self.model = Classifier(encoder, nn.Sequential(nn.Dropout(self.settings.dropout), linear))
        self.register_buffer("active", torch.ones(len(self.task.train), dtype=torch.bool))
        self.register_buffer("best", torch.zeros(()))
        self.register_buffer("waited", torch.zeros((), dtype=torch.long))

    def samplers(self) -> Sequence[SamplerChoice]:
        return (ActiveSampler(self.active.nonzero().flatten()),)

    @property
    def images_an_epoch(self) -> int:
        return int(self.active.sum())

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.model(batch.images), batch.labels)

    def epoch(self, number: int) -> dict[str, float]:
        if number == 0:
            train, share = self.task.train, self.settings.anchors
            anchors = anchors_of(self.features(train), train.labels, share)
            self.active.zero_()[anchors] = True
        logs = {**super().epoch(number), "active_images": float(self.images_an_epoch)}
        right = self.logits(self.task.validation).argmax(dim=1) == self.task.validation.labels
        self.wait(right.float().mean())
        s = self.settings
        ready = number >= round(s.warm * s.epochs)
        if ready and self.waited >= max(1, round(s.patience * s.epochs)) and not self.active.all():
            self.take_in(right)
        return logs

    def wait(self, accuracy: Tensor) -> None:
        """Count the epochs since the accuracy was better than ever before."""
        self.waited.copy_(torch.where(accuracy > self.best, 0, self.waited + 1))
        self.best.copy_(torch.maximum(self.best, accuracy))

    def take_in(self, right: Tensor) -> None:
        """Add images, by which of the validation images are ``right``, and begin to wait anew."""
        s, C = self.settings, self.task.num_classes
        truth, labels = self.task.validation.labels, self.task.train.labels
        accuracies = torch.bincount(truth[right], minlength=C) / torch.bincount(
            truth, minlength=C
        ).clamp(min=1)
        unused = torch.bincount(labels[~self.active], minlength=C)
        many = queries_per_class(unused, accuracies, s.query, divided=s.division == "classes")
        order = self.scores().argsort(descending=True, stable=True)
        self.active[first_of_each(order[~self.active[order]], labels, many)] = True
        self.waited.zero_()
        for optimizer in self.running_optimizers.values():  # as new
            for kept in optimizer.state.values():
                torch._foreach_zero_([v for v in kept.values() if isinstance(v, Tensor)])
        logger.info("%d of %d images are active", self.images_an_epoch, len(labels))

    @torch.no_grad()
    def scores(self) -> Tensor:
        """How much passes with dropout disagree on each training image: (N,)."""
        generator = self.task.streams.get("dropout", on_device=True)
        features = self.features(self.task.train)
        linear, kept = cast(nn.Sequential, self.model.head)[1], 1 - self.settings.dropout
        passes = []
        for _ in range(self.settings.passes):
            mask = torch.rand(features.shape, generator=generator, device=features.device) < kept
            passes.append(linear(features * mask / kept))
        return disagreement(torch.stack(passes))
