"""Numbers that papers print, to stand beside measured ones where the images are the same.

They are data, in ``results/published/*.toml`` (installed as ``lmdbench.published``): a file a paper
and data set, its numbers as printed, in percent, with what must be said beside them.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from lmdbench.comparison.results import MethodRuns
from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics import METRICS

FORMAT = 1

# Key → its type, of each table of a file; the names of settings are keys of a row, too.
KEYS: dict[str, dict[str, type]] = {
    "": {
        "format": int,
        "paper": dict,
        "settings": list,
        "groups": dict,
        "columns": list,
        "rows": list,
    },
    "paper": {"title": str, "source": str, "caveats": list},
    "settings": {"name": str, "dataset": str, "fingerprint": str},
    "columns": {"title": str, "metric": str},
    "rows": {"name": str, "methods": list},
}
OPTIONAL = ("groups", "methods")


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
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UserError(f"{path}: not TOML ({problem})") from None
    try:
        return _paper(content)
    except UserError as problem:
        raise UserError(f"{path}: {problem}") from None


def _paper(content: Mapping[str, Any]) -> Paper:
    _check(content, "")
    if content["format"] != FORMAT:
        raise UserError(f"format {content['format']}; this lmdbench reads {FORMAT}")
    _check(content["paper"], "paper")
    groups = content.get("groups", {})
    _require(all(_strings(names) for names in groups.values()), "groups: give lists of classes")
    _require(_strings(content["paper"]["caveats"]), "paper.caveats: give a list of texts")
    for kind in ("settings", "columns"):
        for table in content[kind]:
            _check(table, kind)
    settings = [setting["name"] for setting in content["settings"]]
    _distinct("setting", settings)
    _distinct("row", [row.get("name") for row in content["rows"]])
    for row in content["rows"]:
        _check_row(row, settings, len(content["columns"]))
    known = [*METRICS, *groups]
    for column in content["columns"]:
        _require(
            column["metric"] in known,
            f"metric {column['metric']!r} of {column['title']!r}: one of {', '.join(known)}",
        )
    columns = {
        (setting["dataset"], setting["fingerprint"]): tuple(
            _column(content, k, setting["name"]) for k in range(len(content["columns"]))
        )
        for setting in content["settings"]
    }
    return Paper(columns, groups)


def _column(content: Mapping[str, Any], k: int, setting: str) -> PublishedColumn:
    paper, column = content["paper"], content["columns"][k]
    rows = [row for row in content["rows"] if setting in row]
    return PublishedColumn(
        paper=paper["title"],
        source=paper["source"],
        title=column["title"],
        metric=column["metric"],
        values={row["name"]: round(row[setting][k] / 100, 6) for row in rows},
        methods={row["name"]: tuple(row["methods"]) for row in rows if "methods" in row},
        caveats=tuple(paper["caveats"]),
    )


def _check(table: Mapping[str, Any], kind: str, further: Sequence[str] = ()) -> None:
    """Whether a table has the keys of its kind, of the right types, and no others."""
    keys = KEYS[kind]
    where = f"{kind}: " if kind else ""
    _require(isinstance(table, dict), f"{kind}: write a table of it")
    for key in table:
        _require(
            key in keys or key in further,
            f"{where}unknown key {key!r}; known: {', '.join([*keys, *further])}",
        )
    for key, wanted in keys.items():
        _require(key in table or key in OPTIONAL, f"{where}{key} is missing")
        if key in table:
            _require(type(table[key]) is wanted, f"{where}{key} is no {wanted.__name__}")


def _check_row(row: Mapping[str, Any], settings: Sequence[str], columns: int) -> None:
    _check(row, "rows", settings)
    name = row["name"]
    _require(
        _strings(row.get("methods", ["one"])), f"row {name!r}: methods is a list of their names"
    )
    for setting in settings:
        numbers = row.get(setting, [0.0] * columns)
        _require(
            isinstance(numbers, list)
            and len(numbers) == columns
            and all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
            and all(-100 <= n <= 100 for n in numbers),
            f"row {name!r}, {setting}: give {columns} numbers in percent",
        )


def _strings(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(isinstance(value, str) and value for value in values)
    )


def _distinct(what: str, names: Sequence[Any]) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    _require(not twice, f"{what} {twice[0] if twice else ''!r} is there twice")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise UserError(otherwise)
