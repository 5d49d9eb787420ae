"""The picture of a data set: its long tail as bars, and a contact sheet with a row a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import ImageOps

from lmdbench.core.files import read_bytes
from lmdbench.data.dataset import Dataset, Split
from lmdbench.data.splits.assign import shuffled
from lmdbench.data.store.decoding import open_rgb, whole_images
from lmdbench.data.store.scale import USUAL, Scale
from lmdbench.reporting.plots.figures import (
    ALONE,
    COLOURS,
    OTHER,
    drawing,
    lacking,
    picture_kind,
    save_figure,
    shortened,
    wrapped,
)

HATCHES = {"tail": "////"}  # in grey print it is told by them
HELD_OUT = {"validation": "#C8C8C8", "test": "#6E6E6E"}
WARNING = "#B03000"
EXAMPLES = 8  # images a class
TILE = 112  # pixels of an example's side
GAP = 6
TILE_INCHES = 0.75
MOST_CLASSES = 40  # that have a bar each, and rows on the contact sheet
LONGEST_NAME = 40
LETTERS_PER_INCH = 13  # at 9 points
LEGEND_LETTERS = 60


def plot_dataset(
    dataset: Dataset,
    split: Split,
    files: Mapping[str, Path],
    path: Path,
    scale: Scale = USUAL,
) -> str:
    """Write the picture, in the format of the file's ending. Returns the characters that no font
    here has.

    ``files``: image id → file, of the images that are there; none is needed. ``scale``: of those
    of more than 8 bits. Raises UserError for
    another ending and where nothing can be written.
    """
    picture_kind(path)  # before anything is drawn
    order = [int(c) for c in np.argsort(-split.counts("train"), kind="stable")]
    many = len(order) > MOST_CLASSES
    rows = {c: _examples(split, c, files, scale) for c in _on_sheet(order)} if files else {}
    sheet_pixels = sum(map(_row_height, rows.values()))
    sheet_height = sheet_pixels / TILE * TILE_INCHES if rows else 0.5
    width = 9.0 if many else max(9.0, 2.0 + 0.48 * len(order))
    with drawing(**{"font.size": 9.0}):
        figure = Figure(figsize=(width, 6.0 + sheet_height), layout="constrained")
        bars, sheet = figure.subplots(2, 1, height_ratios=(5.2, sheet_height))
        (_draw_areas if many else _draw_bars)(bars, split, order)
        _write_title(bars, dataset, split, width - 2)
        _draw_sheet(sheet, split, rows)
        save_figure(figure, path, dots=150)
    return lacking(figure)


def _on_sheet(order: Sequence[int]) -> list[int]:
    """The classes with examples; of many ones as far apart, from the largest to the smallest."""
    if len(order) <= MOST_CLASSES:
        return list(order)
    places = np.linspace(0, len(order) - 1, MOST_CLASSES).round().astype(int)
    return [order[place] for place in places]


def _examples(
    split: Split, label: int, files: Mapping[str, Path], scale: Scale
) -> list[np.ndarray]:
    """Tiles of a class's training images that are there; always the same ones."""
    train = split.parts["train"]
    there = [str(image) for image in train.ids[train.labels == label] if str(image) in files]
    order = shuffled(range(len(there)), there, "examples")
    return example_tiles([files[there[p]] for p in order], scale)


def example_tiles(files: Sequence[Path], scale: Scale = USUAL) -> list[np.ndarray]:
    """Up to EXAMPLES of the images that can be read, the first ones, each shrunk onto a white tile
    (TILE, TILE, 3) uint8; the aspect ratio is kept."""
    tiles: list[np.ndarray] = []
    with whole_images():
        for file in files:
            if len(tiles) == EXAMPLES:
                break
            try:
                small = open_rgb(read_bytes(file), scale, draft=(2 * TILE, 2 * TILE))
            except Exception:  # Pillow's plug-ins raise errors of every kind
                continue
            tiles.append(np.asarray(ImageOps.pad(small, (TILE, TILE), color="white")))
    return tiles


def _draw_areas(axes: Axes, split: Split, order: Sequence[int]) -> None:
    """The same of many classes by their rank: an area a group, and dots for the other parts."""
    group_of = {label: group for group, labels in split.groups.items() for label in labels}
    groups = np.array([group_of.get(split.classes[c], "") for c in order])
    trained, places = split.counts("train")[order], np.arange(1, len(order) + 1)
    edges = np.append(places - 0.5, places[-1] + 0.5)
    for group in dict.fromkeys(groups.tolist()):
        counts, colour = np.where(groups == group, trained, 0), _colour(group or None)
        axes.stairs(counts, edges, fill=True, color=colour, baseline=0.5)
        axes.plot([], [], "s", color=colour, label=f"train, {group or 'in no group'}")
    for part, colour in HELD_OUT.items():
        counts = split.counts(part)[order].astype(float)
        counts[counts == 0] = np.nan
        axes.plot(places, counts, ".", markersize=2, color=colour, label=part)
    axes.set_yscale("log")
    axes.set_ylim(0.6, trained.max() * 3)
    axes.set_xlim(0.5, len(order) + 0.5)
    axes.set_ylabel("images (logarithmic)")
    axes.set_xlabel(f"{len(order):,} classes by rank of training images")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:,.0f}")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    rule = "\n".join(wrapped(f"groups {split.group_rule or 'as given'}", LEGEND_LETTERS))
    axes.legend(title=rule, loc="upper right", frameon=False, ncols=2)


