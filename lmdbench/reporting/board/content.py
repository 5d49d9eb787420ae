"""A leaderboard: what there is of reference results, a table for what may be compared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lmdbench.comparison.compare import Comparison, compare
from lmdbench.comparison.notes import column_title
from lmdbench.comparison.results import MethodRuns, Results, Run, is_frozen
from lmdbench.comparison.types import Cell, MethodResult, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.core.words import listed
from lmdbench.models.backbones import get_backbone
from lmdbench.reporting.page.provenance import MethodFacts, RunFacts, method_facts, run_facts
from lmdbench.reporting.page.sources import About
from lmdbench.reporting.tables.words import is_share, number, signed
from lmdbench.runs.code_digest import changed_parts, code_digests
from lmdbench.runs.plan import code_in_words
from lmdbench.sharing.repository import Entry
from lmdbench.training.method import METHODS

REFERENCE = "ce"
UNKNOWN = "can't be told here"


@dataclass(frozen=True)
class BoardCell:
    """A mean over seeds as it is shown, with its interval, and the number it is sorted by."""

    text: str
    interval: str = ""
    sort: float | None = None
    best: bool = False


@dataclass(frozen=True)
class BoardRow:
    """A row of a table. ``page``: the file of its provenance. ``difference``: to the reference, of
    the first metric. ``mark``: better, worse, equal or nothing, after the correction for several
    comparisons. ``since``: what of the code that made it is other now; empty if nothing is."""

    label: str
    method: str
    page: str
    title: str
    cells: tuple[BoardCell, ...]
    difference: BoardCell
    mark: str
    seeds: int
    entries: tuple[Entry, ...]
    since: str
    facts: MethodFacts
    runs: tuple[RunFacts, ...]


@dataclass(frozen=True)
class Printed:
    """A row of a paper's table, as printed: its numbers under the metrics they are set beside."""

    paper: str
    source: str
    name: str
    cells: tuple[str, ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class BoardTable:
    """Rows that may be compared. ``facets``: what one may choose by, name → value."""

    anchor: str
    title: str
    facets: Mapping[str, str]
    metrics: tuple[tuple[str, str], ...]  # title, images behind it
    reference: str
    primary: str
    rows: tuple[BoardRow, ...]
    printed: tuple[Printed, ...]
    notes: tuple[str, ...]
    partial: bool
    synthetic: bool


@dataclass(frozen=True)
class Board:
    tables: tuple[BoardTable, ...]
    entries: tuple[Entry, ...]  # the newest first

    @property
    def facets(self) -> dict[str, list[str]]:
        """Name → its values in the tables, of what differs."""
        names = dict.fromkeys(name for table in self.tables for name in table.facets)
        values = {
            name: list(dict.fromkeys(table.facets.get(name, "") for table in self.tables))
            for name in names
        }
        return {name: found for name, found in values.items() if len(found) > 1}

    @property
    def changed(self) -> list[tuple[BoardTable, BoardRow]]:
        """The rows whose code is other by now."""
        return [(table, row) for table in self.tables for row in table.rows if row.since]


def board_of(results: Results, entries: Sequence[Entry], about: Mapping[str, About]) -> Board:
    """The leaderboard of the runs of these entries, which lie together in a results folder."""
    found = compare(results, reference=_reference(results), published=True)
    tables = [_table(found, table, n, entries, about) for n, table in enumerate(found.tables)]
    newest = sorted(entries, key=lambda entry: (entry.card.date, entry.name), reverse=True)
    return Board(tuple(tables), tuple(newest))


def _reference(results: Results) -> str:
    methods = [run.method for run in results.runs]
    return REFERENCE if REFERENCE in methods else methods[0]


def _table(
    comparison: Comparison,
    table: ResultTable,
    n: int,
    entries: Sequence[Entry],
    about: Mapping[str, About],
) -> BoardTable:
    anchor = f"table-{n + 1}-{_slug(table.setting['results_name'])}"
    methods = {facts.label: facts for facts in method_facts(table, about)}
    runs = run_facts(comparison.results.folder, table)
    shown = table.metrics
    rows = [
        BoardRow(
            label=row.label,
            method=row.method,
            page=f"{anchor}-{k + 1}-{_slug(row.label)}.html",
            title=methods[row.label].about.title,
            cells=tuple(_cell(row.cells[name], name) for name in shown),
            difference=_difference(row, table),
            mark=row.cells[table.primary].mark,
            seeds=len(row.runs),
            entries=_of_row(row, entries),
            since=changed_since(row),
            facts=methods[row.label],
            runs=tuple(one for one in runs if one.label == row.label),
        )
        for k, row in enumerate(table.rows)
    ]
    return BoardTable(
        anchor=anchor,
        title=table.title,
        facets=_facets(table),
        metrics=tuple(
            (column_title(name), f"{table.rows[0].cells[name].n:,} images") for name in shown
        ),
        reference=table.reference or "",
        primary=column_title(table.primary),
        rows=tuple(rows),
        printed=tuple(_printed(table)),
        notes=table.notes,
        partial=bool(table.partial),
        synthetic=table.synthetic,
    )


def _facets(table: ResultTable) -> dict[str, str]:
    stated = table.stated
    return {
        "data set": str(table.setting["results_name"]),
        "split": str(table.setting["split_label"]),
        "backbone": str(stated.get("backbone")),
        "tuning": "head" if is_frozen(table.setting) else str(stated.get("tuning")),
        "image size": str(stated.get("image_size")),
        "images": "drawn" if table.synthetic else "partial" if table.partial else "complete",
    }


def _cell(cell: Cell, name: str) -> BoardCell:
    percent = is_share(name)
    estimate = cell.estimate
    interval = ""
    if estimate is not None and estimate.low == estimate.low:
        interval = f"{number(estimate.low, percent)} to {number(estimate.high, percent)}"
    return BoardCell(number(cell.mean, percent), interval, cell.mean, cell.best)


def _difference(row: MethodResult, table: ResultTable) -> BoardCell:
    difference = row.cells[table.primary].difference
    if difference is None:
        return BoardCell("–")
    percent = is_share(table.primary)
    interval = ""
    if difference.low == difference.low:
        interval = f"{signed(difference.low, percent)} to {signed(difference.high, percent)}"
    return BoardCell(signed(difference.value, percent), interval, difference.value)


def _of_row(row: MethodRuns, entries: Sequence[Entry]) -> tuple[Entry, ...]:
    keys = {member.record.key for run in row.runs for member in run.members}
    return tuple(entry for entry in entries if entry.runs & keys)


def changed_since(row: MethodRuns) -> str:
    """What of the code that made a row is other here, in words, also of what its runs started from;
    empty where nothing is."""
    members = [member for run in row.runs for member in run.members]
    stages = [stage for member in members for stage in (member, *member.above)]
    changed = {
        word: None for stage in stages if stage.predictions_from is None for word in _changed(stage)
    }
    known = [word for word in changed if word != UNKNOWN]
    return listed(known) if known else UNKNOWN if changed else ""


def _changed(run: Run) -> list[str]:
    spec = run.spec
    now = _digests(spec.method, spec.backbone) if spec.method in METHODS else None
    if now is None:
        return [UNKNOWN]
    return [code_in_words(part, spec) for part in changed_parts(run.record.digests, now)]


@cache
def _digests(method: str, backbone: str) -> dict[str, str] | None:
    try:
        return code_digests(METHODS.get(method), get_backbone(backbone))
    except UserError:
        return None


def _printed(table: ResultTable) -> list[Printed]:
    """What papers print for these images, a row of a paper each."""
    shown: dict[tuple[str, str], dict[str, str]] = {}
    facts: dict[str, Any] = {}
    for column in table.published:
        facts[column.paper] = column
        for name, value in column.values.items():
            cells = shown.setdefault((column.paper, name), {})
            cells[column.metric] = number(value)
    return [
        Printed(
            paper,
            facts[paper].source,
            name,
            tuple(cells.get(metric, "") for metric in table.metrics),
            facts[paper].caveats,
        )
        for (paper, name), cells in shown.items()
        if any(metric in cells for metric in table.metrics)
    ]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "row"
