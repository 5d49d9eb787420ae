"""A forest plot: how far each method is from the reference, with intervals and p."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lmdbench.comparison.notes import column_title, points, without_common_seed
from lmdbench.comparison.types import ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation.differences import Difference
from lmdbench.evaluation.metrics import described
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.figures import shortened
from lmdbench.reporting.plots.style import (
    LONGEST_LABEL,
    MOST_LINES,
    SMALL,
    WIDTH,
    bare,
    drawn_rows,
    fitted,
    label_of,
    looks,
    not_drawn,
    seeds_sentence,
    write_footer,
    write_title,
)
from lmdbench.reporting.tables.words import images_of, is_share, p_text, signed

ROW_INCHES = 0.24
NARROW = 5.0  # inches; below it the numbers stand under the names, not beside


@register_plot("forest", title="paired differences to the reference, with intervals and p")
def draw_forest(table: ResultTable, width: float = WIDTH) -> Figure:
    """Paired differences to the reference on the primary metric, shares in points.

    Raises UserError where there is no reference in this table, or nothing to compare with it.
    """
    if table.reference is None:
        raise UserError(
            f"{table.title}: the reference is not among its rows; name one that is by --reference"
        )
    primary = table.primary
    title = column_title(primary)
    chosen = drawn_rows(table, MOST_LINES)
    rows = [row for row in chosen if row.label != table.reference]
    compared = [
        (row, difference)
        for row in rows
        if (difference := row.cells[primary].difference) and not np.isnan(difference.value)
    ]
    if not compared:
        why = " (no seed in common)" if without_common_seed(table) else ""
        raise UserError(f"{table.title}: nothing to compare with {table.reference} on {title}{why}")
    label = shortened(table.reference, LONGEST_LABEL)
    unit = "points above or below" if is_share(primary) else "above or below"
    below = fitted(f"{title}: {unit} {label}", width / 2)
    lines = below.count("\n") + 1
    style = looks(table)
    narrow = width < NARROW
    words = [_in_words(d, row.cells[primary].p_corrected, primary) for row, d in compared]
    names = [label_of(row) for row, _ in compared]
    if narrow:
        names = [f"{name}\n{word}" for name, word in zip(names, words, strict=True)]
    height = 0.45 + 0.13 * lines + ROW_INCHES * (1.5 if narrow else 1) * len(compared)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.locator_params(axis="x", nbins=max(3, int(width)))
    if is_share(primary):
        axes.axvspan(-table.margin, table.margin, color="#E6E6E6", zorder=0)
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    scale = 100 if is_share(primary) else 1
    for place, (row, difference) in enumerate(compared):
        look = style[row.label]
        ends = [scale * difference.low, scale * difference.high]
        axes.plot(ends, [place] * 2, color=look.colour, linewidth=1.4, zorder=2)
        axes.plot([scale * difference.value], [place], linestyle="none", zorder=3, **look.points(6))
        if not narrow:
            axes.annotate(
                words[place],
                (1.01, place),
                xycoords=axes.get_yaxis_transform(),
                va="center",
                fontsize=SMALL + 0.5,
                annotation_clip=False,
            )
    axes.set_yticks(range(len(compared)), names)
    axes.set_ylim(len(compared) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(below)
    bare(axes, "top", "right", "left")
    write_title(figure, f"{title} against {label}", table.title)
    apart = [label_of(row) for row in without_common_seed(table)]
    drawn = [row.label for row, _ in compared]
    without = [label_of(row) for row in rows if row.label not in drawn]
    without = [name for name in without if name not in apart]
    single = [label_of(row) for row, difference in compared if difference.seeds == 1]
    some = len(single) < len(compared)
    dependent = {row.label for row in table.rows if row.shares_start}
    shared = [
        label_of(row)
        for row, d in compared
        if d.seeds > 1 and dependent & {row.label, table.reference}
    ]
    whose = f" ({', '.join(single)})" if some else ""
    inside = "; a 90 % interval inside it is practically equal" if some else ""
    tested = any(row.cells[primary].p_corrected is not None for row, _ in compared)
    together = any(difference.simultaneous for _, difference in compared)
    adjusted = ", simultaneous" if together else ", unadjusted"
    n = images_of(table, primary)
    write_footer(
        figure,
        f"Paired differences over the same seeds and {n} {table.part} image{'s' * (n != '1')}, "
        f"with 95 % intervals{adjusted * tested}.",
        "p: two-sided, corrected by Holm over the rows of this table." if tested else "",
        f"One seed{whose}: intervals for the test images only, and no p." if single else "",
        f"No p, as seeds share a run that they start from: {', '.join(shared)}." if shared else "",
        f"Grey band: ±{points(table.margin)}{inside}." if is_share(primary) else "",
        "The smaller, the better." if described(primary).lower_is_better else "",
        seeds_sentence(chosen),
        f"Left out, no seed in common with {label}: {', '.join(apart)}." if apart else "",
        f"Left out, without a difference: {', '.join(without)}." if without else "",
        not_drawn(table, chosen),
    )
    return figure


def _in_words(difference: Difference, corrected: float | None, primary: str) -> str:
    """``+1.2 [−0.3, +2.7]   p = .118``; without what there is not."""
    percent = is_share(primary)
    text = signed(difference.value, percent)
    if not np.isnan(difference.low):
        text += f" [{signed(difference.low, percent)}, {signed(difference.high, percent)}]"
    p = difference.p if corrected is None else corrected
    if np.isnan(p):
        return text
    of_p = p_text(p)
    return f"{text}   p {of_p.replace('<', '< ') if of_p.startswith('<') else f'= {of_p}'}"
