"""Balanced product of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from lmdbench.core.settings import Choice, above, at_least
from lmdbench.methods.logit_adjustment import floored_log
from lmdbench.methods.mixup import mix_up, mixed_cross_entropy
from lmdbench.methods.ride import expert_classifier, expert_logits
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def balpoe_loss(
    logits: Tensor,
    labels: Tensor,
    others: Tensor,
    share: float,
    class_counts: Tensor,
    strengths: Tensor,
) -> Tensor:
    """1/E Σ_e m CE(z_e + λ_e log π, y) + (1 − m) CE(z_e + λ_e log π, y').

    logits (E, B, C) float, labels and others (B,) int64, share m, class_counts (C,), strengths
    λ (E,).
    """
    shifts = strengths[:, None] * floored_log(class_counts / class_counts.sum())
    shifted = (logits + shifts[:, None]).flatten(0, 1)
    E = len(strengths)
    return mixed_cross_entropy(shifted, labels.repeat(E), others.repeat(E), share)


@register_method("balpoe")
class BalancedProductOfExperts(Method):
    """Experts that share the first stages of the encoder, each with logits adjusted to another
    degree λ_e, evenly from the least to the most. Where the λ_e have a mean of 1, the mean of the
    experts' logits is unbiased; mixup calibrates each, which that argument needs:

        L_e(y) = CE(z_e + λ_e log π, y),  L = 1/E Σ_e m L_e(y) + (1 − m) L_e(y'),
        x̃ = m x + (1 − m) x',  m ~ Beta(α, α),

    with one m for the batch and x' the batch in another order. The prediction is the experts'
    mean, for a uniform prior."""

    title = "Balanced product of calibrated experts (BalPoE)"
    source = (
        "Aimar et al., Balanced Product of Calibrated Experts for Long-Tailed Recognition, CVPR "
        "2023; official code emasa/BalPoE-CalibratedLT, model/loss.py and trainer/trainer.py, "
        "settings of configs/mixup/standard_training/config_cifar100_ir100_bs-experts.json "
        "(CIFAR-100-LT)"
    )
    deviations = (
        "The experts' stages begin with the same weights, pretrained ones where there are any, and "
        "their heads at random; in the official code all begin at random.",
        "After the warm-up the benchmark's schedule, without Nesterov momentum; official: with it, "
        "and a tenth of the learning rate after 160 and once more after 180 of 200 epochs, or 400 "
        "epochs with AutoAugment.",
        "The strengths are evenly spaced, as all official ones are (0, 1, 2; ImageNet-LT: 0, 1.25, "
        "2.5, with a mean that is not 1; iNaturalist: −1, 1, 3); one expert has their mean.",
        "Predictions are for a uniform prior; the official code can add the log of a known one.",
    )
    needs_images = "it mixes images, and its experts train stages of the encoder"
    authors = {"epochs": 200, "lr": 0.1, "weight_decay": 5e-4}
    passes = (2, 2)  # of a ResNet-18; its last two stages are nearly half of it

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        experts: Annotated[int, Choice(2, 3, 4)] = 3  # E, how many there are
        least: float = 0.0  # λ of the first expert; 0: no adjustment
        most: float = 2.0  # λ of the last expert; the mean of both should be 1
        # Range: that of the official code.
        alpha: Annotated[float, Choice(0.2, 0.3, 0.4)] = 0.4  # α, of mixup; 0: no mixup
        scale: float = 30.0  # of the cosines

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, experts=1, alpha=0)
            above(self, scale=0)

    def build(self, encoder: Encoder) -> None:
        s = self.settings
        self.model = expert_classifier(encoder, self.task.num_classes, s.experts, s.scale)

    def strengths(self) -> Tensor:
        """λ_e of each expert, (E,)."""
        s = self.settings
        first = s.least if s.experts > 1 else (s.least + s.most) / 2
        return torch.linspace(first, s.most, s.experts, device=self.task.device)

    def loss(self, batch: Batch) -> Tensor:
        mixed, others, share = mix_up(batch, self.settings.alpha, self.task.streams)
        logits = expert_logits(self.model, mixed)
        counts, strengths = self.task.class_counts, self.strengths()
        return balpoe_loss(logits, batch.labels, others, share, counts, strengths)
