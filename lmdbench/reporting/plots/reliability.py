"""Reliability diagrams: how often a prediction of so much confidence is right."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation import metrics
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.style import (
    GRID,
    MOST_PANELS,
    SMALL,
    WIDTH,
    Look,
    bare,
    drawn_rows,
    grid_of,
    label_of,
    looks,
    not_drawn,
    seeds_sentence,
    write_footer,
    write_title,
)

PANEL_INCHES = 1.7  # at least
HISTOGRAM_BINS = 20


@register_plot("reliability", title="accuracy against confidence, with ECE")
def draw_reliability(table: ResultTable, width: float = WIDTH) -> Figure:
    """Accuracy against confidence in bins of equally many images, a panel for each method.

    Below each stands how confidences are spread. Of more than ``MOST_PANELS`` methods,
    ``drawn_rows``. Raises UserError without images.
    """
    if not table.images[table.part]["all"]:
        raise UserError(f"{table.title}: there are no {table.part} images")
    style = looks(table)
    rows = drawn_rows(table, MOST_PANELS)
    lines, columns = grid_of(len(rows), int(width / PANEL_INCHES))
    side = width / columns - 0.25
    figure = Figure(figsize=(width, lines * (1.3 * min(side, 3.2) + 0.55)), layout="constrained")
    panels = figure.subplots(
        2 * lines, columns, sharex=True, squeeze=False, height_ratios=[3.2, 1] * lines
    )
    for number, row in enumerate(rows):
        line, column = divmod(number, columns)
        upper, lower = panels[2 * line, column], panels[2 * line + 1, column]
        seen = outcomes(table, row)
        upper.set_title(label_of(row, 26), fontsize=8.5)
        _draw(upper, lower, seen.labels, seen.logits, style[row.label])
        if column == 0:
            upper.set_ylabel("accuracy, %")
            lower.set_ylabel("images, %")
        else:
            upper.tick_params(labelleft=False)
        lower.tick_params(labelbottom=True)
        if number + columns >= len(rows):
            lower.set_xlabel("confidence, %")
    for number in range(len(rows), lines * columns):
        line, column = divmod(number, columns)
        panels[2 * line, column].set_visible(False)
        panels[2 * line + 1, column].set_visible(False)
    write_title(figure, "Reliability: accuracy against confidence", table.title)
    write_footer(
        figure,
        f"ECE: gap between the two over {metrics.ECE_BINS} bins of equally many images, mean over "
        f"seeds, under the class shares of these {table.images[table.part]['all']:,} {table.part} "
        f"images{_shares(table)}: under others it is another number. Points: the bins of all seeds "
        "together. Below: how confidences are spread.",
        seeds_sentence(rows),
        not_drawn(table, rows),
    )
    return figure


def reliability_bins(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean confidence and accuracy of each bin of ``metrics.equal_mass_bins`` that has images.

    ``confidence`` (N,) float, ``correct`` (N,) bool.
    """
    places = metrics.equal_mass_bins(confidence)
    n = np.bincount(places)
    filled = n > 0
    sums = np.bincount(places, confidence), np.bincount(places, correct)
    return sums[0][filled] / n[filled], sums[1][filled] / n[filled]


def _draw(upper: Axes, lower: Axes, labels: np.ndarray, logits: np.ndarray, look: Look) -> None:
    """``logits`` (S, N, C) of all seeds."""
    upper.plot([0, 100], [0, 100], color="#9A9A9A", linewidth=0.8, linestyle=(0, (4, 3)))
    for axes in (upper, lower):
        axes.set_xlim(0, 100)
        axes.set_xticks([0, 50, 100])
        axes.grid(**GRID)
        bare(axes)
    upper.set_ylim(0, 100)
    upper.set_yticks([0, 50, 100])
    if any(metrics.unusable(one) for one in logits):
        upper.text(50, 50, "logits not finite", ha="center", fontsize=SMALL, style="italic")
        return
    probabilities = np.stack([metrics.softmax(one) for one in logits])
    confidence = probabilities.max(axis=2)
    correct = probabilities.argmax(axis=2) == labels
    x, y = reliability_bins(confidence.ravel(), correct.ravel())
    upper.plot(100 * x, 100 * y, linewidth=1.0, zorder=3, clip_on=False, **look.points(4))
    ece = float(np.mean([metrics.score("ece", labels, one) for one in logits]))
    upper.text(96, 4, f"ECE {100 * ece:.1f}", ha="right", va="bottom", fontsize=8)
    weights = np.full(confidence.size, 100 / confidence.size)
    bars = look.bars() | {"hatch": ""}
    lower.hist(
        100 * confidence.ravel(),
        bins=HISTOGRAM_BINS,
        range=(0, 100),
        weights=weights,
        zorder=2,
        **bars,
    )


def _shares(table: ResultTable) -> str:
    """The prior by groups, in brackets."""
    images = table.images[table.part]
    shares = [
        f"{group} {100 * images[group] / images['all']:.0f} %"
        for group in table.setting["groups"]
        if images.get(group) is not None
    ]
    return f" ({', '.join(shares)})" if shares else ""
