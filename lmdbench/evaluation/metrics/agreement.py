"""Agreement of predictions and labels beyond what their shares give by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmdbench.evaluation import influence
from lmdbench.evaluation.influence import Margins
from lmdbench.evaluation.metrics.metric import Classes, Metric, Scorer


def _mcc(margins: Margins) -> float:
    """Matthews correlation coefficient for C classes (Gorodkin 2004).

    0 where every image is predicted as one class, NaN where every image is of one class.
    """
    true, predicted = margins.images, margins.predicted
    total = true.sum()
    spread_true = total**2 - (true**2).sum()
    spread_predicted = total**2 - (predicted**2).sum()
    if spread_predicted == 0:
        return 0.0
    covariance = margins.right.sum() * total - (true * predicted).sum()
    return float(covariance / np.sqrt(spread_true * spread_predicted))


def _one_class(scorer: Scorer) -> str:
    return "all images are of one class" if (scorer.counts > 0).sum() == 1 else ""


def _kappa(disagreement: np.ndarray, matrix: np.ndarray) -> float:
    """Cohen's kappa, weighted: 1 − Σ ``disagreement`` · seen / Σ ``disagreement`` · expected by
    chance (Cohen 1968), both arguments (C, C)."""
    expected = np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / matrix.sum()
    return float(1 - (disagreement * matrix).sum() / (disagreement * expected).sum())


def _any_other(classes: int) -> np.ndarray:
    return 1.0 - np.eye(classes)


# Of classes in order


@dataclass(frozen=True)
class _Graded:
    """Images of classes in order: which ``images`` of all they are, and the grades, from 0 on, that
    they have and that they are taken for. Of ``grades``, class indices in order."""

    images: np.ndarray
    true: np.ndarray
    taken: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(cls, scorer: Scorer, grades: Sequence[int]) -> _Graded:
        """Each image is taken for the likeliest of the classes in order, whatever others get."""
        place = np.full(scorer.classes, -1)
        place[list(grades)] = np.arange(len(grades))
        images = np.flatnonzero(place[scorer.labels] >= 0)
        ordered = np.sort(grades)
        likeliest = scorer.logits[np.ix_(images, ordered)].argmax(axis=1)
        true, taken = place[scorer.labels[images]], place[ordered[likeliest]]
        cells = np.bincount(true * len(grades) + taken, minlength=len(grades) ** 2)
        return cls(images, true, taken, cells.reshape(len(grades), -1).astype(float))


def _weighted(name: str, title: str, power: int, grades: Sequence[int] = ()) -> Metric:
    """Kappa with disagreements of |grade − grade|^``power``; ``grades``: class indices in order."""
    steps = np.subtract.outer(np.arange(len(grades)), np.arange(len(grades)))
    disagreement = np.abs(steps).astype(float) ** power

    def graded(scorer: Scorer) -> _Graded:
        return _Graded.of(scorer, grades)

    def undefined(scorer: Scorer) -> str:
        if not grades:
            return "the data set says no order of its classes (ordered_classes)"
        there = int((scorer.counts[list(grades)] > 0).sum())
        if there < 2:
            return f"{'one' if there else 'none'} of the classes in order has images"
        return ""

    def influences(scorer: Scorer) -> np.ndarray:
        found = scorer.once(graded)
        each = np.zeros(len(scorer.labels))
        each[found.images] = influence.kappa_gradient(
            disagreement, found.matrix, found.true, found.taken
        )
        return each

    def bind(classes: Classes) -> Metric:
        known = [classes.names.index(one) for one in classes.facts.grades if one in classes.names]
        return _weighted(name, title, power, known)

    return Metric(
        name,
        title,
        lambda s: _kappa(disagreement, s.once(graded).matrix),
        influences,
        undefined,
        bounds=(-1.0, 1.0),
        sets=(("classes in order", tuple(grades)),) if grades else (),
        alone=True,
        needs="classes in order",
        note="over the images of the classes in order, each taken for the likeliest of these",
        bind=bind,
    )


ALL = (
    Metric(
        "kappa",
        "Kappa",
        lambda s: _kappa(_any_other(s.classes), s.matrix),
        lambda s: influence.kappa_gradient(_any_other(s.classes), s.matrix, s.labels, s.predicted),
        _one_class,
        bounds=(-1.0, 1.0),
        of_images=True,
    ),
    _weighted("linear_weighted_kappa", "Linear weighted kappa", 1),
    _weighted("quadratic_weighted_kappa", "Quadratic weighted kappa", 2),
    Metric(
        "mcc",
        "MCC",
        lambda s: _mcc(s.margins),
        lambda s: influence.mcc_gradient(s.margins, s.labels, s.predicted),
        _one_class,
        bounds=(-1.0, 1.0),
        of_images=True,
    ),
)
