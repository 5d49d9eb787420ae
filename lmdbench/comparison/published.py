"""Numbers that papers print, to stand beside measured ones where the images are the same.

They are data, in ``results/published/*.toml`` (installed as ``lmdbench.published``): a file a paper
and data set, its numbers as printed, in percent, with what must be said beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from lmdbench.comparison.results import MethodRuns
from lmdbench.core.schema import (
    Check,
    is_number,
    lines,
    one_of,
    read_document,
    table,
    tables,
    text,
    wanted,
    whole,
)
from lmdbench.evaluation.metrics import METRICS

FORMAT = 1

# Key → what it may be, of each table of a file; the names of settings are keys of a row, too.
FILE: dict[str, Check] = {
    "format": whole(0),
    "paper": table,
    "groups": table,
    **dict.fromkeys(("settings", "columns", "rows"), tables),
}
PAPER = {"title": text, "source": text, "caveats": lines}
SETTING = dict.fromkeys(("name", "dataset", "fingerprint"), text)


@dataclass(frozen=True)
class PublishedColumn:
    """One column of a paper's table, for one choice of images.

    ``metric``: what is measured here that it is set beside, a metric's name or a group.
    ``values``: row of the paper → share between 0 and 1. ``methods``: row of the paper → the
    methods it corresponds to, each started from the next, where there are such. ``caveats`` must be
    told wherever the numbers are shown.
    """

    paper: str
    source: str
    title: str
    metric: str
    values: Mapping[str, float]
    methods: Mapping[str, tuple[str, ...]]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Paper:
    """A file of published numbers. ``columns``: (data set, split fingerprint) → columns."""

    columns: Mapping[tuple[str, str], tuple[PublishedColumn, ...]]
    groups: Mapping[str, Sequence[str]]  # group → classes; empty if the paper has none

    def of_groups(self, column: PublishedColumn) -> bool:
        return column.metric in self.groups or column.metric == "group_mean"


def published_for(setting: Mapping[str, Any]) -> list[PublishedColumn]:
    """What papers print for the test images of a table with this ``RunGroup.setting``.

    Only for a complete split that the authors released: the fingerprint tells. Columns of groups
    only where the groups are the paper's.
    """
    key = str(setting["dataset"]), str(setting["split_fingerprint"])
    return [
        column
        for paper in _shipped()
        for column in paper.columns.get(key, ())
        if not paper.of_groups(column) or setting["groups"] == paper.groups
    ]


def published_datasets() -> list[str]:
    """The data sets that papers print something for."""
    return list(dict.fromkeys(dataset for paper in _shipped() for dataset, _ in paper.columns))


def stands_for(row: MethodRuns) -> tuple[str, ...]:
    """The methods of a measured row as papers' rows name them: usual ancestors go unsaid."""
    methods = [link.method for link in row.chain]
    while len(methods) > 1 and row.chain[len(methods) - 1].usual:
        methods.pop()
    return tuple(methods)


@cache
def _shipped() -> tuple[Paper, ...]:
    folder = resources.files("lmdbench.published")
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".toml")),
        key=lambda file: file.name,
    )
    return tuple(load(file) for file in files)


def load(path: Path | Traversable) -> Paper:
    """Read a file of published numbers. Raises UserError, in a line, where it is not sound."""
    doc = read_document(path)
    content = doc.fields((), FILE, needed=[key for key in FILE if key != "groups"])
    if content["format"] != FORMAT:
        raise doc.error(("format",), f"format {content['format']}; this lmdbench reads {FORMAT}")
    paper = doc.fields(("paper",), PAPER, needed=[*PAPER])
    groups = doc.fields(("groups",), dict.fromkeys(content.get("groups", {}), lines))
    settings = [
        doc.fields(("settings", n), SETTING, needed=[*SETTING])
        for n in range(len(content["settings"]))
    ]
    column = {"title": text, "metric": one_of(*METRICS, *groups)}
    columns = [
        doc.fields(("columns", n), column, needed=[*column]) for n in range(len(content["columns"]))
    ]
    percent = wanted(
        f"{len(columns)} numbers in percent",
        lambda numbers: (
            isinstance(numbers, list)
            and len(numbers) == len(columns)
            and all(is_number(number, -100, 100) for number in numbers)
        ),
    )
    names = [setting["name"] for setting in settings]
    row = {"name": text, "methods": lines, **dict.fromkeys(names, percent)}
    rows = [doc.fields(("rows", n), row, needed=["name"]) for n in range(len(content["rows"]))]
    for kind, entries in (("settings", settings), ("rows", rows)):
        seen: set[str] = set()
        for n, entry in enumerate(entries):
            if entry["name"] in seen:
                raise doc.error((kind, n, "name"), f"{kind} have {entry['name']!r} twice")
            seen.add(entry["name"])
    found = {
        (setting["dataset"], setting["fingerprint"]): tuple(
            _column(paper, one, k, [row for row in rows if setting["name"] in row], setting["name"])
            for k, one in enumerate(columns)
        )
        for setting in settings
    }
    return Paper(found, groups)


def _column(
    paper: Mapping[str, Any],
    column: Mapping[str, Any],
    k: int,
    rows: Sequence[Mapping[str, Any]],
    setting: str,
) -> PublishedColumn:
    return PublishedColumn(
        paper=paper["title"],
        source=paper["source"],
        title=column["title"],
        metric=column["metric"],
        values={row["name"]: round(row[setting][k] / 100, 6) for row in rows},
        methods={row["name"]: tuple(row["methods"]) for row in rows if "methods" in row},
        caveats=tuple(paper["caveats"]),
    )
