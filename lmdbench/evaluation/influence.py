"""What each image does to a metric, to first order: the derivatives behind smooth intervals.

The influence of image i is the derivative of the metric with respect to i's weight, the weights
of each class adding up to its number of images: so the influences of a class add up to 0. Gradients
are with respect to the cells of the confusion matrix, (C, C), rows true classes; a term that is the
same in a whole row drops out when centred and is left away. ``weights`` (C,) make one metric of the
classes' values.
"""

from __future__ import annotations

import numpy as np


def centred(influences: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Influences (N,) less the mean of their class."""
    images = np.bincount(labels)
    means = np.bincount(labels, influences) / np.maximum(images, 1)
    return influences - means[labels]


def recall_gradient(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Of Σ weights · TP / images of the class."""
    return np.diag(_per(weights, matrix.sum(axis=1)))


def precision_gradient(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Of Σ weights · TP / predicted as the class; a class never predicted has none."""
    predicted = matrix.sum(axis=0)
    precision = _per(np.diag(matrix), predicted)
    return _per(weights, predicted) * (np.eye(len(matrix)) - precision)


def f1_gradient(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Of Σ weights · 2 TP / (images of the class + predicted as it)."""
    both = matrix.sum(axis=1) + matrix.sum(axis=0)
    f1 = _per(2 * np.diag(matrix), both)
    return _per(weights, both) * (2 * np.eye(len(matrix)) - f1)


def specificity_gradient(weights: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Of Σ weights · (1 − FP / images of other classes)."""
    others = matrix.sum() - matrix.sum(axis=1)
    return _per(weights, others) * (np.eye(len(matrix)) - 1)


def mcc_gradient(matrix: np.ndarray) -> np.ndarray:
    """Of Gorodkin's coefficient; NaN where all is predicted as one class."""
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    total = true.sum()
    covariance = np.trace(matrix) * total - (true * predicted).sum()
    spread_true = total**2 - (true**2).sum()
    spread_predicted = total**2 - (predicted**2).sum()
    if spread_true == 0 or spread_predicted == 0:
        return np.full(matrix.shape, np.nan)
    slope = total * np.eye(len(matrix)) - true + covariance * predicted / spread_predicted
    return slope / np.sqrt(spread_true * spread_predicted)


def aurocs(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-vs-rest areas under the ROC curve (C,) and each image's part in them (N, C).

    ``scores`` (N, C): column k scores class k; of equal scores a pair counts one half. An image's
    part (its placement, DeLong 1988) is the share of the other side that it stands right to,
    divided by the images of its own side: Σ parts · weights, ``centred``, are the influences on
    Σ weights · areas. NaN where all images or none are of the class.
    """
    images, classes = scores.shape
    columns = np.ascontiguousarray(scores.T)
    order = np.argsort(columns, axis=1)
    in_order = np.take_along_axis(columns, order, axis=1)
    of_class = labels[order] == np.arange(classes)[:, None]
    own = np.bincount(labels, minlength=classes)
    rest = images - own
    # Of the images in ascending order, how many of the class stand below each, ties one half.
    upto = np.cumsum(of_class, axis=1, dtype=np.int32)
    if (in_order[:, 1:] == in_order[:, :-1]).any():
        first, last = _tied(in_order)
        upto_first = np.take_along_axis(upto - of_class, first, axis=1)
        own_below = (upto_first + np.take_along_axis(upto, last, axis=1)) / 2
        below = (first + last + 1) / 2
    else:
        own_below = upto - of_class / 2
        below = np.arange(images) + 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        each = 1.0 / (own * rest)
        each[~np.isfinite(each)] = np.nan
    right = np.where(of_class, below - own_below, own[:, None] - own_below)
    parts = np.empty((classes, images))
    np.put_along_axis(parts, order, right * each[:, None], axis=1)
    areas = np.where(of_class, right, 0).sum(axis=1) * each
    return areas, parts.T


def _tied(in_order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the first and the last of the images that tie with each, rows ascending, (C, N)."""
    classes, images = in_order.shape
    places = np.broadcast_to(np.arange(images), in_order.shape)
    steps = in_order[:, 1:] != in_order[:, :-1]
    edge = np.ones((classes, 1), bool)
    begins = np.concatenate([edge, steps], axis=1)
    ends = np.concatenate([steps, edge], axis=1)
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    last = np.where(ends, places, images)[:, ::-1]
    return first, np.minimum.accumulate(last, axis=1)[:, ::-1]


def calibration_error(
    gaps: np.ndarray, bins: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Σ over bins of |Σ weights · gaps| and each image's part in it (N,), bins held fixed.

    ``gaps`` (N,): correctness less confidence; ``bins`` (N,) int; ``weights`` (N,) add up to 1.
    """
    sums = np.bincount(bins, weights * gaps)
    return float(np.abs(sums).sum()), np.sign(sums)[bins] * weights * gaps


def _per(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Elementwise, 0 where the whole is 0: such a class can't move the metric."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
