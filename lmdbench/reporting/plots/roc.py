"""ROC curves of one class against the rest, a line a method."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import MethodResult
from lmdbench.evaluation.curves import Curve, sensitivities
from lmdbench.evaluation.metrics import by_class
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.one_vs_rest import (
    OneVsRest,
    add_legend,
    band_sentence,
    curve_axes,
    curve_band,
    draw_bands,
    fitting,
    method_bands,
)
from lmdbench.reporting.plots.style import WIDTH, write_footer, write_title

RATES = np.linspace(0, 1, 41) ** 2  # false-positive rates: denser where curves are steep


@register_plot("roc", title="ROC curves of a class against the rest, or their mean", of="class")
def draw_roc(data: OneVsRest, width: float = WIDTH) -> Figure:
    """Sensitivity against the false-positive rate: the mean over seeds at fixed rates, with a band.

    The band is pointwise: t over the seeds' spread and the variance owed to the test images (see
    ``evaluation/curves.py``). Without a class, the mean over classes. Of more than ``MOST_METHODS``
    methods, ``drawn_rows``.
    """
    table = data.table

    def curve(scores: np.ndarray, labels: np.ndarray, of: int, units: np.ndarray | None) -> Curve:
        return sensitivities(scores, labels, of, RATES, units)

    drawn = method_bands(data, lambda seen: curve_band(data, seen, curve))
    labels = {
        row.label: fitting(row, width, f" (AUROC {100 * _area(data, row):.1f})")
        for row in drawn.rows
    }
    figure, axes = curve_axes(list(labels.values()), width, square=True)
    axes.plot([0, 100], [0, 100], color="#9A9A9A", linewidth=0.8, linestyle=(0, (4, 3)))
    draw_bands(axes, 100 * RATES, drawn, table, labels, start=(0, 0))
    axes.set_xlim(-1, 101)
    axes.set_ylim(-1, 101)
    axes.set_xlabel("false-positive rate (1 − specificity), %")
    axes.set_ylabel("sensitivity, %")
    add_legend(axes, width)
    write_title(figure, f"ROC: {data.words}", table.title)
    write_footer(
        figure,
        "Mean sensitivity over seeds at each false-positive rate.",
        band_sentence(drawn),
        "Dashed: chance.",
        data.of_images,
        *drawn.notes,
    )
    return figure


def _area(data: OneVsRest, row: MethodResult) -> float:
    """AUROC, mean over seeds and classes."""
    seen = outcomes(data.table, row)
    areas = [by_class("auroc", seen.labels, one)[data.classes] for one in seen.logits]
    return float(np.mean(areas))
