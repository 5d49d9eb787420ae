"""Scores of one run's predictions: functions of labels and logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lmdbench.evaluation.metrics.metric import Facts, Metric, Scorer
from lmdbench.evaluation.metrics.names import class_stat, parse, summary
from lmdbench.evaluation.metrics.registry import METRICS


def scores(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    names: Sequence[str] | None = None,
    facts: Facts | None = None,
) -> dict[str, float | None]:
    """Metrics by name; by default those of ``summary``.

    ``groups``: name → class indices. None where undefined, which ``missing`` gives the reason for.
    ``group_mean`` is the mean of the groups' values, which some papers call "all"; it is not
    balanced accuracy.
    """
    scorer = Scorer(labels, logits)
    found = {m.name: scorer.value(m) for m in _chosen(names, scorer.classes, groups, facts)}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def missing(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    names: Sequence[str] | None = None,
    facts: Facts | None = None,
) -> dict[str, str]:
    """Metric → why ``scores``, called with the same arguments, has no value for it."""
    scorer = Scorer(labels, logits)
    found = {m.name: scorer.reason(m) for m in _chosen(names, scorer.classes, groups, facts)}
    return {name: reason for name, reason in found.items() if reason}


def influences(
    names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    facts: Facts | None = None,
) -> dict[str, np.ndarray]:
    """Each image's influence on each metric, (N,), in the order of the images."""
    scorer = Scorer(labels, logits)
    return {m.name: scorer.influence(m) for m in _chosen(names, scorer.classes, groups, facts)}


def _chosen(
    names: Sequence[str] | None,
    classes: int,
    groups: Mapping[str, Sequence[int]],
    facts: Facts | None,
) -> list[Metric]:
    labels = [str(k) for k in range(classes)]
    return [parse(name, labels, groups, facts) for name in (names or summary(groups))]


def confusion_matrix(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Images of each true class (row) predicted as each class (column), (C, C) float64.

    The prediction is the largest logit; of equal ones, the first class. All NaN if the logits of
    any image are not finite.
    """
    return Scorer(labels, logits).matrix


def by_class(stat: str, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """A statistic as ``class_stat`` takes it of each class, (C,), NaN where it is undefined."""
    return Scorer(labels, logits).of_classes(class_stat(stat)[1])


def score(name: str, labels: np.ndarray, logits: np.ndarray) -> float:
    """A metric by its name, NaN where it is undefined. ``CLASS_STATS`` and groups have no names
    here: see ``by_class`` and ``scores``."""
    return Scorer(labels, logits).value(METRICS[name])


def balanced_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean recall of the classes that have images."""
    return score("balanced_accuracy", labels, logits)


def images_per_group(
    labels: np.ndarray, groups: Mapping[str, Sequence[int]], num_classes: int
) -> dict[str, int]:
    """Images in each group, and under ``all`` in total."""
    counts = np.bincount(labels, minlength=num_classes)
    by_group = {name: int(counts[list(members)].sum()) for name, members in groups.items()}
    return {"all": int(counts.sum()), **by_group}
