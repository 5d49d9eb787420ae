"""What each image does to a metric, to first order: the derivatives behind smooth intervals.

The influence of image i is the derivative of the metric with respect to i's weight, the weights
of each class adding up to its number of images: so the influences of a class add up to 0. Gradients
are with respect to the cells of the confusion matrix, those of the images' ``true`` and ``taken``
classes, (N,) each; a term that is the same in a whole row drops out when centred and is left away.
``weights`` (C,) make one metric of the classes' values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BLOCK = 1 << 22  # scores that are sorted at a time


def centred(influences: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Influences (N,) less the mean of their class."""
    images = np.bincount(labels)
    means = np.bincount(labels, influences) / np.maximum(images, 1)
    return influences - means[labels]


@dataclass(frozen=True)
class Margins:
    """Of a confusion matrix what the statistics of classes need, each (C,) float64: its diagonal,
    and the sums of its rows and columns. The matrix itself grows with the square of the classes."""

    right: np.ndarray
    images: np.ndarray
    predicted: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, predicted: np.ndarray, classes: int) -> Margins:
        right = labels[labels == predicted]
        of = (np.bincount(one, minlength=classes) for one in (right, labels, predicted))
        return cls(*(counts.astype(np.float64) for counts in of))


def recall_gradient(
    weights: np.ndarray, margins: Margins, true: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Of Σ weights · TP / images of the class."""
    return np.where(true == taken, _per(weights, margins.images)[true], 0.0)


def precision_gradient(
    weights: np.ndarray, margins: Margins, true: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Of Σ weights · TP / predicted as the class; a class never predicted has none."""
    precision = _per(margins.right, margins.predicted)
    return _per(weights, margins.predicted)[taken] * ((true == taken) - precision[taken])


def f1_gradient(
    weights: np.ndarray, margins: Margins, true: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Of Σ weights · 2 TP / (images of the class + predicted as it)."""
    both = margins.images + margins.predicted
    f1 = _per(2 * margins.right, both)
    return _per(weights, both)[taken] * (2.0 * (true == taken) - f1[taken])


def specificity_gradient(
    weights: np.ndarray, margins: Margins, true: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Of Σ weights · (1 − FP / images of other classes)."""
    others = margins.images.sum() - margins.images
    return _per(weights, others)[taken] * ((true == taken) - 1.0)


def npv_gradient(
    weights: np.ndarray, margins: Margins, true: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Of Σ weights · TN / not predicted as the class."""
    others = margins.images.sum() - margins.predicted
    npv = _per(others - (margins.images - margins.right), others)
    return _per(weights, others)[taken] * ((true == taken) - 1.0 + npv[taken])


def positive_ratio_gradient(
    weights: np.ndarray, margins: Margins, true: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Of Σ weights · recall / (1 − specificity)."""
    others, false = margins.images.sum() - margins.images, margins.predicted - margins.right
    of_one = _per(others, margins.images * false)  # what one right image more adds
    of_false = -_per(of_one * margins.right, false)
    return weights[taken] * np.where(true == taken, of_one[taken], of_false[taken])


def negative_ratio_gradient(
    weights: np.ndarray, margins: Margins, true: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Of Σ weights · (1 − recall) / specificity."""
    others = margins.images.sum() - margins.images
    kept = others - (margins.predicted - margins.right)  # true negatives
    of_one = _per(others, margins.images * kept)
    of_false = _per(of_one * (margins.images - margins.right), kept)
    return weights[taken] * np.where(true == taken, -of_one[taken], of_false[taken])


def kappa_gradient(
    disagreement: np.ndarray, matrix: np.ndarray, true: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    """Of 1 − Σ ``disagreement`` · seen / Σ ``disagreement`` · expected by chance, each (C, C): seen
    is the confusion ``matrix``, what is expected follows from the sums of its rows and columns."""
    images, predicted, total = matrix.sum(axis=1), matrix.sum(axis=0), matrix.sum()
    seen = float((disagreement * matrix).sum())
    by_column = images @ disagreement / total
    expected = float(by_column @ predicted)
    return (seen / expected * by_column[taken] - disagreement[true, taken]) / expected


def mcc_gradient(margins: Margins, true: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Of Gorodkin's coefficient; NaN where all is predicted as one class."""
    images, predicted = margins.images, margins.predicted
    total = images.sum()
    covariance = margins.right.sum() * total - (images * predicted).sum()
    spread_true = total**2 - (images**2).sum()
    spread_predicted = total**2 - (predicted**2).sum()
    if spread_true == 0 or spread_predicted == 0:
        return np.full(len(true), np.nan)
    drift = covariance * predicted / spread_predicted
    slope = total * (true == taken) - images[taken] + drift[taken]
    return slope / np.sqrt(spread_true * spread_predicted)


def rankings(
    of_block: Callable[..., tuple[np.ndarray, np.ndarray]], labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of each class's ranking (C,) and each image's part in it (N, C), block by block.

    ``scores`` (N, C): column k scores class k. ``of_block``, as ``_areas``: of whose images they
    are (K, N), scores (N, K) and how many are the class's (K,), values (K,) and parts (K, N).
    """
    images, classes = scores.shape
    values, parts = np.empty(classes), np.empty((classes, images))
    own = np.bincount(labels, minlength=classes)
    step = max(1, BLOCK // max(images, 1))
    for start in range(0, classes, step):
        block = slice(start, min(start + step, classes))
        ours = labels == np.arange(block.start, block.stop)[:, None]
        values[block], parts[block] = of_block(ours, scores[:, block], own[block])
    return values, parts.T


def aurocs(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-vs-rest areas under the ROC curve (C,) and each image's part in them (N, C).

    ``scores`` (N, C): column k scores class k; of equal scores a pair counts one half. An image's
    part (its placement, DeLong 1988) is the share of the other side that it stands right to,
    divided by the images of its own side: Σ parts · weights, ``centred``, are the influences on
    Σ weights · areas. NaN where all images or none are of the class.
    """
    return rankings(_areas, labels, scores)


def _areas(ours: np.ndarray, scores: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``aurocs`` of a few classes (K,): whose ``ours`` (K, N) the images are, ``scores`` (N, K),
    and how many are ``own`` (K,). Parts (K, N)."""
    images, classes = scores.shape
    columns = np.ascontiguousarray(scores.T)
    order = np.argsort(columns, axis=1)
    in_order = np.take_along_axis(columns, order, axis=1)
    of_class = np.take_along_axis(ours, order, axis=1)
    rest = images - own
    # Of the images in ascending order, how many of the class stand below each, ties one half.
    upto = np.cumsum(of_class, axis=1, dtype=np.int32)
    if (in_order[:, 1:] == in_order[:, :-1]).any():
        first, last = tied(in_order)
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
    return np.where(of_class, right, 0).sum(axis=1) * each, parts


def average_precisions(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One-vs-rest average precisions (C,) and each image's part in them (N, C), as ``aurocs``.

    The mean, over the images of the class, of the precision among all that score as high as it or
    higher: Σ (step in recall) · precision over the distinct scores. NaN without images.
    """
    return rankings(_precisions, labels, scores)


def _precisions(
    ours: np.ndarray, scores: np.ndarray, own: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``average_precisions`` of a few classes, arguments as of ``_areas``."""
    columns = -scores.T
    order = np.argsort(columns, axis=1)
    of_class = np.take_along_axis(ours, order, axis=1)
    first, last = tied(np.take_along_axis(columns, order, axis=1))
    taken = last + 1.0
    precision = np.take_along_axis(np.cumsum(of_class, axis=1), last, axis=1) / taken
    share = of_class / np.where(own, own, np.nan)[:, None]

    def from_tie_on(values: np.ndarray) -> np.ndarray:
        """Sum over the images of the class that score as high as each or lower."""
        upto = np.cumsum(values, axis=1)
        return upto[:, -1:] - np.take_along_axis(upto - values, first, axis=1)

    found = share * precision
    parts = np.empty(order.shape)
    in_order = found + of_class * from_tie_on(share / taken) - from_tie_on(found / taken)
    np.put_along_axis(parts, order, in_order, axis=1)
    return found.sum(axis=1), parts


def tied(in_order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
