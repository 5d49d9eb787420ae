"""What ``lmdbench predict`` found, as what it says and writes is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmdbench.runs.ensemble import Answers, Ensemble
from lmdbench.runs.prediction import Score
from lmdbench.runs.prediction_sets import LabelMatch, PredictionSet

FEW = 20  # images whose predictions are printed; of more a file is written
SHOWN = 3  # classes of an image that are printed


@dataclass(frozen=True)
class Outcome:
    """``scores`` of the ``scored`` images that can be read and have a class; ``file``: where the
    predictions are, if they are written."""

    ensemble: Ensemble
    target: PredictionSet
    matched: LabelMatch
    answers: Answers
    scores: Sequence[Score]
    scored: int
    file: Path | None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.ensemble.classes

    @property
    def ignored(self) -> dict[str, list[int]]:
        """Label that is no class of the runs → the rows of its images."""
        rows: dict[str, list[int]] = {label: [] for label in self.matched.ignored}
        for row, label in enumerate(self.target.labels):
            if label in rows:
                rows[label].append(row)
        return rows
