"""Bilateral-branch network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.methods.mixup import mixed_cross_entropy
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.models.normalisation import Affine
from lmdbench.models.parts import parts_of
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


class ReversedSampler:
    """Classes with probability ∝ 1/n_j, then an image of the class, with replacement."""

    def __init__(self, labels: Tensor) -> None:
        counts = torch.bincount(labels).double()[labels]
        self._weights = 1 / counts**2

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self._weights.multinomial(n, replacement=True, generator=generator)


def last_block(network: nn.Module) -> Sequence[nn.Module]:
    """The last block, and what comes after it: a ResNet's last residual block, a last convolution
    with its batch norm, or, where only the patches come by a convolution, a transformer's last one.
    """
    found = last_convolution(network)
    of_found = {id(module) for one in found for module in one.modules()}
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    if id(first) not in of_found:
        return found
    parts = parts_of(network)
    after = sorted({name.rpartition(".")[0] for name in parts.rest})
    return [network.get_submodule(name) for name in (list(parts.blocks)[-1], *after)]


def last_convolution(network: nn.Module) -> Sequence[nn.Module]:
    """The last block that convolves, and what comes after it. Children are taken to be in the order
    in which they act."""
    children = [m for m in network.children() if not isinstance(m, Affine)]
    convolving = [any(isinstance(m, nn.Conv2d) for m in child.modules()) for child in children]
    if not any(convolving):
        raise UserError(
            f"bbn doubles an encoder's last convolution, and a {type(network).__name__} has none: "
            "choose another --backbone"
        )
    place = len(children) - 1 - convolving[::-1].index(True)
    after = children[place + 1 :]
    if isinstance(children[place], nn.Sequential):
        return [*last_convolution(children[place]), *after]
    return [children[place], *after]


def with_own_last_block(encoder: Encoder) -> Encoder:
    """A second encoder that shares all modules with the first but its last block, which it has a
    copy of."""
    block = last_block(encoder.body)
    own = {id(one) for m in block for one in (*m.modules(), *m.parameters())}
    shared = [m for m in encoder.modules() if own.isdisjoint(id(part) for part in m.modules())]
    kept = [*shared, *(p for p in encoder.parameters() if id(p) not in own)]
    return copy.deepcopy(encoder, {id(one): one for one in kept})


class TwoBranches(nn.Module):
    """Images (B, 3, H, W) to the features of both branches, one behind the other: (B, 2 D)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.conventional = encoder
        self.rebalancing = with_own_last_block(encoder)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.conventional(images), self.rebalancing(images)], dim=1)


def mixed_features(conventional: Tensor, rebalancing: Tensor, alpha: float) -> Tensor:
    """2 (α f_c, (1 − α) f_r), (B, 2 D); at α = ½ the features as they are."""
    return 2 * torch.cat([alpha * conventional, (1 - alpha) * rebalancing], dim=1)


@register_method("bbn")
class BBN(Method):
    """Two branches that share all of the encoder but its last block. One sees instance-sampled
    images (x_c, y_c), the other one images of classes drawn as 1/n_j (x_r, y_r), and one linear
    head both of their features. The weight moves from the first branch to the second (cumulative
    learning):

        z = W · 2 (α f_c, (1 − α) f_r) + b,  L = α CE(z, y_c) + (1 − α) CE(z, y_r),
        α = 1 − (T/T_max)².

    At test both branches see the image, with α = ½."""

    title = "Bilateral-branch network (BBN)"
    version = 2
    source = (
        "Zhou et al., BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed "
        "Visual Recognition, CVPR 2020; factor 2, one bias and branches from the official code, "
        "megvii-research/BBN, lib/core/combiner.py and lib/net/network.py"
    )
    deviations = (
        "α goes down step by step; the official code's epoch by epoch, and of 90 or 180 epochs "
        "it counts 100 or 200.",
        "The branches begin with the same weights, pretrained ones where there are any; in the "
        "official code they begin at random.",
        "Where the network does not end in a residual block, a branch is the last convolution with "
        "its batch norm (EfficientNet-Lite: the 1×1 one); of a transformer the last block with the "
        "norm behind it.",
        "The recipe is the benchmark's stage 1 with a warm-up in steps of a fifth; official "
        "(CIFAR): .1 at batch 128, 200 epochs, weight decay .0002, Nesterov momentum, a rate that "
        "rises from .47 of it over the first five epochs, and times .01 after 120 and 160 epochs.",
        "The last, incomplete batch of an epoch is used; the official code drops it.",
    )
    needs_images = "its branches train the end of the encoder"
    authors = {"epochs": 200, "lr": 0.1, "weight_decay": 2e-4}
    sampler = ("instance", ReversedSampler)
    passes = (2, 2)
    Settings = Method.WarmupSettings

    def build(self, encoder: Encoder) -> None:
        width = 2 * encoder.out_features
        head = nn.Linear(width, self.task.num_classes)
        self.model = Classifier(Encoder(TwoBranches(encoder), width), head)

    def loss(self, batches: tuple[Batch, Batch]) -> Tensor:
        batch, reverse = batches
        alpha = 1 - self.progress**2
        branches = cast(TwoBranches, self.model.encoder.body)
        f_c, f_r = branches.conventional(batch.images), branches.rebalancing(reverse.images)
        logits = self.model.logits(mixed_features(f_c, f_r, alpha))
        return mixed_cross_entropy(logits, batch.labels, reverse.labels, alpha)
