"""Logits or probabilities, and which of the two a table's values are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics import ROUNDED_SUM, SAID_SUM

Values = Literal["auto", "logits", "probabilities"]


def as_logits(
    values: np.ndarray, kind: Values, images: Sequence[str]
) -> tuple[np.ndarray, Literal["logits", "probabilities"], int]:
    """Values (N, C) float64 as logits (N, C) float64, what they were, and how many zeros.

    Probabilities lie in [0, 1] and add up to 1 in each row, but for rounding; their logits are
    their logarithms. For the logarithm a zero counts as 2.2e-16, as in scikit-learn's log loss, or
    as a quarter of the smallest value that is no zero, if that is less. Raises UserError, naming an
    image, for percentages, for probabilities that are none or not in every row, and for values of
    which it can't be told.
    """
    sums = values.sum(axis=1)
    if kind != "logits" and (values >= 0).all() and abs(np.median(sums) - 100) <= 100 * SAID_SUM:
        raise UserError(
            f"no value is below 0 and rows add up to about 100 (image {images[0]}: {sums[0]:.4g}), "
            "as percentages do: divide them by 100, or say --values logits"
        )
    inside = (values >= 0).all() and (values <= 1 + 1e-6).all()
    off = np.abs(sums - 1)
    worst = int(off.argmax())
    total = f"image {images[worst]}: {sums[worst]:.4g}"
    if kind == "auto":
        if inside and off[worst] > ROUNDED_SUM:
            advice = (
                "say --values probabilities if they are, rounded: each row is divided by its sum"
                if off[worst] <= SAID_SUM
                else "say --values logits if softmax is to be taken of them; scores of a sigmoid "
                "are better given as they were before it"
            )
            raise UserError(
                f"all values lie in [0, 1], but not all rows add up to 1 ({total}): {advice}"
            )
        if not inside:
            _refuse_few_that_differ(values, images)
        kind = "probabilities" if inside else "logits"
    if kind == "logits":
        return values, kind, 0
    if not inside:
        row = int(np.flatnonzero(((values < 0) | (values > 1 + 1e-6)).any(axis=1))[0])
        raise UserError(
            f"--values probabilities: those of image {images[row]} are not all in [0, 1]; "
            "leave --values out, or give logits"
        )
    if off[worst] > SAID_SUM:
        raise UserError(
            f"--values probabilities: they don't add up to 1 ({total}); say --values logits if "
            "softmax is to be taken of them"
        )
    return _logarithms(values), kind, int((values == 0).sum())


def _refuse_few_that_differ(values: np.ndarray, images: Sequence[str]) -> None:
    """Raise UserError, naming the first, where most rows (N, C) are probabilities and some are not:
    one that is broken must not turn the others into logits."""
    in_range = ((values >= 0) & (values <= 1 + 1e-6)).all(axis=1)
    others = np.flatnonzero(~in_range | (np.abs(values.sum(axis=1) - 1) > ROUNDED_SUM))
    if len(others) < len(values) / 2:
        row = int(others[0])
        least, most, total = values[row].min(), values[row].max(), values[row].sum()
        raise UserError(
            f"{len(values) - len(others):,} of {len(values):,} rows are probabilities, but image "
            f"{images[row]} has values from {least:.4g} to {most:.4g} that add up to {total:.4g}; "
            "mend that, or say --values logits if softmax is to be taken of all"
        )


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    """Logarithms (N, C) of probabilities (N, C) in float64, whose exponentials are alike where
    these are and in their order where not: what ranks images must not see rounding."""
    values, places = np.unique(probabilities, return_inverse=True)
    above = values[values > 0]
    logs = np.log(above)
    while len(level := np.flatnonzero(np.diff(np.exp(logs)) <= 0)):
        logs[level + 1] = np.nextafter(np.maximum(logs[level], logs[level + 1]), np.inf)
    if len(above) < len(values):
        zero = min(np.log(np.finfo(np.float64).eps), logs[0] - np.log(4))
        logs = np.concatenate([[zero], logs])
    return logs[places].reshape(probabilities.shape)
