"""A comparison as Markdown, in GitHub's form."""

from __future__ import annotations

from lmdbench.comparison.compare import Comparison
from lmdbench.reporting.tables.escape import escape_markdown
from lmdbench.reporting.tables.layout import Column, Table, TableCell, sections
from lmdbench.reporting.tables.words import MARKS, left_out


def markdown(
    comparison: Comparison,
    percent: bool = True,
    *,
    spread: str = "interval",
    layout: str = "metrics",
) -> str:
    """A heading for each section, its tables and a list of notes.

    ``spread`` and ``layout`` as ``sections`` takes them.
    """
    lines = []
    for section in sections(comparison, percent, spread=spread, layout=layout):
        lines += [f"### {escape_markdown(section.title)}", ""]
        for number, table in enumerate(section.tables):
            if number:
                lines += [f"#### {escape_markdown(table.title)}", ""]
            lines += [*_table(table), ""]
            notes = [table.legend, *table.notes, *(section.notes if number == 0 else ())]
            lines += [*(f"- {escape_markdown(note)}" for note in notes), ""]
    if line := left_out(comparison):
        lines += [escape_markdown(line), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(table: Table) -> list[str]:
    heads = [column.head for column in table.columns]
    repeated = len(set(heads)) < len(heads)
    return [
        _row([escape_markdown(_head(column, repeated)) for column in table.columns]),
        _row(["---" if column.words else "---:" for column in table.columns]),
        *(_row([_cell(cell) for cell in row]) for row in table.rows),
    ]


def _head(column: Column, repeated: bool) -> str:
    """In one line, with the heading above it where the columns can't be told apart without."""
    head = f"{column.span}: {column.head}" if column.span and repeated else column.head
    if column.brackets:
        head += f" [{column.brackets}]"
    return f"{head} (n = {column.n})" if column.n else head


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: TableCell) -> str:
    text = escape_markdown(cell.text)
    if cell.best:
        text = f"**{text}**"
    elif cell.second:
        text = f"<u>{text}</u>"
    if cell.sd:
        text += f" ± {cell.sd}"
    if cell.interval:
        text += f" [{cell.interval}]"
    return f"{text} {MARKS[cell.mark]}" if cell.mark else text
