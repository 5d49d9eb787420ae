"""Head, medium and tail with intervals: a bar for each method, or a line where there are many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lmdbench.comparison.notes import column_title
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.style import (
    GRID,
    MOST_LINES,
    WIDTH,
    bare,
    drawn_rows,
    fitted,
    label_of,
    legend_above,
    legend_columns,
    looks,
    not_drawn,
    seeds_sentence,
    write_footer,
    write_title,
)

OVERALL = "balanced_accuracy"
MISSING = "–"
MOST_BARS = 10  # methods; more have a line each, beside points instead of bars
ROW_INCHES = 0.2

Rows = Sequence[MethodResult]


@register_plot("groups", title="head, medium and tail as bars with intervals")
def draw_groups(table: ResultTable, width: float = WIDTH) -> Figure:
    """Mean recall of each group's classes, and of all, with 95 % intervals.

    Raises UserError where the data set has no groups, or their columns were not asked for.
    """
    groups = list(table.setting["groups"])
    columns = [name for name in (OVERALL, *groups) if name in table.metrics]
    if not set(groups) & set(columns):
        raise UserError(
            f"{table.title}: no groups to draw; leave --metric out, or name the groups in it"
            if groups
            else f"{table.title}: this data set has no groups; give some with --groups"
        )
    chosen = drawn_rows(table, MOST_LINES)
    draw = _bars if len(chosen) <= MOST_BARS else _lines
    figure = draw(table, chosen, columns, width)
    write_title(figure, "Recall by group of classes, %", table.title)
    write_footer(
        figure,
        "Lines: 95 % intervals, over seeds and test images."
        if any(_has_interval(row, columns) for row in chosen)
        else "",
        f"n: {table.part} images. A group's value is the mean recall of its classes.",
        seeds_sentence(chosen),
        f"{MISSING}: no value." if any(_lacks(row, columns) for row in chosen) else "",
        not_drawn(table, chosen),
    )
    return figure


def _bars(table: ResultTable, rows: Rows, columns: list[str], width: float) -> Figure:
    """Groups beside each other, in each a bar for each method."""
    style = looks(table)
    beside = legend_columns([label_of(row) for row in rows], width - 0.8)
    lines = -(-len(rows) // beside)
    figure = Figure(figsize=(width, 2.5 + 0.16 * lines), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(columns), dtype=float)
    step = 0.84 / len(rows)
    for number, row in enumerate(rows):
        x = places + step * (number - (len(rows) - 1) / 2)
        look = style[row.label]
        means, low, high = _intervals(row, columns)
        axes.bar(x, means, step * 0.92, label=label_of(row), zorder=2, **look.bars())
        for place, mean, below, above in zip(x, means, low, high, strict=True):
            if np.isnan(mean):
                axes.annotate(MISSING, (place, 0), (0, 2), textcoords="offset points", ha="center")
            elif not np.isnan(below):
                # White below black: seen on dark bars as on the paper.
                for line, colour in ((2.4, "white"), (0.9, "black")):
                    axes.plot([place] * 2, [below, above], color=colour, linewidth=line, zorder=3)
    room = (width - 0.7) / len(columns) - 0.1
    axes.set_xticks(places, [_named(table, name, room) for name in columns])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(0, 100)
    axes.set_ylabel("recall, %")
    axes.grid(axis="y", **GRID)
    axes.set_axisbelow(True)
    bare(axes)
    legend_above(axes, beside)
    return figure


def _lines(table: ResultTable, rows: Rows, columns: list[str], width: float) -> Figure:
    """Methods below each other, a panel for each group."""
    style = looks(table)
    figure = Figure(figsize=(width, 0.7 + ROW_INCHES * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    values = [_intervals(row, columns) for row in rows]
    for column, (axes, name) in enumerate(zip(panels, columns, strict=True)):
        for place, (row, limits) in enumerate(zip(rows, values, strict=True)):
            look = style[row.label]
            mean, low, high = (value[column] for value in limits)
            if np.isnan(mean):
                axes.annotate(MISSING, (2, place), va="center")
                continue
            axes.plot([low, high], [place] * 2, color=look.colour, linewidth=1.2, zorder=2)
            axes.plot([mean], [place], linestyle="none", zorder=3, **look.points())
        axes.set_xlim(-3, 103)
        axes.set_xticks((0, 50, 100))
        axes.set_xlabel(_named(table, name, (width - 1.8) / len(columns)))
        axes.grid(axis="x", **GRID)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        bare(axes, "top", "right", "left")
    names = [label_of(row) for row in rows]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _intervals(row: MethodResult, columns: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and limits in percent; NaN where there is none."""
    cells = [row.cells[name] for name in columns]
    means = np.array([np.nan if cell.mean is None else cell.mean for cell in cells])
    estimates = [cell.estimate for cell in cells]
    low, high = (
        np.array([np.nan if e is None else getattr(e, side) for e in estimates])
        for side in ("low", "high")
    )
    return 100 * means, 100 * low, 100 * high


def _has_interval(row: MethodResult, columns: list[str]) -> bool:
    return not np.isnan(_intervals(row, columns)[1]).all()


def _lacks(row: MethodResult, columns: list[str]) -> bool:
    return any(row.cells[name].mean is None for name in columns)


def _named(table: ResultTable, name: str, room: float) -> str:
    """A column with its classes and images, in lines of so many inches."""
    groups = table.setting["groups"]
    images = table.images[table.part]
    classes = len(groups.get(name, table.record.classes))
    title, n = column_title(name), images.get(name if name in groups else "all", 0)
    below = f"{classes} class{'es' * (classes > 1)}, n\u00a0=\u00a0{n:,}"
    return f"{fitted(title, room)}\n{fitted(below, room)}"
