"""Head, medium and tail with intervals: a bar for each method, or a line where there are many."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lmdbench.comparison.notes import column_title
from lmdbench.comparison.types import ScoredBlock, ScoredRow
from lmdbench.core.errors import UserError
from lmdbench.evaluation import metrics
from lmdbench.reporting.plots.figures import drawing
from lmdbench.reporting.plots.style import (
    GRID,
    WIDTH,
    bare,
    fitted,
    label_of,
    legend_above,
    legend_columns,
    looks,
    seeds_sentence,
    write_footer,
    write_title,
)

OVERALL = "balanced_accuracy"
MISSING = "–"
MOST_BARS = 10  # methods; more have a line each, beside points instead of bars
ROW_INCHES = 0.2


@drawing()
def draw_groups(block: ScoredBlock, width: float = WIDTH) -> Figure:
    """Mean recall of each group's classes, and of all, with 95 % intervals.

    Raises UserError where the data set has no groups, or their columns were not asked for.
    """
    groups = list(block.block.setting["groups"])
    columns = [name for name in (OVERALL, *groups) if name in block.metrics]
    if not set(groups) & set(columns):
        raise UserError(
            f"{block.title}: no groups to draw; leave --metric out, or name the groups in it"
            if groups
            else f"{block.title}: this data set has no groups; give some with --groups"
        )
    draw = _bars if len(block.rows) <= MOST_BARS else _lines
    figure = draw(block, columns, width)
    write_title(figure, "Recall by group of classes, %", block.title)
    write_footer(
        figure,
        "Lines: 95 % intervals, over seeds and test images."
        if any(_has_interval(scored, columns) for scored in block.rows)
        else "",
        f"n: {block.part} images. A group's value is the mean recall of its classes.",
        seeds_sentence(block.rows),
        f"{MISSING}: no value." if any(_lacks(scored, columns) for scored in block.rows) else "",
    )
    return figure


def _bars(block: ScoredBlock, columns: list[str], width: float) -> Figure:
    """Groups beside each other, in each a bar for each method."""
    style = looks(block)
    beside = legend_columns([label_of(row) for row in block.rows], width - 0.8)
    lines = -(-len(block.rows) // beside)
    figure = Figure(figsize=(width, 2.5 + 0.16 * lines), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(columns), dtype=float)
    step = 0.84 / len(block.rows)
    for number, scored in enumerate(block.rows):
        x = places + step * (number - (len(block.rows) - 1) / 2)
        look = style[scored.row.label]
        means, low, high = _intervals(scored, columns)
        axes.bar(x, means, step * 0.92, label=label_of(scored), zorder=2, **look.bars())
        for place, mean, below, above in zip(x, means, low, high, strict=True):
            if np.isnan(mean):
                axes.annotate(MISSING, (place, 0), (0, 2), textcoords="offset points", ha="center")
            elif not np.isnan(below):
                # White below black: seen on dark bars as on the paper.
                for line, colour in ((2.4, "white"), (0.9, "black")):
                    axes.plot([place] * 2, [below, above], color=colour, linewidth=line, zorder=3)
    room = (width - 0.7) / len(columns) - 0.1
    axes.set_xticks(places, [_named(block, name, room) for name in columns])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(0, 100)
    axes.set_ylabel("recall, %")
    axes.grid(axis="y", **GRID)
    axes.set_axisbelow(True)
    bare(axes)
    legend_above(axes, beside)
    return figure


def _lines(block: ScoredBlock, columns: list[str], width: float) -> Figure:
    """Methods below each other, a panel for each group."""
    style = looks(block)
    figure = Figure(figsize=(width, 0.7 + ROW_INCHES * len(block.rows)), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    values = [_intervals(scored, columns) for scored in block.rows]
    for column, (axes, name) in enumerate(zip(panels, columns, strict=True)):
        for place, (scored, limits) in enumerate(zip(block.rows, values, strict=True)):
            look = style[scored.row.label]
            mean, low, high = (value[column] for value in limits)
            if np.isnan(mean):
                axes.annotate(MISSING, (2, place), va="center")
                continue
            axes.plot([low, high], [place] * 2, color=look.colour, linewidth=1.2, zorder=2)
            axes.plot([mean], [place], linestyle="none", zorder=3, **look.points())
        axes.set_xlim(-3, 103)
        axes.set_xticks((0, 50, 100))
        axes.set_xlabel(_named(block, name, (width - 1.8) / len(columns)))
        axes.grid(axis="x", **GRID)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        bare(axes, "top", "right", "left")
    names = [label_of(scored) for scored in block.rows]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _intervals(scored: ScoredRow, columns: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means and limits in percent; NaN where there is none."""
    cells = [scored.cells[name] for name in columns]
    means = np.array([np.nan if cell.mean is None else cell.mean for cell in cells])
    estimates = [cell.estimate for cell in cells]
    low, high = (
        np.array([np.nan if e is None else getattr(e, side) for e in estimates])
        for side in ("low", "high")
    )
    return 100 * means, 100 * low, 100 * high


def _has_interval(scored: ScoredRow, columns: list[str]) -> bool:
    return not np.isnan(_intervals(scored, columns)[1]).all()


def _lacks(scored: ScoredRow, columns: list[str]) -> bool:
    return any(scored.cells[name].mean is None for name in columns)


def _named(block: ScoredBlock, name: str, room: float) -> str:
    """A column with its classes and images, in lines of so many inches."""
    groups = block.block.setting["groups"]
    images = block.images[block.part]
    if name in groups:
        classes = len(groups[name])
        title, n = column_title(name), images.get(name, 0)
    else:
        classes = len(block.block.record["classes"])
        title, n = metrics.TITLES[name], images["all"]
    below = f"{classes} class{'es' * (classes > 1)}, n\u00a0=\u00a0{n:,}"
    return f"{fitted(title, room)}\n{fitted(below, room)}"
