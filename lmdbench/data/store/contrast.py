"""Prepared images that show next to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = 20  # of 256: what is within fewer is nearly constant
SHARE = 0.99  # of an image's pixels that are looked at, without the darkest and the lightest
SIDE = 64  # pixels of a side that are enough to tell


def nearly_constant(pixels: np.ndarray, rows: Sequence[int]) -> list[int]:
    """Those of the rows of ``pixels`` (M, 3, S, S) uint8 whose every colour stays, but for a
    hundredth of the pixels, within fewer than ``LEVELS`` grey levels.

    So do blank pictures, and those of 12 bits that were taken for 16.
    """
    step = max(1, pixels.shape[-1] // SIDE)
    return [row for row in rows if _levels(pixels[row, :, ::step, ::step]) < LEVELS]


def _levels(image: np.ndarray) -> int:
    """The grey levels that most pixels of the most varied colour (3, H, W) lie within."""
    return max(map(_span, image))


def _span(values: np.ndarray) -> int:
    below = np.cumsum(np.bincount(values.ravel(), minlength=256))
    low, high = np.searchsorted(below, below[-1] * np.array([(1 - SHARE) / 2, (1 + SHARE) / 2]))
    return int(high - low + 1)
