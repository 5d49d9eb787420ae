"""MARC: margin calibration."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lmdbench.methods.disalign import DisAlign
from lmdbench.training.method import register_method


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
class MarginCalibration(DisAlign):
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
        "Learning rate and weight decay are those of crt here (.01 at batch 128, none); official: "
        ".05 at 256, .0005 (ImageNet-LT).",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    authors = {"lr": 0.05, "batch_size": 256, "weight_decay": 5e-4, "bn": "train"}
    calibrated = MarginHead
