"""A comparison, and the scores of one run, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmdbench.evaluation.metrics import TITLES
from lmdbench.reporting.comparison import Cell, Comparison, ScoredBlock, column_title
from lmdbench.reporting.tables.words import MISSING, images_of, left_out, legend, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

TIGHT = (0, 1, 0, 0)  # padding of a rich table's cells


def scores_table(
    scores: Mapping[str, Mapping[str, float | None]],
    images: Mapping[str, Mapping[str, int]],
    reasons: Mapping[str, Mapping[str, str]] | None = None,
    *,
    percent: bool = True,
) -> Table:
    """The scores of one run as a rich table: a line a metric, a column a part.

    ``scores``: part → metric → value, as ``metrics.scores`` gives them. ``images``: part → group →
    images, with ``all``, as ``metrics.images_per_group`` gives them. ``reasons``: part → metric →
    why it is missing, as ``metrics.missing`` gives them, shown beneath.
    """
    from rich.table import Table
    from rich.text import Text

    unit = "%" if percent else "fraction"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text(f"score ({unit})"), no_wrap=True)
    for part in scores:
        table.add_column(Text(part), justify="right", no_wrap=True)
        table.add_column(Text("images"), justify="right", no_wrap=True, style="dim")
    for name in dict.fromkeys(name for values in scores.values() for name in values):
        cells = [Text(column_title(name))]
        for part, values in scores.items():
            counted = images.get(part, {})
            n = counted.get("all" if name in TITLES else name)
            cells += [Text(number(values.get(name), percent)), Text("" if n is None else f"{n:,}")]
        table.add_row(*cells)
    gaps: dict[str, list[str]] = {}
    for part, by_name in (reasons or {}).items():
        for name, reason in by_name.items():
            if name in scores.get(part, {}):
                gaps.setdefault(f"{part}: {reason}", []).append(column_title(name))
    if gaps:
        lines = (f"{MISSING} in {', '.join(names)}, {why}" for why, names in gaps.items())
        table.caption = Text("\n".join(lines))
        table.caption_justify = "left"
    return table


def print_comparison(comparison: Comparison, console: Console, percent: bool = True) -> None:
    """Print a table for each block, as wide as the console at most."""
    from rich.text import Text

    for block in comparison.blocks:
        console.print(Text(block.title, style="bold"), soft_wrap=True)
        table = _terminal_table(block, console, percent)
        if _width(table, console) > console.width:
            table.padding = TIGHT
        if _width(table, console) > console.width:
            table = _terminal_table(block, console, percent, stacked=True)
        console.print(table)
        best = "in bold" if console.is_terminal else "marked *"
        for note in [legend(block, percent, best), *block.notes]:
            console.print(Text(note, style="dim"), soft_wrap=not console.is_terminal)
        console.print()
    if line := left_out(comparison):
        console.print(Text(line))


def _width(table: Table, console: Console) -> int:
    """The columns a table takes when nothing is wrapped."""
    return console.measure(table, options=console.options.update(width=100_000)).maximum


def _terminal_table(
    block: ScoredBlock, console: Console, percent: bool, *, stacked: bool = False
) -> Table:
    """``stacked`` puts the deviation beneath the mean, for narrow terminals."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    if stacked:
        table.padding = TIGHT
    table.add_column("Method", overflow="fold")
    columns = []
    for name in block.metrics:
        cells = [row.cells[name] for row in block.rows]
        texts = _stacked(cells, console, percent) if stacked else _aligned(cells, console, percent)
        head = [*column_title(name).split(" ", 1), f"n={images_of(block, name):,}"]
        width = max(
            len(line) for text in [*texts, Text("\n".join(head))] for line in text.plain.split("\n")
        )
        for text in texts:
            if not stacked:
                text.pad_left(width - len(text))
        table.add_column(
            Text("\n".join(line.rjust(width) for line in head)),
            justify="right" if stacked else "left",
            no_wrap=True,
            overflow="fold",
        )
        columns.append(texts)
    table.add_column("Seeds", justify="right", no_wrap=True)
    for row, cells_of_row in zip(block.rows, zip(*columns, strict=True), strict=True):
        table.add_row(Text(row.row.label), *cells_of_row, str(len(row.row.seeds)))
    return table


def _mean_text(cell: Cell, console: Console, percent: bool) -> Text:
    """The mean, marked if it is the best: bold, or a star where nothing is bold."""
    from rich.text import Text

    if not cell.best:
        return Text(number(cell.mean, percent))
    star = "" if console.is_terminal else "*"
    return Text.assemble((star + number(cell.mean, percent), "bold"))


def _stacked(cells: Sequence[Cell], console: Console, percent: bool) -> list[Text]:
    texts = [_mean_text(cell, console, percent) for cell in cells]
    for text, cell in zip(texts, cells, strict=True):
        if cell.sd is not None:
            text.append(f"\n±{number(cell.sd, percent)}")
    return texts


def _aligned(cells: Sequence[Cell], console: Console, percent: bool) -> list[Text]:
    """Means beneath means, deviations beneath deviations."""
    deviations = ["" if cell.sd is None else number(cell.sd, percent) for cell in cells]
    width = max(len(deviation) for deviation in deviations)
    texts = [_mean_text(cell, console, percent) for cell in cells]
    for text, deviation in zip(texts, deviations, strict=True):
        if deviation:
            text.append(f" ± {deviation:>{width}}")
        elif width:
            text.append(" " * (3 + width))
    return texts
