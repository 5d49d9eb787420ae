"""Class-conditional SAM: the second stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmdbench.core.settings import Uniform, at_least, at_most
from lmdbench.methods.cc_sam_stage1 import TINY
from lmdbench.methods.tau_norm import linear_head
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def rarity_weights(class_counts: Tensor) -> Tensor:
    """w_c = ½ log(n_max/n_c + .01), (C,): .005 for the largest class."""
    return (class_counts.max() / class_counts + 0.01).log() / 2


def adversarial_shift(
    logits: Tensor, labels: Tensor, weight: Tensor, class_weights: Tensor
) -> Tensor:
    """δ_i = w_c G_i/‖G_c‖ for the features of each image i of class c: (B, D), without gradient.

    G_i is the gradient of the image's loss by its features, and ‖G_c‖ that of all of the batch's
    images of the class together. logits (B, C), labels (B,) int64, weight (C, D) of the head.
    """
    slopes = logits.detach().softmax(dim=1) - F.one_hot(labels, logits.shape[1])
    gradient = slopes @ weight.detach()
    of_class = (labels[:, None] == labels).to(gradient.dtype)
    norm = (of_class @ gradient.square().sum(dim=1, keepdim=True)).sqrt()
    return class_weights[labels, None] * gradient / norm.clamp(min=TINY)


@register_method("cc-sam")
class ClassConditionalSAM(Method):
    """The head of `cc-sam-stage1`, trained on with the encoder frozen on class-balanced batches,
    also on features moved to where the loss of their class is higher, the further and the more
    heavily weighted the rarer the class c:

        L = a mean w_c CE(W(φ_i + δ_i) + b, y_i) + (1 − a) mean CE(W φ_i + b, y_i),
        δ = w_c G/‖G‖_F,  G = ∂ mean_{y_i = c} CE/∂φ,  w_c = ½ log(n_max/n_c + .01),
        a = min((e + 1)/E, a_max) in epoch e = 0 … E − 1."""

    title = "Class-conditional SAM (CC-SAM, as released)"
    source = (
        "Zhou et al., Class-Conditional Sharpness-Aware Minimization for Deep Long-Tailed "
        "Recognition, CVPR 2023; as in the official code zzpustc/CC-SAM, train_cifar.py"
    )
    deviations = (
        "The frozen encoder's batch norm and dropout are in evaluation mode; the official code has "
        "them in training mode, so that batch statistics drift to the balanced batches: bn=train.",
        "The second stage has the benchmark's 10 epochs and cosine schedule; official (CIFAR): the "
        "last 30 of 230 epochs at a constant rate.",
        "a_max is that of CIFAR-100-LT; official for CIFAR-10-LT: 1.",
        "What the authors ran for ImageNet-LT, Places-LT and, in other papers, for medical images "
        "isn't released.",
    )
    starts_from = "cc-sam-stage1"
    trains = "head"
    sampler = "class-balanced"
    replayable = True
    accumulates = True
    authors = {
        "epochs": 30,
        "batch_size": 64,
        "weight_decay": 2e-4,
        "schedule": "constant",
        "bn": "train",
    }
    adversarial: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.HeadSettings):
        most: Annotated[float, Uniform(0.0, 1.0)] = (
            0.3  # a_max, share of the moved features' loss at most; 0: cross-entropy alone
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, most=0)
            at_most(self, most=1)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        self.register_buffer("adversarial", torch.zeros(()), persistent=False)

    def start(self, ancestor: Method) -> None:
        super().start(ancestor)
        self.model.head.load_state_dict(linear_head(ancestor, self).state_dict())

    def epoch(self, number: int) -> dict[str, float]:
        self.adversarial.fill_(min((number + 1) / self.epochs, self.settings.most))
        return super().epoch(number)

    def loss(self, batch: Batch) -> Tensor:
        head, labels = cast(nn.Linear, self.model.head), batch.labels
        features = self.model.encoder(batch.images).to(head.weight.dtype)
        logits = self.model.logits(features)
        weights = rarity_weights(self.task.class_counts)
        shift = adversarial_shift(logits, labels, head.weight, weights)
        moved = F.cross_entropy(self.model.logits(features + shift), labels, reduction="none")
        share = self.adversarial
        plain = F.cross_entropy(logits, labels)
        return share * (weights[labels] * moved).mean() + (1 - share) * plain
