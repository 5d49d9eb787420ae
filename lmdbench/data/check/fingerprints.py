"""Perceptual hashes: what a picture looks like in 64 numbers, for all turns and small crops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.data.check.registration import orient

SIDE = 64  # pixels of the pictures
COEFFICIENTS = 8  # a side
ORIENTATIONS = 8  # see ``registration.orient``
# What may be cut off at the two ends of a side, in all combinations of rows and columns.
CUTS = ((0.0, 0.0), (0.05, 0.05), (0.1, 0.1), (0.07, 0.0), (0.0, 0.07))
WINDOWS = tuple(product(CUTS, CUTS))  # rows, columns; the first is the whole picture


def fingerprints(pictures: Tensor) -> Tensor:
    """Unit vectors (N, W, 64) of pictures (N, 64, 64), one a window: the lowest cosine coefficients
    of the window, weighted by their frequency so that fine and coarse count alike; the mean is
    left out."""
    bases = torch.stack([_basis(cut) for cut in CUTS])
    rows = torch.einsum("akn,bnm->bakm", bases, pictures)
    found = torch.einsum("clm,bakm->backl", bases, rows).flatten(1, 2)
    steps = torch.arange(COEFFICIENTS, dtype=pictures.dtype)
    weighted = (found * (steps[:, None] + steps)).flatten(2)
    return weighted / weighted.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def turned(prints: Tensor) -> Tensor:
    """Fingerprints of the turned pictures, (8, …, 64) by orientation; windows turn with them."""
    square = prints.unflatten(-1, (COEFFICIENTS, COEFFICIENTS))
    signs = (-1.0) ** torch.arange(COEFFICIENTS)
    found = []
    for orientation in range(ORIENTATIONS):
        one = square.transpose(-1, -2) if orientation & 4 else square
        one = one * signs[:, None] if orientation & 2 else one
        found.append(one * signs if orientation & 1 else one)
    return torch.stack(found).flatten(-2)


def likeness(first: Tensor, second: Tensor) -> Tensor:
    """The best cosine (A, B) of fingerprints (A, W, 64) and (B, W, 64) over all turns, and all
    windows of either picture against the whole of the other."""
    best = torch.full((len(first), len(second)), -1.0)
    for one in turned(second):
        for window in range(first.shape[1]):
            torch.maximum(best, first[:, window] @ one[:, 0].T, out=best)
            if window:
                torch.maximum(best, first[:, 0] @ one[:, window].T, out=best)
    return best


def best_fit(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """For pairs of fingerprints (P, W, 64): the orientation (P,) that makes the second picture like
    the first, and a placement (P, 4) to begin registration with."""
    one = turned(second)
    inside_first = torch.einsum("pwk,opk->pow", first, one[:, :, 0])
    inside_second = torch.einsum("pk,opwk->pow", first[:, 0], one)
    best = torch.cat([inside_first, inside_second], dim=2).flatten(1).argmax(dim=1)
    return best // (2 * len(WINDOWS)), PLACEMENTS[best]


def hash_bits(pictures: np.ndarray) -> np.ndarray:
    """The perceptual hash (N, 64) bool of pictures (N, 32, 32): which of the lowest cosine
    coefficients are above their median (pHash, as the ImageHash library computes it)."""
    from scipy.fft import dct

    coefficients = dct(dct(pictures, axis=1), axis=2)[:, :COEFFICIENTS, :COEFFICIENTS]
    flat = coefficients.reshape(len(pictures), -1)
    bits: np.ndarray = flat > np.median(flat, axis=1, keepdims=True)
    return bits


def turned_bits(pictures: Tensor) -> np.ndarray:
    """The perceptual hashes (8, N, 64) bool of pictures (N, 64, 64) in their eight turns."""
    small = F.avg_pool2d(pictures[:, None], 2)[:, 0]
    every = range(ORIENTATIONS)
    turns = (orient(small, torch.full((len(small),), turn)) for turn in every)
    return np.stack([hash_bits(turn.numpy()) for turn in turns])


def _basis(cut: Sequence[float]) -> Tensor:
    """Cosines (8, 64) over what a cut leaves of a side; pixels that it divides count in part."""
    low, high = cut[0] * SIDE, (1 - cut[1]) * SIDE
    edges = np.arange(SIDE + 1).clip(low, high)
    middle, weight = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    waves = np.cos(np.pi * np.arange(COEFFICIENTS)[:, None] * (middle - low) / (high - low))
    return torch.tensor(waves * weight / (high - low), dtype=torch.float32)


def _placement(orientation: int, in_second: bool, window: int) -> list[float]:
    """Where the first picture lies in the turned second one, if a window of one is all of the
    other."""
    (top, bottom), (left, right) = WINDOWS[window]
    y, x = (-1 + 2 * top, 1 - 2 * bottom), (-1 + 2 * left, 1 - 2 * right)
    if in_second:  # its window turns with it
        if orientation & 4:
            y, x = x, y
        if orientation & 2:
            y = (-y[1], -y[0])
        if orientation & 1:
            x = (-x[1], -x[0])
    placement = []
    for low, high in (y, x):
        centre, half = (low + high) / 2, (high - low) / 2
        placement += [half, centre] if in_second else [1 / half, -centre / half]
    return placement


# In the order in which ``best_fit`` finds them: orientation, which picture has the window, window.
PLACEMENTS = torch.tensor(
    [
        _placement(orientation, in_second, window)
        for orientation in range(ORIENTATIONS)
        for in_second in (False, True)
        for window in range(len(WINDOWS))
    ]
)
