"""What many classes are taken for: the largest confusions, and the classes that are least found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.reporting.plots.confusions import Confusions, without_images
from lmdbench.reporting.plots.figures import ALONE, COLOURS, OTHER, shortened
from lmdbench.reporting.plots.style import (
    GRID,
    LONGEST_CLASS,
    MOST_PANELS,
    SMALL,
    WIDTH,
    bare,
    class_order,
    drawn_rows,
    label_of,
    legend_above,
    not_drawn,
    seeds_sentence,
    write_footer,
    write_title,
)

MOST_LINES, FEWEST_LINES = 40, 10  # confusions of a method
ALL_LINES = 120  # of all methods together, unless these have the fewest
LINE_INCHES = 0.15
WITH_WORDS = 2.6  # the axes' length, in longest bars
BESIDE_INCHES = 5.5  # a narrower figure has its two panels below each other


def draw_largest(table: ResultTable, width: float = WIDTH) -> Figure:
    """For each method its largest confusions as bars, and the classes with the lowest recall."""
    rows = drawn_rows(table, MOST_PANELS)
    beside = width >= BESIDE_INCHES
    most = max(FEWEST_LINES, min(MOST_LINES, ALL_LINES // len(rows)))
    height = (LINE_INCHES * most + 0.75) * len(rows)
    figure = Figure(figsize=(width, height if beside else 2 * height), layout="constrained")
    shape = (len(rows), 2) if beside else (2 * len(rows), 1)
    panels = figure.subplots(*shape, squeeze=False, width_ratios=(3, 2) if beside else None)
    order = class_order(table)
    letters = min(LONGEST_CLASS, max(8, int(width * (2.8 if beside else 4.2))))
    missing = []
    for row, (left, right) in zip(rows, panels.reshape(-1, 2), strict=True):
        seen = outcomes(table, row)
        if not seen.usable.all():
            missing.append(label_of(row))
            left.set_title(label_of(row), loc="right", fontsize=8)
            for axes in (left, right):
                axes.axis("off")
            continue
        found = Confusions.of(seen, len(order))
        _draw_pairs(left, found, table, most, letters)
        _draw_worst(right, found, table, order, most, letters)
        shown = min(most, found.all)
        of = f"{shown} largest of {found.all:,}" if shown < found.all else f"{shown:,}"
        left.set_title(f"{label_of(row)}\nthe {of} confusions", loc="right", fontsize=8)
    for group in (*table.setting["groups"], ""):
        if group in _groups(table, order):
            name = group or "in no group"
            panels[0, 0].plot([], [], "s", color=_colour(group), label=name)
    legend_above(panels[0, 0], 4 if beside else 2, 28)
    write_title(figure, "The largest confusions, and the classes least found", table.title)
    images = table.images[table.part]["all"]
    write_footer(
        figure,
        f"True class → the class its images are taken for; of {len(order):,} classes with "
        f"{images:,} {table.part} images together. Bars: images of a confusion, and recall, in the "
        "colour of the true class's group. Means over seeds.",
        seeds_sentence(rows),
        without_images(table, order),
        f"Logits that are not finite: {', '.join(missing)}." if missing else "",
        "All classes: `lmdbench plot confusion-matrix`.",
        not_drawn(table, rows),
    )
    return figure


def _draw_pairs(axes: Axes, found: Confusions, table: ResultTable, most: int, letters: int) -> None:
    places = found.largest(most)
    names = [shortened(name, letters) for name in table.record.classes]
    pairs = [(found.true[place], found.taken_for[place]) for place in places]
    words = [
        f"{_short(images)} of {found.n[found.true[place]]:,} ({found.shares[place]:.0f} %)"
        for place, images in zip(places, found.images[places], strict=True)
    ]
    _draw_bars(
        axes,
        found.images[places],
        [f"{names[a]} → {names[b]}" for a, b in pairs],
        words,
        _colours(table, [a for a, _ in pairs]),
    )
    axes.set_xlabel(f"{table.part} images")


def _short(images: float) -> str:
    """A mean over seeds with one decimal, but whole numbers."""
    return f"{images:,.1f}".removesuffix(".0")


def _draw_worst(
    axes: Axes, found: Confusions, table: ResultTable, order: Sequence[int], most: int, letters: int
) -> None:
    """The classes of the lowest recall; of equal ones, those of most images."""
    recalls = found.recalls
    rank = np.argsort(order)
    by_recall = np.lexsort((rank, -found.n, recalls))
    worst = by_recall[: min(most, int((found.n > 0).sum()))]
    _draw_bars(
        axes,
        recalls[worst],
        [shortened(table.record.classes[c], letters) for c in worst],
        [f"{recalls[c]:.0f} % of {found.n[c]:,}" for c in worst],
        _colours(table, worst),
    )
    axes.set_xlabel("recall, %")
    never = int((recalls == 0).sum())
    told = f"{never:,} classes have 0 %" if never > 1 else f"of {len(order):,} classes"
    axes.set_title(f"the {len(worst)} lowest recalls\n{told}", loc="right", fontsize=8)


def _draw_bars(
    axes: Axes,
    values: np.ndarray,
    names: Sequence[str],
    words: Sequence[str],
    colours: Sequence[str],
) -> None:
    """Bars below each other, with words beside them: half of the axes is left to these."""
    axes.barh(range(len(values)), values, 0.72, color=list(colours), zorder=2)
    axes.set_xlim(0, WITH_WORDS * max([*values, 0.5]))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    for place, (value, word) in enumerate(zip(values, words, strict=True)):
        axes.annotate(
            word,
            (value, place),
            (2, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            zorder=3,
        )
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.grid(axis="x", **GRID)
    axes.set_axisbelow(True)
    bare(axes)


def _groups(table: ResultTable, classes: Sequence[int] | np.ndarray) -> list[str]:
    of = {name: group for group, names in table.setting["groups"].items() for name in names}
    return [of.get(table.record.classes[c], "") for c in classes]


def _colours(table: ResultTable, classes: Sequence[int] | np.ndarray) -> list[str]:
    return [_colour(group) for group in _groups(table, classes)]


def _colour(group: str) -> str:
    return COLOURS.get(group, OTHER) if group else ALONE
