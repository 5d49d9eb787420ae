"""What several models say of the same images together, and how far they agree."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp


def mean_logits(logits: np.ndarray) -> np.ndarray:
    """Logarithms (N, C) float64 of the mean over models of softmax(logits), logits (M, N, C)."""
    found: np.ndarray = logsumexp(_logs(logits), axis=0) - np.log(len(logits))
    return found


def agreement(logits: np.ndarray) -> np.ndarray:
    """The share (N,) of models whose likeliest class is that of the mean probabilities, of logits
    (M, N, C); NaN where these are."""
    answers = mean_logits(logits).argmax(axis=1)
    shares = (logits.argmax(axis=2) == answers).mean(axis=0)
    return np.where(np.isnan(logits).any(axis=(0, 2)), np.nan, shares)


def spread(logits: np.ndarray) -> np.ndarray:
    """The standard deviation (N,) over models, dividing by M − 1, of the probability of the class
    with the largest mean, of logits (M, N, C)."""
    answers = mean_logits(logits).argmax(axis=1)
    chances = np.exp(_logs(logits)[:, np.arange(logits.shape[1]), answers])
    found: np.ndarray = chances.std(axis=0, ddof=1)
    return found


def _logs(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = log_softmax(logits.astype(np.float64), axis=2)
    return found
