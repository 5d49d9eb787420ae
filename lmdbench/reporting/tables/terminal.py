"""A comparison, and the scores of one run, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lmdbench.comparison.notes import column_title
from lmdbench.comparison.types import Comparison
from lmdbench.evaluation.metrics import TITLES
from lmdbench.reporting.tables.sheets import BEST, Entry, Sheet, sections
from lmdbench.reporting.tables.words import MARKS, MISSING, left_out, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

TIGHT = (0, 1, 0, 0)  # padding of a rich table's cells
UNWRAPPED = 100_000  # columns of a console that sets no limit
PLAIN_MARKS = {"better": "(+)", "worse": "(-)", "equal": "(=)"}


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
    """Print the tables, none wider than the console: columns that don't fit follow beneath."""
    from rich.text import Text

    for section in sections(comparison, percent):
        console.print(Text(section.title, style="bold"), soft_wrap=True)
        for number_, sheet in enumerate(section.sheets):
            if number_ or sheet.slug:
                console.print(Text(sheet.title, style="bold"), soft_wrap=True)
            for place, table in enumerate(_tables(sheet, console)):
                if place:
                    console.print()
                console.print(table)
            _print_notes([_legend(sheet, console), *sheet.notes], console)
            console.print()
        _print_notes(section.notes, console)
        console.print()
    if line := left_out(comparison):
        console.print(Text(line))


def _print_notes(notes: Sequence[str], console: Console) -> None:
    from rich.text import Text

    for note in notes:
        console.print(Text(note, style="dim"), soft_wrap=not console.is_terminal)


def _legend(sheet: Sheet, console: Console) -> str:
    """The sheet's legend, in the signs that this console shows."""
    legend = sheet.legend
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


def _tables(sheet: Sheet, console: Console) -> list[Table]:
    """The sheet as tables that fit, each beginning with the column that names the rows.

    First with intervals beside the numbers, else beneath them; then in as few tables as it takes.
    """
    everything = list(range(1, len(sheet.columns)))
    wide = _table(sheet, everything, console, stacked=False)
    if _width(wide, console) <= console.width:
        return [wide]
    made: list[Table] = []
    chosen: list[int] = []
    for k in everything:
        tried = _table(sheet, [*chosen, k], console, stacked=True)
        if chosen and _width(tried, console) > console.width:
            made.append(_table(sheet, chosen, console, stacked=True))
            chosen = []
        chosen.append(k)
    return [*made, _table(sheet, chosen, console, stacked=True)]


def _width(table: Table, console: Console) -> int:
    """The columns a table takes when nothing is wrapped but the names of the rows."""
    return console.measure(table, options=console.options.update(width=UNWRAPPED)).maximum


def _table(sheet: Sheet, chosen: Sequence[int], console: Console, *, stacked: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    if stacked:
        table.padding = TIGHT
    names = [Text(row[0].text) for row in sheet.rows]
    widest = max((len(name) for name in names), default=0)
    # A long name is folded at a third of the console, for the numbers to have the rest.
    fold = max(console.width // 3, 12) if stacked else widest
    table.add_column(sheet.columns[0].head, overflow="fold", max_width=max(min(widest, fold), 6))
    doubled = len({column.head for column in sheet.columns}) < len(sheet.columns)
    for k in chosen:
        column = sheet.columns[k]
        span = column.span if doubled else ""  # what the notes say needs no line here
        lines = [*_head(span, stacked), *_head(column.head, stacked)]
        if column.n:
            lines.append(f"n={column.n.removeprefix('n = ')}")
        table.add_column(
            Text("\n".join(lines)),
            justify="left" if column.words else "right",
            no_wrap=not column.words,
            overflow="fold",
        )
    for name, row in zip(names, sheet.rows, strict=True):
        table.add_row(name, *(_text(row[k], console, stacked) for k in chosen))
    return table


def _head(head: str, stacked: bool) -> list[str]:
    return head.split() if stacked else head.split(maxsplit=1)


def _text(entry: Entry, console: Console, stacked: bool) -> Text:
    """A number with its mark and interval; the best in bold, or with a star where nothing is."""
    from rich.text import Text

    star = "*" if entry.best and not console.is_terminal else ""
    style = "bold" if entry.best else "underline" if entry.second else ""
    text = Text.assemble((star + entry.text, style))
    if entry.mark:
        text.append(f" {_signs(console)[entry.mark]}")
    between = "\n" if stacked else " "
    if entry.interval:
        text.append(f"{between}[{entry.interval}]")
    elif entry.sd:
        text.append(f"{between}±{entry.sd}")
    return text
