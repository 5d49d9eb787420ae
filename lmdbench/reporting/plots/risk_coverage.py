"""Error of the images that are answered, against their share: what abstention is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics import softmax
from lmdbench.evaluation.thresholds import risk_coverage
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.one_vs_rest import MOST_METHODS, add_legend, curve_axes, fitting
from lmdbench.reporting.plots.style import (
    WIDTH,
    Look,
    drawn_rows,
    label_of,
    looks,
    not_drawn,
    seeds_sentence,
    write_footer,
    write_title,
)

MARKED = 8  # markers on a line


@register_plot("risk-coverage", title="error against the share of images answered, with AURC")
def draw_risk_coverage(table: ResultTable, width: float = WIDTH) -> Figure:
    """The share of wrong answers among the images with the largest probabilities, against how many
    these are: a thin line for each run, a thick one for their mean.

    Of more than ``MOST_METHODS`` methods, ``drawn_rows``. Raises UserError without images, and
    where no row has finite logits.
    """
    if not table.images[table.part]["all"]:
        raise UserError(f"{table.title}: there are no {table.part} images")
    rows = drawn_rows(table, MOST_METHODS)
    curves = {row.label: run_curves(*_of(table, row)) for row in rows}
    shown = [row for row in rows if len(curves[row.label])]
    if not shown:
        raise UserError(f"{table.title}: no row has finite logits")
    labels = {
        row.label: fitting(row, width, f", AURC {100 * curves[row.label].mean():.1f}")
        for row in shown
    }
    figure, axes = curve_axes([*labels.values()], width, square=False)
    style = looks(table)
    for row in shown:
        each, look = 100 * curves[row.label], style[row.label]
        x = 100 * np.arange(1, each.shape[1] + 1) / each.shape[1]
        if len(each) > 1:
            axes.plot(x, each.T, color=look.colour, linewidth=0.5, alpha=0.5)
        marks = np.linspace(0, len(x) - 1, MARKED).astype(int).tolist()
        mean = each.mean(axis=0)
        axes.plot(x, mean, markevery=marks, label=labels[row.label], **_line(look))
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images answered, the surest first, %")
    axes.set_ylabel("error among these, %")
    add_legend(axes, width)
    write_title(figure, "Error against the share answered", table.title)
    lost = [label_of(row) for row in rows if row not in shown]
    write_footer(
        figure,
        "The surest have the largest probabilities; chance decides among equal ones. AURC: the "
        "area under the curve, the mean error over all shares, in %; the smaller, the better. It "
        "belongs to the class shares of these images, and a threshold to be used elsewhere is "
        "chosen on validation images.",
        _areas({label_of(row): curves[row.label] for row in shown}),
        seeds_sentence(shown),
        f"Logits not finite: {', '.join(lost)}." if lost else "",
        not_drawn(table, rows),
    )
    return figure


def run_curves(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """``risk_coverage`` (S, N) of the runs with finite logits, labels (N,) and logits (R, N, C)."""
    chances = [softmax(one) for one in logits]
    return np.array(
        [
            risk_coverage(one.max(axis=1), one.argmax(axis=1) != labels)
            for one in chances
            if np.isfinite(one).all()
        ]
    )


def _of(table: ResultTable, row: MethodResult) -> tuple[np.ndarray, np.ndarray]:
    seen = outcomes(table, row)
    return seen.labels, seen.logits


def _line(look: Look) -> dict[str, Any]:
    return {"linewidth": 1.4, "zorder": 3, **look.points(4), "color": look.colour}


def _areas(curves: Mapping[str, np.ndarray]) -> str:
    """The area of each run, where there are several."""
    if all(len(each) == 1 for each in curves.values()):
        return ""
    texts = [
        f"{name} {', '.join(f'{100 * area:.1f}' for area in each.mean(axis=1))}"
        for name, each in curves.items()
    ]
    return f"By run: {'; '.join(texts)}."
