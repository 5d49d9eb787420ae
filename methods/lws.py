"""Learnable weight scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import LogUniform
from lmdbench.methods.tau_norm import linear_head
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


class ScaledHead(nn.Module):
    """A frozen linear head with a learned scale of each class: logit_j = s_j (w_j·φ + b_j)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(linear.out_features))

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.scale * self.linear(features))


@register_method("lws")
class LearnableWeightScaling(Method):
    """A scale of each class's logit, learned on class-balanced batches; encoder and head are those
    of a cross-entropy run, frozen."""

    title = "Learnable weight scaling (LWS)"
    source = (
        "Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, "
        "ICLR 2020, section 4"
    )
    deviations = (
        "The frozen encoder's batch norm and dropout are in evaluation mode; the official code has "
        "them in training mode, so that batch statistics drift to the balanced batches: bn=train.",
        "The scale multiplies the bias too, as in the official code; the paper scales the weights.",
        "One image of a class at a time; the official ImageNet-LT recipe draws four in a row.",
        "Learning rate and weight decay are those of the benchmark's stage 1 (.01 at batch 128, "
        "none); the official ImageNet-LT recipe has .2 at batch 512 and .0005.",
        "The cosine schedule goes down step by step; the official code's epoch by epoch.",
    )
    authors = {"batch_size": 512, "lr": 0.2, "weight_decay": 5e-4, "bn": "train"}
    starts_from = "ce"
    trains = "head"
    sampler = "class-balanced"
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.HeadSettings):
        epochs: int = 5
        weight_decay: Annotated[float, LogUniform(1e-5, 1e-2)] = (
            0.0  # draws the scales to 0, not to 1
        )

    def build(self, encoder: Encoder) -> None:
        linear = nn.Linear(encoder.out_features, self.task.num_classes)
        self.model = Classifier(encoder, ScaledHead(linear))

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        head = linear_head(ancestor, self)
        cast(ScaledHead, self.model.head).linear.load_state_dict(head.state_dict())

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.model(batch.images), batch.labels)
