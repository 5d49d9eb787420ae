"""A table that is never wider than the terminal: columns are cut short, then left out."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

GAP = "  "
SHORTEST = 8  # cells of a terminal that a column is cut to where nothing else helps
UNLIMITED = 1 << 16


@dataclass(frozen=True)
class Column:
    """``least``: it may be cut to so many cells of the terminal; None: never. ``leave``: those of
    the highest number are left out first where there is no room; 0: never."""

    title: str
    cells: Sequence[str]
    right: bool = False
    least: int | None = None
    leave: int = 0

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.title, *self.cells)), default=0)


def terminal_width() -> int:
    """Of standard output, or as COLUMNS says; without limit where it is a file or a pipe."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    return UNLIMITED


def fitted(columns: Sequence[Column], width: int) -> list[str]:
    """The title's line and one for each row, none of them wider than ``width``. Columns in which
    nothing stands are left out."""
    shown = [column for column in columns if any(column.cells)]
    while (widths := _widths(shown, width)) is None:
        most = max(column.leave for column in shown)
        if most == 0:
            widths = _widths([_cut(column) for column in shown], width)
            break
        shown = [column for column in shown if column.leave < most]
    widths = widths or [min(column.width, SHORTEST) for column in shown]
    rows = zip(*((column.title, *column.cells) for column in shown), strict=True)
    return [
        shortened(
            GAP.join(
                _set(text, space, column.right)
                for text, space, column in zip(row, widths, shown, strict=True)
            ).rstrip(),
            width,
        )
        for row in rows
    ]


def shortened(text: str, width: int) -> str:
    """A text in so many cells of a terminal; what is cut off is told by an ellipsis."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…"


def _widths(columns: Sequence[Column], width: int) -> list[int] | None:
    """The widths of columns, the widest of those that may be cut made narrower until all fit; None
    where they don't."""
    widths = [column.width for column in columns]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    while excess > 0:
        wide = [
            (widths[k], k)
            for k, column in enumerate(columns)
            if column.least is not None and widths[k] > column.least
        ]
        if not wide:
            return None
        widths[max(wide)[1]] -= 1
        excess -= 1
    return widths


def _cut(column: Column) -> Column:
    return Column(column.title, column.cells, column.right, column.least and SHORTEST)


def _set(text: str, width: int, right: bool) -> str:
    text = shortened(text, width)
    space = " " * (width - cell_len(text))
    return space + text if right else text + space
