"""DisAlign: distribution alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Uniform, at_least
from lmdbench.methods.tau_norm import linear_head
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def generalised_weights(class_counts: Tensor, rho: float) -> Tensor:
    """w_j ∝ (1 / π_j)^ρ with Σ_j w_j = C: (C,)."""
    inverse = (class_counts.sum() / class_counts) ** rho
    return inverse / inverse.sum() * len(inverse)


class AlignedHead(nn.Module):
    """A frozen linear head, and learned on it a magnitude and a margin of each class, as far as the
    confidence σ(φ) of the image lets them: (1 + σ m) z + σ b."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.magnitude = nn.Parameter(torch.ones(linear.out_features))
        self.margin = nn.Parameter(torch.zeros(linear.out_features))
        self.confidence = nn.Linear(linear.in_features, 1)
        nn.init.constant_(self.confidence.weight, 0.1)

    def forward(self, features: Tensor) -> Tensor:
        sigma = self.confidence(features).sigmoid()
        return (1 + sigma * self.magnitude) * self.linear(features) + sigma * self.margin


@register_method("disalign")
class DisAlign(Method):
    """The logits z of a cross-entropy run, calibrated image by image; encoder and head are frozen:

        ẑ_j = σ(φ) (α_j z_j + β_j) + (1 − σ(φ)) z_j,  σ(φ) = sigmoid(v·φ + c),
        L = weighted mean of CE(ẑ, y),  w_j ∝ (1 / π_j)^ρ.

    α, β, v and c are learned on instance-sampled images. The code, and this one, has m = α − 1 as
    its parameter, which begins at 1."""

    title = "DisAlign (distribution alignment)"
    source = (
        "Zhang et al., Distribution Alignment: A Unified Framework for Long-tail Visual "
        "Recognition, CVPR 2021; official code Megvii-BaseDetection/DisAlign with "
        "cvpods (DisAlignLinear, GRWCrossEntropyLoss)"
    )
    deviations = (
        "The frozen encoder's batch norm and dropout are in evaluation mode; the official code "
        "freezes parameters only: bn=train.",
        "Learning rate and weight decay are those of crt here (.01 at batch 128, none); official: "
        ".1 at 256, .0005 (ImageNet-LT).",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    authors = {"lr": 0.1, "batch_size": 256, "weight_decay": 5e-4, "bn": "train"}
    starts_from = "ce"
    trains = "head"
    replayable = True
    calibrated: ClassVar[type[nn.Module]] = AlignedHead  # made around the run's linear head

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.HeadSettings):
        rho: Annotated[float, Uniform(0.0, 2.0)] = (
            1.2  # how strongly rare classes weigh; 0: all images alike, 1: all classes
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, rho=0)

    def build(self, encoder: Encoder) -> None:
        linear = nn.Linear(encoder.out_features, self.task.num_classes)
        self.model = Classifier(encoder, self.calibrated(linear))

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        head = cast(AlignedHead, self.model.head)  # or another around a frozen linear one
        head.linear.load_state_dict(linear_head(ancestor, self).state_dict())

    def loss(self, batch: Batch) -> Tensor:
        weights = generalised_weights(self.task.class_counts, self.settings.rho)
        return F.cross_entropy(self.model(batch.images), batch.labels, weight=weights)
