"""What ``lmdbench predict`` found, as what it says and writes is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lmdbench.evaluation.metrics import softmax
from lmdbench.runs.decisions import Decisions
from lmdbench.runs.ensemble import Answers, Ensemble
from lmdbench.runs.prediction import Score
from lmdbench.runs.prediction_sets import LabelMatch, PredictionSet

FEW = 20  # images whose predictions are printed; of more a file is written
SHOWN = 3  # classes of an image that are printed


@dataclass(frozen=True)
class Outcome:
    """``scores`` of the ``scored`` images that can be read and have a class, and what the
    ``decisions``, by thresholds chosen on validation images, come to on them, ``reached``: None
    without such images. ``file``: where the predictions are, if they are written."""

    ensemble: Ensemble
    target: PredictionSet
    matched: LabelMatch
    answers: Answers
    scores: Sequence[Score]
    scored: int
    decisions: Decisions
    reached: Decisions | None
    file: Path | None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.ensemble.classes

    @cached_property
    def chances(self) -> np.ndarray:
        """Probabilities (N, C) float64, NaN for images that can't be read."""
        return softmax(self.answers.logits)

    @property
    def marks(self) -> dict[str, np.ndarray]:
        """What the thresholds say of each image: column → (N,) bool."""
        marks = {f"flag {point.name}": point.flags(self.chances) for point in self.decisions.points}
        if self.decisions.abstention is not None:
            marks["answered"] = self.decisions.abstention.answers(self.chances)
        return marks

    @property
    def ignored(self) -> dict[str, list[int]]:
        """Label that is no class of the runs → the rows of its images."""
        rows: dict[str, list[int]] = {label: [] for label in self.matched.ignored}
        for row, label in enumerate(self.target.labels):
            if label in rows:
                rows[label].append(row)
        return rows
