"""Scores of predictions: pure functions on arrays.

``labels`` are (N,) int64, ``logits`` (N, C) float of any width. Written out in numpy, and checked
against scikit-learn in the tests, because a comparison scores hundreds of files.

What is undefined is missing: NaN from the functions, None in ``scores``, with its reason in
``missing``. A class without images in the part has no recall, F1 or AUROC; a macro average is over
the classes that have images, which are the same for every method tested on that part. Logits that
are not finite (training diverged) make everything missing.

Metrics have names (``parse`` reads them): those in ``TITLES``, a group's name (its recall), and
``STAT:CLASS`` or ``STAT:GROUP`` with one of ``CLASS_STATS``. A ``Scorer`` gives values, reasons
and influences of one run's predictions, and computes once what several metrics need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmdbench.core.registry import unknown
from lmdbench.evaluation import influence

# Metric → what people call it. A group's recall goes by the group's own name.
TITLES: dict[str, str] = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "macro_auroc": "Macro AUROC",
    "accuracy": "Accuracy",
    "mcc": "MCC",
    "group_mean": "Group mean",
    "macro_precision": "Macro precision",
    "macro_specificity": "Macro specificity",
    "nll": "NLL (test prior)",
    "brier": "Brier score (test prior)",
    "ece": "ECE (test prior)",
    "nll_balanced": "NLL (equal prior)",
    "brier_balanced": "Brier score (equal prior)",
    "ece_balanced": "ECE (equal prior)",
}

# The metrics a table shows, before the groups, when none is asked for.
DEFAULT_METRICS = ("balanced_accuracy", "macro_f1", "macro_auroc", "accuracy")

# What ``scores`` gives, before the groups, when none is asked for.
SUMMARY = (*DEFAULT_METRICS, "mcc", "group_mean")

# What each class has of its own → what people call it.
CLASS_STATS: dict[str, str] = {
    "recall": "Recall",
    "precision": "Precision",
    "f1": "F1",
    "specificity": "Specificity",
    "auroc": "AUROC",
}

# Losses and errors: the smaller, the better.
LOWER_IS_BETTER = frozenset(
    {"nll", "brier", "ece", "nll_balanced", "brier_balanced", "ece_balanced"}
)

ECE_BINS = 15

_MACRO = {  # plain name → the statistic it averages over all classes
    "balanced_accuracy": "recall",
    "macro_f1": "f1",
    "macro_auroc": "auroc",
    "macro_precision": "precision",
    "macro_specificity": "specificity",
}
_GRADIENTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "recall": influence.recall_gradient,
    "precision": influence.precision_gradient,
    "f1": influence.f1_gradient,
    "specificity": influence.specificity_gradient,
}


@dataclass(frozen=True)
class Metric:
    """A metric by its full name.

    ``stat``: one of ``CLASS_STATS``, averaged over the classes of each of ``sets`` (name → class
    indices) and then over the sets; or accuracy, mcc, nll, brier, ece, of all images.
    ``of_class``: the only set is one class, by its name. ``equal_prior``: of the last three, with
    every class weighted the same.
    """

    name: str
    title: str
    stat: str
    sets: tuple[tuple[str, tuple[int, ...]], ...] = ()
    of_class: bool = False
    equal_prior: bool = False

    @property
    def lower_is_better(self) -> bool:
        return self.name in LOWER_IS_BETTER

    @property
    def linear(self) -> bool:
        """A weighted sum of recalls: see ``recall_weights``."""
        return self.stat in ("recall", "accuracy")

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value it can have."""
        return {"mcc": (-1.0, 1.0), "nll": (0.0, np.inf), "brier": (0.0, 2.0)}.get(
            self.stat, (0.0, 1.0)
        )

    @property
    def share(self) -> bool:
        """Between 0 and 1 (MCC: −1 and 1), so that percent and points make sense."""
        return self.stat not in ("nll", "brier")

    def images(self, counts: np.ndarray) -> int:
        """Images of the classes it is about, of ``counts`` (C,) in the part."""
        members = {k for _, classes in self.sets for k in classes}
        return int(counts[sorted(members)].sum() if self.sets else counts.sum())


