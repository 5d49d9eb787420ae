"""Recall of each class against its training images, and what each method gains over ce."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmdbench.comparison.compare import BASELINE
from lmdbench.comparison.outcomes import Outcomes, outcomes, paired
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.evaluation.differences import linear_difference
from lmdbench.evaluation.inference import Estimate, linear_estimate
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.figures import shortened
from lmdbench.reporting.plots.style import (
    GRID,
    LETTER_INCHES,
    LONGEST_CLASS,
    MOST_CLASSES,
    SMALL,
    WIDTH,
    Look,
    bare,
    baseline_of,
    class_order,
    drawn_rows,
    fitted,
    group_edges,
    label_of,
    legend_above,
    legend_columns,
    looks,
    not_drawn,
    seeds_sentence,
    training_images,
    whiskers,
    write_footer,
    write_title,
)

MOST_METHODS = 8
BINS = 20  # of many classes
SLANTED_PER_INCH = 1.7  # class names; more stand upright
CLASS_INCHES = 0.2  # between two classes, at least


@register_plot("per-class", title="recall of each class, and the gain over ce")
def draw_per_class(table: ResultTable, width: float = WIDTH) -> Figure:
    """Mean recall over seeds of each class, and the paired difference to ce, with 95 % intervals.

    Of more than eight methods: ce, the reference, and the best by the first column. Of more than
    ``MOST_CLASSES`` classes: the mean recall of neighbours by training images.
    """
    rows = drawn_rows(table, MOST_METHODS)
    order = class_order(table)
    stretches = group_edges(table, order)
    bins = neighbours(order, [stop - start for _, start, stop in stretches])
    binned = len(bins) < len(order)
    counts = np.array([training_images(table)[members].mean() for members in bins])
    style = looks(table)
    baseline = baseline_of(rows)
    others = [row for row in rows if row is not baseline]
    with_gain = baseline is not None and bool(others)
    names = _bin_names(table, bins) if binned else _class_names(table, order, counts)
    turned = len(names) > width * SLANTED_PER_INCH
    beside = legend_columns([label_of(row) for row in rows], width - 0.8)
    lines = -(-len(rows) // beside)
    letters = LETTER_INCHES * max(map(len, names)) * (1.0 if turned else 0.6)
    figure = Figure(
        figsize=(width, letters + 0.16 * lines + (4.2 if with_gain else 2.3)), layout="constrained"
    )
    panels = list(figure.subplots(2 if with_gain else 1, 1, sharex=True, squeeze=False)[:, 0])
    gap = CLASS_INCHES / (width - 0.9)
    places = spread(np.log10(np.maximum(counts, 1)), gap)
    by_label = {row.label: outcomes(table, row) for row in rows}
    classes = table.record.classes

    top = panels[0]
    for number, row in enumerate(rows):
        seen = by_label[row.label]
        estimates = [_recall(seen, members, len(classes)) for members in bins]
        _draw(top, places, estimates, style[row.label], row, (number, len(rows)))
    top.set_ylim(-4, 104)
    top.set_ylabel("recall, %")
    if with_gain:
        assert baseline is not None
        bottom = panels[1]
        bottom.axhline(0, color="black", linewidth=0.8)
        base = by_label[baseline.label]
        for row in others:
            pair = paired(by_label[row.label], base)
            gains = [pair and _gain(*pair, members, len(classes)) for members in bins]
            at = (rows.index(row), len(rows))
            _draw(bottom, places, gains, style[row.label], row, at)
        bottom.set_ylabel(f"gain over {label_of(baseline, 16)}, points")
    for panel in panels:
        panel.grid(axis="y", **GRID)
        bare(panel)
    _mark_groups(panels, _edges(bins, stretches), places)
    panels[-1].set_xticks(
        places,
        names,
        rotation=90 if turned else 35,
        ha="center" if turned else "right",
        va="top",
        rotation_mode="default" if turned else "anchor",
        fontsize=SMALL,
    )
    one = "classes by rank" if binned else "class"
    below = f"{one} (training / {table.part} images), by training images on a logarithmic axis"
    panels[-1].set_xlabel(fitted(below, width - 1))
    legend_above(top, beside, 14)  # the groups' names are between
    what = "Recall of each class against its training images"
    if binned:
        what = f"Mean recall of {len(order):,} classes in {len(bins)} bins by training images"
    write_title(figure, what, table.title)
    write_footer(
        figure,
        f"A point: the mean recall of up to {max(map(len, bins))} classes with neighbouring "
        "numbers of training images; `compare --per-class --format csv` has each class."
        if binned
        else "",
        "Means over seeds with 95 % intervals.",
        f"Below: paired differences to {label_of(baseline)}." if with_gain and baseline else "",
        "" if baseline else f"No gain over {BASELINE}: it is not among the rows.",
        seeds_sentence(rows),
        f"{'Bins' if binned else 'Classes'} that would overlap stand apart, "
        "so the axis is logarithmic but for them."
        if not np.allclose(places, _scaled(np.log10(np.maximum(counts, 1))))
        else "",
        not_drawn(table, rows),
    )
    return figure


def spread(values: np.ndarray, gap: float) -> np.ndarray:
    """Places in [0, 1] for falling values, as near to proportional as a ``gap`` between neighbours
    allows (least squares). Where everything fits, exactly proportional, the first at 0."""
    from sklearn.isotonic import isotonic_regression

    exact = _scaled(values)
    gap = min(gap, 1 / max(len(values) - 1, 1))
    steps = gap * np.arange(len(values))
    places = isotonic_regression(exact - steps) + steps
    return (places - places[0]) / max(places[-1] - places[0], 1e-9)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Falling values to [0, 1], the largest to 0."""
    span = values[0] - values[-1]
    return (values[0] - values) / span if span > 0 else np.zeros(len(values))


