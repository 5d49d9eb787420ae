"""What the plots of one class against the rest share: which class, bands of methods, how they are
drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmdbench.comparison.outcomes import Outcomes, outcomes
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.core.words import listed
from lmdbench.evaluation.curves import Band, Curve, band
from lmdbench.evaluation.inference import unit_codes
from lmdbench.evaluation.metrics import Scorer
from lmdbench.reporting.plots.figures import shortened
from lmdbench.reporting.plots.style import (
    GRID,
    LETTER_INCHES,
    LONGEST_CLASS,
    LONGEST_LABEL,
    SMALL,
    bare,
    drawn_rows,
    label_of,
    legend_above,
    legend_columns,
    looks,
    not_drawn,
    seeds_sentence,
)

MOST_METHODS = 8
BESIDE = 5.0  # inches from which on the legend stands beside the axes
TALLEST = 3.6  # inches of axes
MARKERS = 8  # on a line
LEGEND_LETTER = 0.066  # inches, on average

# Of scores (S, N) of a class by each seed, the labels (N,), the class and the units.
CurveOf = Callable[[np.ndarray, np.ndarray, int, "np.ndarray | None"], Curve]


def needs_class(plot: str, names: Sequence[str]) -> UserError:
    """Of a plot that has no mean over all classes, ``names``."""
    listing = listed(list(names))
    return UserError(f"a {plot.replace('-', ' ')} is of one class; name it by --class: {listing}")


@dataclass(frozen=True)
class OneVsRest:
    """A table, and the class that is held against the rest by its name; None for the mean over all
    classes that have images."""

    table: ResultTable
    name: str | None = None

    @property
    def classes(self) -> list[int]:
        """The classes that curves are of. Raises UserError for one that is not in the table, or of
        which there are no images, or of all others."""
        names, table = list(self.table.record.classes), self.table
        if self.name is not None and self.name not in names:
            raise unknown("class", self.name, names)
        there = [k for k, name in enumerate(names) if table.rows[0].recalls[name].n]
        if len(there) < 2:
            raise UserError(f"{table.title}: fewer than two classes have images here")
        if self.name is None:
            return there
        if (chosen := names.index(self.name)) not in there:
            raise UserError(
                f"{table.title}: there are no {table.counted} of {self.name}; choose another "
                "--class"
            )
        return [chosen]

    @property
    def prevalence(self) -> float:
        """The share of the class among the images; the mean share of all."""
        names = self.table.record.classes
        images = [self.table.rows[0].recalls[names[k]].n for k in self.classes]
        return float(np.mean(images)) / self.table.images[self.table.part]["all"]

    @property
    def fewest(self) -> int:
        """Images of the smallest of the classes."""
        names = self.table.record.classes
        return min(self.table.rows[0].recalls[names[k]].n for k in self.classes)

    @property
    def words(self) -> str:
        """Whose curves, as part of a title."""
        if self.name is not None:
            return f"{shortened(self.name, LONGEST_CLASS)} against the rest"
        return f"each class against the rest, mean of {len(self.classes)}"

    @property
    def of_images(self) -> str:
        """A sentence on the images behind the curves."""
        images = self.table.images[self.table.part]["all"]
        of = f"{images:,} {self.table.counted}"
        if self.name is None:
            return f"{of}."
        own = self.fewest
        return (
            f"{of}, {own:,} of {shortened(self.name, LONGEST_CLASS)} ({100 * own / images:.1f} %)."
        )


@dataclass(frozen=True)
class MethodBands:
    """The rows that are drawn, each with what is drawn of it, and labels of those without."""

    rows: Sequence[MethodResult]
    bands: Mapping[str, Band]
    broken: Sequence[str]
    left_out: str  # a sentence

    @property
    def notes(self) -> list[str]:
        """Sentences for the footer."""
        broken = ", ".join(self.broken)
        return [
            seeds_sentence(self.rows),
            f"Left out, logits not finite: {broken}." if broken else "",
            self.left_out,
        ]


def method_bands(
    data: OneVsRest, of: Callable[[Outcomes], Band], most: int = MOST_METHODS
) -> MethodBands:
    """What ``of`` makes of the predictions of each of ``drawn_rows``.

    Raises UserError where no method has logits that are finite in every seed.
    """
    chosen = drawn_rows(data.table, most)
    rows, bands, broken = [], {}, []
    for row in chosen:
        seen = outcomes(data.table, row)
        if seen.usable.all():
            rows.append(row)
            bands[row.label] = of(seen)
        else:
            broken.append(label_of(row))
    if not rows:
        raise UserError(f"{data.table.title}: no method has finite logits in all its seeds")
    return MethodBands(rows, bands, broken, not_drawn(data.table, chosen))


def curve_band(data: OneVsRest, seen: Outcomes, curve: CurveOf) -> Band:
    """The mean over the classes of what ``curve`` makes of the scores that rank images."""
    ranks = [Scorer(seen.labels, one).ranks for one in seen.logits]
    units = codes_of(seen)
    return band(
        [curve(np.stack([one[:, k] for one in ranks]), seen.labels, k, units) for k in data.classes]
    )


def codes_of(seen: Outcomes) -> np.ndarray | None:
    """The units as numbers, which many estimates need."""
    return None if seen.units is None else unit_codes(seen.units)


def fitting(row: MethodResult, width: float, more: str = "") -> str:
    """The row's label in a legend of a figure of that width, with ``more`` behind it."""
    letters = int((width - 1.1) / LEGEND_LETTER) - len(more)
    return label_of(row, min(letters, LONGEST_LABEL)) + more


