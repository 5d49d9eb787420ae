"""Losses scaled for float16, in which small gradients would be zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class LossScaler(torch.amp.GradScaler):
    """torch's, with its tensors there from the beginning, as steps that are replayed need them.

    In other precisions than float16 it leaves losses and updates as they are.
    """

    def __init__(self, device: torch.device, precision: torch.dtype | None) -> None:
        super().__init__(device.type, enabled=precision is torch.float16)
        if self.is_enabled():
            self.scale(torch.ones((), device=device))

    def tensors(self) -> list[Tensor]:
        """What it changes, in place: the scale, and for how many updates that has held."""
        if not self.is_enabled():
            return []
        return [t for t in (self._scale, self._growth_tracker) if t is not None]

    def unscaled(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of a scaled loss as those of the loss itself."""
        if not self.is_enabled():
            return list(gradients)
        scale = self.scale(torch.ones((), device=gradients[0].device))
        return [gradient / scale for gradient in gradients]
