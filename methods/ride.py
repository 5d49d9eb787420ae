"""RIDE: several experts that learn to differ."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from torch import Tensor, nn

from lmdbench.core.settings import Choice, Uniform, above, at_least, at_most, below
from lmdbench.methods.cb_focal import class_balanced_weights
from lmdbench.methods.ldam_drw import CosineHead, ldam_loss, margins
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.models.stages import stages_of
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

OWN_STAGES = 2  # of each expert, the last ones: of a ResNet layer3 and layer4


class Experts(nn.Module):
    """A body whose last stages exist several times: images to features (B, experts · D)."""

    def __init__(self, body: nn.Module, experts: int) -> None:
        super().__init__()
        stages = stages_of(body)
        branch = nn.Sequential(*stages[-OWN_STAGES:])
        self.shared = nn.Sequential(*stages[:-OWN_STAGES])
        self.branches = nn.ModuleList(
            [branch, *(copy.deepcopy(branch) for _ in range(experts - 1))]
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.shared(images)
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class ExpertHeads(nn.Module):
    """A head for each expert, of cosines or, without a scale, linear: features (B, experts · D) to
    the mean of their logits."""

    def __init__(self, width: int, num_classes: int, scale: float | None, experts: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Linear(width, num_classes)
            if scale is None
            else CosineHead(width, num_classes, scale)
            for _ in range(experts)
        )

    def each(self, features: Tensor) -> Tensor:
        """The experts' logits (experts, B, C)."""
        own = features.chunk(len(self.heads), dim=1)
        return torch.stack([head(f) for head, f in zip(self.heads, own, strict=True)])

    def forward(self, features: Tensor) -> Tensor:
        return self.each(features).mean(dim=0)


def expert_classifier(encoder: Encoder, num_classes: int, experts: int, scale: float) -> Classifier:
    """Experts made of an encoder, each with a cosine head; their mean is the prediction."""
    width = encoder.out_features
    return Classifier(
        Encoder(Experts(encoder.body, experts), experts * width),
        ExpertHeads(width, num_classes, scale, experts),
    )


def expert_logits(model: Classifier, images: Tensor) -> Tensor:
    """Each expert's logits (experts, B, C) of images (B, 3, H, W), in the heads' own precision."""
    features = model.encoder(images)
    with torch.autocast(features.device.type, enabled=False):
        return cast(ExpertHeads, model.head).each(features.float())


def temperatures(class_counts: Tensor, spread: float) -> Tensor:
    """T_j ∝ C π_j · spread + 1 − spread, the highest of them 1: (C,). The rarer, the lower."""
    T = len(class_counts) * class_counts / class_counts.sum() * spread + 1 - spread
    return T / T.max()


def divergence_from_mean(logits: Tensor, T: Tensor) -> Tensor:
    """Σ_e mean(T)² KL(softmax(z̄ / T) ‖ softmax(z_e / T)), with z̄ the mean, not trained through it.

    logits (E, B, C) float, T (C,): a temperature for each class.
    """
    log_p = (logits / T).log_softmax(dim=2)
    log_mean = (logits.mean(dim=0).detach() / T).log_softmax(dim=1)
    by_image = (log_mean.exp() * (log_mean - log_p)).sum(dim=2)
    return T.mean() ** 2 * by_image.mean(dim=1).sum()


@register_method("ride")
class RIDE(Method):
    """Experts that share the first stages of the encoder, and own its last two and a cosine head.
    Each learns by an LDAM loss of its own and is rewarded for differing from their mean z̄, the
    softer compared the more frequent the class:

        L = Σ_e LDAM(z_e, y) − λ mean(T)² KL(softmax(z̄ / T) ‖ softmax(z_e / T)),
        T_j ∝ η C π_j + 1 − η,  max T = 1.

    The prediction is their mean. The temperatures, and LDAM's class weights, set in after 80 % of
    the epochs; until then all are 1."""

    title = "RIDE: diverse distribution-aware experts"
    version = 3
    source = (
        "Wang et al., Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, ICLR "
        "2021; losses and recipe as in the official code, frank-xwang/RIDE-LongTailRecognition, "
        "model/loss.py and configs/config_imbalance_cifar100_ride.json (CIFAR-100-LT)"
    )
    deviations = (
        "Every image is seen by all experts. The paper's second stage, which trains a module to "
        "leave experts out for easy images, is `ride-routing`.",
        "No distillation from a larger ensemble, which the official code has as a variant.",
        "The experts are as wide as the backbone, so that its weights fit; the official ones have "
        "three quarters of its channels in their own stages.",
        "The experts' stages begin with the same weights, pretrained ones where there are any, and "
        "their heads at random; in the official code all begin at random.",
        "Diversity is from the mean and the temperatures have a maximum of 1, as in the official "
        "code; in the paper it is from each other expert, and T_j = β_j + 1 − max β.",
        "The authors' values are CIFAR-100-LT's; our diversity of .2 is that of the official code "
        "for ImageNet-LT and iNaturalist.",
        "With diversity=0 every expert learns by its own loss; the official code then takes the "
        "loss of their mean in place of each expert's.",
        "After the warm-up the benchmark's schedule, without Nesterov momentum; official: with it, "
        "and the learning rate times .01 after 160 and once more after 180 of 200 epochs.",
    )
    needs_images = "its experts train stages of the encoder"
    authors = {"epochs": 200, "lr": 0.1, "weight_decay": 5e-4, "diversity": 0.45}
    passes = (2, 2)  # of a ResNet-18; its last two stages are nearly half of it
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        experts: Annotated[int, Choice(2, 3, 4)] = 3  # how many there are
        diversity: Annotated[float, Uniform(0.0, 0.6)] = 0.2  # λ; 0: they are trained independently
        spread: float = 0.05  # η of the temperatures; 0: the same for all classes
        max_margin: float = 0.5  # of LDAM, of the rarest class, in cosine
        scale: float = 30.0  # of the cosines
        beta: float = 0.9999  # of LDAM's class weights
        weights_after: float = 0.8  # share of the epochs before weights and temperatures set in

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, experts=1, diversity=0, spread=0, max_margin=0, beta=0, weights_after=0)
            at_most(self, spread=1, weights_after=1)
            above(self, scale=0)
            below(self, beta=1)

    def build(self, encoder: Encoder) -> None:
        s = self.settings
        self.model = expert_classifier(encoder, self.task.num_classes, s.experts, s.scale)

    def phase(self) -> bool:
        """Whether classes have weights and temperatures of their own."""
        return self.progress >= self.settings.weights_after

    def loss(self, batch: Batch) -> Tensor:
        s, counts = self.settings, self.task.class_counts
        logits = expert_logits(self.model, batch.images)
        weights, T = None, torch.ones_like(counts)
        if self.phase():
            weights, T = class_balanced_weights(counts, s.beta), temperatures(counts, s.spread)
        scaled_margins = s.scale * margins(counts, s.max_margin)
        individual = sum(ldam_loss(z, batch.labels, scaled_margins, weights) for z in logits)
        return individual - s.diversity * divergence_from_mean(logits, T)
