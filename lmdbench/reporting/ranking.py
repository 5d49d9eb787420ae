"""Who wins across data sets: mean ranks of the methods that all tables have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmdbench.evaluation import statistics
from lmdbench.evaluation.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from lmdbench.reporting.comparison import ScoredBlock

SEED = 0  # of the bootstrap over settings


@dataclass(frozen=True)
class Rank:
    """A method across data sets: its mean rank with an interval.

    ``wins``, ``ties`` and ``losses`` count settings: of the corrected test against the reference,
    a tie wherever it finds no difference.
    """

    label: str
    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Ranks:
    """Methods that all ``settings`` (titles of tables) have, by the primary metric.

    ``note``: the omnibus test, and what must be said where there are few settings.
    """

    primary: str
    settings: tuple[str, ...]
    rows: tuple[Rank, ...]
    note: str


def rank(blocks: Sequence[ScoredBlock]) -> Ranks | None:
    """Of the rows, matched by label, that all tables have on their primary metric.

    Tables without the images that leak are no further settings. None unless two tables have two
    rows in common.
    """
    settings = [block for block in blocks if block.dropped is None]
    if len(settings) < 2:
        return None
    primary = settings[0].primary
    tables = [_means(block, primary) for block in settings]
    labels = [label for label in tables[0] if all(label in table for table in tables)]
    if len(labels) < 2:
        return None
    scores = np.array([[table[label] for label in labels] for table in tables])
    if primary in LOWER_IS_BETTER:
        scores = -scores
    means = statistics.ranks(scores)
    intervals = statistics.bootstrap_mean_ranks(scores, np.random.default_rng(SEED))
    marks: dict[str, list[str]] = {label: [] for label in labels}
    for block in settings:
        for row in block.rows:
            if row.row.label in marks:
                marks[row.row.label].append(row.cells[primary].mark)
    rows = []
    for k in np.argsort(means, kind="stable"):
        found = marks[labels[k]]
        wins, losses = found.count("better"), found.count("worse")
        low, high = (float(end) for end in intervals[k])
        ties = len(settings) - wins - losses
        rows.append(Rank(labels[k], float(means[k]), low, high, wins, ties, losses))
    left_out = sorted({label for table in tables for label in table} - set(labels))
    titles = tuple(block.title for block in settings)
    return Ranks(primary, titles, tuple(rows), _note(scores, left_out))


def _means(block: ScoredBlock, primary: str) -> dict[str, float]:
    """Label → mean of the rows that have one."""
    cells = {row.row.label: row.cells.get(primary) for row in block.rows}
    return {k: cell.mean for k, cell in cells.items() if cell is not None and cell.mean is not None}


def _note(scores: np.ndarray, left_out: Sequence[str]) -> str:
    settings, methods = scores.shape
    statistic, p = statistics.friedman(scores)
    words = []
    if not math.isnan(p):
        shown = f"= {p:.3f}" if p >= 0.001 else "< 0.001"
        words.append(f"Friedman's test that all rank alike: χ² = {statistic:.1f}, p {shown}.")
    words.append(
        "Won, tied and lost: tables in which the corrected test against the reference finds the "
        "method better, finds no difference, or finds it worse. Intervals of mean ranks: bootstrap "
        f"over tables, generator seed {SEED}."
    )
    apart = statistics.nemenyi_critical_difference(methods, settings)
    if settings < statistics.NEMENYI_FROM:
        words.append(
            f"Exploratory: with {settings} data-set settings, fewer than "
            f"{statistics.NEMENYI_FROM}, the critical difference of mean ranks is {apart:.1f} of "
            f"at most {methods - 1} rank{'s' * (methods != 2)}, so no critical-difference diagram "
            "is drawn."
        )
    else:
        words.append(f"Mean ranks more than {apart:.2f} apart differ (Nemenyi, 95 %).")
    if left_out:
        words.append(f"Not in every table, so not ranked: {', '.join(left_out)}.")
    return " ".join(words)