def neighbours(order: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """The classes one by one; of more than ``MOST_CLASSES`` about ``BINS`` bins of neighbours in
    the order, none of which reaches over the border of two stretches of ``sizes``."""
    if len(order) <= MOST_CLASSES:
        return [[c] for c in order]
    if len(sizes) > BINS:  # groups that don't go by training images
        sizes = [len(order)]
    bins, start = [], 0
    for size in sizes:
        cuts = np.array_split(
            np.arange(start, start + size), max(1, round(BINS * size / len(order)))
        )
        bins += [[order[place] for place in cut] for cut in cuts]
        start += size
    return bins


def _edges(
    bins: Sequence[Sequence[int]], stretches: Sequence[tuple[str, int, int]]
) -> list[tuple[str, int, int]]:
    """Stretches of a group in places of bins; none where bins reach over their borders."""
    ends = np.cumsum([0, *map(len, bins)]).tolist()
    if not all(start in ends and stop in ends for _, start, stop in stretches):
        return []
    return [(group, ends.index(start), ends.index(stop)) for group, start, stop in stretches]


def _mean_of(seen: Outcomes, members: Sequence[int], classes: int) -> np.ndarray | None:
    """Weights (C,) of the mean over the classes that have images; None where none has."""
    there = [c for c in members if (seen.labels == c).any()]
    weights = np.zeros(classes)
    weights[there] = 1.0 / max(len(there), 1)
    return weights if there else None


def _recall(seen: Outcomes, members: Sequence[int], classes: int) -> Estimate | None:
    weights = _mean_of(seen, members, classes)
    if weights is None:
        return None
    return linear_estimate(seen.correct, seen.labels, weights, seen.units)


def _gain(a: Outcomes, b: Outcomes, members: Sequence[int], classes: int) -> Estimate | None:
    weights = _mean_of(a, members, classes)
    if weights is None:
        return None
    units = b.units if a.units is None else a.units
    return linear_difference(a.correct, b.correct, a.labels, weights, units)


def _draw(
    axes: Axes,
    places: np.ndarray,
    estimates: Sequence[Estimate | None],
    look: Look,
    row: MethodResult,
    number: tuple[int, int],
) -> None:
    """One method's points, moved a little aside so that methods do not hide each other."""
    k, of = number
    room = 0.7 * float(np.diff(places).min()) if len(places) > 1 else 0.1
    x = places + min(room / max(of, 1), 0.02) * (k - (of - 1) / 2)
    value, low, high = (
        100 * np.array([np.nan if e is None else getattr(e, name) for e in estimates])
        for name in ("value", "low", "high")
    )
    whiskers(
        axes,
        x,
        value,
        low,
        high,
        label=label_of(row),
        linestyle="none",
        elinewidth=0.8,
        zorder=3,
        **look.points(4.0),
    )


def _mark_groups(
    panels: Sequence[Axes], stretches: Sequence[tuple[str, int, int]], places: np.ndarray
) -> None:
    """Lines between the groups, and their names above the first panel."""
    margin = 0.6 * (float(np.diff(places).min()) if len(places) > 1 else 0.2)
    margin = min(margin, 0.06)
    ends = [places[0] - margin, *((places[:-1] + places[1:]) / 2), places[-1] + margin]
    for panel in panels:
        panel.set_xlim(ends[0], ends[-1])
        for _, start, _ in stretches[1:]:
            panel.axvline(ends[start], color="#9A9A9A", linewidth=0.7, linestyle=(0, (4, 3)))
    for group, start, stop in stretches:
        panels[0].annotate(
            group,
            ((ends[start] + ends[stop]) / 2, 1),
            (0, 2),
            xycoords=panels[0].get_xaxis_transform(),
            textcoords="offset points",
            ha="center",
            va="bottom",
            annotation_clip=False,
        )


def _bin_names(table: ResultTable, bins: Sequence[Sequence[int]]) -> list[str]:
    classes, training = table.record.classes, training_images(table)
    names, start = [], 1
    for members in bins:
        most, fewest = round(training[members[0]]), round(training[members[-1]])
        n = sum(table.rows[0].recalls[classes[c]].n for c in members)
        images = f"{most:,}–{fewest:,}" if most != fewest else f"{most:,}"
        names.append(f"{start:,}–{start + len(members) - 1:,} ({images} / {n:,})")
        start += len(members)
    return names


def _class_names(table: ResultTable, order: Sequence[int], counts: np.ndarray) -> list[str]:
    classes = table.record.classes
    return [
        f"{shortened(classes[c], LONGEST_CLASS)} "
        f"({round(n):,} / {table.rows[0].recalls[classes[c]].n:,})"
        for c, n in zip(order, counts, strict=True)
    ]