def parse(name: str, classes: Sequence[str], groups: Mapping[str, Sequence[int]]) -> Metric:
    """The metric a user names, in any case, with - or space for _. ``groups``: name → indices.

    Raises UserError, with near matches, for an unknown metric, class or group.
    """
    stat, colon, of = name.partition(":")
    if colon:
        stat = _find("metric before the colon", stat, CLASS_STATS)
        return _of_one(stat, _find("class or group", of, [*classes, *groups]), classes, groups)
    known = _find("metric", name, [*TITLES, *groups, *(f"{s}:CLASS" for s in CLASS_STATS)])
    if known in groups and known not in TITLES:
        return _of_one("recall", known, (), groups)
    if known == "group_mean":
        sets = tuple((group, tuple(members)) for group, members in groups.items())
        return Metric(known, TITLES[known], "recall", sets)
    if known in _MACRO:
        everything = ("all", tuple(range(len(classes))))
        return Metric(known, TITLES[known], _MACRO[known], (everything,))
    equal_prior = known.endswith("_balanced")
    return Metric(known, TITLES[known], known.removesuffix("_balanced"), equal_prior=equal_prior)


def _of_one(
    stat: str, of: str, classes: Sequence[str], groups: Mapping[str, Sequence[int]]
) -> Metric:
    """A statistic of a class or, where no class is called that, of a group."""
    name, title = f"{stat}:{of}", f"{CLASS_STATS[stat]} of {of}"
    if of in classes:
        return Metric(name, title, stat, ((of, (list(classes).index(of),)),), of_class=True)
    if stat == "recall":
        name, title = of, of[:1].upper() + of[1:]
    return Metric(name, title, stat, ((of, tuple(groups[of])),))


def _find(kind: str, name: str, known: Sequence[str] | Mapping[str, str]) -> str:
    """The known name that is meant."""
    if name in known:
        return name
    plain = {_plain(one): one for one in reversed(list(known))}
    if _plain(name) not in plain:
        raise unknown(kind, name, list(known))
    return plain[_plain(name)]


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def recall_weights(
    metric: Metric | str, counts: np.ndarray, groups: Mapping[str, Sequence[int]]
) -> np.ndarray | None:
    """What the metric makes of the recalls, (C,): Σ weights · recall; None if it is no such sum.

    ``counts`` (C,): images of each class in the part; classes without images have weight 0. All
    NaN where the metric is undefined. A name needs no classes unless it names one.
    """
    if isinstance(metric, str):
        metric = parse(metric, [f"class {k}" for k in range(len(counts))], groups)
    if not metric.linear:
        return None
    if metric.stat == "accuracy":
        return counts / counts.sum() if counts.sum() else np.full(len(counts), np.nan)
    return _set_weights(metric, counts > 0)


def _set_weights(metric: Metric, has_value: np.ndarray) -> np.ndarray:
    """(C,): the mean over the sets of the mean over each set's classes that have a value."""
    weights = np.zeros(len(has_value))
    for _, members in metric.sets:
        there = [k for k in members if has_value[k]]
        if not there:
            return np.full(len(has_value), np.nan)
        weights[there] += 1 / (len(there) * len(metric.sets))
    return weights if metric.sets else np.full(len(has_value), np.nan)