def curve_axes(labels: Sequence[str], width: float, square: bool) -> tuple[Figure, Axes]:
    """A figure of one pair of axes, with room for a legend of the labels."""
    beside = width >= BESIDE
    legend = 0.6 + LETTER_INCHES * max(map(len, labels)) if beside else 0.0
    room = width - 0.6 - legend
    lines = 0 if beside else -(-len(labels) // legend_columns(labels, width - 0.8))
    height = min(room, TALLEST) if square else min(0.7 * room, TALLEST)
    least = 0.18 * len(labels) if beside else 0.0
    figure = Figure(figsize=(width, max(height, least) + 0.55 + 0.16 * lines), layout="constrained")
    axes = figure.subplots()
    if square:
        axes.set_box_aspect(1)
        axes.set_anchor("W")
    axes.grid(**GRID)
    axes.set_axisbelow(True)
    bare(axes)
    return figure, axes


def draw_bands(
    axes: Axes,
    places: np.ndarray,
    drawn: MethodBands,
    table: ResultTable,
    labels: Mapping[str, str],
    shaded: bool = True,
    start: tuple[float, float] | None = None,
) -> None:
    """A line and its band for each method, in percent against ``places`` (G,) in percent.

    ``labels``: row's label → what the legend says; ``start``: a point before the first.
    """
    style = looks(table)
    shade = min(0.15, 0.5 / len(drawn.rows))
    for number, row in enumerate(drawn.rows):
        look, found = style[row.label], drawn.bands[row.label]
        x, y = places, 100 * found.value
        if start is not None:
            x, y = np.append(start[0], x), np.append(start[1], y)
        step = max(len(x) // MARKERS, 1)
        first = (number * step) // len(drawn.rows)
        axes.plot(
            x,
            y,
            linewidth=1.2,
            zorder=3,
            label=labels[row.label],
            markevery=(first, step),
            **look.points(4.0),
        )
        if shaded:
            limits = 100 * found.low, 100 * found.high
            axes.fill_between(
                places, *limits, color=look.colour, alpha=shade, linewidth=0, zorder=2
            )


def add_legend(axes: Axes, width: float) -> None:
    """Beside the axes, or above them where the figure is narrow."""
    labels = axes.get_legend_handles_labels()[1]
    if width < BESIDE:
        legend_above(axes, legend_columns(labels, width - 0.8))
        return
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=SMALL + 0.5,
    )


def band_sentence(drawn: MethodBands, what: str = "Bands: pointwise 95 %") -> str:
    """What the bands hold."""
    single = [len(row.seeds) == 1 for row in drawn.rows]
    if all(single):
        return f"{what}, over test images only, as there is one seed."
    alone = "; of one seed, over test images only" if any(single) else ""
    return f"{what}, over seeds and test images{alone}."
