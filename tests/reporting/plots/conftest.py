"""What the tests of plots share: runs of data sets of any shape, and a look at a drawn figure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results

SMALLEST_LETTERS = 7.0  # points
# Training images of the 23 classes of Hyper-Kvasir, with names as long as its own.
COUNTS = (805, 721, 708, 702, 701, 694, 653, 536, 453, 311, 283, 274, 182, 141, 94, 92, 38, 29, 25)
LONG = {
    f"a-finding-with-a-name-{k}" if k % 3 else f"x{k}": n
    for k, n in enumerate((*COUNTS, 21, 8, 7, 4))
}
SHORT = {"nv": 4000, "mel $x^2$": 700, "bcc_1": 120, "df": 12}


@pytest.fixture
def long_tail() -> dict[str, int]:
    """Class → training images of a data set of 23 classes, three of them with one test image."""
    return LONG


@pytest.fixture
def made_block(fake_run: Callable[..., Path], tmp_path: Path) -> Callable[..., object]:
    """Makes the table of runs drawn at random.

    ``made_block({"ce": 1.0, "lmd": 2.0}, classes=…, seeds=3, reference="lmd")``: method → skill,
    class → training images, of which a quarter more are test images. ``empty``: classes without
    test images; ``broken``: methods whose logits are not finite.
    """

    def make(
        methods: Mapping[str, float],
        *,
        classes: Mapping[str, int] = SHORT,
        seeds: int = 3,
        empty: tuple[str, ...] = (),
        broken: tuple[str, ...] = (),
        history: bool = False,
        record: dict[str, object] | None = None,
        **words: object,
    ):
        names = list(classes)
        third = max(1, len(names) // 3)
        groups = {
            "head": names[:third],
            "medium": names[third : 2 * third],
            "tail": names[2 * third :],
        }
        tested = [0 if name in empty else max(1, n // 4) for name, n in classes.items()]
        labels = np.repeat(np.arange(len(names)), tested)
        for (method, skill), seed in itertools.product(methods.items(), range(seeds)):
            rng = np.random.default_rng([seed, *map(ord, method)])
            logits = rng.normal(size=(len(labels), len(names)))
            logits[np.arange(len(labels)), labels] += skill
            if method in broken:
                logits[0] = np.nan
            content = {
                "classes": names,
                "groups": groups,
                "class_counts": {"train": list(classes.values()), "validation": [1] * len(names)},
                **(record or {}),
            }
            directory = fake_run(method, seed, test=(labels, logits), record=content)
            if history:
                (directory / "history.csv").write_text(
                    "epoch,loss,validation_balanced_accuracy,seconds\n"
                    + "".join(f"{e},{2 / e + seed},{1 - 1 / e},1\n" for e in range(1, 6))
                )
        (block,) = compare(read_results(tmp_path / "results"), **words).tables
        return block

    return make


def words_of(figure: Figure) -> list[str]:
    """Every text that is drawn, its lines made one."""
    return [" ".join(text.get_text().split()) for text in _texts(figure)]


def _texts(figure: Figure) -> list[Text]:
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and _shown(text)
    ]


def _shown(text: Text) -> bool:
    axes = text.axes
    return axes is None or axes.get_visible()


def troubles(figure: Figure, apart: bool = True) -> list[str]:
    """Texts that are too small, leave the figure or, with ``apart``, cover one another."""
    figure.draw_without_rendering()
    page = figure.bbox
    found = []
    boxes = []
    ticks, drawn = _ticks(figure)
    for text in _texts(figure):
        box = text.get_window_extent()
        if text in ticks and text not in drawn:
            continue
        boxes.append((text.get_text(), box))
        if text.get_fontsize() < SMALLEST_LETTERS:
            found.append(f"{text.get_text()!r} is {text.get_fontsize()} points")
        if box.x0 < -1 or box.y0 < -1 or box.x1 > page.x1 + 1 or box.y1 > page.y1 + 1:
            found.append(f"{text.get_text()!r} leaves the figure")
    if apart:
        names, corners = [name for name, _ in boxes], np.array([b.extents for _, b in boxes])
        low = np.maximum(corners[:, None, :2], corners[None, :, :2])
        high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
        covered = np.triu((high - low > 1).all(axis=2), k=1)
        found += [f"{names[i]!r} covers {names[j]!r}" for i, j in np.argwhere(covered)]
    return found


def _ticks(figure: Figure) -> tuple[set[Text], set[Text]]:
    """The labels of all ticks, and those of them that lie on their axis: others are not drawn."""
    every, drawn = set(), set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        margin = 1e-6 * (high - low)
        places = axis.get_ticklocs()
        ticks = axis.get_major_ticks(len(places))
        drawn |= {
            label
            for place, tick in zip(places, ticks, strict=True)
            for label in (tick.label1, tick.label2)
            if low - margin <= place <= high + margin
        }
        every |= {label for tick in axis.majorTicks for label in (tick.label1, tick.label2)}
    return every, drawn


@pytest.fixture
def look() -> Callable[..., list[str]]:
    """``look(figure)``: the texts of a figure in which nothing is small, lost or covered."""

    def at(figure: Figure, apart: bool = True) -> list[str]:
        assert troubles(figure, apart) == []
        return words_of(figure)

    return at
