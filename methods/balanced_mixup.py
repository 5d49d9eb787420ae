"""Balanced-MixUp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from lmdbench.core.settings import Choice, at_least
from lmdbench.methods.mixup import draw_beta, mixed_cross_entropy
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


@register_method("balanced-mixup")
class BalancedMixup(Method):
    """Mixup of an instance-sampled batch (x, y) with a class-balanced one (x', y'):

        x̃ = (1 − λ) x + λ x',  L = (1 − λ) CE(f(x̃), y) + λ CE(f(x̃), y'),  λ ~ Beta(α, 1),

    with one λ for the batch. As α is small, so is λ, α / (α + 1) on average: the rare classes come
    in as a little of images that change from epoch to epoch, and are not learned by heart."""

    title = "Balanced-MixUp"
    source = (
        "Galdran et al., Balanced-MixUp for Highly Imbalanced Medical Image Classification, "
        "MICCAI 2021; the side that λ is on from the official code, "
        "agaldran/balanced_mixup, train_lt_mxp.py"
    )
    deviations = (
        "The balanced batch is drawn class by class in turn; the official code draws images at "
        "random, with probabilities that are equal for the classes.",
        "The benchmark's schedule; the official code divides the learning rate by 10 where "
        "validation stalls, and stops when a thousandth of it is left.",
    )
    needs_images = "it mixes images, and the encoder sees the mixture"
    authors = {"epochs": 30, "batch_size": 8, "momentum": 0.0}
    sampler = ("instance", "class-balanced")

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        # Range: the paper's experiments.
        alpha: Annotated[float, Choice(0.1, 0.2, 0.3)] = (
            0.1  # of Beta(α, 1): how much of the balanced batch comes in; 0 is cross-entropy
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, alpha=0)

    def loss(self, batches: tuple[Batch, Batch]) -> Tensor:
        (batch, balanced), alpha = batches, self.settings.alpha
        share = draw_beta(alpha, 1.0, self.task.streams.get("mixup")) if alpha > 0 else 0.0
        mixed = (1 - share) * batch.images + share * balanced.images
        return mixed_cross_entropy(self.model(mixed), balanced.labels, batch.labels, share)
