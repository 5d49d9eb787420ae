"""Curves of one class against the rest, with bands: pure functions on arrays.

``scores`` are (S, N), seeds × images, of one class, the larger the likelier; ``labels`` (N,) int64;
``of``: the class; ``units`` (N,) as in ``inference.py``. A curve is averaged over seeds at fixed
places (vertically), and so are the curves of several classes.

The variance that is owed to the test images has two parts, both within classes. At a fixed
threshold it is that of a weighted sum of recalls, by ``image_variances``: never 0, even of one
image. And the threshold moves with the images that fix it. How far that carries a curve, down and
up, is read from the curve itself at both ends of the interval of the rate that fixes the threshold,
so that limits lie as unevenly about a curve as it bends (Zou & Donner 2008). A band is pointwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lmdbench.evaluation.ends import ends
from lmdbench.evaluation.inference import combine, image_variances, quantile, weighted_recalls

ROUNDING = 1e-12  # of rates that are ratios of counts
REACH = 1.96  # standard errors to the end of an interval


@dataclass(frozen=True)
class Curve:
    """``values`` (S, G) by seed at G places. Variances (G,) of their mean over seeds, as far as it
    is owed to the test images: ``below`` for the lower limit, ``above`` for the upper one."""

    values: np.ndarray
    below: np.ndarray
    above: np.ndarray


@dataclass(frozen=True)
class Band:
    """Mean over seeds and pointwise 95 % limits, (G,) each."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Roc:
    """The points of one run's ROC curve, from (0, 0) to (1, 1), one for each different score.

    ``false_positives`` and ``sensitivity`` are rates, rising; at ``thresholds``, falling from
    infinity, and above they are reached.
    """

    false_positives: np.ndarray
    sensitivity: np.ndarray
    thresholds: np.ndarray

    @classmethod
    def of(cls, own: np.ndarray, scores: np.ndarray) -> Roc:
        """``own`` (N,) bool: whether an image is of the class; some are, some are not."""
        order = np.argsort(-scores, kind="stable")
        ranked, hits = scores[order], np.cumsum(own[order])
        last = np.append(ranked[1:] != ranked[:-1], True)  # of equal scores
        alarms = np.arange(1, len(own) + 1) - hits
        return cls(
            np.append(0.0, alarms[last] / alarms[-1]),
            np.append(0.0, hits[last] / hits[-1]),
            np.append(np.inf, ranked[last]),
        )

    def sensitivity_at(self, rates: np.ndarray) -> np.ndarray:
        """The largest sensitivity at false-positive rates (G,), on straight lines between points:
        chance decides among equal scores."""
        return np.interp(rates + ROUNDING, self.false_positives, self.sensitivity)

    def reached_at(self, rates: np.ndarray) -> np.ndarray:
        """The number of the last point with at most these false-positive rates (G,)."""
        return np.searchsorted(self.false_positives, rates + ROUNDING, side="right") - 1

    def false_positives_at(self, sensitivities: np.ndarray) -> np.ndarray:
        """The smallest false-positive rate at sensitivities (G,), on straight lines between points:
        what Davis & Goadrich (2006) draw between two points of a precision-recall curve."""
        after = self.first_with(sensitivities)
        before = np.maximum(after - 1, 0)
        step = self.sensitivity[after] - self.sensitivity[before]
        part = np.divide(
            sensitivities - self.sensitivity[before], step, out=np.ones_like(step), where=step > 0
        )
        low, high = self.false_positives[before], self.false_positives[after]
        return low + np.clip(part, 0, 1) * (high - low)

    def first_with(self, sensitivities: np.ndarray) -> np.ndarray:
        """The number of the first point with at least these sensitivities (G,)."""
        return np.searchsorted(self.sensitivity, sensitivities - ROUNDING, side="left")


def sensitivities(
    scores: np.ndarray,
    labels: np.ndarray,
    of: int,
    rates: np.ndarray,
    units: np.ndarray | None = None,
    steps: bool = False,
) -> Curve:
    """The ROC curve at false-positive rates (G,): sensitivity, a share.

    ``steps``: that of the last threshold with at most such a rate, as an operating point has it,
    instead of straight lines between two.
    """
    runs = [Roc.of(labels == of, one) for one in scores]

    def by_run(at: np.ndarray) -> np.ndarray:
        if steps:
            return np.stack([run.sensitivity[run.reached_at(at)] for run in runs])
        return np.stack([run.sensitivity_at(at) for run in runs])

    thresholds = np.stack([run.thresholds[run.reached_at(rates)] for run in runs])
    fixed, moved = _standard_errors(scores, labels, of, thresholds, units)
    sides = fixed**2 + _sides(lambda at: by_run(at).mean(axis=0), rates, moved)
    return Curve(by_run(rates), *np.where(rates < 1, sides, 0))  # at 1 it is 1 of any images


