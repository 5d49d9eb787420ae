"""Probabilistic contrastive learning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Choice, Uniform, above, at_least
from lmdbench.methods.logit_adjustment import logit_adjusted_loss
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

MOST = 1e5  # κ of a class whose features are all but one direction
START = 0.9  # length of a class's mean before its first feature; its direction is random


def log_bessel(squared: Tensor, nu: float) -> Tensor:
    """log I_ν(x) − ν log x of x² ≥ 0, elementwise, in float64.

    By the uniform expansion for large orders (Abramowitz and Stegun 9.7.7) with four terms: within
    3e-8 for ν = 15, 3e-11 for ν = 63, whatever x. Its gradient by x is I_{ν+1} / I_ν.
    """
    root = (1 + squared.double() / nu**2).sqrt()
    t = 1 / root
    u1 = (3 * t - 5 * t**3) / 24
    u2 = (81 * t**2 - 462 * t**4 + 385 * t**6) / 1152
    u3 = (30375 * t**3 - 369603 * t**5 + 765765 * t**7 - 425425 * t**9) / 414720
    u4 = (4465125 * t**4 - 94121676 * t**6 + 349922430 * t**8) / 39813120
    u4 = u4 + (185910725 * t**12 - 446185740 * t**10) / 39813120
    leading = nu * (root - torch.log1p(root)) - 0.5 * root.log()
    constant = -nu * math.log(nu) - 0.5 * math.log(2 * math.pi * nu)
    return leading + constant + torch.log1p(u1 / nu + u2 / nu**2 + u3 / nu**3 + u4 / nu**4)


def contrast_logits(features: Tensor, means: Tensor, temperature: float) -> Tensor:
    """s_ic = log E[exp(f_i·v/T)] for v of class c's von Mises–Fisher distribution: (B, C) float64.

    features f (B, p) of unit length; means (C, p) float64 of the classes' features, which are not
    trained through. Its direction μ is a mean's, and κ = p R / (1 − R²) of its length R, at most
    1e5; s_ic = h(‖κ_c μ_c + f_i/T‖) − h(κ_c) with h(x) = log I_ν(x) − ν log x, ν = p/2 − 1.
    """
    f, means, p = features.double() / temperature, means.detach(), features.shape[1]
    R = means.norm(dim=1)
    kappa = p * R / (1 - R**2)
    kappa = torch.where((kappa >= 0) & (kappa <= MOST), kappa, MOST)
    squared = kappa**2 + 2 * kappa * (f @ F.normalize(means, dim=1).T)
    squared = squared + (f * f).sum(dim=1, keepdim=True)
    return log_bessel(squared, p / 2 - 1) - log_bessel(kappa**2, p / 2 - 1)


class ClassMeans(nn.Module):
    """Running means of the classes' features, (C, p) float64, and of how many each is, (C,)."""

    means: Tensor
    counts: Tensor

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(num_classes, width, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.float64))

    @torch.no_grad()
    def reset(self, directions: Tensor) -> None:
        """Forget all; the means point to these directions (C, p) until there are features."""
        self.means.copy_(START * F.normalize(directions.double(), dim=1))
        self.counts.zero_()

    @torch.no_grad()
    def put(self, features: Tensor, labels: Tensor) -> None:
        """Take in features (B, p) of these labels (B,)."""
        members = F.one_hot(labels, len(self.counts)).double()
        new = members.sum(dim=0)
        total = self.counts + new
        summed = self.counts[:, None] * self.means + members.T @ features.double()
        means = torch.where(new[:, None] > 0, summed / total.clamp(min=1)[:, None], self.means)
        self.means.copy_(means)
        self.counts.copy_(total)


def probabilistic_contrastive_loss(
    views: Sequence[Tensor],
    labels: Tensor,
    sets: tuple[ClassMeans, ClassMeans],
    class_counts: Tensor,
    temperature: float,
) -> Tensor:
    """Mean over the views (B, p), of unit length, of CE(s + log π, y), each after both sets of
    means took it in; s is by the first set. labels (B,), class_counts (C,)."""
    used, collected = sets
    losses = []
    for f in views:
        used.put(f.detach(), labels)
        collected.put(f.detach(), labels)
        s = contrast_logits(f, used.means, temperature)
        losses.append(logit_adjusted_loss(s, labels, class_counts.double(), 1.0))
    return torch.stack(losses).mean().to(views[0].dtype)


