"""CSV tables as people write them, with the line of every row for the errors."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.words import some
from lmdbench.data.written import SEPARATORS, Written, read_text, separator_of

PLAIN = Written()
MOST_COLUMNS = 12  # that an error names
LONGEST_CELL = 2**31 - 1  # in signs: outlines and reports stand in tables of images, too
NAMED = {",": "a comma", ";": "a semicolon", "\t": "a tab"}  # separators in words


@dataclass(frozen=True)
class Table:
    """A CSV file as text. ``table["column"]`` is a column, ``table.line(row)`` names a row."""

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]
    header: Sequence[str] = ()  # the columns as the file has them
    separator: str = ","
    short: tuple[int, ...] = ()  # lines that lacked cells at their end

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list[str]:
        position = self.columns.index(column)
        return [row[position] for row in self.rows]

    def only(self, rows: Sequence[int]) -> Table:
        """The table of some of its rows."""
        return replace(
            self, rows=[self.rows[row] for row in rows], lines=[self.lines[row] for row in rows]
        )

    def line(self, row: int) -> str:
        return f"{self.path}, line {self.lines[row]}"

    def filled(self, column: str) -> list[str]:
        """A column without empty cells. Raises UserError for the first that is empty."""
        values = self[column]
        for row, value in enumerate(values):
            if not value:
                raise UserError(f"{self.line(row)}: {column} is empty")
        return values

    def unique(self, column: str) -> list[str]:
        """A column without empty or repeated cells. Raises UserError for the first of them."""
        values = self.filled(column)
        self.refuse_repeats(column, values)
        return values

    def frame(self, key: str) -> pd.DataFrame:
        """All columns but ``key``, which is the index. Raises UserError as ``unique``."""
        ids = self.unique(key)
        columns = {name: self[name] for name in self.columns if name not in (key, "")}
        return pd.DataFrame(columns, index=pd.Index(ids, name="image"), dtype=object)

    def refuse_repeats(self, column: str, values: Sequence[str]) -> None:
        """Raises UserError naming both lines, if one of the values, row by row, comes twice."""
        first: dict[str, int] = {}
        for row, value in enumerate(values):
            if value in first:
                raise UserError(
                    f"{self.line(row)}: {column} {value!r} is listed twice, "
                    f"before in line {self.lines[first[value]]}"
                )
            first[value] = row


def one_hot(table: Table, classes: Sequence[str]) -> list[str]:
    """The class of each row, from a column of 0 and 1 a class.

    Raises UserError, naming the line, unless exactly one is 1 and the others are 0.
    """
    columns = [table[name] for name in classes]
    labels = []
    for row, cells in enumerate(zip(*columns, strict=True)):
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            values = []
        if sorted(values) != [0.0] * (len(classes) - 1) + [1.0]:
            raise UserError(f"{table.line(row)}: exactly one class must be 1 and all others 0")
        labels.append(classes[values.index(1.0)])
    return labels


def read_table(
    path: Path,
    needed: Sequence[str],
    *,
    any_case: bool = False,
    written: Written = PLAIN,
    optional: Callable[[Sequence[str]], Collection[str]] = lambda _: (),
) -> Table:
    """Read a CSV file that has the needed columns, cells stripped of blanks around them, without
    empty rows and without empty columns behind the last.

    ``any_case`` takes the header in lower case. ``optional``: of the columns those whose cells may
    lack at the end of a row, as Excel leaves them out; they are empty then. Raises UserError,
    naming file and line, for a file that cannot be read, is not in UTF-8 or as ``written`` says,
    has no rows, lacks a column or has a row of another length.
    """
    content, separator = _cells(path, written)
    if not content:
        needs = f"; it needs the columns {', '.join(needed)}" if needed else ""
        raise UserError(f"{path}: the file is empty{needs}")
    (_, header), *body = _without_empty_columns(content)
    columns = [name.lower() for name in header] if any_case else header
    missing = [name for name in needed if name not in columns]
    if missing:
        raise UserError(
            f"{path}: no column {' and no column '.join(map(repr, missing))}; "
            f"its columns are {some(header, MOST_COLUMNS, repr)}"
            f"{_other(header, needed, written) or _named(missing[0], written)}"
        )
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        raise UserError(f"{path}: the column {repeated[0]!r} is there twice")
    if not body:
        raise UserError(f"{path}: no rows below the header")
    rows, lines = [row for _, row in body], [line for line, _ in body]
    needless = optional(columns)
    least = max((n + 1 for n, name in enumerate(columns) if name not in needless), default=1)
    short = [n for n, row in enumerate(rows) if least <= len(row) < len(columns)]
    for n in short:
        rows[n] = [*rows[n], *[""] * (len(columns) - len(rows[n]))]
    table = Table(path, columns, rows, lines, header, separator, tuple(lines[n] for n in short))
    for row, cells in enumerate(table.rows):
        if len(cells) != len(columns):
            raise UserError(
                f"{table.line(row)}: {len(cells)} values where the header has {len(columns)} "
                f"columns (a value with {NAMED.get(separator, repr(separator))} in it needs quotes)"
            )
        if cells == header:
            raise UserError(f"{table.line(row)}: the header again; take it out")
    return table


def _cells(path: Path, written: Written) -> tuple[list[tuple[int, list[str]]], str]:
    """The line and the cells of each row that is not empty, and the separator."""
    lines = io.StringIO(read_text(path, written), newline="").readlines()
    separator, by_excel = separator_of(lines, written)
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(lines, strict=True, delimiter=separator)
    stripped = []
    try:
        for row in reader:
            stripped.append((reader.line_num, [cell.strip() for cell in row]))
    except csv.Error as error:
        if "unexpected end" in str(error):
            begun = stripped[-1][0] + 1 if stripped else 1
            raise UserError(
                f"{path}: not a readable CSV: the row that begins in line {begun} has a quote that "
                "is never closed"
            ) from error
        raise UserError(f"{path}: not a readable CSV: line {reader.line_num}: {error}") from error
    rows = [(line, row) for line, row in stripped if any(row)]
    return rows[by_excel:], separator


def _without_empty_columns(
    content: Sequence[tuple[int, list[str]]],
) -> list[tuple[int, list[str]]]:
    """The rows without what hangs on behind the last column that has a name or a value: Excel
    leaves separators there."""
    header = content[0][1]
    width = len(header)
    while width and not header[width - 1]:
        width -= 1
    if any(any(row[width : len(header)]) for _, row in content):
        width = len(header)
    return [(line, row if any(row[width:]) else row[:width]) for line, row in content]


def _named(column: str, written: Written) -> str:
    """The advice to say which column it is, where that is possible."""
    if not written.settings:
        return ""
    return f'; if one is the {column}, say {column} = "…" under [columns] in {written.settings}'


def _other(header: Sequence[str], needed: Sequence[str], written: Written) -> str:
    """The advice to take another separator, where that makes the needed columns of the header."""
    for one, name in SEPARATORS.items():
        names = [cell.strip().lower() for cell in ",".join(header).split(one)]
        if not written.separator and all(column.lower() in names for column in needed):
            key = "\\t" if one == "\t" else one
            return f" (separated by {name}? save it with commas{written.way('separator', key)})"
    return ""
