"""The critical-difference diagram: mean ranks across data sets, and which are not told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lmdbench.comparison.compare import Comparison
from lmdbench.comparison.notes import column_title
from lmdbench.comparison.ranking import settings_of
from lmdbench.comparison.results import RunGroup
from lmdbench.comparison.types import ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation.ranks import NEMENYI_FROM, nemenyi_critical_difference
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.figures import drawing, shortened
from lmdbench.reporting.plots.style import LONGEST_LABEL, SMALL, WIDTH, write_footer, write_title

NO_RANKS = "no two methods are in all of these tables, so there are no ranks"
LINE = 0.2  # inches a method takes


@drawing()
def draw_diagram(
    labels: Sequence[str], ranks: np.ndarray, critical: float, width: float = WIDTH
) -> Figure:
    """Methods by mean rank (M,), the best at the left; a bar joins those within ``critical``."""
    order = np.argsort(ranks, kind="stable")
    methods = len(order)
    joined = cliques(ranks[order], critical)
    half = -(-methods // 2)
    inches = 0.8 + LINE * half + 0.1 * len(joined)
    figure = Figure(figsize=(width, inches), layout="constrained")
    axes = figure.subplots()
    margin = 0.42 * (methods - 1)  # for the names at both sides
    axes.set_xlim(1 - margin, methods + margin)
    depth = 0.1 * len(joined) + 0.12
    axes.set_ylim(depth + LINE * half + 0.05, -0.42)
    axes.axis("off")
    axes.plot([1, methods], [0, 0], color="black", linewidth=1)
    for rank in range(1, methods + 1):
        axes.plot([rank, rank], [0, -0.05], color="black", linewidth=1)
        axes.text(rank, -0.07, str(rank), ha="center", va="bottom", fontsize=SMALL + 0.5)
    axes.plot([1, 1 + critical], [-0.3, -0.3], color="black", linewidth=1.5)
    axes.text(1 + critical, -0.3, f"  critical difference {critical:.2f}", va="center")
    for place, method in enumerate(order):
        rank, at_left = ranks[method], place < half
        y = depth + LINE * (place if at_left else methods - 1 - place)
        side = 1 - 0.02 * methods if at_left else methods + 0.02 * methods
        axes.plot([rank, rank, side], [0, y, y], color="#6E6E6E", linewidth=0.8)
        name = shortened(labels[method], LONGEST_LABEL)
        text = f"{name} ({rank:.2f}) " if at_left else f" ({rank:.2f}) {name}"
        axes.text(side, y, text, ha="right" if at_left else "left", va="center")
    for number, (first, last) in enumerate(joined):
        y = 0.06 + 0.1 * number
        ends = [ranks[order[first]] - 0.03, ranks[order[last]] + 0.03]
        axes.plot(ends, [y, y], color="black", linewidth=3, solid_capstyle="butt")
    return figure


def cliques(ranks: np.ndarray, critical: float) -> list[tuple[int, int]]:
    """First and last place of each longest stretch of rising ``ranks`` within ``critical``.

    Stretches of one, and those inside another, are left out.
    """
    stretches: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = int(np.searchsorted(ranks, rank + critical, "right")) - 1
        if last > first and (not stretches or last > stretches[-1][1]):
            stretches.append((first, last))
    return stretches


def check_enough(groups: Sequence[RunGroup | ResultTable]) -> None:
    """Raises UserError for fewer groups than ``NEMENYI_FROM``, or without two common rows."""
    settings = [group for group in groups if "split_fold" not in group.setting]
    if len(settings) < NEMENYI_FROM:
        raise UserError(
            f"a critical-difference diagram takes {NEMENYI_FROM} data sets and splits, here are "
            f"{len(settings)}: with so few the critical difference spans most ranks; `lmdbench "
            "compare` gives mean ranks and wins, `lmdbench plot forest` each table's differences"
        )
    if len(set.intersection(*({row.label for row in group.rows} for group in settings))) < 2:
        raise UserError(NO_RANKS)


@register_plot(
    "critical-difference",
    title="mean ranks across data sets and splits",
    of="comparison",
    check=check_enough,
)
def draw_critical_difference(comparison: Comparison, width: float = WIDTH) -> Figure:
    """Mean ranks over the tables of a comparison, by the primary metric.

    Raises UserError for too few, see ``check_enough``.
    """
    settings = settings_of(comparison.tables)
    check_enough(settings)
    ranks = comparison.ranks
    if ranks is None or len(ranks.rows) < 2:
        raise UserError(NO_RANKS)
    critical = nemenyi_critical_difference(len(ranks.rows), len(settings))
    labels = [row.label for row in ranks.rows]
    figure = draw_diagram(labels, np.array([row.mean for row in ranks.rows]), critical, width)
    title = column_title(ranks.primary)
    marked = {"SYNTHETIC DATA": "synthetic", "PARTIAL DATA": "partial"}
    words = [f"{len(settings)} data sets and splits", f"{comparison.part} images"]
    words += [
        word for word, name in marked.items() if any(getattr(b, name) for b in comparison.tables)
    ]
    write_title(figure, f"Mean ranks by {title}", " · ".join(words))
    write_footer(
        figure,
        "1 is best. A bar joins methods whose mean ranks differ by less than Nemenyi's critical "
        "difference at 5 %.",
        ranks.caveats,
    )
    return figure
