"""The plots of one table, as SVG within the page, and why one could not be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from lmdbench.comparison.compare import Comparison
from lmdbench.comparison.types import ResultTable
from lmdbench.core.errors import UserError
from lmdbench.reporting.page.svg import inline
from lmdbench.reporting.plots import PLOTS
from lmdbench.reporting.plots.figures import lacking, svg_text
from lmdbench.reporting.plots.style import WIDTH

# Plot → its title in the page, and what it shows to who can't see it. In the page's order.
SHOWN = {
    "forest": (
        "Differences to the reference",
        "A line for each method: its paired difference to the reference with the 95 % interval. "
        "The same numbers stand in the table of results.",
    ),
    "groups": (
        "Recall of head, medium and tail",
        "Bars for each method and group of classes, with 95 % intervals. The same numbers stand in "
        "the table of results.",
    ),
    "per-class": (
        "Recall by class",
        "The recall of every class against its training images, for each method. The same numbers "
        "stand in the table of classes.",
    ),
    "confusion": (
        "Confusion matrices",
        "For each method the share of every class's images that is taken for each class; of many "
        "classes the largest confusions. They stand in words on the page of each class.",
    ),
    "reliability": (
        "Reliability",
        "For each method the share of right predictions against the confidence in them.",
    ),
    "risk-coverage": (
        "Error against the share answered",
        "A line for each method: the share of wrong answers among the images that it is surest of, "
        "against how many these are, with the area under it.",
    ),
    "curves": ("Training curves", "Loss and validation score of each method's runs, by epoch."),
}


@dataclass(frozen=True)
class Picture:
    """A plot of the page; ``svg`` is None where it could not be drawn, for a ``reason``.
    ``lacking``: characters that no font here has."""

    title: str
    svg: Markup | None
    reason: str = ""
    lacking: str = ""


def figures(table: ResultTable, anchor: str, results: Path) -> Iterator[Picture]:
    """The plots of a table. ``anchor`` tells their ids from those of other tables."""
    for name, (title, description) in SHOWN.items():
        try:
            figure = PLOTS[name].draw(table, WIDTH)
            document = svg_text(figure)
        except UserError as error:
            yield Picture(title, None, _without_folders(str(error), results))
            continue
        prefix = f"{anchor}-{name}"
        svg = inline(document, prefix, f"{title}: {table.title}", description)
        yield Picture(title, svg, lacking=lacking(figure))


def _without_folders(reason: str, results: Path) -> str:
    """A reason that may begin with a path, as readers of the page get it."""
    reason = reason.removeprefix(f"{results}/")
    return reason.partition(": ")[2] if reason.startswith("/") else reason


def across(comparison: Comparison) -> Picture | None:
    """The plot of ranks across data sets, where there are enough of them for one."""
    name = "critical-difference"
    try:
        document = svg_text(PLOTS[name].draw(comparison, WIDTH))
    except UserError:  # the table of ranks says why
        return None
    title = "Mean ranks across data sets and splits"
    description = (
        "A line of ranks with the mean of each method; the table of ranks has the numbers."
    )
    return Picture(title, inline(document, name, title, description))
