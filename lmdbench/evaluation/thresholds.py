"""Thresholds chosen on images with labels, and the error of those that a model is surest of.

Pure functions on arrays: ``scores`` (N,), the larger the likelier; ``own`` (N,) bool, whether an
image is of the class; ``confidence`` (N,), the largest probability; ``wrong`` (N,) bool. An image
is flagged, or answered, where its score is at least the threshold.
"""

from __future__ import annotations

import math

import numpy as np

ROUNDED = 1e-9  # by which a share times images may miss a whole number


def for_sensitivity(scores: np.ndarray, own: np.ndarray, wanted: float) -> float:
    """The largest threshold with at least this sensitivity; some image is of the class."""
    ranked = np.sort(scores[own])[::-1]
    return float(ranked[max(_images(wanted, len(ranked)), 1) - 1])


def for_specificity(scores: np.ndarray, own: np.ndarray, wanted: float) -> float:
    """The smallest threshold with at least this specificity; some image is of another class."""
    ranked = np.sort(scores[~own])
    return float(np.nextafter(ranked[max(_images(wanted, len(ranked)), 1) - 1], np.inf))


def for_share(confidence: np.ndarray, share: float) -> float:
    """The largest threshold with which at least this share of the images is answered."""
    ranked = np.sort(confidence)[::-1]
    return float(ranked[max(_images(share, len(ranked)), 1) - 1])


def for_error(confidence: np.ndarray, wrong: np.ndarray, most: float) -> float:
    """The threshold with which the most images are answered, of those with at most this share of
    answers wrong; infinity where none is."""
    order = np.argsort(-confidence, kind="stable")
    ranked, errors = confidence[order], np.cumsum(wrong[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal ones are answered together
    fits = last & (errors <= most * np.arange(1, len(ranked) + 1) + ROUNDED)
    return float(ranked[np.flatnonzero(fits)[-1]]) if fits.any() else math.inf


def risk_coverage(confidence: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """The share of wrong answers (N,) among the 1, 2, … N images with the largest confidence (El-
    Yaniv & Wiener, JMLR 2010). Chance decides among equal ones: of them each is as wrong as all."""
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    _, ties, images = np.unique(-ranked, return_inverse=True, return_counts=True)
    mean = np.bincount(ties, wrong[order]) / images
    found: np.ndarray = np.cumsum(mean[ties]) / np.arange(1, len(ranked) + 1)
    return found


def risk_coverage_area(confidence: np.ndarray, wrong: np.ndarray) -> float:
    """The area under ``risk_coverage`` (AURC; Geifman et al., ICLR 2019): its mean."""
    return float(risk_coverage(confidence, wrong).mean())


def _images(share: float, images: int) -> int:
    """The fewest images that are at least this share."""
    return math.ceil(share * images - ROUNDED)
