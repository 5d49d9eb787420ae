"""Metrics of the probabilities themselves, under the test set's prior and with classes weighing the
same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lmdbench.evaluation import influence
from lmdbench.evaluation.metrics.metric import PROBABILITIES, Metric, Scorer
from lmdbench.evaluation.metrics.probabilities import equal_mass_bins


def _calibration(
    name: str,
    title: str,
    of: Callable[[Scorer, np.ndarray], tuple[float, np.ndarray]],
    equal_prior: bool,
    **more: Any,
) -> Metric:
    """``of`` a Scorer and weights of the images (N,): the value, and each image's part in it."""
    prior = "equal" if equal_prior else "test"

    def found(scorer: Scorer) -> tuple[float, np.ndarray]:
        return of(scorer, image_weights(scorer.counts, scorer.labels, equal_prior))

    return Metric(
        name + "_balanced" * equal_prior,
        f"{title} ({prior} prior)",
        lambda s: found(s)[0],
        lambda s: found(s)[1],
        lower_is_better=True,
        needs=PROBABILITIES,
        of_images=not equal_prior,
        **more,
    )


def image_weights(counts: np.ndarray, labels: np.ndarray, equal_prior: bool) -> np.ndarray:
    """(N,), adding up to 1: the same for every image, or for every class that has images."""
    if not equal_prior:
        return np.full(len(labels), 1 / len(labels))
    by_class = 1 / (np.maximum(counts, 1) * (counts > 0).sum())
    return by_class[labels]


def _with_sum(parts: np.ndarray) -> tuple[float, np.ndarray]:
    return float(parts.sum()), parts


def _calibration_error(scorer: Scorer, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """ECE: over ``equal_mass_bins`` of the confidence (the largest probability), Σ share of the
    bin · |accuracy − mean confidence in it|, shares by the weights."""
    confidence = scorer.probabilities.max(axis=1)
    gaps = scorer.correct - confidence
    return influence.calibration_error(gaps, equal_mass_bins(confidence), weights)


def _classwise_error(scorer: Scorer, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Classwise ECE (Kull et al. 2019): the mean over all classes, also those without images, of
    Σ share of the bin · |share of the class − mean probability of it| over ``equal_mass_bins`` of
    the class's probability."""
    total, parts = 0.0, np.zeros(len(weights))
    for k, given in enumerate(scorer.probabilities.T):
        gaps = (scorer.labels == k) - given
        error, of_images = influence.calibration_error(gaps, equal_mass_bins(given), weights)
        total += error / scorer.classes
        parts += of_images / scorer.classes
    return total, parts


def _impossible(scorer: Scorer) -> str:
    if np.isinf(scorer.losses).any():
        return "an image's own class has probability 0 (its logit is −∞)"
    return ""


ALL = tuple(
    metric
    for equal in (False, True)
    for metric in (
        _calibration(
            "nll",
            "NLL",
            lambda s, weights: _with_sum(weights * s.losses),
            equal,
            undefined=_impossible,
            bounds=(0.0, np.inf),
            percent=False,
        ),
        _calibration(
            "brier",
            "Brier score",
            lambda s, weights: _with_sum(weights * s.brier),
            equal,
            bounds=(0.0, 2.0),
            percent=False,
        ),
        _calibration("ece", "ECE", _calibration_error, equal),
        _calibration("classwise_ece", "Classwise ECE", _classwise_error, equal),
    )
)
