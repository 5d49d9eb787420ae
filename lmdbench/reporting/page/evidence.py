"""What the runs of a table say of single images: which are most often wrong, and as what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.evaluation.metrics import softmax

SHOWN = 8  # images of a class most often wrong, and most often right
MISTAKES = 3  # classes that a method takes a class for


@dataclass(frozen=True)
class Evidence:
    """What the runs of a table say of the same images, in the same order.

    ``ids`` (N,) str, ``labels`` (N,) int64. ``predicted``: of each row (R, N) int64, the classes
    that its runs take the images for, but for broken runs (logits not finite); ``sure`` (N,): the
    probability given to an image's own class, mean over all runs.
    """

    ids: np.ndarray
    labels: np.ndarray
    predicted: tuple[np.ndarray, ...]
    sure: np.ndarray

    @property
    def runs(self) -> int:
        return sum(map(len, self.predicted))


@dataclass(frozen=True)
class Sample:
    """One image: in how many of the runs it was right, and what it was taken for most often where
    it was wrong (class indices, several where these tie)."""

    image: str
    right: int
    runs: int
    taken_for: tuple[int, ...]


@dataclass(frozen=True)
class Mistake:
    """A class that images of another are taken for. ``share`` of them, mean over runs."""

    name: str
    share: float


def gather(table: ResultTable) -> Evidence:
    """What every run of a table took its images for."""
    first = outcomes(table, table.rows[0])
    ids, labels = first.ids, first.labels
    predicted: list[np.ndarray] = []
    sure, runs = np.zeros(len(labels)), 0
    for row in table.rows:  # one at a time: the logits of all take much memory
        seen = outcomes(table, row)
        logits = seen.logits[seen.usable]
        predicted.append(logits.argmax(axis=2))
        for one in logits:
            sure += softmax(one)[np.arange(len(labels)), labels]
            runs += 1
    mean = sure / runs if runs else np.full(len(labels), np.nan)
    return Evidence(ids, labels, tuple(predicted), mean)


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
    predicted = np.concatenate([of_row[:, of_class] for of_row in evidence.predicted])
    right = (predicted == label).sum(axis=0)
    order = np.lexsort((evidence.ids[of_class], evidence.sure[of_class], right))

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


def mistakes(
    predicted: np.ndarray, labels: np.ndarray, label: int, classes: Sequence[str]
) -> list[Mistake]:
    """What a row's runs take the images of a class for, the most frequent first, at most three.

    ``predicted`` (R, N), ``labels`` (N,).
    """
    predicted = predicted[:, labels == label]
    if not predicted.size:
        return []
    shares = np.bincount(predicted.ravel(), minlength=len(classes)) / predicted.size
    shares[label] = 0
    order = np.argsort(-shares, kind="stable")[:MISTAKES]
    return [Mistake(classes[k], float(shares[k])) for k in order if shares[k] > 0]
