"""Confusion matrices: what the images of each class are taken for, a panel for each method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.evaluation import metrics
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.figures import shortened, wrapped
from lmdbench.reporting.plots.largest_confusions import draw_largest
from lmdbench.reporting.plots.style import (
    LONGEST_CLASS,
    MOST_CLASSES,
    MOST_PANELS,
    SMALL,
    TITLE_LETTER_INCHES,
    WIDTH,
    class_order,
    drawn_rows,
    grid_of,
    group_edges,
    label_of,
    not_drawn,
    seeds_sentence,
    write_footer,
    write_title,
)

LETTER_INCHES = 0.051  # of the rows' names, on average
CELL_INCHES = 0.205  # narrower, "100" does not fit
LARGEST_CELL = 0.42


@register_plot("confusion", title="confusion matrices, mean over seeds")
def draw_confusion(table: ResultTable, width: float = WIDTH) -> Figure:
    """Row-normalised confusion matrices in percent, means over seeds.

    Classes stand by training images, the largest first; lines part head, medium and tail. Where so
    many classes need it, the figure is wider than ``width``; of more than ``MOST_CLASSES`` the
    largest confusions are drawn. Of more than ``MOST_PANELS`` methods, ``drawn_rows``.
    """
    if len(table.record.classes) > MOST_CLASSES:
        return draw_largest(table, width)
    order = class_order(table)
    rows = drawn_rows(table, MOST_PANELS)
    classes = table.record.classes
    counts = [table.rows[0].recalls[classes[c]].n for c in order]
    names = [
        f"{shortened(classes[c], LONGEST_CLASS)} (n {n:,})  {place + 1}"
        for place, (c, n) in enumerate(zip(order, counts, strict=True))
    ]
    left = LETTER_INCHES * max(map(len, names)) + 0.15
    width = max(width, left + CELL_INCHES * len(order) + 0.15)
    fit = int((width - left) / (CELL_INCHES * len(order) + 0.15))
    lines, columns = grid_of(len(rows), min(fit, 3))
    cell = min((width - left) / columns / len(order), LARGEST_CELL)
    letters = max(cell * len(order) / TITLE_LETTER_INCHES, 12)
    titles = [wrapped(label_of(row, 40), letters) for row in rows]
    line = cell * len(order) + 0.4 + 0.15 * max(map(len, titles))
    figure = Figure(figsize=(width, lines * line + 0.3), layout="compressed")
    panels = figure.subplots(lines, columns, squeeze=False)
    missing = []
    for number, row in enumerate(rows):
        axes = panels[number // columns, number % columns]
        seen = outcomes(table, row)
        matrix = mean_confusion(seen.labels, seen.logits)[np.ix_(order, order)]
        if np.isnan(matrix).all():
            missing.append(label_of(row))
        _draw(axes, matrix, table, order)
        axes.set_title("\n".join(titles[number]), fontsize=8.5)
        axes.set_yticks(range(len(order)), names if number % columns == 0 else [], fontsize=SMALL)
        if number + columns >= len(rows):
            axes.set_xlabel("predicted class")
    for axes in panels.flat[len(rows) :]:
        axes.set_visible(False)
    write_title(figure, "Confusion: of a class's images, the % taken for each class", table.title)
    absent = [
        shortened(classes[c], LONGEST_CLASS) for c, n in zip(order, counts, strict=True) if not n
    ]
    write_footer(
        figure,
        f"Rows: true classes with their {table.part} images, by training images, largest first;",
        "columns: the same classes by number. Means over seeds; below 0.5 % left blank.",
        "Lines part the groups.",
        seeds_sentence(rows),
        f"No images of {', '.join(absent)}." if absent else "",
        f"Logits that are not finite: {', '.join(missing)}." if missing else "",
        not_drawn(table, rows),
    )
    return figure


def mean_confusion(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Row-normalised confusion matrix (C, C) in percent, mean over the seeds of logits (S, N, C).

    A class without images has a row of NaN; a seed whose logits are not finite makes all NaN.
    """
    matrices = np.stack([metrics.confusion_matrix(labels, one) for one in logits])
    totals = matrices.sum(axis=2, keepdims=True)
    shares = np.divide(matrices, totals, out=np.full_like(matrices, np.nan), where=totals > 0)
    return 100 * shares.mean(axis=0)


def _draw(axes: Axes, matrix: np.ndarray, table: ResultTable, order: Sequence[int]) -> None:
    axes.imshow(np.nan_to_num(matrix), cmap="Blues", vmin=0, vmax=100, aspect="equal")
    for (row, column), value in np.ndenumerate(matrix):
        if np.isnan(value) or value <= 0.5:
            continue
        axes.text(
            column,
            row,
            f"{value:.0f}",
            ha="center",
            va="center",
            fontsize=SMALL,
            color="white" if value > 55 else "black",
            fontweight="bold" if row == column else "normal",
        )
    axes.set_xticks(range(len(order)), [str(k + 1) for k in range(len(order))], fontsize=SMALL)
    axes.tick_params(length=0)
    for _, start, _ in group_edges(table, order)[1:]:
        axes.axhline(start - 0.5, color="black", linewidth=0.7)
        axes.axvline(start - 0.5, color="black", linewidth=0.7)
