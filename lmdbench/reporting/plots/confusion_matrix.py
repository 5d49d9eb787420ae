"""Whole confusion matrices of any number of classes, as pictures without numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.confusions import Confusions, without_images
from lmdbench.reporting.plots.figures import DOTS, wrapped
from lmdbench.reporting.plots.style import (
    SMALL,
    TITLE_LETTER_INCHES,
    WIDTH,
    class_order,
    grid_of,
    group_edges,
    label_of,
    seeds_sentence,
    write_footer,
    write_title,
)

MOST_SIDE = 10.0  # inches of a panel
MOST_AREA = 1000.0  # square inches of all panels
MOST_EDGES = 40  # between groups; more are not drawn
MOST_NAMED = 6  # stretches of a group


@register_plot("confusion-matrix", title="all of each confusion matrix as dots, for many classes")
def draw_confusion_matrix(table: ResultTable, width: float = WIDTH) -> Figure:
    """The row-normalised confusion matrices as pictures, without numbers: a dot a cell, or of
    several cells the largest where there are more than can be told apart."""
    order = class_order(table)
    many = len(table.rows)
    lines, columns = grid_of(many, max(1, min(3, many, int(width // 3))))
    side = max((width - 0.6) / columns - 0.4, len(order) / DOTS)
    side = min(side, max(MOST_SIDE, width - 1), (MOST_AREA / many) ** 0.5)
    dots = min(len(order), int(side * DOTS))
    width = max(width, (side + 0.45) * columns + 0.6)
    titles = [wrapped(label_of(row), side / TITLE_LETTER_INCHES) for row in table.rows]
    line = side + 0.4 + 0.15 * max(map(len, titles))
    figure = Figure(figsize=(width, lines * line + 0.3), layout="compressed")
    panels = figure.subplots(lines, columns, squeeze=False)
    # Of single dots even the faintest must be seen.
    colours = ListedColormap(colormaps["Blues"](np.linspace(0.35, 1, 256)))
    missing = []
    for number, row in enumerate(table.rows):
        axes = panels[number // columns, number % columns]
        axes.set_title("\n".join(titles[number]), fontsize=8.5)
        seen = outcomes(table, row)
        image = np.zeros((dots, dots), np.float32)
        if seen.usable.all():
            image = dotted(Confusions.of(seen, len(order)), order, dots)
        else:
            missing.append(label_of(row))
        shown = axes.imshow(
            np.ma.masked_equal(image, 0),
            cmap=colours,
            vmin=0,
            vmax=100,
            interpolation="none",
            aspect="equal",
        )
        _mark_groups(axes, table, order, dots, number % columns == 0)
        if number + columns >= many:
            axes.set_xlabel("predicted class")
    for axes in panels.flat[many:]:
        axes.set_visible(False)
    figure.colorbar(shown, ax=panels, label="% of the class's images", shrink=0.6, pad=0.02)
    write_title(figure, "Confusion: of a class's images, the % taken for each class", table.title)
    cells = -(-len(order) // dots)
    write_footer(
        figure,
        f"{len(order):,} classes by training images, the largest first, in rows and columns;",
        "a dot a cell."
        if cells == 1
        else f"a dot is the largest of up to {cells} × {cells} cells.",
        "Means over seeds. Lines part the groups.",
        seeds_sentence(table.rows),
        without_images(table, order),
        f"Logits that are not finite: {', '.join(missing)}." if missing else "",
    )
    return figure


def dotted(found: Confusions, order: Sequence[int], dots: int) -> np.ndarray:
    """Shares in percent as (dots, dots) float32, classes in ``order``; a dot is the largest of its
    cells."""
    place = np.argsort(order) * dots // len(order)
    image = np.zeros((dots, dots), np.float32)
    np.maximum.at(image, (place[found.true], place[found.taken_for]), found.shares)
    return image


def _mark_groups(
    axes: Axes, table: ResultTable, order: Sequence[int], dots: int, named: bool
) -> None:
    """Lines between the groups, and their names where these are few."""
    stretches = group_edges(table, order)
    scale = dots / len(order)
    axes.set_xticks([])
    axes.set_yticks([])
    if len(stretches) > MOST_EDGES:  # groups that do not go by training images
        return
    for _, start, _ in stretches[1:]:
        axes.axhline(start * scale - 0.5, color="black", linewidth=0.5)
        axes.axvline(start * scale - 0.5, color="black", linewidth=0.5)
    if len(stretches) > MOST_NAMED:
        return
    middles = [scale * (start + stop) / 2 - 0.5 for _, start, stop in stretches]
    names = [group for group, _, _ in stretches]
    axes.set_xticks(middles, names, fontsize=SMALL)
    if named:
        axes.set_yticks(middles, names, fontsize=SMALL, rotation=90, va="center")
    axes.tick_params(length=0)
