"""Metrics of which images each class gets right and which it takes from others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lmdbench.evaluation import influence
from lmdbench.evaluation.influence import Margins
from lmdbench.evaluation.metrics.classes import mean_of, of_cells, ratio
from lmdbench.evaluation.metrics.metric import ClassStat, Metric


def _recalls(margins: Margins) -> np.ndarray:
    return ratio(margins.right, margins.images)


def _precisions(margins: Margins) -> np.ndarray:
    precisions = ratio(margins.right, margins.predicted)
    return np.where(margins.images > 0, precisions, np.nan)


def _specificities(margins: Margins) -> np.ndarray:
    others = margins.images.sum() - margins.images
    false = margins.predicted - margins.right
    return np.where(margins.images > 0, ratio(others - false, others), np.nan)


def _f1(margins: Margins) -> np.ndarray:
    f1 = ratio(2 * margins.right, margins.images + margins.predicted)
    return np.where(margins.images > 0, f1, np.nan)


def _accuracy_weights(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum() if counts.sum() else np.full(len(counts), np.nan)


RECALL = of_cells("Recall", "balanced_accuracy", _recalls, influence.recall_gradient, linear=True)
PRECISION = of_cells(
    "Precision",
    "macro_precision",
    _precisions,
    influence.precision_gradient,
    lacks="is never predicted",
    in_a_mean=0.0,  # a method must not gain by ignoring a class
)
F1 = of_cells("F1", "macro_f1", _f1, influence.f1_gradient)
SPECIFICITY = of_cells(
    "Specificity",
    "macro_specificity",
    _specificities,
    influence.specificity_gradient,
    of_rest=True,
)

# Name → what can be asked of a class or group.
STATS: Mapping[str, ClassStat] = {
    "recall": RECALL,
    "precision": PRECISION,
    "f1": F1,
    "specificity": SPECIFICITY,
}

GROUP_MEAN = "group_mean"  # the one whose classes are those of the groups
ALL = (
    mean_of("balanced_accuracy", "Balanced accuracy", RECALL),
    mean_of("macro_f1", "Macro F1", F1),
    Metric(
        "accuracy",
        "Accuracy",
        lambda s: float(s.margins.right.sum() / s.margins.images.sum()),
        lambda s: RECALL.influences(s, _accuracy_weights(s.counts)),
        weights=_accuracy_weights,
    ),
    mean_of(GROUP_MEAN, "Group mean", RECALL, ()),
    mean_of("macro_precision", "Macro precision", PRECISION),
    mean_of("macro_specificity", "Macro specificity", SPECIFICITY),
)
