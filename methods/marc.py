"""MARC: margin calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.data.batches import Batch
from lmdbench.method import Method, register_method
from lmdbench.methods.disalign import generalised_weights
from lmdbench.methods.tau_norm import linear_head
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.settings import Uniform, at_least


class MarginHead(nn.Module):
    """A frozen linear head with a learned scale and shift of each class's margin:
    ω_j z_j + β_j ‖w_j‖, as the distance to class j's decision plane is z_j / ‖w_j‖."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.omega = nn.Parameter(torch.ones(linear.out_features))
        self.beta = nn.Parameter(torch.zeros(linear.out_features))

    def forward(self, features: Tensor) -> Tensor:
        return self.omega * self.linear(features) + self.beta * self.linear.weight.norm(dim=1)


@register_method("marc")
class MarginCalibration(Method):
    """The margins d_j = z_j / ‖w_j‖ of a cross-entropy run, scaled and shifted by class; encoder
    and head are frozen:

        ẑ_j = ‖w_j‖ (ω_j d_j + β_j) = ω_j z_j + β_j ‖w_j‖,
        L = weighted mean of CE(ẑ, y),  w_j ∝ (1 / π_j)^ρ.

    ω and β, 2 C numbers, are learned on instance-sampled images."""

    title = "MARC (margin calibration)"
    source = (
        "Wang et al., Margin Calibration for Long-Tailed Visual Recognition, ACML 2022; official "
        "code in microsoft/robustlearn, marc: MARCClassifier.py and GRWLoss.py"
    )
    deviations = (
        "The frozen encoder's batch norm and dropout are in evaluation mode; the official code has "
        "them in training mode: bn=train.",
        "The last epoch counts; the official code keeps the best one on validation.",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    authors = {"lr": 0.05, "batch_size": 256, "weight_decay": 5e-4, "bn": "train"}
    starts_from = "ce"
    trains = "head"
    replayable = True

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
        self.model = Classifier(encoder, MarginHead(linear))

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        head = cast(MarginHead, self.model.head)
        head.linear.load_state_dict(linear_head(ancestor, self).state_dict())

    def loss(self, batch: Batch) -> Tensor:
        weights = generalised_weights(self.task.class_counts, self.settings.rho)
        return F.cross_entropy(self.model(batch.images), batch.labels, weight=weights)
