"""Precision-recall curves of one class against the rest, a line a method."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lmdbench.evaluation.curves import Curve, precisions
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

RECALLS = np.linspace(0, 1, 41)[1:]
FEWEST = 20  # images of a class; with fewer the band holds the truth too seldom


@register_plot(
    "precision-recall",
    title="precision-recall curves of a class against the rest, or their mean",
    of="class",
)
def draw_precision_recall(data: OneVsRest, width: float = WIDTH) -> Figure:
    """Precision against recall: the mean over seeds at fixed recalls, with a band.

    Between two points of a run false positives grow in proportion to true ones (Davis & Goadrich
    2006), as precision does not. The band is pointwise: t over the seeds' spread and the variance
    owed to the test images (see ``evaluation/curves.py``); none where a class has fewer than
    ``FEWEST`` images. Without a class, the mean over classes. Of more than ``MOST_METHODS``
    methods, ``drawn_rows``.
    """
    table = data.table

    def curve(scores: np.ndarray, labels: np.ndarray, of: int, units: np.ndarray | None) -> Curve:
        return precisions(scores, labels, of, RECALLS, units)

    drawn = method_bands(data, lambda seen: curve_band(data, seen, curve))
    labels = {row.label: fitting(row, width) for row in drawn.rows}
    shaded = data.fewest >= FEWEST
    figure, axes = curve_axes(list(labels.values()), width, square=True)
    base = 100 * data.prevalence
    axes.axhline(base, color="#9A9A9A", linewidth=0.8, linestyle=(0, (4, 3)))
    draw_bands(axes, 100 * RECALLS, drawn, table, labels, shaded)
    axes.set_xlim(-1, 101)
    axes.set_ylim(-1, 101)
    axes.set_xlabel("recall (sensitivity), %")
    axes.set_ylabel("precision, %")
    add_legend(axes, width)
    write_title(figure, f"Precision and recall: {data.words}", table.title)
    share = "its share of" if data.name else "the mean share of a class in"
    write_footer(
        figure,
        "Mean precision over seeds at each recall.",
        band_sentence(drawn) if shaded else f"No bands: a class has fewer than {FEWEST} images.",
        f"Dashed: chance, {share} these images, {base:.1f} %; under another share precision is "
        "another.",
        data.of_images,
        *drawn.notes,
    )
    return figure
