"""What makes no sense in a metric, refused as it is registered: it is tried on a few images."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.evaluation import influence

RESERVED = ("head", "medium", "tail", "all")  # of groups
NOTHING = 1e-12  # an influence of rounding alone
TIMES = 3  # how far influences may be from what copies of the images show

Arrays = tuple[np.ndarray, np.ndarray]  # labels (N,) int64, logits (N, C)


def tried(
    function: Callable[[np.ndarray, np.ndarray], float],
    labels: np.ndarray,
    logits: np.ndarray,
    bounds: tuple[float, float],
) -> tuple[float, str]:
    """A metric's value, or NaN and why it has none. It can't change the arrays that it is given."""
    try:
        found = _quietly(function, labels, logits)
        if np.ndim(found) or not hasattr(found, "__float__"):
            return math.nan, f"it returned {type(found).__name__}, not one number"
        value = float(found)
    except Exception as error:  # whatever a plug-in does must not take the other metrics down
        return math.nan, f"it raised {_in_a_line(error)}"
    if math.isnan(value):
        return math.nan, "it is not defined here (NaN)"
    low, high = bounds
    if not low - 1e-9 <= value <= high + 1e-9:
        return math.nan, f"it is {value:g}, outside its bounds {low:g} to {high:g}"
    return value, ""


def check_metric(
    name: str,
    function: Callable[[np.ndarray, np.ndarray], float],
    title: str,
    bounds: tuple[float, float],
    lower_is_better: bool,
) -> None:
    """Raise UserError, in one line, for what makes no sense as a metric."""
    who = f"metric {name!r}"
    if name in RESERVED:
        raise UserError(f"{who} is called like a group of classes; choose another name")
    if not inspect.isfunction(function):
        raise UserError(f"{who} must be a function of labels (N,) and logits (N, C); write one")
    if not (isinstance(title, str) and title.strip() and title.isprintable()):
        raise UserError(f"{who}: title {title!r}; give the words at the head of its column")
    if not _are_bounds(bounds):
        raise UserError(
            f"{who}: bounds {bounds!r}; give its smallest and its largest value, as (0, 1)"
        )
    labels, logits = example()
    perfect = 9.0 * np.eye(3)[labels]
    values = []
    for scores in (logits, logits, perfect, np.roll(perfect, 1, axis=1)):
        value, why = tried(function, labels, scores, bounds)
        if why or math.isinf(value):
            raise UserError(
                f"{who}, tried on {len(labels)} images of 3 classes: {why or 'it is infinite'}; "
                "of labels (N,) int64 and logits (N, C), which it must not change, it returns one "
                "number within its bounds"
            )
        values.append(value)
    once, again, best, worst = values
    if once != again:
        raise UserError(
            f"{who} is {once:g} and then {again:g} of the same images; make it give one value, "
            "with a generator of a fixed seed if it draws"
        )
    if best > worst if lower_is_better else best < worst:
        raise UserError(
            f"{who}: a perfect prediction has {best:g}, one that is always wrong {worst:g}; "
            f"say lower_is_better={not lower_is_better}"
        )


def check_influences(
    name: str,
    function: Callable[[np.ndarray, np.ndarray], float],
    influences: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    """Raise UserError, in one line, for influences that are not those of the metric.

    They are set against what it gains from one more copy of each image.
    """
    who = f"metric {name!r}: its influences"
    labels, logits = example()
    told = influence.centred(influences_of(name, influences, labels, logits), labels)
    seen = copies(function, labels, logits)
    if max(np.abs(told).max(), np.abs(seen).max()) < NOTHING:
        return
    scale = math.sqrt(float(told @ told) / max(float(seen @ seen), NOTHING**2))
    if not 1 / TIMES < scale < TIMES or told @ seen < 0:
        raise UserError(
            f"{who} are {scale:.2g} times what one more copy of an image adds to it"
            f"{', and of the other sign' * bool(told @ seen < 0)}; give its derivative by each "
            "image's weight, or leave them out for a bootstrap"
        )


def influences_of(
    name: str,
    influences: Callable[[np.ndarray, np.ndarray], np.ndarray],
    labels: np.ndarray,
    logits: np.ndarray,
) -> np.ndarray:
    """What the function gives, (N,). Raises UserError, in one line, where that is anything else."""
    who = f"metric {name!r}: its influences"
    try:
        told = np.asarray(_quietly(influences, labels, logits))
    except Exception as error:
        raise UserError(
            f"{who} raised {_in_a_line(error)}; they are a function of labels (N,) int64 and "
            "logits (N, C), which it must not change"
        ) from error
    numeric = told.dtype.kind in "biuf"
    if told.shape != labels.shape or not numeric or not np.isfinite(told).all():
        raise UserError(
            f"{who} of {len(labels)} images are {told.dtype} of shape {told.shape}"
            f"{', not all finite' * (numeric and not np.isfinite(told).all())}; "
            "return one finite number an image, (N,), or leave them out for a bootstrap"
        )
    return told.astype(float)


def copies(
    function: Callable[[np.ndarray, np.ndarray], float], labels: np.ndarray, logits: np.ndarray
) -> np.ndarray:
    """What the metric gains from one more copy of each image, (N,), less the mean of its class."""
    whole = function(labels, logits)
    added = [
        function(np.append(labels, labels[k]), np.append(logits, logits[k : k + 1], axis=0)) - whole
        for k in range(len(labels))
    ]
    return influence.centred(np.array(added, float), labels)


def example() -> Arrays:
    """Images of three classes, 30, 15 and 9: most predicted right, some wrong and sure of it."""
    labels = np.repeat([0, 1, 2], [30, 15, 9])
    noise = np.random.default_rng(0).normal(size=(len(labels), 3))
    return labels, (3 * noise + 4 * np.eye(3)[labels]).astype(np.float32)


def _quietly(function: Callable[[np.ndarray, np.ndarray], Any], *arrays: np.ndarray) -> Any:
    """What it returns of arrays that it can't change, without numpy's and others' warnings."""
    views = [array.view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*views)


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _are_bounds(bounds: Any) -> bool:
    return (
        isinstance(bounds, tuple | list)
        and len(bounds) == 2
        and all(isinstance(end, int | float) for end in bounds)
        and bounds[0] < bounds[1]
    )
