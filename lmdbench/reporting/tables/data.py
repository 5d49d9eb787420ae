"""A comparison as data: CSV and JSON, shares between 0 and 1 in full precision."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lmdbench.comparison.types import Cell, Comparison, MethodResult, ResultTable

if TYPE_CHECKING:
    from lmdbench.evaluation.inference import Difference, Estimate

# What a table's setting holds that is no column of its own.
NOT_COLUMNS = ("results_name", "split_label", "groups", "synthetic")

# Field of an estimate or a difference → its column. What is not known is empty.
OF_ESTIMATE = {
    "low": "low",
    "high": "high",
    "se": "se",
    "se_test": "se_test",
    "se_seeds": "se_seeds",
    "df": "df",
}
OF_DIFFERENCE = {
    "value": "difference",
    "low": "difference_low",
    "high": "difference_high",
    "se": "difference_se",
    "df": "difference_df",
    "seeds": "difference_seeds",
    "p": "p",
    "superiority": "superiority",
    "detectable": "detectable",
    "detectable_more_seeds": "detectable_more_seeds",
    "equal": "practically_equal",
}


def csv_text(comparison: Comparison) -> str:
    """A line for each table, row and metric, in full precision.

    ``kind`` tells it from lines that are there if they were asked for: recalls of classes, pairs of
    rows (``reference`` is the other one), numbers that papers print, mean ranks across data sets.
    """
    settings = dict.fromkeys(
        name for table in comparison.tables for name in table.setting if name not in NOT_COLUMNS
    )
    records = [
        {
            "results_name": table.setting["results_name"],
            "split_label": table.setting["split_label"],
            **{name: table.setting.get(name) for name in settings},
            "partial": table.partial is not None,
            "synthetic": table.synthetic,
            "part": table.part,
            "dropped": table.dropped,
            **line,
        }
        for table in comparison.tables
        for line in _lines(table)
    ]
    if comparison.ranks is not None:
        records += [
            {
                "kind": "rank",
                "label": rank.label,
                "metric": comparison.ranks.primary,
                **{name: getattr(rank, name) for name in ("mean", "low", "high")},
            }
            for rank in comparison.ranks.rows
        ]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(name for r in records for name in r)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _lines(table: ResultTable) -> Iterator[dict[str, Any]]:
    for row in table.rows:
        for name, cell in row.cells.items():
            yield _line("score", table, row, name, cell)
    if table.per_class:
        for row in table.rows:
            for name, cell in row.by_class.items():
                yield _line("class", table, row, f"{table.per_class}:{name}", cell)
    for pair in table.pairwise:
        yield {
            "kind": "pair",
            "label": pair.a,
            "metric": table.primary,
            "reference": pair.b,
            **_columns(pair.difference, OF_DIFFERENCE),
            "p_corrected": pair.p_corrected,
        }
    for column in table.published:
        for name, value in column.values.items():
            yield {
                "kind": "published",
                "label": f"{name} ({column.paper})",
                "metric": column.metric,
                "mean": value,
            }


def _line(
    kind: str, table: ResultTable, row: MethodResult, name: str, cell: Cell
) -> dict[str, Any]:
    return {
        "kind": kind,
        "method": row.method,
        "label": row.label,
        "metric": name,
        "mean": cell.mean,
        "sd": cell.sd,
        **_columns(cell.estimate, OF_ESTIMATE),
        "no_interval": cell.no_interval,
        "reference": table.reference if cell.difference is not None else None,
        **_columns(cell.difference, OF_DIFFERENCE),
        "p_corrected": cell.p_corrected,
        "permutation_p": cell.permutation_p,
        "mark": cell.mark,
        "n_seeds": len(row.seeds),
        "seeds": " ".join(str(seed) for seed in row.seeds),
        "n_images": cell.n,
        "best": cell.best,
        "second": cell.second,
        "reason": cell.reason,
    }


def _columns(
    estimate: Estimate | Difference | None, names: Mapping[str, str]
) -> dict[str, float | bool | None]:
    values = {column: getattr(estimate, field, None) for field, column in names.items()}
    return {
        column: None if isinstance(value, float) and math.isnan(value) else value
        for column, value in values.items()
    }


def json_text(comparison: Comparison) -> str:
    """Everything: tables, rows, seeds, recalls of classes, pairs, ranks, published numbers, notes.

    What is not known is null; so are infinite degrees of freedom.
    """
    content = {
        "results": str(comparison.results.folder),
        "part": comparison.part,
        "unfinished": comparison.unfinished,
        "blocks": [_table_record(table) for table in comparison.tables],
        "ranks": comparison.ranks,
    }
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """As JSON can hold it: dataclasses as objects, numbers that are none as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _table_record(table: ResultTable) -> dict[str, Any]:
    record = table.record
    return {
        "title": table.title,
        **table.setting,
        "partial": table.partial,
        "dropped": table.dropped,
        "classes": record["classes"],
        "class_counts": record["class_counts"],
        "images": table.images,
        "metrics": list(table.metrics),
        "primary": table.primary,
        "reference": table.reference,
        "per_class": table.per_class or None,
        "rows": [_row_record(row) for row in table.rows],
        "pairwise": table.pairwise,
        "published": table.published,
        "notes": table.notes,
    }


def _row_record(row: MethodResult) -> dict[str, Any]:
    return {
        "label": row.label,
        "chain": [
            {"method": link.method, "version": link.version, "settings": link.settings}
            for link in row.chain
        ],
        "seeds": row.seeds,
        "runs": [
            {"seed": run.seed, "id": member.id, "directory": str(member.directory)}
            for run in row.runs
            for member in run.members
        ],
        "scores": {name: _cell_record(cell) for name, cell in row.cells.items()},
        "recalls": {name: _cell_record(cell) for name, cell in row.recalls.items()},
        "by_class": {name: _cell_record(cell) for name, cell in row.by_class.items()},
        "notes": list(row.remarks),
    }


def _cell_record(cell: Cell) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        "sd": cell.sd,
        "n": cell.n,
        "by_seed": cell.values,
        "reason": cell.reason or None,
        "interval": cell.estimate,
        "no_interval": cell.no_interval or None,
        "difference": cell.difference,
        "p_corrected": cell.p_corrected,
        "permutation_p": cell.permutation_p,
        "mark": cell.mark or None,
        "best": cell.best,
        "second": cell.second,
    }
