"""An encoder with a head: what every backbone becomes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """A backbone without its classifier: images (B, 3, H, W) to features (B, ``out_features``).

    ``body`` is the network itself with its classifier replaced by the identity; a ResNet's stages
    are ``body.layer1`` … ``body.layer4``.
    """

    def __init__(self, body: nn.Module, out_features: int) -> None:
        super().__init__()
        self.body = body
        self.out_features = out_features

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images)
        return features.flatten(1) if features.ndim == 4 else features  # of (B, D, 1, 1)


class FrozenEncoder(Encoder):
    """An encoder that stays as it is, batch norm's statistics included. Features (B, D) computed
    before pass through, so that they can take the place of images."""

    def __init__(self, body: nn.Module, out_features: int) -> None:
        super().__init__(body, out_features)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim == 2:
            return images
        with torch.no_grad():
            return super().forward(images)

    def train(self, mode: bool = True) -> FrozenEncoder:  # noqa: ARG002
        return super().train(False)


class Classifier(nn.Module):
    """``head(encoder(images))``: images (B, 3, H, W) to logits (B, C)."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.encoder(images))

    def logits(self, features: Tensor) -> Tensor:
        """The head in its own precision, outside autocast: logits of eight bits would tie."""
        with torch.autocast(features.device.type, enabled=False):
            return cast(
                Tensor, self.head(features.to(next(self.head.parameters(), features).dtype))
            )
