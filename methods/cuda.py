"""CUDA: curriculum of data augmentation."""

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
from lmdbench.training.views.operations import MOST


def at_levels(raw: Raw, levels: Tensor) -> Raw:
    """The batch with the images of its one view, ``levels``, at these levels (B,) float."""
    ((*numbers, _),) = raw.numbers
    return dataclasses.replace(raw, numbers=((*numbers, levels),))


def next_levels(levels: Tensor, rates: Tensor, threshold: float) -> Tensor:
    """ℓ + 1 of each class of which at every s = 0 … ℓ a share of more than the threshold is right,
    ℓ − 1 of the others; within 0 … 10. levels (C,) int64, rates (C, 11)."""
    tried = torch.arange(MOST + 1, device=levels.device) <= levels[:, None]
    passed = ((rates > threshold) | ~tried).all(dim=1)
    return (levels + torch.where(passed, 1, -1)).clamp(0, MOST)


@register_method("cuda")
class CUDA(Method):
    """Each class has a level ℓ_c of augmentation, 0 at first. With a probability of p an image gets
    ℓ_c operations, each drawn anew from 22, at ℓ_c/30 of the range of its magnitude. Before each
    epoch the network is tried on each class at all strengths so far:

        ℓ_c ← ℓ_c + 1 where of 10 (s + 1) of its images at strength s more than a share γ is right,
        for every s = 0 … ℓ_c;  else ℓ_c − 1;  within 0 … 10.

    What the network has learned well is made harder, class by class. With the loss of `ce` or of
    `balanced-softmax`."""

    title = "CUDA: curriculum of data augmentation"
    source = (
        "Ahn et al., CUDA: Curriculum of Data Augmentation for Long-tailed Recognition, ICLR 2023; "
        "operations and ranges as in the official code sumyeongahn/CUDA_LTR, aug/cuda.py"
    )
    deviations = (
        "Of the 22 operations the six that zoom, turn, shear or translate are bilinear (official: "
        "nearest, the zoom Lanczos), and the blur is a Gaussian (official: three boxes); the "
        "others are Pillow's, to a level of 255.",
        "Translations go up to 100/32 of the image's side, which are the official 100 px on images "
        "of 32; no other range depends on the size.",
        "As in the official code, posterising leaves 1 bit at every level, solarising inverts "
        "nearly all at level 1, and colour, contrast, brightness and sharpness are harshest there.",
        "Flips in both directions come before; official: crop and horizontal flip, and in its "
        "command for CIFAR-100-LT cutout after the operations.",
        "The benchmark's recipe and two losses; official: seven losses, and after a warm-up the "
        "learning rate times .01 after 160 and once more after 180 of 200 epochs.",
    )
    needs_images = "its augmentation changes while it trains"
    authors = {"epochs": 200, "lr": 0.1, "weight_decay": 2e-4, "warmup": 0.025}
    views = ("levels",)
    scaffolding = ("levels",)
    passes = (1, 1)  # but for the trials
    replayable = True
    levels: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        loss: Literal["ce", "balanced-softmax"] = "ce"  # of the method that is augmented
        probability: float = 0.5  # p, that an image is augmented to its level
        threshold: float = 0.6  # γ, share of a class's trials to be right at each strength
        trials: int = 10  # images of a class at strength 0, twice that at 1 …; 0: levels stay
        level: int = 0  # ℓ_c at first

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, probability=0, threshold=0, trials=0, level=0)
            at_most(self, probability=1, threshold=1, level=MOST)

    def build(self, encoder: Encoder) -> None:
        super().build(encoder)
        levels = torch.full((self.task.num_classes,), self.settings.level)
        self.register_buffer("levels", levels)

    def prepared(self, raw: Raw) -> Raw:
        generator = self.task.streams.get("augmented", on_device=True)
        numbers = torch.rand(len(raw), generator=generator, device=self.task.device)
        augmented = numbers < self.settings.probability
        return at_levels(raw, self.levels[raw.labels] * augmented.float())

    def loss(self, batch: Batch) -> Tensor:
        logits = self.model(batch.images)
        if self.settings.loss == "ce":
            return F.cross_entropy(logits, batch.labels)
        return balanced_softmax_loss(logits, batch.labels, self.task.class_counts)

    def epoch(self, number: int) -> dict[str, float]:
        if self.settings.trials:
            self.levels.copy_(next_levels(self.levels, self.rates(), self.settings.threshold))
        logs = super().epoch(number)
        return {**logs, "mean_level": self.levels.double().mean().item()}

    def trials(self) -> tuple[Tensor, Tensor]:
        """Positions (n,) of images drawn of each class, with replacement, and their strengths."""
        generator = self.task.streams.get("trials")
        positions, strengths = [], []
        for c, level in enumerate(self.levels.tolist()):
            own = (self.task.train.host_labels == c).nonzero().flatten()
            for s in range(level + 1 if len(own) else 0):
                n = self.settings.trials * (s + 1)
                positions.append(own[torch.randint(len(own), (n,), generator=generator)])
                strengths.append(torch.full((n,), s))
        return torch.cat(positions), torch.cat(strengths)

    @torch.no_grad()
    def rates(self) -> Tensor:
        """Share of the trials that is right, of each class and strength, 0 where there are none:
        (C, 11) float64. In eval mode."""
        task, train, size = self.task, self.task.train, self.evaluation_batch_size
        positions, strengths = self.trials()
        generator = task.streams.get("views of trials", on_device=True)
        places = strengths + (MOST + 1) * train.host_labels[positions]
        right = []
        was_training = self.training
        self.eval()
        batches = train.fetch(iter([part] for part in positions.split(size)))
        with task.execution.eagerly(), task.autocast():
            for ((drawn,), (pixels,)), levels in zip(batches, strengths.split(size), strict=True):
                raw = train.raw(drawn, pixels, self.views, generator)
                batch = at_levels(raw, levels.to(task.device).float()).batch(self.views)
                right.append(self.model(batch.images).argmax(dim=1) == batch.labels)
        self.train(was_training)
        length = (MOST + 1) * task.num_classes
        tried = torch.bincount(places, minlength=length)
        hits = torch.bincount(places[torch.cat(right).cpu()], minlength=length)
        return (hits.double() / tried.clamp(min=1)).unflatten(0, (-1, MOST + 1)).to(task.device)
