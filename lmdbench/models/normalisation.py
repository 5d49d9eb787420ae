"""Images normalised in another way than they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lmdbench.training.views.augmentation import IMAGENET_MEAN, IMAGENET_STD

NAME = "renormalise"  # of the module that a network gets


class Affine(nn.Module):
    """x · scale + shift."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale)


def renormalise(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Have a network take images (B, 3, H, W) that are normalised as ImageNet's, though it works on
    such as are normalised by ``mean`` and ``std``. Its state stays as it is."""
    if (*mean, *std) == (*IMAGENET_MEAN, *IMAGENET_STD):
        return
    theirs_mean, theirs_std = torch.tensor(mean), torch.tensor(std)
    ours_mean, ours_std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    scale, shift = ours_std / theirs_std, (ours_mean - theirs_mean) / theirs_std
    network.add_module(NAME, Affine(scale.view(3, 1, 1), shift.view(3, 1, 1)))
    network.register_forward_pre_hook(_before)


def _before(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    images, *others = inputs
    return network.get_submodule(NAME)(images), *others
