"""DODA: dynamic optional data augmentation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import at_least, at_most
from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.models.classifier import Encoder
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch, Raw
from lmdbench.training.views.operations import NONE, Operation

OPERATIONS = (
    *(Operation.FLIP, Operation.MIRROR, Operation.EDGE_ENHANCE, Operation.DETAIL, Operation.SMOOTH),
    *(Operation.AUTOCONTRAST, Operation.EQUALISE, Operation.INVERT),
    *(Operation.BLUR, Operation.ROTATE),
)


def draw_operations(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Of each class one operation, as its place, at a rate of its weight: (C,) int64.

    weights (C, 10) on the CPU.
    """
    reached = weights.cumsum(dim=1)
    numbers = torch.rand(len(weights), 1, generator=generator, dtype=torch.float64)
    return (reached <= numbers * reached[:, -1:]).sum(dim=1)


def next_weights(weights: Tensor, chosen: Tensor, hits: Tensor, earlier: Tensor) -> Tensor:
    """The chosen operation's weight + 1 where more images of the class were right than earlier, − 1
    where fewer were; at least 1: (C, 10).

    weights (C, 10), chosen, hits and earlier (C,), all int64.
    """
    change = (hits - earlier).sign()
    return weights.scatter_add(1, chosen[:, None], change[:, None]).clamp(min=1)


@register_method("doda")
class DODA(Method):
    """Each class has weights w of ten operations, all 1 at first. In each epoch one operation is
    drawn for it, at a rate of its weight, and made of half of its images, at a magnitude drawn
    anew. After the epoch, of that operation,

        w ← w + 1 where more training images of the class were right than in the epoch before,
        w ← max(1, w − 1) where fewer were.

    So each class comes to the augmentation that helps it. With the loss of `ce` or of
    `balanced-softmax`."""

    title = "DODA: dynamic optional data augmentation"
    source = (
        "Wang et al., Kill Two Birds with One Stone: Rethinking Data Augmentation for Deep "
        "Long-tailed Learning, ICLR 2024; as in the official code pongkun/Code-for-DODA, "
        "aug/doda.py, datasets/cifar100.py and train/train_fn/base.py, settings of run.sh "
        "(CIFAR-100-LT)"
    )
    deviations = (
        "Weights change after an eighth of the epochs; official: after 50, of 400.",
        "Flips in both directions come before; official: crop, horizontal flip and AutoAugment, "
        "and cutout after the operation.",
        "Turns are bilinear (official: nearest), and the blur is a Gaussian (official: three "
        "boxes).",
        "The benchmark's recipe and two losses; official: also LDAM, deferred weights and BCL, and "
        "a learning rate that rises over 5 epochs and falls in steps of .01.",
        "The last epoch's network; the official code keeps the best one on its test images. It "
        "swings with the operations of that epoch, the more the fewer there are: on `demo`, seed "
        "0, balanced accuracy is 27 % after 20 epochs and 39 % after 60.",
    )
    needs_images = "its augmentation changes while it trains"
    authors = {
        "loss": "balanced-softmax",
        "epochs": 400,
        "batch_size": 256,
        "lr": 0.1,
        "weight_decay": 2e-4,
        "warmup": 0.0125,
    }
    views = ("operation",)
    scaffolding = ("weights", "earlier")
    replayable = True
    accumulates = True
    weights: Tensor
    earlier: Tensor
    hits: Tensor
    chosen: Tensor
    operations: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        loss: Literal["ce", "balanced-softmax"] = "ce"  # of the method that is augmented
        probability: float = 0.5  # that an image has its class's operation made of it
        kept: float = 0.125  # share of the epochs in which weights stay; 1: they all stay

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, probability=0, kept=0)
            at_most(self, probability=1, kept=1)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        C = self.task.num_classes
        self.register_buffer("weights", torch.ones(C, len(OPERATIONS), dtype=torch.long))
        self.register_buffer("earlier", torch.zeros(C, dtype=torch.long))  # right in the last epoch
        for of_epoch in ("hits", "chosen"):
            self.register_buffer(of_epoch, torch.zeros(C, dtype=torch.long), persistent=False)
        self.register_buffer("operations", torch.tensor(OPERATIONS), persistent=False)

    def epoch(self, number: int) -> dict[str, float]:
        generator = self.task.streams.get("operations")
        self.chosen.copy_(draw_operations(self.weights.cpu(), generator))
        self.hits.zero_()
        logs = super().epoch(number)
        if number > self.settings.kept * self.epochs:
            self.weights.copy_(next_weights(self.weights, self.chosen, self.hits, self.earlier))
        self.earlier.copy_(self.hits)
        return logs

    def prepared(self, raw: Raw) -> Raw:
        generator = self.task.streams.get("augmented", on_device=True)
        numbers = torch.rand(len(raw), generator=generator, device=self.task.device)
        own = self.operations[self.chosen[raw.labels]]
        told = torch.where(numbers < self.settings.probability, own, NONE)
        ((*drawn, _),) = raw.numbers
        return dataclasses.replace(raw, numbers=((*drawn, told),))

    def loss(self, batch: Batch) -> Tensor:
        """Also counts which images of each class are right."""
        logits = self.model(batch.images)
        right = logits.argmax(dim=1) == batch.labels
        self.hits += (F.one_hot(batch.labels, len(self.hits)) * right[:, None]).sum(dim=0)
        if self.settings.loss == "ce":
            return F.cross_entropy(logits, batch.labels)
        return balanced_softmax_loss(logits, batch.labels, self.task.class_counts)
