"""Training curves: loss and validation score by epoch, after those of the stage it starts from."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmdbench.comparison.results import Run, ancestor_of
from lmdbench.comparison.types import ResultTable
from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.style import (
    GRID,
    MOST_PANELS,
    SMALL,
    WIDTH,
    bare,
    drawn_rows,
    grid_of,
    label_of,
    looks,
    not_drawn,
    seeds_sentence,
    write_footer,
    write_title,
)
from lmdbench.runs.whole import HISTORY

SCORE = "validation_balanced_accuracy"
PANEL_INCHES = 1.75  # at least
LINES = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))  # of different losses

Stage = tuple[str, Sequence[Mapping[str, float]]]  # method, rows of its history


@dataclass(frozen=True)
class History:
    """What one run went through, stage after stage, the first one first."""

    stages: tuple[Stage, ...]
    complete: bool  # whether the history of everything it starts from was found

    @property
    def boundaries(self) -> list[tuple[int, str]]:
        """Epochs before each stage but the first, and the stage's method."""
        done = np.cumsum([len(rows) for _, rows in self.stages])
        return [(int(n), method) for n, (method, _) in zip(done, self.stages[1:], strict=False)]

    @property
    def length(self) -> int:
        """Epochs of all stages."""
        return sum(len(rows) for _, rows in self.stages)

    def line(self, name: str) -> dict[float, float]:
        """Epoch, counted from 1 over all stages → a column's value, where it has one; NaN between
        two stages."""
        rows = [row for _, rows in self.stages for row in rows]
        values = {float(k): row.get(name, math.nan) for k, row in enumerate(rows, start=1)}
        values = {epoch: value for epoch, value in values.items() if not math.isnan(value)}
        return values | {epoch + 0.5: math.nan for epoch, _ in self.boundaries}

    @property
    def losses(self) -> list[str]:
        """Columns that are losses, in the order of the files."""
        names = dict.fromkeys(name for _, rows in self.stages for row in rows for name in row)
        return [name for name in names if name == "loss" or name.endswith("_loss")]


@register_plot("curves", title="training curves, with the EM rounds of ICC")
def draw_curves(table: ResultTable, width: float = WIDTH) -> Figure:
    """Losses, and balanced accuracy on validation images, a column of two panels for each method.

    Of more than ``MOST_PANELS`` methods, ``drawn_rows``. Raises UserError where none has a history.
    """
    chosen = drawn_rows(table, MOST_PANELS)
    by_label = {row.label: [h for run in row.runs for h in _histories(run)] for row in chosen}
    rows = [row for row in chosen if by_label[row.label]]
    if not rows:
        raise UserError(f"{table.title}: no run has a history.csv (imported predictions have none)")
    style = looks(table)
    lines, columns = grid_of(len(rows), int(width / PANEL_INCHES))
    figure = Figure(figsize=(width, 2.85 * lines + 0.1), layout="constrained")
    panels = figure.subplots(2 * lines, columns, squeeze=False)
    for number, row in enumerate(rows):
        line, column = divmod(number, columns)
        upper, lower = panels[2 * line, column], panels[2 * line + 1, column]
        histories = by_label[row.label]
        colour = style[row.label].colour
        names = list(dict.fromkeys(name for history in histories for name in history.losses))
        for name, dashes in zip(names, LINES, strict=False):
            lines_of = [history.line(name) for history in histories]
            _draw(upper, lines_of, colour, dashes, name.replace("_", " "))
        if len(names) > 1:
            upper.legend(fontsize=SMALL, frameon=False, handlelength=2.2, borderpad=0.1)
        _draw(lower, [history.line(SCORE) for history in histories], colour, "solid", "", 100)
        if all(math.isnan(v) for history in histories for v in history.line(SCORE).values()):
            lower.text(0.5, 0.5, "no validation images", transform=lower.transAxes, ha="center")
        _mark_stages(upper, lower, histories)
        upper.set_title(label_of(row, 28), fontsize=8.5)
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("epoch or round")
        lower.set_ylim(0, 100)
        if column == 0:
            upper.set_ylabel("loss")
            lower.set_ylabel("validation\nbalanced accuracy, %")
        else:
            lower.tick_params(labelleft=False)
        for axes in (upper, lower):
            axes.grid(axis="y", **GRID)
            axes.set_xlim(left=0)
            axes.locator_params(axis="x", nbins=4, integer=True)
            bare(axes)
    for number in range(len(rows), lines * columns):
        line, column = divmod(number, columns)
        panels[2 * line, column].set_visible(False)
        panels[2 * line + 1, column].set_visible(False)
    title = table.title.replace(f" · {table.part} images", "", 1)
    write_title(figure, "Training, epoch by epoch", title)
    lost = [label_of(row) for row in chosen if not by_label[row.label]]
    cut = [
        label_of(row)
        for row in rows
        if not all(history.complete for history in by_label[row.label])
    ]
    write_footer(
        figure,
        "Thin: each seed; thick: their mean. Losses of different methods are different quantities.",
        "A dashed vertical line: there the method takes over from what it starts from."
        if any(history.boundaries for histories in by_label.values() for history in histories)
        else "",
        seeds_sentence(rows),
        f"No history: {', '.join(lost)}." if lost else "",
        f"What it starts from has no history here: {', '.join(cut)}." if cut else "",
        not_drawn(table, chosen),
    )
    return figure