def precisions(
    scores: np.ndarray,
    labels: np.ndarray,
    of: int,
    recalls: np.ndarray,
    units: np.ndarray | None = None,
) -> Curve:
    """The precision-recall curve at recalls (G,) above 0: precision, a share, at the prevalence
    among ``labels``."""
    own = labels == of
    runs = [Roc.of(own, one) for one in scores]
    odds = (1 - own.mean()) / own.mean()

    def precision(false_positives: np.ndarray) -> np.ndarray:
        return recalls / (recalls + odds * false_positives)

    def alarms(at: np.ndarray) -> np.ndarray:
        return np.stack([run.false_positives_at(at) for run in runs])

    thresholds = np.stack([run.thresholds[run.first_with(recalls)] for run in runs])
    moved, fixed = _standard_errors(scores, labels, of, thresholds, units)
    found = alarms(recalls)
    at_threshold = _sides(precision, found.mean(axis=0), fixed)
    of_threshold = _sides(lambda at: precision(alarms(at).mean(axis=0)), recalls, moved)
    return Curve(precision(found), *(at_threshold + of_threshold))


def net_benefits(
    probabilities: np.ndarray,
    labels: np.ndarray,
    of: int,
    thresholds: np.ndarray,
    units: np.ndarray | None = None,
) -> Curve:
    """Net benefit (Vickers & Elkin 2006) at threshold probabilities (G,) from 0 to below 1.

    True positives less false positives · p / (1 − p), an image; ``probabilities`` (S, N) of the
    class. The shares of the classes are those among ``labels``.
    """
    counts = np.bincount(labels, minlength=of + 1)
    values, variance = [], []
    for threshold in thresholds:
        weights = -counts / len(labels) * threshold / (1 - threshold)
        weights[of] = counts[of] / len(labels)
        positive = probabilities >= threshold
        values.append(weighted_recalls(positive, labels, weights))
        variance.append(image_variances(positive, labels, weights[None], units)[0])
    # At 0 every image is taken, whatever images there are.
    variances = np.where(thresholds > 0, variance, 0)
    return Curve(np.stack(values, axis=1), variances, variances)


def decided(
    predicted: np.ndarray, labels: np.ndarray, of: int, units: np.ndarray | None = None
) -> tuple[Curve, Curve]:
    """Sensitivity and specificity, of one place each, of the classes (S, N) that are predicted."""
    weights, rest = _weights(labels, of)
    return _recall(predicted == of, labels, weights, units), _recall(
        predicted != of, labels, rest, units
    )


def treat_all(prevalence: float, thresholds: np.ndarray) -> np.ndarray:
    """Net benefit (G,) where every image is taken for the class."""
    return prevalence - (1 - prevalence) * thresholds / (1 - thresholds)


def band(
    curves: Sequence[Curve], bounds: tuple[float, float] = (0, 1), level: float = 0.95
) -> Band:
    """The mean of the classes' curves, over seeds, and its pointwise limits within ``bounds``.

    Spread over seeds and test images as in ``combine``; over one seed the test images alone.
    """
    values = np.mean([curve.values for curve in curves], axis=0).T

    def both_ends(variances: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        both = combine(values, np.sum(variances, axis=0) / len(curves) ** 2)
        return ends(both["value"], both["se"], quantile((1 + level) / 2, both["df"]), bounds)

    low, _ = both_ends([curve.below for curve in curves])
    _, high = both_ends([curve.above for curve in curves])
    return Band(values.mean(axis=1), low, high)


def _weights(labels: np.ndarray, of: int) -> tuple[np.ndarray, np.ndarray]:
    """What make a rate among the images of the class, and among all others, of those of classes."""
    counts = np.bincount(labels, minlength=of + 1).astype(float)
    own = np.zeros_like(counts)
    own[of] = 1.0
    rest = np.where(own > 0, 0.0, counts)
    return own, rest / rest.sum()


def _recall(
    outcomes: np.ndarray, labels: np.ndarray, weights: np.ndarray, units: np.ndarray | None
) -> Curve:
    """Of one place."""
    values = weighted_recalls(outcomes, labels, weights)
    variance = image_variances(outcomes, labels, weights[None], units)
    return Curve(values[:, None], variance, variance)


def _standard_errors(
    scores: np.ndarray,
    labels: np.ndarray,
    of: int,
    thresholds: np.ndarray,
    units: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Of sensitivity and of the false-positive rate, (G,) each, at ``thresholds`` (S, G), owed to
    the test images."""
    weights = np.stack(_weights(labels, of))
    variances = [
        image_variances(scores >= at[:, None], labels, weights, units) for at in thresholds.T
    ]
    own, rest = np.sqrt(variances).T
    return own, rest


def _sides(
    curve: Callable[[np.ndarray], np.ndarray], at: np.ndarray, errors: np.ndarray
) -> np.ndarray:
    """Variances (2, G) below and above a curve that rises or falls, from the standard errors (G,)
    of the rates ``at`` (G,) it is taken at: as if what ``REACH`` of them do went on evenly."""
    reached = np.clip([at - REACH * errors, at + REACH * errors], 0, 1)
    moves = (np.stack([curve(end) for end in reached]) - curve(at)) / REACH
    return np.stack([moves.min(axis=0).clip(max=0), moves.max(axis=0).clip(min=0)]) ** 2
