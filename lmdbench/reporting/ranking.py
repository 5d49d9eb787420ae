"""Mean ranks over the tables of a comparison: who wins across data sets, and how far to trust it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np

from lmdbench.evaluation import statistics
from lmdbench.evaluation.metrics import LOWER_IS_BETTER
from lmdbench.reporting.comparison import Rank, Ranks, ScoredBlock, ScoredRow

SEED = 0  # of the bootstrap


def rank(blocks: Sequence[ScoredBlock]) -> Ranks | None:
    """Mean ranks of the methods that all tables have, by the primary metric.

    A method is told by its label. Of two tables of one setting, the later counts: that without the
    images that leak. None where fewer than two tables have fewer than two methods in common.
    """
    settings = list({json.dumps(b.block.setting, sort_keys=True): b for b in blocks}.values())
    if len(settings) < 2:
        return None
    by_label = [{row.row.label: row for row in block.rows} for block in settings]
    labels = [
        label
        for label in by_label[0]
        if all(label in rows and _mean(rows[label], settings[0]) is not None for rows in by_label)
    ]
    if len(labels) < 2:
        return None
    primary = settings[0].primary
    sign = -1 if primary in LOWER_IS_BETTER else 1
    means = [[_mean(rows[label], settings[0]) or 0.0 for label in labels] for rows in by_label]
    scores = sign * np.array(means)
    intervals = statistics.bootstrap_mean_ranks(scores, np.random.default_rng(SEED))
    found = []
    for k, (label, mean) in enumerate(zip(labels, statistics.ranks(scores), strict=True)):
        marks = [rows[label].cells[primary].mark for rows in by_label]
        won, lost = marks.count("better"), marks.count("worse")
        low, high = intervals[k].tolist()
        found.append(Rank(label, float(mean), low, high, won, len(marks) - won - lost, lost))
    found.sort(key=lambda one: one.mean)
    titles = tuple(block.title for block in settings)
    return Ranks(primary, titles, tuple(found), _note(scores, settings, by_label, labels))


def _mean(scored: ScoredRow, block: ScoredBlock) -> float | None:
    return scored.cells[block.primary].mean


def _note(
    scores: np.ndarray,
    settings: Sequence[ScoredBlock],
    by_label: Sequence[dict[str, ScoredRow]],
    labels: Sequence[str],
) -> str:
    """The omnibus test, what won and lost mean, which methods take no part, and the guard."""
    words = []
    chi2, p = statistics.friedman(scores)
    if not math.isnan(p):
        words.append(f"Friedman's test: χ² = {chi2:.2f}, p = {p:.3f}.")
    references = {block.reference for block in settings}
    words.append(
        f"Won and lost: tables in which the corrected test finds a difference to "
        f"{next(iter(references))}; all others are tied."
        if len(references) == 1 and None not in references
        else "Won and lost need one reference in all tables; here is none."
    )
    others = sorted({label for rows in by_label for label in rows} - set(labels))
    if others:
        words.append(f"Not in all tables, so not ranked: {', '.join(others)}.")
    if len(settings) < statistics.NEMENYI_FROM:
        critical = statistics.nemenyi_critical_difference(len(labels), len(settings))
        words.append(
            f"Exploratory: with {len(settings)} settings Nemenyi's critical difference is "
            f"{critical:.1f} of at most {len(labels) - 1} ranks. Which methods differ is tested, "
            f"and a critical-difference diagram drawn, from {statistics.NEMENYI_FROM} settings on."
        )
    else:
        critical = statistics.nemenyi_critical_difference(len(labels), len(settings))
        words.append(f"Mean ranks farther apart than {critical:.2f} differ (Nemenyi, 5 %).")
    return " ".join(words)
