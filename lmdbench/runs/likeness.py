"""How many of the images that a run predicts look unlike those it was chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics import softmax, unusable
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.runs.prediction import TrainedRun

SHARE = 0.05  # of the run's own validation images that would count as unlike, too
FEWEST = 20  # validation images; with fewer their 5th percentile is one image or none


@dataclass(frozen=True)
class Likeness:
    """``unlike`` (N,) bool, False where an image could not be read: those whose largest probability
    is below ``threshold``, the 5th percentile of that of the run's validation images (Hendrycks &
    Gimpel, ICLR 2017: the baseline for finding images of other kinds)."""

    unlike: np.ndarray
    readable: int
    threshold: float

    @property
    def images(self) -> int:
        return int(self.unlike.sum())

    def of(self, rows: Sequence[int]) -> int:
        """How many of these images."""
        return int(self.unlike[list(rows)].sum())


def likeness(run: TrainedRun, logits: np.ndarray) -> Likeness | None:
    """Of predicted images: ``logits`` (N, C), NaN where an image could not be read. None where the
    run keeps too few validation images to tell."""
    try:
        own = load_predictions(run.directory / "predictions.npz", ["validation"])["validation"]
    except UserError:
        return None
    if len(own) < FEWEST or unusable(own.logits):
        return None
    threshold = float(np.quantile(softmax(own.logits).max(axis=1), SHARE))
    readable = np.isfinite(logits).all(axis=1)
    largest = np.ones(len(logits))
    largest[readable] = softmax(logits[readable]).max(axis=1)
    return Likeness(largest < threshold, int(readable.sum()), threshold)
