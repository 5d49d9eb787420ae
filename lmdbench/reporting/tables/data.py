"""A comparison as data: CSV and JSON, shares between 0 and 1 in full precision."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from lmdbench.comparison import frames
from lmdbench.comparison.compare import Comparison
from lmdbench.comparison.types import Cell, MethodResult, ResultTable, Subgroups
from lmdbench.evaluation.recalibration import ValidationFit


def csv_text(comparison: Comparison) -> str:
    """The lines of ``frames.scores``; what is not known is empty."""
    frame = frames.scores(comparison.tables, comparison.ranks)
    return frame.to_csv(index=False, lineterminator="\n")


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
        "calibration": table.calibration,
        "scored": table.sample.counted,
        "classes": record.classes,
        "class_counts": record.class_counts,
        "images": table.images,
        "metrics": list(table.metrics),
        "primary": table.primary,
        "reference": table.reference,
        "margin": table.margin,
        "per_class": table.per_class or None,
        "rows": [_row_record(row) for row in table.rows],
        "pairwise": table.pairwise,
        "stability": table.stability,
        "published": table.published,
        "subgroups": [_subgroups_record(subgroups) for subgroups in table.subgroups],
        "notes": table.notes,
    }


def _subgroups_record(subgroups: Subgroups) -> dict[str, Any]:
    return {
        "by": subgroups.by,
        "column": subgroups.column,
        "parts": [
            {
                "subgroup": part.name,
                "images": part.table.images[part.table.part],
                "rows": [
                    {
                        "label": row.label,
                        "scores": {name: _cell_record(cell) for name, cell in row.cells.items()},
                        "recalls": {name: _cell_record(c) for name, c in row.recalls.items()},
                    }
                    for row in part.table.rows
                ],
            }
            for part in subgroups.parts
        ],
        "notes": (*subgroups.notes, *subgroups.lacking),
    }


def _row_record(row: MethodResult) -> dict[str, Any]:
    return {
        "label": row.label,
        "chain": [
            {"method": link.method, "version": link.version, "settings": link.settings}
            for link in row.chain
        ],
        "seeds": row.seeds,
        "runs": _run_records(row),
        "scores": {name: _cell_record(cell) for name, cell in row.cells.items()},
        "recalls": {name: _cell_record(cell) for name, cell in row.recalls.items()},
        "by_class": {name: _cell_record(cell) for name, cell in row.by_class.items()},
        "notes": list(row.remarks),
    }


def _run_records(row: MethodResult) -> list[dict[str, Any]]:
    """``fit``: what was fitted on the run's validation images, null if nothing was."""
    members = [(run.seed, member) for run in row.runs for member in run.members]
    fits: list[ValidationFit | None] = [fit for folds in row.fits for fit in folds]
    fits = fits or [None] * len(members)
    return [
        {"seed": seed, "id": member.id, "directory": str(member.directory), "fit": fit}
        for (seed, member), fit in zip(members, fits, strict=True)
    ]


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
