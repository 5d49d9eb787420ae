"""What the runs of a table say of single images: which are most often wrong, and as what."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from lmdbench.comparison.results import Run
from lmdbench.comparison.scoring import predictions_of
from lmdbench.comparison.types import ResultTable
from lmdbench.evaluation.metrics import softmax, unusable

SHOWN = 8  # images of a class most often wrong, and most often right
TARGETS = 3  # classes that a method takes a class for


@dataclass(frozen=True)
class Outcomes:
    """What happened to each image of a part in each run of a row.

    ``predicted`` (R, N) int64: the class it was taken for; ``sure`` (R, N) float64: the probability
    given to its own class. R runs are one row's, but broken ones (logits not finite).
    """

    label: str
    predicted: np.ndarray
    sure: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """The outcomes of a table's rows on the same images, in the same order.

    ``ids`` (N,) str, ``labels`` (N,) int64.
    """

    ids: np.ndarray
    labels: np.ndarray
    rows: tuple[Outcomes, ...]

    @property
    def runs(self) -> int:
        return sum(len(row.predicted) for row in self.rows)


@dataclass(frozen=True)
class Sample:
    """One image: in how many of the runs it was right, and what it was taken for most often where
    it was wrong (class indices, several where these tie)."""

    image: str
    right: int
    runs: int
    taken_for: tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A class that images of another are taken for. ``share`` of them, mean over runs."""

    name: str
    share: float


def gather(table: ResultTable, leaked: Set[str] = frozenset()) -> Evidence:
    """The outcomes of every run of a table, without the images in ``leaked``.

    That all runs have the same images and labels was checked when they were scored.
    """
    ids = labels = np.zeros(0)
    rows = []
    for scored in table.rows:
        predicted, sure = [], []
        for run in scored.runs:
            own_ids, own_labels, logits = _predictions(run, table.part, leaked)
            if not len(ids):
                ids, labels = own_ids, own_labels
            if unusable(logits):
                continue
            predicted.append(logits.argmax(axis=1))
            sure.append(softmax(logits)[np.arange(len(labels)), labels])
        empty = (0, len(ids))
        rows.append(
            Outcomes(
                scored.label,
                np.stack(predicted) if predicted else np.zeros(empty, dtype=np.int64),
                np.stack(sure) if sure else np.zeros(empty),
            )
        )
    return Evidence(ids, labels, tuple(rows))


def _predictions(
    run: Run, part: str, leaked: Set[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, labels and logits of a run in order of the ids, of all folds where it is pooled."""
    found = predictions_of(run, part)
    order = np.argsort(found.ids)
    order = order[~np.isin(found.ids[order], sorted(leaked))]
    return found.ids[order], found.labels[order], found.logits[order]


def most_often(
    evidence: Evidence, label: int, shown: int = SHOWN
) -> tuple[list[Sample], list[Sample]]:
    """The images of a class most often wrong, and those most often right, over all runs.

    In order of the share of runs that were right; of equal ones, of the mean probability given to
    the class; then of the id. An image is in one of the lists at most, and in neither where no run
    was wrong (or right) about it.
    """
    if not evidence.runs:
        return [], []
    of_class = np.flatnonzero(evidence.labels == label)
    predicted = np.concatenate([row.predicted[:, of_class] for row in evidence.rows])
    sure = np.concatenate([row.sure[:, of_class] for row in evidence.rows]).mean(axis=0)
    right = (predicted == label).sum(axis=0)
    order = np.lexsort((evidence.ids[of_class], sure, right))

    def sample(k: int) -> Sample:
        times = np.bincount(predicted[predicted[:, k] != label, k], minlength=1)
        most = np.flatnonzero((times == times.max()) & (times > 0))
        taken_for = tuple(map(int, most))
        return Sample(str(evidence.ids[of_class[k]]), int(right[k]), evidence.runs, taken_for)

    # Where there are few images the middle of the order parts them; the middle one of an odd
    # number goes where most of the runs put it.
    half = len(order) // 2
    if len(order) % 2 and 2 * right[order[half]] < evidence.runs:
        half += 1
    worst = [k for place, k in enumerate(order[:shown]) if place < half or not right[k]]
    wrong = [sample(k) for k in worst if right[k] < evidence.runs]
    told = {s.image for s in wrong}
    best = [sample(k) for k in order[::-1][:shown] if right[k]]
    return wrong, [s for s in best if s.image not in told]


def targets(row: Outcomes, labels: np.ndarray, label: int, classes: Sequence[str]) -> list[Target]:
    """What a row's runs take the images of a class for, the most frequent first, at most three."""
    predicted = row.predicted[:, labels == label]
    if not predicted.size:
        return []
    shares = np.bincount(predicted.ravel(), minlength=len(classes)) / predicted.size
    shares[label] = 0
    order = np.argsort(-shares, kind="stable")[:TARGETS]
    return [Target(classes[k], float(shares[k])) for k in order if shares[k] > 0]
