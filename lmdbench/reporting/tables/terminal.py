"""A comparison, and the scores of one run, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmdbench.comparison.compare import Comparison
from lmdbench.comparison.notes import column_title
from lmdbench.evaluation.metrics import METRICS
from lmdbench.reporting.tables.escape import one_line
from lmdbench.reporting.tables.layout import BEST, Table, TableCell, sections
from lmdbench.reporting.tables.words import MARKS, MISSING, is_share, left_out, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

TIGHT = (0, 1, 0, 0)  # padding of a rich grid's cells
UNWRAPPED = 100_000  # columns of a console that sets no limit
PLAIN_MARKS = {"better": "(+)", "worse": "(-)", "equal": "(=)"}


def scores_table(
    scores: Mapping[str, Mapping[str, float | None]],
    images: Mapping[str, Mapping[str, int]],
    reasons: Mapping[str, Mapping[str, str]] | None = None,
    *,
    percent: bool = True,
) -> RichTable:
    """The scores of one run as a rich table: a line a metric, a column a part.

    ``scores``: part → metric → value, as ``metrics.scores`` gives them. ``images``: part → group →
    images, with ``all``, as ``metrics.images_per_group`` gives them. ``reasons``: part → metric →
    why it is missing, as ``metrics.missing`` gives them, shown beneath.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    unit = "%" if percent else "fraction"
    grid = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    grid.add_column(Text(f"score ({unit})"), no_wrap=True)
    for part in scores:
        grid.add_column(Text(part), justify="right", no_wrap=True)
        grid.add_column(Text("images"), justify="right", no_wrap=True, style="dim")
    for name in dict.fromkeys(name for values in scores.values() for name in values):
        cells = [Text(column_title(name))]
        for part, values in scores.items():
            counted = images.get(part, {})
            n = counted.get("all" if name in METRICS else name)
            value = number(values.get(name), percent and is_share(name))
            cells += [Text(value), Text("" if n is None else f"{n:,}")]
        grid.add_row(*cells)
    gaps: dict[str, list[str]] = {}
    for part, by_name in (reasons or {}).items():
        for name, reason in by_name.items():
            if name in scores.get(part, {}):
                gaps.setdefault(f"{part}: {reason}", []).append(column_title(name))
    if gaps:
        lines = (f"{MISSING} in {', '.join(names)}, {why}" for why, names in gaps.items())
        grid.caption = Text("\n".join(lines))
        grid.caption_justify = "left"
    return grid


def print_comparison(comparison: Comparison, console: Console, percent: bool = True) -> None:
    """Print the tables, none wider than the console: columns that don't fit follow beneath."""
    from rich.text import Text

    for section in sections(comparison, percent):
        console.print(Text(one_line(section.title), style="bold"), soft_wrap=True)
        for number_, table in enumerate(section.tables):
            if number_ or table.slug:
                console.print(Text(one_line(table.title), style="bold"), soft_wrap=True)
            for place, grid in enumerate(_tables(table, console)):
                if place:
                    console.print()
                console.print(grid)
            _print_notes([_legend(table, console), *table.notes], console)
            console.print()
        _print_notes(section.notes, console)
        console.print()
    if line := left_out(comparison):
        console.print(Text(line))


def _print_notes(notes: Sequence[str], console: Console) -> None:
    from rich.text import Text

    for note in notes:
        console.print(Text(one_line(note), style="dim"), soft_wrap=not console.is_terminal)


def _legend(table: Table, console: Console) -> str:
    """The table's legend, in the signs that this console shows."""
    legend = table.legend
    if not console.is_terminal:
        legend = legend.replace(BEST, "Best of a column marked *.")
    for key, sign in _signs(console).items():
        legend = legend.replace(MARKS[key], sign)
    return legend


def _signs(console: Console) -> Mapping[str, str]:
    """The signs of marks, in letters where the terminal knows no others."""
    try:
        "".join(MARKS.values()).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN_MARKS
    return MARKS


def _tables(table: Table, console: Console) -> list[RichTable]:
    """The table as tables that fit, each beginning with the column that names the rows.

    First with intervals beside the numbers, else beneath them; then in as few tables as it takes.
    """
    everything = list(range(1, len(table.columns)))
    wide = _table(table, everything, console, stacked=False)
    if _width(wide, console) <= console.width:
        return [wide]
    grids: list[RichTable] = []
    chosen: list[int] = []
    for k in everything:
        tried = _table(table, [*chosen, k], console, stacked=True)
        if chosen and _width(tried, console) > console.width:
            grids.append(_table(table, chosen, console, stacked=True))
            chosen = []
        chosen.append(k)
    return [*grids, _table(table, chosen, console, stacked=True)]


def _width(grid: RichTable, console: Console) -> int:
    """The columns a grid takes when nothing is wrapped but the names of the rows."""
    return console.measure(grid, options=console.options.update(width=UNWRAPPED)).maximum


def _table(table: Table, chosen: Sequence[int], console: Console, *, stacked: bool) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    if stacked:
        grid.padding = TIGHT
    names = [Text(one_line(row[0].text)) for row in table.rows]
    widest = max((len(name) for name in names), default=0)
    # A long name is folded at a third of the console, for the numbers to have the rest.
    fold = max(console.width // 3, 12) if stacked else widest
    grid.add_column(table.columns[0].head, overflow="fold", max_width=max(min(widest, fold), 6))
    doubled = len({column.head for column in table.columns}) < len(table.columns)
    for k in chosen:
        column = table.columns[k]
        span = column.span if doubled else ""  # what the notes say needs no line here
        lines = [*_head(span, stacked), *_head(column.head, stacked)]
        if column.n:
            lines.append(f"n={column.n.removeprefix('n = ')}")
        if column.brackets:
            brackets = f"[{column.brackets}]"
            lines += brackets.rsplit(maxsplit=1) if stacked else [brackets]
        grid.add_column(
            Text("\n".join(lines)),
            justify="left" if column.words else "right",
            no_wrap=not column.words,
            overflow="fold",
        )
    for name, row in zip(names, table.rows, strict=True):
        grid.add_row(name, *(_text(row[k], console, stacked) for k in chosen))
    return grid


def _head(head: str, stacked: bool) -> list[str]:
    return head.split() if stacked else head.split(maxsplit=1)


def _text(cell: TableCell, console: Console, stacked: bool) -> Text:
    """A number with its mark and interval; the best in bold, or with a star where nothing is."""
    from rich.text import Text

    star = "*" if cell.best and not console.is_terminal else ""
    style = "bold" if cell.best else "underline" if cell.second else ""
    text = Text.assemble((star + one_line(cell.text), style))
    if cell.mark:
        text.append(f" {_signs(console)[cell.mark]}")
    between = "\n" if stacked else " "
    if cell.interval:
        text.append(f"{between}[{cell.interval}]")
    elif cell.sd:
        text.append(f"{between}±{cell.sd}")
    return text
