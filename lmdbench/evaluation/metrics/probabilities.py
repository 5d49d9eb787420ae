"""Probabilities of logits, and the bins of a calibration curve."""

from __future__ import annotations

import numpy as np

ECE_BINS = 15
# How far the rounded probabilities of an image may add up to other than 1, in floating point: to be
# taken for probabilities, and where they are said to be some
ROUNDED_SUM, SAID_SUM = 0.01 + 1e-9, 0.05 + 1e-9


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) float64 of logits (N, C).

    Logarithms of probabilities in float64, as imported predictions have them, give these
    themselves: divided by a sum that is 1 but for rounding, equal ones would differ.
    """
    given = given_as_logs(logits, ROUNDED_SUM)
    if given is not None:
        return given
    powers = logits.astype(np.float64)  # in place from here: of many classes it is large
    powers -= powers.max(axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def given_as_logs(logits: np.ndarray, off: float) -> np.ndarray | None:
    """The probabilities (N, C) that float64 logits are the logarithms of, if each row adds up to 1
    but for ``off``."""
    if logits.dtype != np.float64 or not logits.size or logits.max() > off:
        return None
    given = np.exp(logits)
    return given if np.abs(given.sum(axis=1) - 1).max() <= off else None


def unusable(logits: np.ndarray) -> int:
    """Images whose largest logit is not finite. −∞ rules a class out and is no harm."""
    return int((~np.isfinite(logits.max(axis=1))).sum())


def equal_mass_bins(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The bin, 0 to ``bins`` − 1, of each image (N,): ⌊bins · images of lower confidence / N⌋.

    Without ties the bins' sizes differ by one at most, wherever N leaves a remainder. Images of
    equal confidence share a bin, the one the first of them falls in, so a bin can be larger or
    empty; the order of the images changes nothing.
    """
    lower = np.searchsorted(np.sort(confidence), confidence, "left")
    return bins * lower // max(len(confidence), 1)
