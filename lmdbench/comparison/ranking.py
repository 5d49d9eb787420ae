"""Who wins across data sets: mean ranks of the methods that all tables have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lmdbench.comparison.types import Rank, Ranks, ResultTable
from lmdbench.evaluation import ranks
from lmdbench.evaluation.metrics import described

# Where Friedman's p is from → the words for it.
FRIEDMAN = {
    "exact": "exact",
    "permutations": f"by {ranks.PERMUTATIONS:,} permutations, generator seed {ranks.SEED}",
    "chi-squared": "by the χ² distribution",
}


def settings_of(tables: Sequence[ResultTable]) -> list[ResultTable]:
    """The tables that count: those without the images that leak, of lesions or patients, and single
    folds, are no further settings."""
    return [
        b
        for b in tables
        if b.dropped is None and b.sample.units is None and "split_fold" not in b.setting
    ]


def rank(tables: Sequence[ResultTable]) -> Ranks | None:
    """Of the rows, matched by label, that all tables have on their primary metric.

    None unless two tables of ``settings_of`` have two rows in common.
    """
    settings = settings_of(tables)
    if len(settings) < 2:
        return None
    primary = settings[0].primary
    means_of = [_means(table, primary) for table in settings]
    labels = [label for label in means_of[0] if all(label in means for means in means_of)]
    if len(labels) < 2:
        return None
    scores = np.array([[means[label] for label in labels] for means in means_of])
    if described(primary).lower_is_better:
        scores = -scores
    means, intervals = ranks.mean_ranks(scores), ranks.mean_rank_intervals(scores)
    marks: dict[str, list[str]] = {label: [] for label in labels}
    for table in settings:
        for row in table.rows:
            tested = row.cells[primary].p_corrected is not None
            if row.label in marks and tested:
                marks[row.label].append(row.cells[primary].mark)
    rows = []
    for k in np.argsort(means, kind="stable"):
        of_label = marks[labels[k]]
        wins, losses = of_label.count("better"), of_label.count("worse")
        low, high = (float(end) for end in intervals[k])
        counts = (wins, len(of_label) - wins - losses, losses) if of_label else (None, None, None)
        rows.append(Rank(labels[k], float(means[k]), low, high, *counts))
    left_out = sorted({label for means in means_of for label in means} - set(labels))
    titles = tuple(table.title for table in settings)
    caveats = _caveats(scores, [str(b.setting["dataset"]) for b in settings], left_out)
    return Ranks(primary, titles, tuple(rows), _note(*scores.shape), caveats)


def _means(table: ResultTable, primary: str) -> dict[str, float]:
    """Label → mean of the rows that have one."""
    cells = {row.label: row.cells.get(primary) for row in table.rows}
    return {k: cell.mean for k, cell in cells.items() if cell is not None and cell.mean is not None}


def _caveats(scores: np.ndarray, datasets: Sequence[str], left_out: Sequence[str]) -> str:
    """``datasets``: of each setting."""
    test = ranks.friedman(scores)
    words = []
    if test.distribution:
        shown = f"= {test.p:.3f}" if test.p >= 0.001 else "< 0.001"
        words.append(
            f"Friedman's test that all rank alike: χ² = {test.statistic:.1f}, p {shown} "
            f"({FRIEDMAN[test.distribution]})."
        )
    shared = [f"{n} tables are of {name}" for name, n in Counter(datasets).items() if n > 1]
    if shared:
        words.append(
            f"{'; '.join(shared)}: tables of one data set share images, so they count for less "
            "than as many data sets."
        )
    if left_out:
        words.append(f"Not in every table, so not ranked: {', '.join(left_out)}.")
    return " ".join(words)


def _note(settings: int, methods: int) -> str:
    words = (
        "Won, neither and lost: of the tables in which the method was tested against the "
        "reference, those in which the corrected test finds it better, neither better nor worse, "
        f"and worse. {_of_intervals(settings)} "
    )
    apart = ranks.nemenyi_critical_difference(methods, settings)
    if settings >= ranks.NEMENYI_FROM:
        return words + f"Mean ranks more than {apart:.2f} apart differ (Nemenyi, 95 %)."
    return words + (
        f"Exploratory: with {settings} data-set settings, fewer than {ranks.NEMENYI_FROM}, "
        f"the critical difference of mean ranks is {apart:.1f} of at most {methods - 1} "
        f"rank{'s' * (methods != 2)}, so no critical-difference diagram is drawn."
    )


def _of_intervals(settings: int) -> str:
    if settings < ranks.INTERVALS_FROM:
        return (
            f"Mean ranks have no intervals: {settings} tables, fewer than "
            f"{ranks.INTERVALS_FROM}, say next to nothing of other data sets."
        )
    return (
        "Intervals of mean ranks: for other data sets like these, by Student's t over the tables "
        "and two more, in which the method is as far from its mean as any was in any table."
    )
