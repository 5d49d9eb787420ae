"""SADE: experts for several label distributions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Choice, above, at_least
from lmdbench.methods.logit_adjustment import floored_log
from lmdbench.methods.ride import expert_classifier, expert_logits
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch

EXPERTS = 3  # one for each label distribution: as trained, uniform, reversed


def reversed_prior(class_counts: Tensor, *, mean_of_ties: bool = False) -> Tensor:
    """π with its values in reverse: the class of rank r by π gets that of rank C − 1 − r: (C,).

    Of classes with equal counts the first ranks lower and gets more, or each gets their mean.
    """
    prior = class_counts / class_counts.sum()
    order = prior.argsort(stable=True)
    swapped = torch.empty_like(prior)
    swapped[order] = prior[order].flip(0)
    if not mean_of_ties:
        return swapped
    tied = (class_counts[:, None] == class_counts).to(prior.dtype)
    return tied @ swapped / tied.sum(dim=1)


def sade_loss(
    logits: Tensor, labels: Tensor, class_counts: Tensor, tau: float, *, mean_of_ties: bool = False
) -> Tensor:
    """CE(z_1, y) + CE(z_2 + log π, y) + CE(z_3 + log π − τ log π̄, y).

    logits (3, B, C) float, labels (B,) int64, class_counts (C,).
    """
    log_prior = floored_log(class_counts / class_counts.sum())
    reverse = floored_log(reversed_prior(class_counts, mean_of_ties=mean_of_ties))
    shifts = torch.stack([torch.zeros_like(log_prior), log_prior, log_prior - tau * reverse])
    shifted = logits + shifts[:, None]
    # The mean over images of each expert's loss, summed over the experts.
    return EXPERTS * F.cross_entropy(shifted.flatten(0, 1), labels.repeat(EXPERTS))


@register_method("sade")
class SADE(Method):
    """Three experts that share the first stages of the encoder, each trained for another label
    distribution: the one trained on, a uniform one, and the reversed one π̄, in which the class of
    rank r by π has the value of rank C − 1 − r:

        L = CE(z_1, y) + CE(z_2 + log π, y) + CE(z_3 + log π − τ log π̄, y).

    The prediction is their mean, which serves a uniform distribution."""

    title = "SADE: self-supervised aggregation of diverse experts"
    source = (
        "Zhang et al., Self-Supervised Aggregation of Diverse Experts for Test-Agnostic "
        "Long-Tailed Recognition, NeurIPS 2022; official code Vanint/SADE-AgnosticLT, "
        "model/loss.py, and settings of its configs for CIFAR-100-LT"
    )
    deviations = (
        "The experts' mean is the prediction; the paper's second half learns weights for them on "
        "unlabelled test images, which no method sees here.",
        "Of classes with equal counts the first gets the larger reversed share, as in the official "
        "code, so that their order matters; with ties=mean each gets the mean, which is ours.",
        "The experts are as wide as the backbone, so that its weights fit; the official ones have "
        "three quarters of its channels in their own stages.",
        "The experts' stages begin with the same weights, pretrained ones where there are any, and "
        "their heads at random; in the official code all begin at random.",
        "After the warm-up the benchmark's schedule, without Nesterov momentum; official: with it, "
        "and a tenth of the learning rate after 160 and once more after 180 of 200 epochs.",
    )
    needs_images = "its experts train stages of the encoder"
    authors = {"epochs": 200, "lr": 0.1, "weight_decay": 5e-4}
    passes = (2, 2)  # of a ResNet-18; its last two stages are nearly half of it
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        tau: Annotated[float, Choice(1.0, 2.0)] = 2.0  # τ, how far the last expert goes beyond π
        scale: float = 30.0  # of the cosines
        ties: Literal["order", "mean"] = "order"  # reversed share of classes with equal counts

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, tau=0)
            above(self, scale=0)

    def build(self, encoder: Encoder) -> None:
        scale = self.settings.scale
        self.model = expert_classifier(encoder, self.task.num_classes, EXPERTS, scale)

    def loss(self, batch: Batch) -> Tensor:
        s, counts = self.settings, self.task.class_counts
        logits = expert_logits(self.model, batch.images)
        mean_of_ties = s.ties == "mean"
        return sade_loss(logits, batch.labels, counts, s.tau, mean_of_ties=mean_of_ties)
