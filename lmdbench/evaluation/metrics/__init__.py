"""Scores of predictions: pure functions on arrays, and the metrics that are known by name.

``labels`` are (N,) int64, ``logits`` (N, C) float of any width. Written out in numpy, and checked
against scikit-learn in the tests, because a comparison scores hundreds of files.

What is undefined is missing: NaN from the functions, None in ``scores``, with its reason in
``missing``. A class without images in the part has no recall, F1 or AUROC; a macro average is over
the classes that have images, which are the same for every method tested on that part. Logits that
are not finite (training diverged) make everything missing.

A ``Metric`` is one object in ``METRICS``; ``register_metric`` adds one. ``parse`` reads names: of
those, a group's (its recall), and ``STAT:CLASS`` or ``STAT:GROUP`` with one of ``CLASS_STATS``. A
``Scorer`` gives values, reasons and influences of one run's predictions, and computes once what
several metrics need. Each kind of metric has a module.
"""

from __future__ import annotations

from lmdbench.evaluation.metrics.metric import (
    RESAMPLES,
    SEED,
    Classes,
    ClassStat,
    Facts,
    Metric,
    Scorer,
)
from lmdbench.evaluation.metrics.names import (
    ALIASES,
    BUILT_IN,
    CLASS_STATS,
    DEFAULT_METRICS,
    FAMILIES,
    SUMMARY,
    class_stat,
    described,
    parse,
    summary,
)
from lmdbench.evaluation.metrics.probabilities import (
    ECE_BINS,
    ROUNDED_SUM,
    SAID_SUM,
    equal_mass_bins,
    softmax,
    unusable,
)
from lmdbench.evaluation.metrics.recalls import (
    GROUP_MEAN,
)
from lmdbench.evaluation.metrics.registry import (
    METRICS,
    register_metric,
)
from lmdbench.evaluation.metrics.scores import (
    balanced_accuracy,
    by_class,
    confusion_matrix,
    images_per_group,
    influences,
    missing,
    score,
    scores,
)

__all__ = [
    "ALIASES",
    "BUILT_IN",
    "CLASS_STATS",
    "DEFAULT_METRICS",
    "ECE_BINS",
    "FAMILIES",
    "GROUP_MEAN",
    "METRICS",
    "RESAMPLES",
    "ROUNDED_SUM",
    "SAID_SUM",
    "SEED",
    "SUMMARY",
    "ClassStat",
    "Classes",
    "Facts",
    "Metric",
    "Scorer",
    "balanced_accuracy",
    "by_class",
    "class_stat",
    "confusion_matrix",
    "described",
    "equal_mass_bins",
    "images_per_group",
    "influences",
    "missing",
    "parse",
    "register_metric",
    "score",
    "scores",
    "softmax",
    "summary",
    "unusable",
]
