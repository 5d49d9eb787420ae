"""Ends of intervals that a metric can have: pure functions on arrays of any one shape."""

from __future__ import annotations

import math

import numpy as np


def ends(
    value: np.ndarray | float,
    se: np.ndarray | float,
    quantile: np.ndarray | float,
    bounds: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of intervals of a metric with ``bounds``, one of which may be infinite.

    They are ``value`` ± ``quantile`` · ``se`` where these lie within the bounds. An end that would
    reach a bound is that of Wilson's interval, which reaches it only with the value: what is right
    for 3 images of 12 is not right for none. The other end is the farther of the two intervals.
    Where the other bound is infinite, the logarithm takes Wilson's place. NaN stays NaN.
    """
    given = np.broadcast_arrays(*np.atleast_1d(value, se, quantile))
    middle, spread, factor = (np.asarray(one, float) for one in given)
    half = factor * spread
    low, high = middle - half, middle + half
    least, most = bounds
    passed = ((low <= least) | (high >= most)) & (half > 0)
    if not passed.any():
        return low, high
    middle, spread, factor, half = (one[passed] for one in (middle, spread, factor, half))
    if math.isinf(most):
        low[passed] = least + _shrunk(middle - least, half)
    elif math.isinf(least):
        high[passed] = most - _shrunk(most - middle, half)
    else:
        width = most - least
        share = np.clip((middle - least) / width, 0, 1)
        by_wilson = wilson(share, outcomes(share, spread / width), factor)
        inner_low, inner_high = (least + width * end for end in by_wilson)
        plain_low, plain_high = low[passed], high[passed]
        farther_low, farther_high = (
            np.minimum(plain_low, inner_low),
            np.maximum(plain_high, inner_high),
        )
        low[passed] = np.where(plain_low <= least, inner_low, farther_low)
        high[passed] = np.where(plain_high >= most, inner_high, farther_high)
    return low, high


def _shrunk(distance: np.ndarray, half: np.ndarray) -> np.ndarray:
    """What is left of a distance from a bound, ``half`` farther down as the logarithm has it."""
    return distance * np.exp(-half / np.maximum(distance, 1e-300))


def wilson(
    share: np.ndarray | float, n: np.ndarray | float, quantile: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's (1927) interval of a share of ``n`` outcomes."""
    share, squared = np.asarray(share, float), np.asarray(quantile, float) ** 2 / n
    centre = (share + squared / 2) / (1 + squared)
    half = quantile * np.sqrt(share * (1 - share) / n + squared / (4 * n)) / (1 + squared)
    low = np.where(share > 0, np.maximum(centre - half, 0), 0.0)
    return low, np.where(share < 1, np.minimum(centre + half, 1), 1.0)


def outcomes(share: np.ndarray | float, se: np.ndarray | float) -> np.ndarray:
    """Of how many outcomes n a share has this standard error, √(p (1 − p) / n) with p by Laplace's
    rule, (n · share + 1) / (n + 2)."""
    share, se = np.asarray(share, float), np.asarray(se, float)
    low, high = np.full(np.shape(se), math.log(1e-9)), np.full(np.shape(se), math.log(1e15))
    for _ in range(60):
        middle = (low + high) / 2
        n = np.exp(middle)
        too_few = (n * share + 1) * (n * (1 - share) + 1) > se**2 * n * (n + 2) ** 2
        low, high = np.where(too_few, middle, low), np.where(too_few, high, middle)
    return np.exp((low + high) / 2)
