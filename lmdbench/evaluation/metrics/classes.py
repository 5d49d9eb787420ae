"""Means of what each class has of its own: over the classes of a group, or over all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lmdbench.evaluation.influence import Margins
from lmdbench.evaluation.metrics.metric import ClassStat, Metric, Scorer, Sets


def of_cells(
    title: str,
    mean: str,
    values: Callable[[Margins], np.ndarray],
    gradient: Callable[[np.ndarray, Margins, np.ndarray, np.ndarray], np.ndarray],
    **more: Any,
) -> ClassStat:
    """A statistic of the confusion matrix, with its ``gradient`` at the cells of the images."""
    return ClassStat(
        title,
        mean,
        lambda s: values(s.margins),
        lambda s, weights: gradient(weights, s.margins, s.labels, s.predicted),
        **more,
    )


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Elementwise, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def of_sets(name: str, stat: str, of: ClassStat, sets: Sets, of_class: bool = False) -> Metric:
    """A statistic of a class or group by the metric's own name, ``STAT:OF`` or the group's."""
    about = name.removeprefix(f"{stat}:")
    title = name[:1].upper() + name[1:] if about == name else f"{of.title} of {about}"
    return mean_of(name, title, of, sets, of_class)


def mean_of(
    name: str, title: str, of: ClassStat, sets: Sets | None = None, of_class: bool = False
) -> Metric:
    """A statistic's mean over the classes of each set, then over the sets; None: all classes."""

    def weights(counts: np.ndarray) -> np.ndarray:
        if sets is None:
            return set_weights((("all", tuple(range(len(counts)))),), counts > 0)
        return set_weights(sets, counts > 0)

    def value(scorer: Scorer) -> float:
        values, parts = scorer.of_classes(of), weights(scorer.counts)
        values = np.where(np.isnan(values), of.in_a_mean, values)
        return float(values[parts > 0] @ parts[parts > 0])

    def counted(scorer: Scorer, times: np.ndarray) -> float:
        assert of.counted is not None
        parts = weights(np.bincount(scorer.labels, times, scorer.classes))
        if np.isnan(parts).any():
            return float("nan")
        some = slice(None) if parts.all() else np.flatnonzero(parts)
        return float(of.counted(scorer, times, some) @ parts[some])

    def influences(scorer: Scorer) -> np.ndarray:
        assert of.influences is not None
        return of.influences(scorer, weights(scorer.counts))

    def undefined(scorer: Scorer) -> str:
        if sets is not None and (gap := _gap(sets, scorer.counts, of_class)):
            return gap
        if of.of_rest and (scorer.counts > 0).sum() == 1:
            return "all images are of one class"
        if of_class and sets and np.isnan(scorer.of_classes(of)[sets[0][1][0]]):
            return f"the class {of.lacks}"
        return f"a class {of.lacks}" if np.isnan(value(scorer)) else ""

    return Metric(
        name,
        title,
        value,
        None if of.influences is None else influences,
        undefined,
        weights if of.linear else None,
        bounds=of.bounds,
        lower_is_better=of.lower_is_better,
        percent=of.percent,
        sets=sets or (),
        of_class=of_class,
        needs=of.needs,
        note=of.note,
        counted=None if of.counted is None else counted,
        ratio=of.ratio,
        areas=weights if of.curve else None,
        curve=of.curve or "ROC",
    )


def set_weights(sets: Sets, has_value: np.ndarray) -> np.ndarray:
    """(C,): the mean over the sets of the mean over each set's classes that have a value."""
    weights = np.zeros(len(has_value))
    for _, members in sets:
        there = [k for k in members if has_value[k]]
        if not there:
            return np.full(len(has_value), np.nan)
        weights[there] += 1 / (len(there) * len(sets))
    return weights if sets else np.full(len(has_value), np.nan)


def _gap(sets: Sets, counts: np.ndarray, of_class: bool) -> str:
    """Why there is no mean over the sets, by the images of each class (C,); empty if there is."""
    if not sets:
        return "there are no groups"
    empty = [name for name, members in sets if not counts[list(members)].any()]
    if not empty:
        return ""
    if len(sets) > 1:
        return f"{' and '.join(empty)} has no value"
    if of_class:
        return "the class has no images"
    return "no class of the group has images" if sets[0][1] else "the group has no classes"