class Scorer:
    """Values, reasons and influences of one run's predictions on one part.

    What several metrics need (the confusion matrix, probabilities, the sort behind AUROC) is
    computed once, when it is first asked for.
    """

    def __init__(self, labels: np.ndarray, logits: np.ndarray) -> None:
        self.labels = labels
        self.logits = logits
        self.classes = logits.shape[1]
        self.counts = np.bincount(labels, minlength=self.classes)
        self.broken = unusable(logits)
        self._by_class: dict[str, np.ndarray] = {}

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
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)

    @cached_property
    def _ranked(self) -> tuple[np.ndarray, np.ndarray]:
        if self.broken or not len(self.labels):
            return np.full(self.classes, np.nan), np.full(self.logits.shape, np.nan)
        return influence.aurocs(self.labels, self.probabilities)

    def by_class(self, stat: str) -> np.ndarray:
        """A statistic of ``CLASS_STATS`` of every class, (C,), NaN where undefined."""
        if stat not in self._by_class:
            found = self._ranked[0] if stat == "auroc" else _FROM_MATRIX[stat](self.matrix)
            self._by_class[stat] = found
        return self._by_class[stat]

    def value(self, metric: Metric) -> float:
        """NaN where ``reason`` says why."""
        if self.reason(metric):
            return float("nan")
        if metric.sets:
            weights = _set_weights(metric, self.counts > 0)
            # Undefined among classes with images is only the precision of one never predicted:
            # 0 in a mean, as a method must not gain by ignoring a class.
            return float(weights @ np.nan_to_num(self.by_class(metric.stat)))
        if metric.stat == "accuracy":
            return float(np.trace(self.matrix) / self.matrix.sum())
        if metric.stat == "mcc":
            return _mcc(self.matrix)
        return self._calibration(metric)[0]

    def influence(self, metric: Metric) -> np.ndarray:
        """Of each image, (N,), see ``influence.py``. NaN where the metric has no value, or no
        slope: the MCC of a method that predicts one class only."""
        if self.reason(metric):
            return np.full(len(self.labels), np.nan)
        if metric.stat == "auroc":
            parts = np.nan_to_num(self._ranked[1])
            raw = parts @ _set_weights(metric, self.counts > 0)
        elif metric.sets or metric.stat in ("accuracy", "mcc"):
            gradient = self._gradient(metric)
            return influence.from_gradient(gradient, self.labels, self.predicted)
        else:
            raw = self._calibration(metric)[1]
        return influence.centred(raw, self.labels)

    def reason(self, metric: Metric) -> str:
        """Why the metric has no value; empty if it has one."""
        if not len(self.labels):
            return "there are no images"
        if self.broken:
            return f"the logits of {self.broken} of {len(self.labels)} images are not finite"
        if metric.name == "group_mean" and not metric.sets:
            return "there are no groups"
        if metric.of_class and not self.counts[metric.sets[0][1][0]]:
            return "the class has no images"
        gaps = {name: self._gap(members) for name, members in metric.sets}
        if empty := [name for name, gap in gaps.items() if gap]:
            if len(gaps) > 1:
                return f"{' and '.join(empty)} has no value"
            return gaps[empty[0]]
        if metric.stat in ("auroc", "specificity", "mcc") and (self.counts > 0).sum() == 1:
            return "all images are of one class"
        if metric.stat == "precision" and metric.of_class:
            never = np.isnan(self.by_class("precision")[metric.sets[0][1][0]])
            return "the class is never predicted" if never else ""
        if metric.stat == "nll" and np.isinf(self._losses).any():
            return "an image's own class has probability 0 (its logit is −∞)"
        return ""

    def _gap(self, members: Sequence[int]) -> str:
        if not members:
            return "the group has no classes"
        if self.counts[list(members)].any():
            return ""
        return "no class of the group has images"

    def _gradient(self, metric: Metric) -> np.ndarray:
        if metric.stat == "mcc":
            return influence.mcc_gradient(self.matrix)
        weights = recall_weights(metric, self.counts, {})
        if metric.stat == "accuracy":
            assert weights is not None
            return influence.recall_gradient(weights, self.matrix)
        weights = _set_weights(metric, self.counts > 0)
        return _GRADIENTS[metric.stat](weights, self.matrix)

    @cached_property
    def _losses(self) -> np.ndarray:
        """Negative log-likelihood of each image, (N,)."""
        exact = self.logits.astype(np.float64)
        exact = exact - exact.max(axis=1, keepdims=True)
        own = np.take_along_axis(exact, self.labels[:, None], axis=1)[:, 0]
        return np.log(np.exp(exact).sum(axis=1)) - own

    def _calibration(self, metric: Metric) -> tuple[float, np.ndarray]:
        """Value, and each image's part in it (N,)."""
        weights = _image_weights(self.counts, self.labels, metric.equal_prior)
        if metric.stat == "ece":
            confidence = self.probabilities.max(axis=1)
            gaps = self.correct - confidence
            return influence.calibration_error(gaps, equal_mass_bins(confidence), weights)
        parts = weights * (self._losses if metric.stat == "nll" else self._brier)
        return float(parts.sum()), parts

    @cached_property
    def _brier(self) -> np.ndarray:
        p = self.probabilities
        own = np.take_along_axis(p, self.labels[:, None], axis=1)[:, 0]
        return (p**2).sum(axis=1) - 2 * own + 1


