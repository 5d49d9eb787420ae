"""Gaussian clouded logits: the first stage of GCL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Uniform, above, at_least
from lmdbench.methods.ldam_drw import CosineHead
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def cloud_sizes(class_counts: Tensor) -> Tensor:
    """δ_j ∝ log n_max − log n_j, from 0 for the largest class to 1 for the rarest: (C,)."""
    spread = class_counts.max().log() - class_counts.log()
    return spread / spread.max().clamp(min=torch.finfo(spread.dtype).tiny)


def half_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """|ε| with ε from N(0, 1/3²), cut off at 1; one for each number of ``like``."""
    noise = torch.randn(like.shape, generator=generator, device=generator.device)
    return (noise / 3).abs().clamp(max=1).to(like.dtype)


@register_method("gcl-stage1")
class GaussianCloudedLogits(Method):
    """Cross-entropy of scaled cosines, each lowered by chance and the more the rarer its class:

        L = CE(s (cos θ_j − a δ_j |ε_j|), y),  δ_j ∝ log n_max − log n_j,  ε ~ N(0, 1/3²),

    with a new ε for each image and class and max δ = 1. Rare classes stay unsaturated longer and
    take more room among the features. The first stage of `gcl`, and a classifier of its own."""

    title = "GCL, first stage (Gaussian clouded logits)"
    version = 3
    source = (
        "Li et al., Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment, CVPR "
        "2022; official code Keke921/GCLLoss, losses.py and cifar_train_backbone.py"
    )
    deviations = (
        "No mixup, for the same augmentation as every other method; the official recipe mixes "
        "images (α = 1) in both stages.",
        "After the warm-up the benchmark's learning rate and schedule; official: a tenth after 160 "
        "of 200 epochs and a hundredth after 180.",
    )
    authors = {"epochs": 200, "batch_size": 64, "lr": 0.1, "weight_decay": 2e-4}
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.WarmupSettings):
        cloud: Annotated[float, Uniform(0.0, 1.0)] = (
            0.5  # a, the size of the rarest class's cloud; 0 is cross-entropy of scaled cosines
        )
        scale: float = 30.0  # s, of the cosines

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, cloud=0)
            above(self, scale=0)

    def build(self, encoder: Encoder) -> None:
        head = CosineHead(encoder.out_features, self.task.num_classes, self.settings.scale)
        self.model = Classifier(encoder, head)

    def clouded(self, logits: Tensor) -> Tensor:
        """Logits s cos θ (B, C), lowered."""
        s = self.settings
        noise = half_normal(logits, self.task.streams.get("cloud", on_device=True))
        return logits - s.scale * s.cloud * cloud_sizes(self.task.class_counts) * noise

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.clouded(self.model(batch.images)), batch.labels)
