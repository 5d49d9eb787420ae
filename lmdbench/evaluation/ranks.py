"""Ranks of methods across data sets: pure functions on arrays, the protocol of docs/statistics.md.

``scores`` (K, M): settings × methods, larger is better. What can't be said is NaN.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

NEMENYI_FROM = 8  # data-set settings; with fewer a critical difference spans most ranks


def ranks(scores: np.ndarray) -> np.ndarray:
    """Mean rank of each method (M,), 1 is best; equal scores share their ranks."""
    return _ranks(scores).mean(axis=0)


def wins(scores: np.ndarray) -> np.ndarray:
    """(M, M): in how many settings the row's method scores above the column's.

    Losses are the transpose, ties what is left of K.
    """
    return (scores[:, :, None] > scores[:, None, :]).sum(axis=0)


def friedman(scores: np.ndarray) -> tuple[float, float]:
    """Friedman's χ² over the ranks and its p. NaN for fewer than three methods or two settings."""
    settings, methods = scores.shape
    if methods < 3 or settings < 2 or (scores == scores[:, :1]).all():
        return math.nan, math.nan
    found = stats.friedmanchisquare(*scores.T)
    return float(found.statistic), float(found.pvalue)


def nemenyi_critical_difference(methods: int, settings: int, level: float = 0.95) -> float:
    """Mean ranks farther apart than this differ (Demšar 2006): q √(M (M + 1) / 6K)."""
    q = stats.studentized_range.ppf(level, methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * settings)))


def bootstrap_mean_ranks(
    scores: np.ndarray, generator: np.random.Generator, rounds: int = 10_000, level: float = 0.95
) -> np.ndarray:
    """Percentile intervals (M, 2) of the mean ranks, settings drawn with replacement."""
    by_setting = _ranks(scores)
    settings = len(by_setting)
    # How often each setting is drawn is all that a mean needs.
    drawn = generator.multinomial(settings, np.full(settings, 1 / settings), rounds)
    means = drawn @ by_setting / settings
    tails = [(1 - level) / 2, (1 + level) / 2]
    return np.quantile(means, tails, axis=0).T


def _ranks(scores: np.ndarray) -> np.ndarray:
    return stats.rankdata(-np.asarray(scores, float), axis=1)
