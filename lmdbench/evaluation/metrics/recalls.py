"""Metrics of which images each class gets right and which it takes from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lmdbench.evaluation import influence
from lmdbench.evaluation.influence import Margins
from lmdbench.evaluation.metrics.classes import mean_of, of_cells, ratio
from lmdbench.evaluation.metrics.metric import Classes, ClassStat, Metric


def _recalls(margins: Margins) -> np.ndarray:
    return ratio(margins.right, margins.images)


def _precisions(margins: Margins) -> np.ndarray:
    precisions = ratio(margins.right, margins.predicted)
    return np.where(margins.images > 0, precisions, np.nan)


def _specificities(margins: Margins) -> np.ndarray:
    others = margins.images.sum() - margins.images
    false = margins.predicted - margins.right
    return np.where(margins.images > 0, ratio(others - false, others), np.nan)


def _npvs(margins: Margins) -> np.ndarray:
    """Negative predictive values: of the images predicted as another class, those that are none of
    this."""
    others = margins.images.sum() - margins.predicted
    missed = margins.images - margins.right
    return np.where(margins.images > 0, ratio(others - missed, others), np.nan)


def _positive_ratios(margins: Margins) -> np.ndarray:
    """Recall / (1 − specificity): how much likelier an image of the class is taken for it than
    another."""
    return ratio(_recalls(margins), 1 - _specificities(margins))


def _negative_ratios(margins: Margins) -> np.ndarray:
    """(1 − recall) / specificity."""
    return ratio(1 - _recalls(margins), _specificities(margins))


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
NPV = of_cells(
    "NPV",
    "macro_npv",
    _npvs,
    influence.npv_gradient,
    of_rest=True,
    lacks="is predicted for every image",
)
POSITIVE_RATIO = of_cells(
    "LR+",
    "macro_positive_likelihood_ratio",
    _positive_ratios,
    influence.positive_ratio_gradient,
    of_rest=True,
    lacks="is predicted for no image of another (a division by 0)",
    bounds=(0.0, np.inf),
    ratio=True,
    percent=False,
)
NEGATIVE_RATIO = of_cells(
    "LR−",
    "macro_negative_likelihood_ratio",
    _negative_ratios,
    influence.negative_ratio_gradient,
    of_rest=True,
    lacks="is predicted for every image of another (a division by 0)",
    bounds=(0.0, np.inf),
    ratio=True,
    lower_is_better=True,
    percent=False,
)

# Name → what can be asked of a class or group.
STATS: Mapping[str, ClassStat] = {
    "recall": RECALL,
    "precision": PRECISION,
    "f1": F1,
    "specificity": SPECIFICITY,
    "npv": NPV,
    "positive_likelihood_ratio": POSITIVE_RATIO,
    "negative_likelihood_ratio": NEGATIVE_RATIO,
}


def _group_mean(classes: Classes) -> Metric:
    return mean_of(GROUP_MEAN, "Group mean", RECALL, tuple(classes.groups.items()))


GROUP_MEAN = "group_mean"
ALL = (
    mean_of("balanced_accuracy", "Balanced accuracy", RECALL),
    mean_of("macro_f1", "Macro F1", F1),
    Metric(
        "accuracy",
        "Accuracy",
        lambda s: float(s.margins.right.sum() / s.margins.images.sum()),
        lambda s: s.correct / len(s.labels),
        weights=_accuracy_weights,
        of_images=True,
    ),
    replace(mean_of(GROUP_MEAN, "Group mean", RECALL, ()), bind=_group_mean),
    mean_of("macro_precision", "Macro precision", PRECISION),
    mean_of("macro_specificity", "Macro specificity", SPECIFICITY),
    mean_of("macro_npv", "Macro NPV", NPV),
    mean_of("macro_positive_likelihood_ratio", "Macro LR+", POSITIVE_RATIO),
    mean_of("macro_negative_likelihood_ratio", "Macro LR−", NEGATIVE_RATIO),
)
