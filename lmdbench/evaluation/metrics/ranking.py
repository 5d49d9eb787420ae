"""Metrics of how well the scores of a class rank its images above the others, one against the rest.

Scores are the probabilities of the class, of imported predictions those that were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lmdbench.evaluation import influence
from lmdbench.evaluation.metrics.classes import mean_of
from lmdbench.evaluation.metrics.families import Family
from lmdbench.evaluation.metrics.metric import RANKING, ClassIndex, ClassStat, Scorer


def _aurocs(scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """AUROC of each class (C,) and each image's part in it (N, C), 0 where there is none."""
    areas, parts = influence.aurocs(scorer.labels, scorer.ranks)
    return areas, np.nan_to_num(parts, copy=False)


def _average_precisions(scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """The same of average precision. Of all images there is no ranking of one against the rest."""
    values, parts = influence.average_precisions(scorer.labels, scorer.ranks)
    values[scorer.counts == len(scorer.labels)] = np.nan
    return values, np.nan_to_num(parts, copy=False)


AUROC = ClassStat(
    "AUROC",
    "macro_auroc",
    lambda s: s.once(_aurocs)[0],
    lambda s, weights: s.once(_aurocs)[1] @ weights,
    of_rest=True,
    needs=RANKING,
    curve="ROC",
)
AVERAGE_PRECISION = ClassStat(
    "AP",
    "average_precision",
    lambda s: s.once(_average_precisions)[0],
    lambda s, weights: s.once(_average_precisions)[1] @ weights,
    of_rest=True,
    needs=RANKING,
    curve="PR",
)

# Name → what can be asked of a class or group.
STATS: Mapping[str, ClassStat] = {"auroc": AUROC, "average_precision": AVERAGE_PRECISION}

ALL = (
    mean_of("macro_auroc", "Macro AUROC", AUROC),
    mean_of("average_precision", "Average precision", AVERAGE_PRECISION),
)


# Points of the ROC curve


@dataclass(frozen=True)
class _Order:
    """Images by falling score of each class, (C, N): which ``image`` it is, whether it is of the
    class, and where the ``last`` stands of those that tie with it."""

    image: np.ndarray
    ours: np.ndarray
    last: np.ndarray


def _order(scorer: Scorer) -> _Order:
    columns = -scorer.ranks.T
    image = np.argsort(columns, axis=1, kind="stable")
    last = influence.tied(np.take_along_axis(columns, image, axis=1))[1]
    return _Order(image, scorer.labels[image] == np.arange(scorer.classes)[:, None], last)


def _roc(scorer: Scorer, times: np.ndarray, classes: ClassIndex) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity and specificity of some classes with the threshold at each image's score, (K, N),
    with each image counted so many times (N,). NaN where all images or none are of the class."""
    order = scorer.once(_order)
    counted = times.astype(float)[order.image[classes]]
    found = np.cumsum(counted * order.ours[classes], axis=1)
    taken = np.cumsum(counted, axis=1)
    own, rest = found[:, -1:].copy(), taken[:, -1:] - found[:, -1:]
    found, taken = (np.take_along_axis(x, order.last[classes], axis=1) for x in (found, taken))
    own[rest == 0] = 0
    own[own == 0] = np.nan
    return found / own, (rest - (taken - found)) / np.where(np.isnan(own), np.nan, rest)


def _sensitivities(
    scorer: Scorer, times: np.ndarray, classes: ClassIndex, least: float
) -> np.ndarray:
    """The highest sensitivity of each class with a specificity of at least ``least``, (K,)."""
    sensitivity, specificity = _roc(scorer, times, classes)
    best = np.where(specificity >= least, sensitivity, 0).max(axis=1)  # 0: no image is taken
    return np.where(np.isnan(sensitivity[:, 0]), np.nan, best)


def _specificities(
    scorer: Scorer, times: np.ndarray, classes: ClassIndex, least: float
) -> np.ndarray:
    """The highest specificity of each class with a sensitivity of at least ``least``, (K,)."""
    sensitivity, specificity = _roc(scorer, times, classes)
    best = np.where(sensitivity >= least, specificity, 0).max(axis=1)
    return np.where(np.isnan(sensitivity[:, 0]), np.nan, best)


Find = Callable[[Scorer, np.ndarray, ClassIndex, float], np.ndarray]


def _at(what: str, of: str, find: Find) -> Family:
    """The highest ``what`` with at least so much ``of``. The threshold is chosen on the images that
    are scored, from the points of their ROC curve: a step function, without interpolation."""

    def stat(name: str, least: float) -> ClassStat:
        return ClassStat(
            f"{what.capitalize()} at {of} {least:.12g}",
            name,
            lambda s: find(s, np.ones(len(s.labels)), slice(None), least),
            of_rest=True,
            needs=RANKING,
            note=(
                f"the highest {what} of a class against the rest among the thresholds whose {of} "
                f"is at least {least:.12g} on the ROC curve of these very images, so a little "
                "optimistic: no threshold was fixed before"
            ),
            counted=lambda s, times, classes: find(s, times, classes, least),
        )

    return Family(what, of, "0.9", stat)


FAMILIES = (
    _at("sensitivity", "specificity", _sensitivities),
    _at("specificity", "sensitivity", _specificities),
)
