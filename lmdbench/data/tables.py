"""CSV tables as people write them, with the line of every row for the errors."""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.files import patiently


@dataclass(frozen=True)
class Table:
    """A CSV file as text. ``table["column"]`` is a column, ``table.line(row)`` names a row."""

    path: Path
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list[str]:
        position = self.columns.index(column)
        return [row[position] for row in self.rows]

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


def _lines(path: Path) -> list[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        return file.readlines()


def read_table(path: Path, needed: Sequence[str], *, any_case: bool = False) -> Table:
    """Read a CSV file that has the needed columns, cells stripped of blanks around them.

    ``any_case`` takes the header in lower case. Raises UserError, naming file and line, for a file
    that cannot be read, is not UTF-8, is separated by something else than commas, has no rows,
    lacks a column or has a row of another length.
    """
    try:
        lines = patiently(lambda: _lines(path))
        _refuse_other_separators(path, lines)
        reader = csv.reader(lines, strict=True)
        content = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a CSV in UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path}: not a readable CSV: line {reader.line_num}: {error}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged, not a whole gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        needs = f"; it needs the columns {', '.join(needed)}" if needed else ""
        raise UserError(f"{path}: the file is empty{needs}")
    (_, header), *body = content
    columns = [name.lower() for name in header] if any_case else header
    missing = [name for name in needed if name not in columns]
    if missing:
        raise UserError(
            f"{path}: no column {' and no column '.join(map(repr, missing))}; "
            f"its columns are {', '.join(map(repr, header))}"
        )
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        raise UserError(f"{path}: the column {repeated[0]!r} is there twice")
    if not body:
        raise UserError(f"{path}: no rows below the header")
    table = Table(path, columns, [row for _, row in body], [line for line, _ in body])
    for row, cells in enumerate(table.rows):
        if len(cells) != len(columns):
            raise UserError(
                f"{table.line(row)}: {len(cells)} values where the header has {len(columns)} "
                "columns (a value with a comma in it needs quotes)"
            )
    return table


def _refuse_other_separators(path: Path, lines: Sequence[str]) -> None:
    """Raises UserError for a header between semicolons or tabs, and for Excel's line above it."""
    first = next((line.strip(" \r\n") for line in lines if line.strip()), "")
    if first.lower() == "sep=,":
        raise UserError(f"{path}: its first line, {first!r}, is for Excel alone; take it out")
    unquoted = re.sub(r'"[^"]*"', "", first)
    for separator, name in ((";", "';'"), ("\t", "tabs")):
        if separator in unquoted and "," not in unquoted:
            raise UserError(f"{path}: its columns seem separated by {name}; save it with commas")
