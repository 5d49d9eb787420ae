"""What is known of each image of the ISIC Archive: a journal while it is fetched, tables after."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmdbench.core.aside import set_aside
from lmdbench.core.files import disk_errors, write_text

BASE_COLUMNS = ("isic_id", "attribution", "copyright_license")

# isic_id, attribution, copyright_license, size (of the file), acquisition and clinical (fields)
Record = dict[str, Any]


class Journal:
    """Records by id, appended to a file of JSON lines as they become known; ``with`` opens it.

    A kill at any moment loses no record but the one being written, whose half line is ignored.
    At the end the file is written anew in the order of ids. Used by one thread.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, Record] = {}
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                with suppress(ValueError):
                    record = json.loads(line)
                    if _is_record(record):
                        self.records[record["isic_id"]] = record

    def __enter__(self) -> Journal:
        self._save()  # so that it ends in a whole line
        with disk_errors(self.path.parent):
            self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        with disk_errors(self.path.parent):
            self._file.close()  # which writes once more what a full disk did not take
        self._save()

    def add(self, record: Record) -> None:
        self.records[record["isic_id"]] = record
        with disk_errors(self.path.parent):
            self._file.write(_line(record))
            self._file.flush()

    def _save(self) -> None:
        write_text(self.path, "".join(_line(self.records[image]) for image in sorted(self.records)))


def _is_record(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(name), str) for name in BASE_COLUMNS)
        and isinstance(value.get("size"), int)
        and all(isinstance(value.get(name), dict) for name in ("acquisition", "clinical"))
    )


def _line(record: Record) -> str:
    return json.dumps(record, sort_keys=True) + "\n"


def write_metadata(path: Path, records: Iterable[Record]) -> Path | None:
    """``metadata.csv`` as `isic metadata download` writes it, sorted by id.

    Rows of other images, and columns of theirs, that are there already are kept. What is there and
    is no such table is moved aside; returns its new name.
    """
    rows: dict[str, dict[str, Any]] = {}
    aside = None
    try:
        rows = _rows_by_id(path)
    except FileNotFoundError:
        pass
    except (UnicodeDecodeError, csv.Error, KeyError):
        aside = set_aside(path)
    for record in records:
        base = {name: record[name] for name in BASE_COLUMNS}
        rows[record["isic_id"]] = {**base, **record["acquisition"], **record["clinical"]}
    fields = {name for row in rows.values() for name in row if isinstance(name, str)}
    columns = [*BASE_COLUMNS, *sorted(fields - set(BASE_COLUMNS))]
    write_rows(path, columns, (rows[image] for image in sorted(rows)))
    return aside


def _rows_by_id(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of a table by ``isic_id``. Raises KeyError where it has no such column, and what
    reading raises."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        if "isic_id" not in (table.fieldnames or ()):
            raise KeyError("isic_id")
        return {row["isic_id"]: row for row in table if row["isic_id"]}


def write_gone(path: Path, gone: Mapping[str, str]) -> None:
    """``gone.csv``: images that cannot be had any more, with the reason; no file where none is."""
    if gone:
        rows = ({"isic_id": image, "reason": gone[image]} for image in sorted(gone))
        write_rows(path, ["isic_id", "reason"], rows)
    else:
        with disk_errors(path.parent):
            path.unlink(missing_ok=True)


def read_gone(path: Path) -> set[str]:
    with suppress(OSError, UnicodeDecodeError, csv.Error, KeyError):
        return set(_rows_by_id(path))
    return set()


def write_rows(path: Path, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
