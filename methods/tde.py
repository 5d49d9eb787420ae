"""De-confounded training: the total direct effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Choice, Uniform, above, at_least, below
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


class CausalHead(nn.Module):
    """Features (B, D) to logits (B, C): in K equal parts, of weights that are nearly of length 1
    and features that are. In evaluation mode without what lies along ``moving`` (D,), the features'
    moving sum, taken out ``effect`` times."""

    moving: Tensor

    def __init__(
        self, width: int, num_classes: int, parts: int, scale: float, gamma: float, effect: float
    ) -> None:
        super().__init__()
        self.parts, self.scale, self.gamma, self.effect = parts, scale, gamma, effect
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(num_classes, width).uniform_(-bound, bound))
        self.register_buffer("moving", torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        split = (t.tensor_split(self.parts, dim=-1) for t in (features, self.weight, self.moving))
        logits = features.new_zeros(())
        for x, w, m in zip(*split, strict=True):
            x = F.normalize(x, dim=1)
            if not self.training:
                direction = F.normalize(m, dim=0)
                x = x - self.effect * (x @ direction)[:, None] * direction
            logits = logits + x @ (w / (w.norm(dim=1, keepdim=True) + self.gamma)).T
        return self.scale / self.parts * logits

    @torch.no_grad()
    def follow(self, features: Tensor, momentum: float) -> None:
        """m ← μ m + mean of the batch's features (B, D)."""
        self.moving.mul_(momentum).add_(features.mean(dim=0))


@register_method("tde")
class TotalDirectEffect(Method):
    """Momentum of the optimiser drags features towards the head classes. It is let act in training,
    by a normalised head in K parts, and its direction m taken out at test:

        z = τ/K Σ_k w^k/(‖w^k‖ + γ) · x^k/‖x^k‖,  L = CE(z, y),  m ← μ m + mean φ;
        at test x^k/‖x^k‖ − α cos(x^k, m^k) m^k/‖m^k‖ in the place of x^k/‖x^k‖."""

    title = "De-confounded training (causal norm with TDE)"
    source = (
        "Tang et al., Long-Tailed Classification by Keeping the Good and Removing the Bad Momentum "
        "Causal Effect, NeurIPS 2020; as in the official code "
        "KaihuaTang/Long-Tailed-Recognition.pytorch, CausalNormClassifier.py"
    )
    deviations = (
        "α is that of CIFAR-LT; official for ImageNet-LT: 3. The paper tunes it.",
        "m is updated before the optimiser's step, by the features that the loss is taken of.",
        "μ is that of CIFAR-LT; on other data sets the official code has 1 − .1 min(50 lr, 1).",
        "The last, incomplete batch of an epoch is used; the official code drops it.",
        "After the warm-up the benchmark's schedule; official (CIFAR): the learning rate times .01 "
        "after 120 and once more after 160 of 200 epochs.",
    )
    authors = {"epochs": 200, "batch_size": 256, "lr": 0.2, "weight_decay": 5e-4}
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        effect: Annotated[float, Uniform(0.0, 3.0)] = (
            1.5  # α, how much of m is taken out at test; 0: nothing
        )
        parts: Annotated[int, Choice(1, 2, 4)] = 2  # K, of features and weights
        scale: float = 16.0  # τ, of the cosines
        gamma: float = 1 / 32  # γ, beside the length of weights
        moving: float = 0.9  # μ, of the moving sum of features

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, effect=0, parts=1, gamma=0, moving=0)
            above(self, scale=0)
            below(self, moving=1)

    def build(self, encoder: Encoder) -> None:
        s, D = self.settings, encoder.out_features
        head = CausalHead(D, self.task.num_classes, s.parts, s.scale, s.gamma, s.effect)
        self.model = Classifier(encoder, head)

    def loss(self, batch: Batch) -> Tensor:
        features = self.model.encoder(batch.images)
        head = cast(CausalHead, self.model.head)
        head.follow(features.to(head.moving.dtype), self.settings.moving)
        return F.cross_entropy(self.model.logits(features), batch.labels)
