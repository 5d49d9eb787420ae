"""How stable a ranking is: the ranks of each method on bootstrap samples, as dots (challengeR)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lmdbench.comparison.notes import in_text
from lmdbench.comparison.stability import rank_stability
from lmdbench.comparison.types import ResultTable
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.style import (
    GRID,
    LETTER_INCHES,
    MOST_LINES,
    SMALL,
    WIDTH,
    bare,
    drawn_rows,
    label_of,
    looks,
    not_drawn,
    seeds_sentence,
    write_footer,
    write_title,
)
from lmdbench.reporting.tables.layout import tau_text

ROW_INCHES = 0.28
FULL = 0.95  # of the room between two ranks or rows, the largest dot


@register_plot("rank-stability", title="ranks on bootstrap samples of seeds and test images")
def draw_rank_stability(table: ResultTable, width: float = WIDTH) -> Figure:
    """A line a method, a dot a rank, its area the share of bootstrap samples.

    Raises UserError where fewer than two rows can be ranked.
    """
    found = table.stability or rank_stability(table)
    chosen = drawn_rows(table, MOST_LINES)
    drawn = {row.label: row for row in chosen}
    spreads = [spread for spread in found.rows if spread.label in drawn]
    methods = len(found.rows)
    names = [label_of(drawn[spread.label]) for spread in spreads]
    style = looks(table)
    figure = Figure(figsize=(width, 0.6 + ROW_INCHES * len(spreads)), layout="constrained")
    axes = figure.subplots()
    room = max(width - 0.3 - LETTER_INCHES * max(map(len, names)), width / 3) / methods
    most = max(max(spread.shares) for spread in spreads)
    largest = (72 * FULL * min(room, ROW_INCHES)) ** 2 / most  # points², were it of all samples
    for place, spread in enumerate(spreads):
        shares = np.array(spread.shares)
        look = style[spread.label]
        ranks = np.flatnonzero(shares) + 1
        axes.scatter(
            ranks,
            np.full(len(ranks), place),
            s=largest * shares[ranks - 1],
            color=look.colour,
            alpha=0.7,
            linewidth=0,
            zorder=3,
        )
        axes.plot([spread.low, spread.high], [place] * 2, color="black", linewidth=0.9, zorder=2)
    medians = [spread.median for spread in spreads]
    axes.plot(medians, range(len(spreads)), "x", color="black", markersize=5, zorder=4)
    axes.set_yticks(range(len(spreads)), names)
    axes.set_ylim(len(spreads) - 0.5, -0.5)
    axes.set_xlim(0.4, methods + 0.6)
    every = max(1, round(methods * 0.25 / (width / 2)))
    axes.set_xticks(range(1, methods + 1, every))
    axes.tick_params(axis="y", length=0)
    axes.grid(**GRID)
    axes.set_axisbelow(True)
    axes.set_xlabel("Rank, 1 the best", fontsize=SMALL + 0.5)
    bare(axes, "top", "right", "left")
    write_title(figure, f"Stability of the ranking by {in_text(found.primary)}", table.title)
    write_footer(
        figure,
        f"Area of a dot: the share of {found.rounds:,} bootstrap samples of seeds and "
        f"{table.part} images in which the method has the rank; the largest is "
        f"{100 * most:.0f} %. Cross: the median; line: where 95 % lie. From top to bottom as the "
        "table ranks them.",
        tau_text(found),
        "Stability of the ranking in these data; no confidence intervals.",
        *found.notes,
        seeds_sentence(chosen),
        not_drawn(table, chosen),
    )
    return figure
