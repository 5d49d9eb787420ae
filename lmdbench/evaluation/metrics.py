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
several metrics need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.registry import Registry, registrar, unknown
from lmdbench.evaluation import inference, influence
from lmdbench.evaluation.influence import Margins
from lmdbench.evaluation.metric_check import check_influences, check_metric, influences_of, tried

# The metrics a table shows, before the groups, when none is asked for.
DEFAULT_METRICS = ("balanced_accuracy", "macro_f1", "macro_auroc", "accuracy")

# What ``scores`` gives, before those of plug-ins and the groups, when none is asked for.
SUMMARY = (*DEFAULT_METRICS, "mcc", "group_mean")

ECE_BINS = 15
# How far the rounded probabilities of an image may add up to other than 1, in floating point: to be
# taken for probabilities, and where they are said to be some
ROUNDED_SUM, SAID_SUM = 0.01 + 1e-9, 0.05 + 1e-9
RESAMPLES = 500  # of the bootstrap: its standard errors are right to 3 %
SEED = 0  # of its generator

Sets = tuple[tuple[str, tuple[int, ...]], ...]  # names → class indices
Function = TypeVar("Function", bound=Callable[[np.ndarray, np.ndarray], float])


@dataclass(frozen=True)
class Metric:
    """A number that is told of a run's predictions.

    ``value``, and ``influences`` (N,) as in ``influence.py`` but for centring, are of a Scorer for
    which ``undefined`` is empty, and not the reason why there is no value. Without influences,
    intervals come from a bootstrap. ``weights``, of a metric that is a weighted sum of recalls: of
    the images of each class (C,) the weights (C,), 0 for classes without images, NaN where it is
    undefined. ``bounds``: the smallest and the largest value it can have. ``percent``: whether
    percent and points make sense of it. ``sets``: names → the classes it is about, () for all;
    ``of_class``: it is one class.
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

    @property
    def resampled(self) -> bool:
        """Whether its intervals come from a bootstrap."""
        return self.weights is None and self.influences is None

    def images(self, counts: np.ndarray) -> int:
        """Images of the classes it is about, of ``counts`` (C,) in the part."""
        members = {k for _, classes in self.sets for k in classes}
        return int(counts[sorted(members)].sum() if self.sets else counts.sum())

    def estimate(
        self,
        values: np.ndarray,
        correct: np.ndarray,
        pieces: np.ndarray | None,
        labels: np.ndarray,
        counts: np.ndarray,
        units: np.ndarray | None,
    ) -> inference.Estimate:
        """The mean over seeds with its interval, in the way that the metric has.

        ``values`` (S,), ``correct`` (S, N); ``pieces``: the influences (S, N), or the samples
        (S, B) of one that is ``resampled``, None for a weighted sum of recalls; ``counts`` (C,).
        """
        if self.weights is not None:
            return inference.linear_estimate(correct, labels, self.weights(counts), units)
        assert pieces is not None
        if self.resampled:
            return inference.bootstrap_estimate(values, pieces, labels, self.bounds)
        return inference.smooth_estimate(values, pieces, labels, units, self.bounds)


METRICS: Registry[Metric] = Registry("metric", __name__, group="lmdbench.metrics")


@registrar
def register_metric(
    name: str,
    *,
    title: str,
    bounds: tuple[float, float] = (0.0, 1.0),
    lower_is_better: bool = False,
    percent: bool | None = None,
    influences: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Callable[[Function], Function]:
    """Decorator of a function of labels (N,) int64 and logits (N, C) float32 that returns a number.

    ``bounds``: the smallest and the largest value it can have, perhaps ±inf. ``percent``: show it
    in percent; if not said, where it lies between −1 and 1. ``influences``: a function of the same
    arguments, (N,) floats: what one more copy of each image adds to the metric, to first order;
    without it intervals come from a bootstrap of images (or lesions, patients) within classes.
    Where the function raises or returns NaN, the metric has no value, and tables say why.

    It is tried on a few images. Raises UserError, in one line, for what makes no sense as a metric,
    and for a taken name or title.
    """

    def decorate(function: Function) -> Function:
        check_metric(name, function, title, bounds, lower_is_better)
        for other, one in METRICS.all().items():
            if _plain(other) != _plain(str(name)) and _plain(one.title) == _plain(title):
                raise UserError(
                    f"metric {name!r}: {other!r} has the title {one.title!r} already; give another"
                )
        same = [one for one in METRICS if _plain(one) == _plain(str(name))]
        if influences is not None:
            check_influences(name, function, influences)

        def value(scorer: Scorer) -> float:
            return tried(function, scorer.labels, scorer.logits, bounds)[0]

        def undefined(scorer: Scorer) -> str:
            return tried(function, scorer.labels, scorer.logits, bounds)[1]

        def influence_of(scorer: Scorer) -> np.ndarray:
            assert influences is not None
            return influences_of(name, influences, scorer.labels, scorer.logits)

        metric = Metric(
            name,
            title,
            value,
            influence_of if influences is not None else None,
            undefined,
            bounds=(float(bounds[0]), float(bounds[1])),
            lower_is_better=lower_is_better,
            percent=bounds[0] >= -1 and bounds[1] <= 1 if percent is None else percent,
        )
        METRICS.add(same[0] if same else name, metric, function)
        return function

    return decorate


def parse(name: str, classes: Sequence[str], groups: Mapping[str, Sequence[int]]) -> Metric:
    """The metric a user names, in any case, with - or space for _. ``groups``: name → indices.

    Raises UserError, with near matches, for an unknown metric, class or group.
    """
    stat, colon, of = name.partition(":")
    if colon:
        stat = _find("metric before the colon", stat, list(CLASS_STATS))
        of = _find("class or group", of, [*classes, *groups])
        if of in classes:
            return _of_classes(f"{stat}:{of}", stat, ((of, (list(classes).index(of),)),), True)
    else:
        of = _find("metric", name, [*METRICS, *groups, *(f"{s}:CLASS" for s in CLASS_STATS)])
        if of == GROUP_MEAN:
            sets = tuple((group, tuple(members)) for group, members in groups.items())
            return _mean(of, METRICS[of].title, "recall", sets)
        if of in METRICS:
            return METRICS[of]
        stat = "recall"
    name = of if stat == "recall" else f"{stat}:{of}"
    return _of_classes(name, stat, ((of, tuple(groups[of])),))


def described(name: str) -> Metric:
    """The metric of a full name as far as it is known without classes and groups: its title,
    direction and format, not its value."""
    if name in METRICS:
        return METRICS[name]
    stat = name.partition(":")[0]
    return _of_classes(name, stat if ":" in name and stat in CLASS_STATS else "recall", ())


def summary(groups: Iterable[str]) -> tuple[str, ...]:
    """The metrics of one run when none is asked for: ``SUMMARY``, those of plug-ins, the groups."""
    return (*SUMMARY, *(name for name in METRICS if name not in BUILT_IN), *groups)


def _find(kind: str, name: str, known: list[str]) -> str:
    """The known name that is meant."""
    if name in known:
        return name
    plain = {_plain(one): one for one in reversed(known)}
    if _plain(name) not in plain:
        hint = " That of a plug-in needs --plugin FILE.py." * (kind == "metric")
        raise UserError(f"{unknown(kind, name, known)}{hint}")
    return plain[_plain(name)]


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


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
        if stat.title not in self._of_classes:
            self._of_classes[stat.title] = stat.values(self)
        return self._of_classes[stat.title]

    @cached_property
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)

    @cached_property
    def ranks(self) -> np.ndarray:
        """What ranks images by each class, (N, C) float64: probabilities, and of imported ones
        those that were given, whatever they add up to."""
        given = _given(self.logits, SAID_SUM)
        return self.probabilities if given is None else given

    @cached_property
    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """AUROC of each class (C,) and each image's part in it (N, C), 0 where there is none."""
        if self.broken or not len(self.labels):
            return np.full(self.classes, np.nan), np.zeros(self.logits.shape)
        areas, parts = influence.aurocs(self.labels, self.ranks)
        return areas, np.nan_to_num(parts, copy=False)

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
        from lmdbench.evaluation import inference  # scipy, which scores alone can do without

        if self.reason(metric):
            return np.full(RESAMPLES, np.nan)
        return inference.within_class_bootstrap(
            lambda images: metric.value(Scorer(self.labels[images], self.logits[images])),
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


def scores(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    names: Sequence[str] | None = None,
) -> dict[str, float | None]:
    """Metrics by name; by default those of ``summary``.

    ``groups``: name → class indices. None where undefined, which ``missing`` gives the reason for.
    ``group_mean`` is the mean of the groups' values, which some papers call "all"; it is not
    balanced accuracy.
    """
    scorer = Scorer(labels, logits)
    found = {m.name: scorer.value(m) for m in _chosen(names, scorer.classes, groups)}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def missing(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    names: Sequence[str] | None = None,
) -> dict[str, str]:
    """Metric → why ``scores``, called with the same arguments, has no value for it."""
    scorer = Scorer(labels, logits)
    found = {m.name: scorer.reason(m) for m in _chosen(names, scorer.classes, groups)}
    return {name: reason for name, reason in found.items() if reason}


def influences(
    names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
) -> dict[str, np.ndarray]:
    """Each image's influence on each metric, (N,), in the order of the images."""
    scorer = Scorer(labels, logits)
    return {m.name: scorer.influence(m) for m in _chosen(names, scorer.classes, groups)}


def _chosen(
    names: Sequence[str] | None, classes: int, groups: Mapping[str, Sequence[int]]
) -> list[Metric]:
    labels = [str(k) for k in range(classes)]
    return [parse(name, labels, groups) for name in (names or summary(groups))]


# Functions of labels and logits alone


def confusion_matrix(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Images of each true class (row) predicted as each class (column), (C, C) float64.

    The prediction is the largest logit; of equal ones, the first class. All NaN if the logits of
    any image are not finite.
    """
    return Scorer(labels, logits).matrix


def by_class(stat: str, labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """One of ``CLASS_STATS`` of each class, (C,), NaN where it is undefined."""
    return Scorer(labels, logits).of_classes(CLASS_STATS[stat])


def score(name: str, labels: np.ndarray, logits: np.ndarray) -> float:
    """A metric by its name, NaN where it is undefined. ``CLASS_STATS`` and groups have no names
    here: see ``by_class`` and ``scores``."""
    return Scorer(labels, logits).value(METRICS[name])


def balanced_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean recall of the classes that have images."""
    return score("balanced_accuracy", labels, logits)


def equal_mass_bins(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The bin, 0 to ``bins`` − 1, of each image (N,): ⌊bins · images of lower confidence / N⌋.

    Without ties the bins' sizes differ by one at most, wherever N leaves a remainder. Images of
    equal confidence share a bin, the one the first of them falls in, so a bin can be larger or
    empty; the order of the images changes nothing.
    """
    lower = np.searchsorted(np.sort(confidence), confidence, "left")
    return bins * lower // max(len(confidence), 1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) float64 of logits (N, C).

    Logarithms of probabilities in float64, as imported predictions have them, give these
    themselves: divided by a sum that is 1 but for rounding, equal ones would differ.
    """
    given = _given(logits, ROUNDED_SUM)
    if given is not None:
        return given
    powers = logits.astype(np.float64)  # in place from here: of many classes it is large
    powers -= powers.max(axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _given(logits: np.ndarray, off: float) -> np.ndarray | None:
    """The probabilities (N, C) that float64 logits are the logarithms of, if each row adds up to 1
    but for ``off``."""
    if logits.dtype != np.float64 or not logits.size or logits.max() > off:
        return None
    given = np.exp(logits)
    return given if np.abs(given.sum(axis=1) - 1).max() <= off else None


def unusable(logits: np.ndarray) -> int:
    """Images whose largest logit is not finite. −∞ rules a class out and is no harm."""
    return int((~np.isfinite(logits.max(axis=1))).sum())


def images_per_group(
    labels: np.ndarray, groups: Mapping[str, Sequence[int]], num_classes: int
) -> dict[str, int]:
    """Images in each group, and under ``all`` in total."""
    counts = np.bincount(labels, minlength=num_classes)
    by_group = {name: int(counts[list(members)].sum()) for name, members in groups.items()}
    return {"all": int(counts.sum()), **by_group}


# Of the confusion matrix


def _recalls(margins: Margins) -> np.ndarray:
    return _ratio(margins.right, margins.images)


def _precisions(margins: Margins) -> np.ndarray:
    precisions = _ratio(margins.right, margins.predicted)
    return np.where(margins.images > 0, precisions, np.nan)


def _specificities(margins: Margins) -> np.ndarray:
    others = margins.images.sum() - margins.images
    false = margins.predicted - margins.right
    return np.where(margins.images > 0, _ratio(others - false, others), np.nan)


def _f1(margins: Margins) -> np.ndarray:
    f1 = _ratio(2 * margins.right, margins.images + margins.predicted)
    return np.where(margins.images > 0, f1, np.nan)


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


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Elementwise, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


@dataclass(frozen=True)
class ClassStat:
    """What each class has of its own.

    ``values`` (C,) of a Scorer, NaN where undefined. ``influences`` (N,), not centred, on
    Σ weights · values, of a Scorer and the weights (C,). ``of_rest``: it needs images of others.
    """

    title: str
    values: Callable[[Scorer], np.ndarray]
    influences: Callable[[Scorer, np.ndarray], np.ndarray]
    of_rest: bool = False


def _of_cells(
    title: str,
    values: Callable[[Margins], np.ndarray],
    gradient: Callable[[np.ndarray, Margins, np.ndarray, np.ndarray], np.ndarray],
    of_rest: bool = False,
) -> ClassStat:
    """A statistic of the confusion matrix, with its ``gradient`` at the cells of the images."""
    return ClassStat(
        title,
        lambda s: values(s.margins),
        lambda s, weights: gradient(weights, s.margins, s.labels, s.predicted),
        of_rest,
    )


# Name → what can be asked of a class or group.
CLASS_STATS: dict[str, ClassStat] = {
    "recall": _of_cells("Recall", _recalls, influence.recall_gradient),
    "precision": _of_cells("Precision", _precisions, influence.precision_gradient),
    "f1": _of_cells("F1", _f1, influence.f1_gradient),
    "specificity": _of_cells(
        "Specificity", _specificities, influence.specificity_gradient, of_rest=True
    ),
    "auroc": ClassStat(
        "AUROC",
        lambda s: s.ranked[0],
        lambda s, weights: s.ranked[1] @ weights,
        of_rest=True,
    ),
}


# Metrics of classes and groups


def _of_classes(name: str, stat: str, sets: Sets, of_class: bool = False) -> Metric:
    """A statistic of a class or group by the metric's own name, ``STAT:OF`` or the group's."""
    of = name.removeprefix(f"{stat}:")
    title = name[:1].upper() + name[1:] if of == name else f"{CLASS_STATS[stat].title} of {of}"
    return _mean(name, title, stat, sets, of_class)


def _mean(
    name: str, title: str, stat: str, sets: Sets | None = None, of_class: bool = False
) -> Metric:
    """A statistic's mean over the classes of each set, then over the sets; None: all classes."""
    of = CLASS_STATS[stat]

    def weights(counts: np.ndarray) -> np.ndarray:
        if sets is None:
            return _set_weights((("all", tuple(range(len(counts)))),), counts > 0)
        return _set_weights(sets, counts > 0)

    def value(scorer: Scorer) -> float:
        # Undefined among classes with images is only the precision of one never predicted:
        # 0 in a mean, as a method must not gain by ignoring a class.
        return float(weights(scorer.counts) @ np.nan_to_num(scorer.of_classes(of)))

    def undefined(scorer: Scorer) -> str:
        if sets is not None and (gap := _gap(sets, scorer.counts, of_class)):
            return gap
        if of.of_rest and (scorer.counts > 0).sum() == 1:
            return "all images are of one class"
        if of_class and sets and np.isnan(scorer.of_classes(of)[sets[0][1][0]]):
            return "the class is never predicted"
        return ""

    return Metric(
        name,
        title,
        value,
        lambda scorer: of.influences(scorer, weights(scorer.counts)),
        undefined,
        weights if stat == "recall" else None,
        sets=sets or (),
        of_class=of_class,
    )


def _set_weights(sets: Sets, has_value: np.ndarray) -> np.ndarray:
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


# Metrics of all images


def _accuracy_weights(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum() if counts.sum() else np.full(len(counts), np.nan)


def _calibration(
    name: str,
    title: str,
    of: Callable[[Scorer, np.ndarray], tuple[float, np.ndarray]],
    equal_prior: bool,
    **more: Any,
) -> Metric:
    """``of`` a Scorer and weights of the images (N,): the value, and each image's part in it."""
    prior = "equal" if equal_prior else "test"

    def found(scorer: Scorer) -> tuple[float, np.ndarray]:
        return of(scorer, _image_weights(scorer.counts, scorer.labels, equal_prior))

    return Metric(
        name + "_balanced" * equal_prior,
        f"{title} ({prior} prior)",
        lambda s: found(s)[0],
        lambda s: found(s)[1],
        lower_is_better=True,
        **more,
    )


def _image_weights(counts: np.ndarray, labels: np.ndarray, equal_prior: bool) -> np.ndarray:
    """(N,), adding up to 1: the same for every image, or for every class that has images."""
    if not equal_prior:
        return np.full(len(labels), 1 / len(labels))
    by_class = 1 / (np.maximum(counts, 1) * (counts > 0).sum())
    return by_class[labels]


def _with_sum(parts: np.ndarray) -> tuple[float, np.ndarray]:
    return float(parts.sum()), parts


def _calibration_error(scorer: Scorer, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """ECE: over ``equal_mass_bins`` of the confidence (the largest probability), Σ share of the
    bin · |accuracy − mean confidence in it|, shares by the weights."""
    confidence = scorer.probabilities.max(axis=1)
    gaps = scorer.correct - confidence
    return influence.calibration_error(gaps, equal_mass_bins(confidence), weights)


def _impossible(scorer: Scorer) -> str:
    if np.isinf(scorer.losses).any():
        return "an image's own class has probability 0 (its logit is −∞)"
    return ""


GROUP_MEAN = "group_mean"  # the one whose classes are those of the groups
_BUILT_IN = (
    _mean("balanced_accuracy", "Balanced accuracy", "recall"),
    _mean("macro_f1", "Macro F1", "f1"),
    _mean("macro_auroc", "Macro AUROC", "auroc"),
    Metric(
        "accuracy",
        "Accuracy",
        lambda s: float(s.margins.right.sum() / s.margins.images.sum()),
        lambda s: CLASS_STATS["recall"].influences(s, _accuracy_weights(s.counts)),
        weights=_accuracy_weights,
    ),
    Metric(
        "mcc",
        "MCC",
        lambda s: _mcc(s.margins),
        lambda s: influence.mcc_gradient(s.margins, s.labels, s.predicted),
        lambda s: "all images are of one class" if (s.counts > 0).sum() == 1 else "",
        bounds=(-1.0, 1.0),
    ),
    _mean(GROUP_MEAN, "Group mean", "recall", ()),
    _mean("macro_precision", "Macro precision", "precision"),
    _mean("macro_specificity", "Macro specificity", "specificity"),
    *(
        metric
        for equal in (False, True)
        for metric in (
            _calibration(
                "nll",
                "NLL",
                lambda s, weights: _with_sum(weights * s.losses),
                equal,
                undefined=_impossible,
                bounds=(0.0, np.inf),
                percent=False,
            ),
            _calibration(
                "brier",
                "Brier score",
                lambda s, weights: _with_sum(weights * s.brier),
                equal,
                bounds=(0.0, 2.0),
                percent=False,
            ),
            _calibration("ece", "ECE", _calibration_error, equal),
        )
    ),
)
BUILT_IN = tuple(metric.name for metric in _BUILT_IN)
for _metric in _BUILT_IN:
    METRICS.add(_metric.name, _metric, Metric)
