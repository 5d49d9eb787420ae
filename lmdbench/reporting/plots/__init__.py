"""Plots: functions ``(data, width in inches) -> Figure`` of matplotlib, without pyplot, and their
names. ``figures.save_figure`` and ``figures.svg_text`` write what they return."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from lmdbench.reporting.plots.confusion import draw_confusion
from lmdbench.reporting.plots.critical_difference import draw_critical_difference
from lmdbench.reporting.plots.curves import draw_curves
from lmdbench.reporting.plots.embedding import draw_embedding
from lmdbench.reporting.plots.forest import draw_forest
from lmdbench.reporting.plots.groups import draw_groups
from lmdbench.reporting.plots.per_class import draw_per_class
from lmdbench.reporting.plots.reliability import draw_reliability

# Kind → its function and what it is. Data are a ResultTable, but where BY_RUN or ACROSS says so.
PLOTS: dict[str, tuple[Callable[..., Figure], str]] = {
    "per-class": (draw_per_class, "recall of each class, and the gain over ce"),
    "groups": (draw_groups, "head, medium and tail as bars with intervals"),
    "forest": (draw_forest, "paired differences to the reference, with intervals and p"),
    "confusion": (draw_confusion, "confusion matrices, mean over seeds"),
    "reliability": (draw_reliability, "accuracy against confidence, with ECE"),
    "curves": (draw_curves, "training curves, with the EM rounds of ICC"),
    "embedding": (draw_embedding, "features by t-SNE, before and after a run's training"),
    "critical-difference": (draw_critical_difference, "mean ranks across data sets and splits"),
}
BY_RUN = "embedding"  # of an Embedding
ACROSS = "critical-difference"  # of a Comparison
