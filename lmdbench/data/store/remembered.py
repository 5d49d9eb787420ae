"""Small CSV files beside the stores, of what was found out about image files.

A help and never needed: where one is absent, damaged or not to be written, files are looked at
anew.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_text, write_text


def remembered(path: Path) -> list[list[str]]:
    """Its rows; none where it can't be read."""
    try:
        return list(csv.reader(io.StringIO(read_text(path), newline="")))
    except (OSError, ValueError, csv.Error):
        return []


def remember(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write it, if that can be."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with suppress(OSError, UserError, UnicodeError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text.getvalue())