def scores(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    names: Sequence[str] | None = None,
) -> dict[str, float | None]:
    """Metrics by name; by default those of ``SUMMARY``, and the recall of each group.

    ``groups``: name → class indices. None where undefined, which ``missing`` gives the reason for.
    ``group_mean`` is the mean of the groups' values, which some papers call "all"; it is not
    balanced accuracy.
    """
    scorer = Scorer(labels, logits)
    found = {m.name: scorer.value(m) for m in _chosen(names, logits.shape[1], groups)}
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def missing(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
    names: Sequence[str] | None = None,
) -> dict[str, str]:
    """Metric → why ``scores``, called with the same arguments, has no value for it."""
    scorer = Scorer(labels, logits)
    found = {m.name: scorer.reason(m) for m in _chosen(names, logits.shape[1], groups)}
    return {name: reason for name, reason in found.items() if reason}


def influences(
    names: Sequence[str],
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Mapping[str, Sequence[int]],
) -> dict[str, np.ndarray]:
    """Each image's influence on each metric, (N,), in the order of the images."""
    scorer = Scorer(labels, logits)
    return {m.name: scorer.influence(m) for m in _chosen(names, logits.shape[1], groups)}


def _chosen(
    names: Sequence[str] | None, classes: int, groups: Mapping[str, Sequence[int]]
) -> list[Metric]:
    labels = [str(k) for k in range(classes)]
    return [parse(name, labels, groups) for name in (names or (*SUMMARY, *groups))]


# Functions of labels and logits alone


