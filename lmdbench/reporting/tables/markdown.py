"""A comparison as Markdown, in GitHub's form."""

from __future__ import annotations

from lmdbench.comparison.types import Comparison
from lmdbench.reporting.tables.escape import escape_markdown
from lmdbench.reporting.tables.sheets import Column, Entry, Sheet, sections
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
        for number, sheet in enumerate(section.sheets):
            if number:
                lines += [f"#### {escape_markdown(sheet.title)}", ""]
            lines += [*_table(sheet), ""]
            notes = [sheet.legend, *sheet.notes, *(section.notes if number == 0 else ())]
            lines += [*(f"- {escape_markdown(note)}" for note in notes), ""]
    if line := left_out(comparison):
        lines += [escape_markdown(line), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _table(sheet: Sheet) -> list[str]:
    heads = [column.head for column in sheet.columns]
    repeated = len(set(heads)) < len(heads)
    return [
        _row([escape_markdown(_head(column, repeated)) for column in sheet.columns]),
        _row(["---" if column.words else "---:" for column in sheet.columns]),
        *(_row([_cell(entry) for entry in row]) for row in sheet.rows),
    ]


def _head(column: Column, repeated: bool) -> str:
    """In one line, with the heading above it where the columns can't be told apart without."""
    head = f"{column.span}: {column.head}" if column.span and repeated else column.head
    return f"{head} (n = {column.n})" if column.n else head


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(entry: Entry) -> str:
    text = escape_markdown(entry.text)
    if entry.best:
        text = f"**{text}**"
    elif entry.second:
        text = f"<u>{text}</u>"
    if entry.sd:
        text += f" ± {entry.sd}"
    if entry.interval:
        text += f" [{entry.interval}]"
    return f"{text} {MARKS[entry.mark]}" if entry.mark else text
