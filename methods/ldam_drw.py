"""LDAM with deferred re-weighting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Uniform, above, at_least, at_most, below
from lmdbench.methods.cb_focal import class_balanced_weights
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


class CosineHead(nn.Module):
    """s cos(φ, w_j), plus a bias where asked for: features (B, D) to logits (B, C)."""

    bias: nn.Parameter | None

    def __init__(self, width: int, num_classes: int, scale: float, *, bias: bool = False) -> None:
        super().__init__()
        self.scale = scale
        # Of length 1: the gradient turns a longer weight more slowly, as 1/length².
        weight = torch.empty(num_classes, width).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(weight, dim=1))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None

    def forward(self, features: Tensor) -> Tensor:
        directions = F.normalize(self.weight, dim=1)
        return F.linear(self.scale * F.normalize(features, dim=1), directions, self.bias)


def margins(class_counts: Tensor, max_margin: float) -> Tensor:
    """Δ_j ∝ n_j^{−1/4}, the largest of them ``max_margin``: (C,)."""
    inverse = class_counts**-0.25
    return max_margin * inverse / inverse.max()


def lowered(logits: Tensor, labels: Tensor, margins: Tensor) -> Tensor:
    """Logits (B, C), that of the own class less by its margin. labels (B,) int64, margins (C,)."""
    return logits - F.one_hot(labels, logits.shape[1]) * margins


def ldam_loss(
    logits: Tensor, labels: Tensor, margins: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of logits whose own class is lowered by its margin; where ``weights`` (C,) are
    given, their weighted mean. logits (B, C) float, labels (B,) int64, margins (C,)."""
    return F.cross_entropy(lowered(logits, labels, margins), labels, weight=weights)


@register_method("ldam-drw")
class LDAM(Method):
    """Cross-entropy of scaled cosines with a margin that is larger for rarer classes:

        L = CE(s (cos θ − Δ_y e_y), y),  Δ_j = m n_j^{−1/4} / max_k n_k^{−1/4},

    with θ_j the angle of features and w_j, and e_y the own class's unit vector. From 80 % of the
    epochs on, when the features are learned, classes are weighted by the inverse of their effective
    number, (1 − β) / (1 − β^{n_j}) (deferred re-weighting)."""

    title = "LDAM-DRW"
    version = 3
    source = (
        "Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, "
        "NeurIPS 2019, section 3 and algorithm 1; official code kaidic/LDAM-DRW"
    )
    deviations = (
        "After the warm-up the benchmark's schedule; the official CIFAR recipe divides the "
        "learning rate by 100 where the weights set in, and again at 90 % of the epochs.",
        "Class weights are by effective number, as in the official code; algorithm 1 has inverse "
        "frequency.",
    )
    authors = {"epochs": 200, "lr": 0.1, "weight_decay": 2e-4}
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        max_margin: Annotated[float, Uniform(0.1, 0.9)] = (
            0.5  # m, of the rarest class, in cosine; 0 is cross-entropy of scaled cosines
        )
        scale: float = 30.0  # s, of the cosines
        beta: float = 0.9999  # of the class weights
        weights_after: float = 0.8  # share of the epochs before class weights set in

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, max_margin=0, beta=0, weights_after=0)
            at_most(self, weights_after=1)
            above(self, scale=0)
            below(self, beta=1)

    def build(self, encoder: Encoder) -> None:
        head = CosineHead(encoder.out_features, self.task.num_classes, self.settings.scale)
        self.model = Classifier(encoder, head)

    def phase(self) -> bool:
        """Whether classes are weighted."""
        return self.progress >= self.settings.weights_after

    def loss(self, batch: Batch) -> Tensor:
        s, counts = self.settings, self.task.class_counts
        weights = class_balanced_weights(counts, s.beta) if self.phase() else None
        scaled_margins = s.scale * margins(counts, s.max_margin)
        return ldam_loss(self.model(batch.images), batch.labels, scaled_margins, weights)
