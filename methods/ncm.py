"""Nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method


class NearestMean(nn.Module):
    """−‖x − m_j‖² with x the centred, L2-normalised features: (B, D) to logits (B, C)."""

    centre: Tensor  # (D,)
    means: Tensor  # (C, D)

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("means", torch.zeros(num_classes, width))

    def fit(self, features: Tensor, labels: Tensor) -> None:
        """The mean of the training features (N, D), and each class's mean of normalised ones."""
        self.centre.copy_(features.mean(dim=0))
        normalised = self.normalise(features)
        for c in range(len(self.means)):
            self.means[c] = normalised[labels == c].mean(dim=0)

    def normalise(self, features: Tensor) -> Tensor:
        return F.normalize(features.float() - self.centre, dim=1)

    def forward(self, features: Tensor) -> Tensor:
        return -(self.normalise(features).unsqueeze(1) - self.means).square().sum(dim=2)


@register_method("ncm")
class NearestClassMean(Method):
    """The encoder of a cross-entropy run, and instead of its head the nearest of the classes'
    means, whose size depends on no class count:

        x = (φ − φ̄) / ‖φ − φ̄‖,  m_j = mean of class j's x,  logit_j = −‖x − m_j‖²,

    with φ̄ the mean of all training features. Nothing is trained; the means are not normalised
    again."""

    title = "Nearest class mean (NCM)"
    source = (
        "Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, "
        "ICLR 2020, section 4; centring, normalisation and squared distance from the official "
        "code, KNNClassifier.py with cl2n and l2"
    )
    deviations = (
        "Features are centred, and class means not normalised again, as in the official code; in "
        "the paper the means have length 1.",
    )
    starts_from = "ce"
    trains = "head"
    epochs = 0

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        """None: there is nothing to set."""

    def build(self, encoder: Encoder) -> None:
        head = NearestMean(self.task.num_classes, encoder.out_features)
        self.model = Classifier(encoder, head)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {}

    @torch.no_grad()
    def finish(self) -> None:
        head = cast(NearestMean, self.model.head)
        head.fit(self.features(self.task.train), self.task.train.labels)
