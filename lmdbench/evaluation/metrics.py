"""Scores of predictions: pure functions on arrays.

``labels`` are (N,) int64, ``logits`` (N, C) float of any width. All but AUROC follows from the
confusion matrix; it is written out in numpy, and checked against scikit-learn in the tests, because
a comparison scores hundreds of files.

What is undefined is missing: NaN from the functions, None in ``scores``, with its reason in
``missing``. A class without images in the part has no recall, F1 or AUROC; a macro average is over
the classes that have images, which are the same for every method tested on that part. Logits that
are not finite (training diverged) make everything missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# Metric → what people call it. A group's recall goes by the group's own name.
TITLES: dict[str, str] = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "macro_auroc": "Macro AUROC",
    "accuracy": "Accuracy",
    "mcc": "MCC",
    "group_mean": "Group mean",
}

# The metrics a table shows, before the groups, when none is asked for.
DEFAULT_METRICS = ("balanced_accuracy", "macro_f1", "macro_auroc", "accuracy")


def confusion_matrix(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Images of each true class (row) predicted as each class (column), (C, C) float64.

    The prediction is the largest logit; of equal ones, the first class. All NaN if the logits of
    any image are not finite.
    """
    classes = logits.shape[1]
    if unusable(logits):
        return np.full((classes, classes), np.nan)
    cells = np.bincount(labels * classes + logits.argmax(axis=1), minlength=classes**2)
    return cells.reshape(classes, classes).astype(np.float64)


def class_recalls(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Share of each class's images predicted as it, (C,). NaN for a class without images."""
    matrix = confusion_matrix(labels, logits)
    return _ratio(np.diag(matrix), matrix.sum(axis=1))


def class_f1(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """F1 of each class, 2 TP / (2 TP + FP + FN), (C,).

    0 for a class that is never predicted, NaN for one without images.
    """
    matrix = confusion_matrix(labels, logits)
    images = matrix.sum(axis=1)
    f1 = _ratio(2 * np.diag(matrix), images + matrix.sum(axis=0))
    return np.where(images > 0, f1, np.nan)


def class_aurocs(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest, (C,).

    The score is the class's softmax probability; a pair of images with equal scores counts one
    half. NaN where all images or none are of the class.
    """
    areas = np.full(logits.shape[1], np.nan)
    if unusable(logits):
        return areas
    for k, probability in enumerate(softmax(logits).T):
        of_class = probability[labels == k]
        rest = np.sort(probability[labels != k])
        if len(of_class) and len(rest):
            below = np.searchsorted(rest, of_class, "left")
            not_above = np.searchsorted(rest, of_class, "right")
            areas[k] = (below + not_above).sum() / (2 * len(of_class) * len(rest))
    return areas


def balanced_accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean recall of the classes that have images."""
    return _mean(class_recalls(labels, logits))


def macro_f1(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean F1 of the classes that have images."""
    return _mean(class_f1(labels, logits))


def macro_auroc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean one-vs-rest AUROC of the classes for which it is defined: see ``class_aurocs``."""
    return _mean(class_aurocs(labels, logits))


def accuracy(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of the images predicted right. NaN without images."""
    matrix = confusion_matrix(labels, logits)
    return float(np.trace(matrix) / matrix.sum()) if len(labels) else float("nan")


def mcc(labels: np.ndarray, logits: np.ndarray) -> float:
    """Matthews correlation coefficient for C classes (Gorodkin 2004).

    0 where every image is predicted as one class, NaN where every image is of one class.
    """
    matrix = confusion_matrix(labels, logits)
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    total = true.sum()
    spread_true = total**2 - (true**2).sum()
    spread_predicted = total**2 - (predicted**2).sum()
    if spread_true == 0:
        return float("nan")
    if spread_predicted == 0:
        return 0.0
    covariance = np.trace(matrix) * total - (true * predicted).sum()
    return float(covariance / np.sqrt(spread_true * spread_predicted))


def group_recall(recalls: np.ndarray, members: Sequence[int]) -> float:
    """Mean of the recalls (C,) of a group's classes that have images; NaN if none has."""
    return _mean(recalls[list(members)])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) float64 of logits (N, C)."""
    exact = logits.astype(np.float64)
    powers = np.exp(exact - exact.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def unusable(logits: np.ndarray) -> int:
    """Images whose largest logit is not finite. −∞ rules a class out and is no harm."""
    return int((~np.isfinite(logits.max(axis=1))).sum())


def scores(
    labels: np.ndarray, logits: np.ndarray, groups: Mapping[str, Sequence[int]]
) -> dict[str, float | None]:
    """Every metric in ``TITLES``, and the recall of each group by the group's name.

    ``groups``: name → class indices. Shares between 0 and 1 (MCC: −1 and 1); None where undefined,
    which ``missing`` gives the reason for. ``group_mean`` is the mean of the groups' values, which
    some papers call "all"; it is not balanced accuracy.
    """
    gaps = missing(labels, logits, groups)
    recalls = class_recalls(labels, logits)
    by_group = {name: group_recall(recalls, members) for name, members in groups.items()}
    values = {
        "balanced_accuracy": balanced_accuracy(labels, logits),
        "macro_f1": macro_f1(labels, logits),
        "macro_auroc": macro_auroc(labels, logits),
        "accuracy": accuracy(labels, logits),
        "mcc": mcc(labels, logits),
        "group_mean": sum(by_group.values()) / len(by_group) if by_group else float("nan"),
        **by_group,
    }
    return {name: None if name in gaps else value for name, value in values.items()}


def missing(
    labels: np.ndarray, logits: np.ndarray, groups: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """Metric → why ``scores``, called with the same arguments, has no value for it."""
    names = [*TITLES, *groups]
    if len(labels) == 0:
        return dict.fromkeys(names, "there are no images")
    if broken := unusable(logits):
        return dict.fromkeys(
            names, f"the logits of {broken} of {len(labels)} images are not finite"
        )
    has_images = np.bincount(labels, minlength=logits.shape[1]) > 0
    reasons = {}
    if has_images.sum() == 1:
        reasons = dict.fromkeys(("macro_auroc", "mcc"), "all images are of one class")
    for name, members in groups.items():
        if not len(members):
            reasons[name] = "the group has no classes"
        elif not has_images[list(members)].any():
            reasons[name] = "no class of the group has images"
    empty = [name for name in groups if name in reasons]
    if not groups:
        reasons["group_mean"] = "there are no groups"
    elif empty:
        reasons["group_mean"] = f"{' and '.join(empty)} has no value"
    return reasons


def images_per_group(
    labels: np.ndarray, groups: Mapping[str, Sequence[int]], num_classes: int
) -> dict[str, int]:
    """Images in each group, and under ``all`` in total."""
    counts = np.bincount(labels, minlength=num_classes)
    by_group = {name: int(counts[list(members)].sum()) for name, members in groups.items()}
    return {"all": int(counts.sum()), **by_group}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Elementwise, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    """Of what is not NaN; NaN if nothing is left."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
