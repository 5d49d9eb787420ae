"""What a metric is, and what it is computed from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.evaluation import inference, influence
from lmdbench.evaluation.influence import Margins
from lmdbench.evaluation.metrics.probabilities import SAID_SUM, given_as_logs, softmax, unusable

T = TypeVar("T")

RESAMPLES = 500  # of the bootstrap: its standard errors are right to 3 %
SEED = 0  # of its generator

ClassIndex = np.ndarray | slice  # some of the classes
Sets = tuple[tuple[str, tuple[int, ...]], ...]  # names → class indices


# What a metric is computed from
PREDICTED = "predicted classes"
RANKING = "scores that rank images"
PROBABILITIES = "probabilities"


@dataclass(frozen=True)
class Facts:
    """What a data set says of its classes beside their names.

    ``grades``: those that are in order, lowest first. ``costs``: true class → predicted class →
    cost; those that are not said are 0 where it is right and 1 where it is wrong.
    """

    grades: tuple[str, ...] = ()
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Classes:
    """The classes of predictions: names in the order of the logits, groups of their indices, and
    what is said of them."""

    names: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]]
    facts: Facts = Facts()


@dataclass(frozen=True)
class Metric:
    """A number that is told of a run's predictions.

    ``value``, and ``influences`` (N,) as in ``influence.py`` but for centring, are of a Scorer for
    which ``undefined`` is empty, and not the reason why there is no value. Without influences,
    intervals come from a bootstrap. ``weights``, of a metric that is a weighted sum of recalls: of
    the images of each class (C,) the weights (C,), 0 for classes without images, NaN where it is
    undefined. ``bounds``: the smallest and the largest value it can have. ``percent``: whether
    percent and points make sense of it. ``sets``: names → the classes it is about, () for all;
    ``of_class``: it is one class. ``needs``: what it is computed from. ``note``: what a reader of
    its numbers must know. ``counted``: its value with each image counted so many times (N,), which
    makes the bootstrap quick. ``ratio``: its intervals are made on the logarithm. ``bind``: the
    metric for what a data set says of its classes.
    ``of_images``: every image counts the same in it, so that small classes weigh little. ``alone``:
    images of classes outside its ``sets`` have no part in it. ``areas``:
    of a mean of areas under curves, the weights of the classes as ``weights`` gives them, and
    ``curve``: which.
    """

    name: str
    title: str
    value: Callable[[Scorer], float]
    influences: Callable[[Scorer], np.ndarray] | None = None
    undefined: Callable[[Scorer], str] = lambda _: ""
    weights: Callable[[np.ndarray], np.ndarray] | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    lower_is_better: bool = False
    percent: bool = True
    sets: Sets = ()
    of_class: bool = False
    needs: str = PREDICTED
    note: str = ""
    counted: Callable[[Scorer, np.ndarray], float] | None = None
    ratio: bool = False
    bind: Callable[[Classes], Metric] | None = None
    of_images: bool = False
    alone: bool = False
    areas: Callable[[np.ndarray], np.ndarray] | None = None
    curve: inference.Curve = "ROC"

    @property
    def interval(self) -> str:
        """How its intervals are made, in words."""
        if self.weights is not None:
            return "recalls of classes"
        if self.influences is None:
            return "bootstrap"
        return "influences of images" + ", on the logarithm" * self.ratio

    @property
    def resampled(self) -> bool:
        """Whether its intervals come from a bootstrap."""
        return self.weights is None and self.influences is None

    @property
    def averages_classes(self) -> bool:
        """Whether it is another metric where a class has no images."""
        return not (self.of_images or self.of_class or self.alone)

    def images(self, counts: np.ndarray) -> int:
        """Images of the classes it is about, of ``counts`` (C,) in the part."""
        members = {k for _, classes in self.sets for k in classes}
        return int(counts[sorted(members)].sum() if self.sets else counts.sum())

    def too_small(self, counts: np.ndarray, units: str = "images") -> str:
        """Why it has no interval on classes of so many independent images or units (C,); empty
        where it has, as a sum of recalls always has."""
        if self.weights is not None:
            return ""
        carriers = None
        if self.sets or self.of_images:
            carriers = np.zeros(len(counts), bool)
            carriers[[k for _, classes in self.sets for k in classes]] = True
            if self.alone:
                counts = np.where(carriers, counts, 0)
        return inference.too_small(counts, carriers, units)

    def estimate(
        self,
        values: np.ndarray,
        correct: np.ndarray,
        pieces: np.ndarray | None,
        labels: np.ndarray,
        counts: np.ndarray,
        units: np.ndarray | None,
        why: str = "",
    ) -> inference.Estimate:
        """The mean over seeds with its interval, in the way that the metric has.

        ``values`` (S,), ``correct`` (S, N); ``pieces``: the influences (S, N), or the samples
        (S, B) of one that is ``resampled``, None for a weighted sum of recalls; ``counts`` (C,);
        ``why``: of ``too_small``.
        """
        if self.weights is not None:
            return inference.linear_estimate(correct, labels, self.weights(counts), units)
        assert pieces is not None
        if self.resampled:
            return inference.bootstrap_estimate(values, pieces, self.bounds, why=why)
        if self.areas is not None:
            n = inference.independent(labels, units, len(counts))
            return inference.area_estimate(
                values, pieces, labels, n, self.areas(counts), units, why=why, curve=self.curve
            )
        found = inference.smooth_estimate(values, pieces, labels, units, self.bounds, why=why)
        return _on_logarithm(found) if self.ratio else found


def _on_logarithm(found: inference.Estimate) -> inference.Estimate:
    """With the interval of a ratio made on its logarithm, whose standard error is SE / value: far
    from symmetric, and above 0. It has none at 0."""
    if not found.value > 0:
        return replace(found, low=np.nan, high=np.nan)
    factor = np.exp((found.high - found.value) / found.value)
    return replace(found, low=found.value / factor, high=found.value * factor)


@dataclass(frozen=True)
class ClassStat:
    """What each class has of its own.

    ``values`` (C,) of a Scorer, NaN where undefined. ``influences`` (N,), not centred, on
    Σ weights · values, of a Scorer and the weights (C,); without them intervals come from a
    bootstrap, by ``counted``: the values of some classes with each image counted so many times
    (N,). ``mean``: the name of the metric that is its mean over all classes. ``of_rest``: it needs
    images of others.
    ``lacks``: what a class with images is or does that has no value, as "is never predicted";
    ``in_a_mean``: what it counts as then, NaN if the mean has none either. ``linear``: it is the
    recall. ``curve``: it is the area under one. The others are those of a ``Metric``.
    """

    title: str
    mean: str
    values: Callable[[Scorer], np.ndarray]
    influences: Callable[[Scorer, np.ndarray], np.ndarray] | None = None
    of_rest: bool = False
    lacks: str = ""
    in_a_mean: float = np.nan
    linear: bool = False
    bounds: tuple[float, float] = (0.0, 1.0)
    lower_is_better: bool = False
    percent: bool = True
    needs: str = PREDICTED
    note: str = ""
    counted: Callable[[Scorer, np.ndarray, ClassIndex], np.ndarray] | None = None
    ratio: bool = False
    curve: inference.Curve | None = None


class Scorer:
    """Values, reasons and influences of one run's predictions on one part.

    What several metrics need (the confusion matrix, probabilities, the sort behind AUROC) is
    computed once, when it is first asked for.
    """

    def __init__(self, labels: np.ndarray, logits: np.ndarray) -> None:
        self.labels, self.logits = labels, logits = np.asarray(labels), np.asarray(logits)
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise UserError(
                f"labels {labels.shape} and logits {logits.shape}: give (N,) and (N, C)"
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < logits.shape[1]:
            raise UserError(f"labels: give class indices from 0 to {logits.shape[1] - 1}")
        self.classes = logits.shape[1]
        self.counts = np.bincount(labels, minlength=self.classes)
        self.broken = unusable(logits)
        self._of_classes: dict[str, np.ndarray] = {}
        self._once: dict[Callable[[Scorer], Any], Any] = {}

    @cached_property
    def predicted(self) -> np.ndarray:
        """The class of the largest logit, (N,); of equal ones, the first."""
        return self.logits.argmax(axis=1)

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each image is predicted right, (N,) float64, NaN if logits are not finite."""
        if self.broken:
            return np.full(len(self.labels), np.nan)
        return (self.predicted == self.labels).astype(np.float64)

    @cached_property
    def matrix(self) -> np.ndarray:
        """Images of each true class (row) predicted as each class (column), (C, C) float64."""
        if self.broken:
            return np.full((self.classes, self.classes), np.nan)
        cells = np.bincount(self.labels * self.classes + self.predicted, minlength=self.classes**2)
        return cells.reshape(self.classes, self.classes).astype(np.float64)

    @cached_property
    def margins(self) -> Margins:
        """Diagonal and sums of the matrix, NaN if logits are not finite."""
        if self.broken:
            return Margins(*np.full((3, self.classes), np.nan))
        return Margins.of(self.labels, self.predicted, self.classes)

    def of_classes(self, stat: ClassStat) -> np.ndarray:
        """A statistic of each class (C,), computed once."""
        if self.broken or not len(self.labels):
            return np.full(self.classes, np.nan)
        if stat.title not in self._of_classes:
            self._of_classes[stat.title] = stat.values(self)
        return self._of_classes[stat.title]

    def once(self, found: Callable[[Scorer], T]) -> T:
        """What a function finds in it, computed once."""
        if found not in self._once:
            self._once[found] = found(self)
        value: T = self._once[found]
        return value

    @cached_property
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)

    @cached_property
    def ranks(self) -> np.ndarray:
        """What ranks images by each class, (N, C) float64: probabilities, and of imported ones
        those that were given, whatever they add up to."""
        given = given_as_logs(self.logits, SAID_SUM)
        return self.probabilities if given is None else given

    def value(self, metric: Metric) -> float:
        """NaN where ``reason`` says why."""
        return float("nan") if self.reason(metric) else metric.value(self)

    def influence(self, metric: Metric) -> np.ndarray:
        """Of each image, (N,), see ``influence.py``. NaN where the metric has no value, no
        influences, or no slope: the MCC of a method that predicts one class only."""
        if metric.influences is None or self.reason(metric):
            return np.full(len(self.labels), np.nan)
        return influence.centred(metric.influences(self), self.labels)

    def resamples(self, metric: Metric, units: np.ndarray | None = None) -> np.ndarray:
        """The metric on ``RESAMPLES`` bootstrap samples of the images, NaN where it has no value.

        The same samples whenever labels and ``units`` (N,) are the same, so that runs are paired.
        """
        if self.reason(metric):
            return np.full(RESAMPLES, np.nan)

        def of_sample(images: np.ndarray) -> float:
            if metric.counted is not None:
                return metric.counted(self, np.bincount(images, minlength=len(self.labels)))
            return metric.value(Scorer(self.labels[images], self.logits[images]))

        return inference.within_class_bootstrap(
            of_sample,
            self.labels,
            np.random.default_rng(SEED),
            RESAMPLES,
            units,
        )

    def reason(self, metric: Metric) -> str:
        """Why the metric has no value; empty if it has one."""
        if not len(self.labels):
            return "there are no images"
        if self.broken:
            return f"the logits of {self.broken} of {len(self.labels)} images are not finite"
        return metric.undefined(self)

    @cached_property
    def losses(self) -> np.ndarray:
        """Negative log-likelihood of each image, (N,), in nats, without clipping."""
        exact = self.logits.astype(np.float64)
        exact -= exact.max(axis=1, keepdims=True)
        own = np.take_along_axis(exact, self.labels[:, None], axis=1)[:, 0]
        return np.log(np.exp(exact, out=exact).sum(axis=1)) - own

    @cached_property
    def brier(self) -> np.ndarray:
        """Σ over the classes of (probability − 1[own class])² of each image, (N,), 0 to 2."""
        p = self.probabilities
        own = np.take_along_axis(p, self.labels[:, None], axis=1)[:, 0]
        return (p**2).sum(axis=1) - 2 * own + 1