def _draw_bars(axes: Axes, split: Split, order: Sequence[int]) -> None:
    """Images of each class on a logarithmic axis: training as wide bars, the others beside."""
    names = [split.classes[c] for c in order]
    group_of = {label: group for group, labels in split.groups.items() for label in labels}
    trained = split.counts("train")[order]
    places = np.arange(len(order))
    colours = [_colour(group_of.get(name)) for name in names]
    hatches = [HATCHES.get(group_of.get(name, "")) for name in names]
    outline: Any = {"edgecolor": "black", "linewidth": 0.4}
    axes.bar(places - 0.17, trained, 0.5, color=colours, hatch=hatches, **outline)
    for place, n in zip(places, trained, strict=True):
        axes.annotate(
            f"{n:,}",
            (place - 0.17, n),
            (0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
        )
    for number, (part, colour) in enumerate(HELD_OUT.items()):
        axes.bar(places + 0.17 + 0.15 * number, split.counts(part)[order], 0.13, color=colour)
    axes.set_yscale("log")
    axes.set_ylim(0.6, trained.max() * 3)
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_ylabel("images (logarithmic)")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    turned = max(map(len, names)) > 6
    axes.set_xticks(
        places,
        [shortened(name, LONGEST_NAME) for name in names],
        rotation=40 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor",
        parse_math=False,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    groups = [group for group in (*split.groups, None) if group in {*map(group_of.get, names)}]
    handles = [
        Patch(facecolor=_colour(group), hatch=HATCHES.get(group or ""), **outline)
        for group in groups
    ]
    handles += [Patch(facecolor=colour) for colour in HELD_OUT.values()]
    labels = [f"train, {group or 'in no group'}" for group in groups]
    axes.legend(
        handles,
        [*labels, *HELD_OUT],
        title="\n".join(wrapped(f"groups {split.group_rule or 'as given'}", LEGEND_LETTERS)),
        loc="upper right",
        frameon=False,
        ncols=len(handles) if len(handles) < 4 else 2,
    )


def _write_title(axes: Axes, dataset: Dataset, split: Split, inches: float) -> None:
    """What it is, its numbers, and in red what a reader must know; above the axes."""
    sizes = " · ".join(f"{len(part):,} {name}" for name, part in split.parts.items())
    imbalance = f"imbalance factor {split.measured_imbalance:,.4g}"
    plain, bold = {"fontsize": 9}, {"fontsize": 12, "fontweight": "bold"}
    red = {"fontsize": 9, "fontweight": "bold", "color": WARNING}
    texts: list[tuple[str, Any]] = [
        (f"{dataset.title} ({dataset.results_name}), split {split.label}", bold),
        (f"{imbalance} · {len(split.classes)} classes · {sizes}", plain),
    ]
    if dataset.synthetic:
        texts.append(("Synthetic: drawn by a program, not photographs", red))
    if split.partial is not None:
        texts.append((str(split.partial), red))
    lines = [
        (line, style)
        for text, style in texts
        for line in wrapped(text, inches * LETTERS_PER_INCH * 9 / style["fontsize"])
    ]
    for number, (text, style) in enumerate(reversed(lines)):
        axes.annotate(
            text,
            (0, 1),
            (0, 8 + 14 * number),
            xycoords="axes fraction",
            textcoords="offset points",
            parse_math=False,
            annotation_clip=False,
            **style,
        )


def _draw_sheet(axes: Axes, split: Split, rows: Mapping[int, list[np.ndarray]]) -> None:
    """One row of tiles for each class (class → tiles), or a sentence if there are no rows."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    if not rows:
        text = "No images are there: the bars follow from the tables alone."
        axes.text(0, 0.5, text, transform=axes.transAxes, va="center", style="italic")
        return
    heights = [_row_height(tiles) for tiles in rows.values()]
    tops = np.cumsum([0, *heights[:-1]])
    canvas = np.full((sum(heights), EXAMPLES * (TILE + GAP), 3), 255, dtype=np.uint8)
    middles = [top + height / 2 for top, height in zip(tops, heights, strict=True)]
    for top, middle, tiles in zip(tops, middles, rows.values(), strict=True):
        for column, tile in enumerate(tiles):
            x = column * (TILE + GAP)
            canvas[top : top + TILE, x : x + TILE] = tile
        if not tiles:
            axes.text(0, middle, "no training images here", va="center", style="italic")
    axes.imshow(canvas, interpolation="antialiased")
    axes.set_anchor("NW")
    axes.set_yticks(
        middles, [shortened(split.classes[c], LONGEST_NAME) for c in rows], parse_math=False
    )
    axes.tick_params(length=0)
    left = len(split.classes) - len(rows)
    of = "each class"
    if left:
        of = f"{len(rows)} of {len(split.classes):,} classes, from the largest to the smallest"
    axes.set_title(f"Up to {EXAMPLES} training images of {of}", loc="left", fontsize=9)


def _row_height(tiles: Sequence[np.ndarray]) -> int:
    """Pixels that a class takes on the sheet."""
    return TILE + GAP if tiles else TILE // 3


def _colour(group: str | None) -> str:
    return ALONE if group is None else COLOURS.get(group, OTHER)
