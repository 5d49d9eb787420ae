"""Sensitivity and specificity of each method at stated thresholds, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmdbench.comparison.outcomes import Outcomes
from lmdbench.evaluation.curves import Band, Curve, band, decided, sensitivities
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.one_vs_rest import (
    BESIDE,
    MethodBands,
    OneVsRest,
    band_sentence,
    codes_of,
    curve_band,
    method_bands,
)
from lmdbench.reporting.plots.style import (
    GRID,
    LETTER_INCHES,
    LONGEST_LABEL,
    MOST_LINES,
    SMALL,
    WIDTH,
    bare,
    label_of,
    looks,
    write_footer,
    write_title,
)

SPECIFICITIES = (0.9, 0.95)
TITLES = (
    "sensitivity,\nlargest probability",
    "specificity,\nlargest probability",
    *(f"sensitivity at\n{100 * s:.0f} % specificity" for s in SPECIFICITIES),
)
ROW_INCHES = 0.29
NAMES = 0.33  # of the width, at most, is for names


@register_plot(
    "operating-points",
    title="sensitivity and specificity of a class at stated thresholds, with intervals",
    of="class",
)
def draw_operating_points(data: OneVsRest, width: float = WIDTH) -> Figure:
    """A line for each method, a panel for each number, with 95 % intervals.

    Where the largest probability decides, and where the threshold is the lowest at which the
    specificity on these images is at least that of ``SPECIFICITIES``. Without a class, means over
    classes, each with its own threshold. Intervals: t over the seeds' spread and the variance owed
    to the test images, that of the threshold included. Of more than ``MOST_LINES`` methods,
    ``drawn_rows``.
    """
    table = data.table
    drawn = method_bands(data, lambda seen: _points(data, seen), MOST_LINES)
    columns = len(TITLES) if width >= BESIDE else 2
    lines = -(-len(TITLES) // columns)
    figure = Figure(
        figsize=(width, lines * (0.75 + ROW_INCHES * len(drawn.rows))), layout="constrained"
    )
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for number, (axes, title) in enumerate(zip(panels.flat, TITLES, strict=True)):
        _panel(axes, data, drawn, number)
        axes.set_title(title, fontsize=8)
    letters = min(LONGEST_LABEL, int(NAMES * width / LETTER_INCHES))
    names = [label_of(row, letters) for row in drawn.rows]
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(names)), names)
    panels[0, 0].set_ylim(len(names) - 0.5, -0.7)
    write_title(figure, f"Operating points, %: {data.words}", table.title)
    each = "" if data.name else "of each class "
    write_footer(
        figure,
        "Means over seeds.",
        band_sentence(drawn, "Lines: 95 % intervals"),
        f"Right: the lowest threshold {each}at which specificity on these images is at least that; "
        "chosen and measured on the same images.",
        data.of_images,
        *drawn.notes,
    )
    return figure


def _points(data: OneVsRest, seen: Outcomes) -> Band:
    """Of the numbers in the order of ``TITLES``."""
    units = codes_of(seen)
    of_classes = [decided(seen.predicted, seen.labels, k, units) for k in data.classes]
    sensitivity, specificity = (band(curves) for curves in zip(*of_classes, strict=True))
    rates = 1 - np.array(SPECIFICITIES)

    def steps(scores: np.ndarray, labels: np.ndarray, of: int, units: np.ndarray | None) -> Curve:
        return sensitivities(scores, labels, of, rates, units, steps=True)

    return _joined([sensitivity, specificity, curve_band(data, seen, steps)])


def _joined(bands: Sequence[Band]) -> Band:
    return Band(*(np.concatenate([getattr(b, f) for b in bands]) for f in ("value", "low", "high")))


def _panel(axes: Axes, data: OneVsRest, drawn: MethodBands, number: int) -> None:
    style = looks(data.table)
    limits = [(100 * b.low[number], 100 * b.high[number]) for b in drawn.bands.values()]
    low = 10 * np.floor(min(below for below, _ in limits) / 10)
    high = 10 * np.ceil(max(above for _, above in limits) / 10)
    room = 0.15 * (high - low)  # for half of a number
    for place, (row, ends) in enumerate(zip(drawn.rows, limits, strict=True)):
        look, value = style[row.label], 100 * drawn.bands[row.label].value[number]
        axes.plot(ends, [place] * 2, color=look.colour, linewidth=1.2, zorder=2)
        axes.plot([value], [place], linestyle="none", zorder=3, **look.points())
        axes.annotate(
            f"{round(value, 9):.1f}",
            (np.clip(value, low + room, high - room), place),
            (0, 3.5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALL,
        )
    axes.set_xlim(low - room / 4, high + room / 4)
    axes.set_xticks((low, (low + high) / 2, high))
    axes.grid(axis="x", **GRID)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    bare(axes, "top", "right", "left")