@register_method("proco")
class ProbabilisticContrastive(Method):
    """A head learns by logit-adjusted cross-entropy in one view of an image; two further views,
    projected, learn by the supervised contrastive loss against infinitely many samples of every
    class, whose features are taken for a von Mises–Fisher distribution:

        L = CE(z + log π, y) + α/2 Σ_{v=2,3} CE(s^v + log π, y),
        s_ic = [log I_ν(κ̃) − ν log κ̃] − [log I_ν(κ_c) − ν log κ_c],  κ̃ = ‖κ_c μ_c + f_i/T‖,
        κ_c = p R_c / (1 − R_c²), at most 1e5,  ν = p/2 − 1,

    with R_c and μ_c length and direction of the running mean of class c's features, and p their
    width. There are two sets of means. One is used; the other collects the features of this epoch
    and takes its place in the next. A batch goes into both before its loss. The prediction is the
    head's."""

    title = "Probabilistic contrastive learning (ProCo, 2024)"
    source = (
        "Du et al., Probabilistic Contrastive Learning for Long-Tailed Visual Recognition, TPAMI "
        "2024; official code LeapLabTHU/ProCo, ProCo_cifar/loss/proco.py and ProCo_cifar/main.py, "
        "settings of sh/ProCo_CIFAR.sh (CIFAR-100-LT). Not the ProCo of MICCAI 2022, which is "
        "prototype-aware"
    )
    deviations = (
        "log I_ν is exact to within 3e-11 at width 128. The official recurrence starts too low for "
        "large κ: at width 128 its log I_ν is off by .003 at 2,000 and by 2.8 at 1e5, and its "
        "loss is too steep there.",
        "Widths from 32 on, also odd ones, which the official recurrence can't have.",
        "All three views are the benchmark's strong view; the official ones are AutoAugment with "
        "Cutout for the head and SimCLR's crops and colours for the contrast.",
        "The head is linear and T is .1, as in the official code for CIFAR; for ImageNet-LT it has "
        "a cosine head, T .07 and width 1,024.",
        "After the warm-up the benchmark's schedule; official: a tenth of the learning rate from "
        "epoch 160 and once more from epoch 180 of 200.",
        "The last, incomplete batch of an epoch is used; the official code drops it.",
    )
    authors = {"epochs": 200, "batch_size": 256, "lr": 0.3, "weight_decay": 2e-4}
    views = ("strong", "strong", "strong")
    scaffolding = ("projector", "used", "collected")
    passes = (3, 3)
    replayable = True
    accumulates = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        contrast_weight: Annotated[float, Uniform(0.1, 2.0)] = 1.0  # α, of the contrastive loss
        temperature: Annotated[float, Choice(0.07, 0.1)] = 0.1  # T, of the features
        hidden: int = 512  # width of the projector's hidden layer
        width: int = 128  # p, of the projected features

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, contrast_weight=0, hidden=1, width=32)
            above(self, temperature=0)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        s, D, C = self.settings, encoder.out_features, self.task.num_classes
        self.projector = nn.Sequential(
            nn.Linear(D, s.hidden),
            nn.BatchNorm1d(s.hidden),
            nn.ReLU(),
            nn.Linear(s.hidden, s.width),
        )
        self.used, self.collected = (ClassMeans(C, s.width) for _ in range(2))
        self.collected.reset(torch.randn(C, s.width))

    def epoch(self, number: int) -> dict[str, float]:
        self.used.load_state_dict(self.collected.state_dict())
        stream = self.task.streams.get("directions")
        shape = self.collected.means.shape
        self.collected.reset(torch.randn(shape, generator=stream).to(self.task.device))
        return super().epoch(number)

    def loss(self, batch: Batch) -> Tensor:
        s, n = self.settings, len(batch)
        z = self.model.encoder(torch.cat(batch.views))
        logits = self.model.logits(z[:n])
        with torch.autocast(z.device.type, enabled=False):
            f = F.normalize(self.projector(z.float()), dim=1)[n:]
        y, counts, sets = batch.labels, self.task.class_counts, (self.used, self.collected)
        contrast = probabilistic_contrastive_loss(f.chunk(2), y, sets, counts, s.temperature)
        return logit_adjusted_loss(logits, y, counts, 1.0) + s.contrast_weight * contrast