def _histories(run: Run) -> list[History]:
    """Of each run on disk behind a run; none for one without a history."""
    return [history for member in run.members if (history := _history(member)) is not None]


def _history(run: Run) -> History | None:
    own = _rows(run)
    if not own:
        return None
    stages: list[Stage] = [(run.method, own)]
    stage = run
    while (above := ancestor_of(stage)) is not None and (rows := _rows(above)):
        stages.append((above.method, rows))
        stage = above
    return History(tuple(reversed(stages)), complete=not stage.record.ancestor)


def _rows(run: Run) -> list[dict[str, float]]:
    return read_history(run.directory, run.record.digests.get("history"))


def read_history(directory: Path, sha256: str | None = None) -> list[dict[str, float]]:
    """The rows of a run's ``history.csv``; none where there is no such file.

    Raises UserError for one that is damaged, or not the one of this SHA-256.
    """
    path = directory / HISTORY
    try:
        content = read_bytes(path)
        if sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise UserError(
                f"{path}: damaged, its SHA-256 is not the one in run.json; move it away"
            )
        return [
            {name: float(text) for name, text in row.items() if text}
            for row in csv.DictReader(io.StringIO(content.decode(), newline=""))
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}); move it away") from error


def _draw(
    axes: Axes,
    lines: Sequence[Mapping[float, float]],
    colour: str,
    dashes: Any,
    label: str,
    scale: float = 1.0,
) -> None:
    """Each line thin, and their mean thick where there are several."""
    epochs = sorted({epoch for line in lines for epoch in line})
    table = scale * np.array([[line.get(epoch, math.nan) for epoch in epochs] for line in lines])
    n = np.isfinite(table).sum(axis=0)
    if not n.any():
        return
    if len(lines) > 1:
        for row in table:
            axes.plot(epochs, row, color=colour, linewidth=0.5, alpha=0.55)
    mean = np.divide(np.nansum(table, axis=0), n, out=np.full(len(n), np.nan), where=n > 0)
    axes.plot(epochs, mean, color=colour, linewidth=1.6, linestyle=dashes, label=label)
    there = np.concatenate([[False], n > 0, [False]])
    alone = there[1:-1] & ~there[:-2] & ~there[2:]
    if alone.any():  # a line of one epoch would not be seen
        axes.plot(np.array(epochs)[alone], mean[alone], "o", color=colour, markersize=3.5)


def _mark_stages(upper: Axes, lower: Axes, histories: Sequence[History]) -> None:
    """A line where a stage begins; its name where all runs begin it at the same epoch."""
    places = dict.fromkeys(boundary for history in histories for boundary in history.boundaries)
    for epoch, _ in places:
        for axes in (upper, lower):
            axes.axvline(epoch + 0.5, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
    first = histories[0]
    if first.boundaries and len(places) == len(first.boundaries):
        starts = [0, *(epoch for epoch, _ in first.boundaries)]
        ends = [*starts[1:], first.length]
        for (method, _), start, end in zip(first.stages, starts, ends, strict=True):
            middle = (start + end) / 2
            place = lower.get_xaxis_transform()
            lower.text(
                middle, 0.02, method, transform=place, ha="center", va="bottom", fontsize=SMALL
            )
