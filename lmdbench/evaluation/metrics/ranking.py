"""Metrics of how well the probabilities of a class rank its images above the others."""

from __future__ import annotations

from collections.abc import Mapping

from lmdbench.evaluation.metrics.classes import mean_of
from lmdbench.evaluation.metrics.metric import ClassStat

AUROC = ClassStat(
    "AUROC",
    "macro_auroc",
    lambda s: s.ranked[0],
    lambda s, weights: s.ranked[1] @ weights,
    of_rest=True,
)

# Name → what can be asked of a class or group.
STATS: Mapping[str, ClassStat] = {"auroc": AUROC}

ALL = (mean_of("macro_auroc", "Macro AUROC", AUROC),)