def confusion_matrix(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Images of each true class (row) predicted as each class (column), (C, C) float64.

    The prediction is the largest logit; of equal ones, the first class. All NaN if the logits of
    any image are not finite.
    """
    return Scorer(labels, logits).matrix


def class_recalls(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Share of each class's images predicted as it, (C,). NaN for a class without images."""
    return _recalls(confusion_matrix(labels, logits))


def class_precisions(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Share of the images predicted as each class that are of it, (C,).

    NaN for a class that is never predicted or has no images.
    """
    return _precisions(confusion_matrix(labels, logits))


def class_specificities(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Share of the images of other classes that are not predicted as each class, (C,).

    NaN for a class without images, or with all of them.
    """
    return _specificities(confusion_matrix(labels, logits))


def class_f1(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """F1 of each class, 2 TP / (2 TP + FP + FN), (C,).

    0 for a class that is never predicted, NaN for one without images.
    """
    return _f1(confusion_matrix(labels, logits))


def class_aurocs(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, (C,).

    The score is the class's softmax probability; a pair of images with equal scores counts one
    half. NaN where all images or none are of the class.
    """
    return Scorer(labels, logits).by_class("auroc")


def balanced_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean recall of the classes that have images."""
    return _one("balanced_accuracy", labels, logits)


def macro_f1(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean F1 of the classes that have images."""
    return _one("macro_f1", labels, logits)


def macro_auroc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean one-vs-rest AUROC of the classes for which it is defined: see ``class_aurocs``."""
    return _one("macro_auroc", labels, logits)


def macro_precision(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean precision of the classes that have images; one never predicted counts 0."""
    return _one("macro_precision", labels, logits)


def macro_specificity(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean specificity of the classes that have images."""
    return _one("macro_specificity", labels, logits)


def accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of the images predicted right. NaN without images."""
    return _one("accuracy", labels, logits)


def mcc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Matthews correlation coefficient for C classes (Gorodkin 2004).

    0 where every image is predicted as one class, NaN where every image is of one class.
    """
    return _one("mcc", labels, logits)


def nll(labels: np.ndarray, logits: np.ndarray, equal_prior: bool = False) -> float:
    """Mean negative log-likelihood of the images' classes, in nats, from the logits without
    clipping. ``equal_prior``: the mean over classes of their means. NaN where it is infinite."""
    return _one("nll_balanced" if equal_prior else "nll", labels, logits)


def brier(labels: np.ndarray, logits: np.ndarray, equal_prior: bool = False) -> float:
    """Mean over the images of Σ over the classes of (probability − 1[own class])², 0 to 2.

    ``equal_prior``: the mean over classes of their means.
    """
    return _one("brier_balanced" if equal_prior else "brier", labels, logits)


def ece(labels: np.ndarray, logits: np.ndarray, equal_prior: bool = False) -> float:
    """Expected calibration error: over ``equal_mass_bins`` of the confidence (the largest
    probability), Σ share of the bin · |accuracy − mean confidence in it|.

    ``equal_prior``: in the same bins, images weighted so that every class counts the same.
    """
    return _one("ece_balanced" if equal_prior else "ece", labels, logits)


def equal_mass_bins(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """The bin, 0 to ``bins`` − 1, of each image (N,): ⌊bins · images of lower confidence / N⌋.

    Without ties the bins' sizes differ by one at most, wherever N leaves a remainder. Images of
    equal confidence share a bin, the one the first of them falls in, so a bin can be larger or
    empty; the order of the images changes nothing.
    """
    lower = np.searchsorted(np.sort(confidence), confidence, "left")
    return bins * lower // max(len(confidence), 1)


def group_recall(recalls: np.ndarray, members: Sequence[int]) -> float:
    """Mean of the recalls (C,) of a group's classes that have images; NaN if none has."""
    defined = recalls[list(members)]
    defined = defined[~np.isnan(defined)]
    return float(defined.mean()) if len(defined) else float("nan")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) float64 of logits (N, C)."""
    exact = logits.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


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


def _one(name: str, labels: np.ndarray, logits: np.ndarray) -> float:
    return Scorer(labels, logits).value(_chosen([name], logits.shape[1], {})[0])


# Of the confusion matrix


def _recalls(matrix: np.ndarray) -> np.ndarray:
    return _ratio(np.diag(matrix), matrix.sum(axis=1))


def _precisions(matrix: np.ndarray) -> np.ndarray:
    precisions = _ratio(np.diag(matrix), matrix.sum(axis=0))
    return np.where(matrix.sum(axis=1) > 0, precisions, np.nan)


def _specificities(matrix: np.ndarray) -> np.ndarray:
    images = matrix.sum(axis=1)
    others = matrix.sum() - images
    false = matrix.sum(axis=0) - np.diag(matrix)
    return np.where(images > 0, _ratio(others - false, others), np.nan)


def _f1(matrix: np.ndarray) -> np.ndarray:
    images = matrix.sum(axis=1)
    f1 = _ratio(2 * np.diag(matrix), images + matrix.sum(axis=0))
    return np.where(images > 0, f1, np.nan)


def _mcc(matrix: np.ndarray) -> float:
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    total = true.sum()
    spread_true = total**2 - (true**2).sum()
    spread_predicted = total**2 - (predicted**2).sum()
    if spread_predicted == 0:
        return 0.0
    covariance = np.trace(matrix) * total - (true * predicted).sum()
    return float(covariance / np.sqrt(spread_true * spread_predicted))


_FROM_MATRIX: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "recall": _recalls,
    "precision": _precisions,
    "f1": _f1,
    "specificity": _specificities,
}


def _image_weights(counts: np.ndarray, labels: np.ndarray, equal_prior: bool) -> np.ndarray:
    """(N,), adding up to 1: the same for every image, or for every class that has images."""
    if not equal_prior:
        return np.full(len(labels), 1 / len(labels))
    by_class = 1 / (np.maximum(counts, 1) * (counts > 0).sum())
    return by_class[labels]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Elementwise, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
