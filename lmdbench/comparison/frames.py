"""A comparison as pandas DataFrames: shares between 0 and 1 in full precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import Cell, MethodResult, Ranks, ResultTable
from lmdbench.evaluation.metrics import softmax

if TYPE_CHECKING:
    from pandas import DataFrame

    from lmdbench.evaluation.inference import Difference, Estimate

# What a table's setting holds that is no column of its own.
NOT_COLUMNS = ("results_name", "split_label", "groups", "synthetic")

# Field of an estimate or a difference → its column. What is not known is missing.
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


def scores(tables: Sequence[ResultTable], ranks: Ranks | None = None) -> DataFrame:
    """A row for each table, method and metric.

    ``kind`` tells these (score) from rows that are there if they were asked for: statistics of
    classes (class), pairs of methods (pair, ``reference`` is the other one), numbers that papers
    print (published), mean ranks across data sets (rank).
    """
    settings = dict.fromkeys(
        name for table in tables for name in table.setting if name not in NOT_COLUMNS
    )
    records = [
        {**_table_columns(table, settings), **line} for table in tables for line in _lines(table)
    ]
    if ranks is not None:
        records += [
            {
                "kind": "rank",
                "label": rank.label,
                "metric": ranks.primary,
                **{name: getattr(rank, name) for name in ("mean", "low", "high")},
            }
            for rank in ranks.rows
        ]
    return _frame(records)


def images(tables: Sequence[ResultTable]) -> DataFrame:
    """A row for each table, run and test (or validation) image.

    ``image``: its id; ``unit``: its lesion or patient, missing where unknown; ``truth`` and
    ``predicted``: names of classes; ``p:CLASS``: the probability given to each class, missing for
    those that another data set has. A run whose logits are not finite predicts nothing.
    """
    settings = [
        name
        for name in dict.fromkeys(name for table in tables for name in table.setting)
        if name not in NOT_COLUMNS
        and any(table.setting.get(name) != tables[0].setting.get(name) for table in tables)
    ]
    runs: list[dict[str, Any]] = []
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("image", "unit", "truth", "predicted")
    }
    chances: list[tuple[dict[str, int], np.ndarray]] = []  # of a run: class → column, (N, C)
    for table in tables:
        names = np.array(table.record.classes, dtype=object)
        places = {str(name): k for k, name in enumerate(names)}
        for row in table.rows:
            seen = outcomes(table, row)
            nothing = np.full(len(seen.ids), None)
            units = nothing if seen.units is None else seen.units.astype(object)
            for seed, logits, usable in zip(seen.seeds, seen.logits, seen.usable, strict=True):
                runs.append(
                    {
                        **_table_columns(table, settings),
                        "method": row.method,
                        "label": row.label,
                        "seed": seed,
                    }
                )
                columns["image"].append(seen.ids.astype(object))
                columns["unit"].append(np.where(units == "", nothing, units))
                columns["truth"].append(names[seen.labels])
                columns["predicted"].append(names[logits.argmax(axis=1)] if usable else nothing)
                missing = np.full(logits.shape, np.nan)
                chances.append((places, softmax(logits) if usable else missing))
    numbers = np.repeat(np.arange(len(runs)), [len(one) for _, one in chances])
    frame = _frame(runs).loc[numbers].reset_index(drop=True)
    for column, parts in columns.items():
        frame[column] = np.concatenate(parts)
    for name in dict.fromkeys(name for places, _ in chances for name in places):
        frame[f"p:{name}"] = np.concatenate(
            [
                one[:, places[name]] if name in places else np.full(len(one), np.nan)
                for places, one in chances
            ]
        )
    return frame


def _table_columns(table: ResultTable, settings: Iterable[str]) -> dict[str, Any]:
    return {
        "results_name": table.setting["results_name"],
        "split_label": table.setting["split_label"],
        **{name: table.setting.get(name) for name in settings},
        "partial": table.partial is not None,
        "synthetic": table.synthetic,
        "part": table.part,
        "dropped": table.dropped,
    }


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


def _frame(records: Sequence[Mapping[str, Any]]) -> DataFrame:
    import pandas as pd

    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: [record.get(name) for record in records] for name in names}
    return pd.DataFrame({name: pd.Series(v, dtype=_dtype(v)) for name, v in columns.items()})


def _dtype(values: Sequence[Any]) -> str:
    """One that keeps whole numbers and truth values as they are where others are missing."""
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool | np.bool_) for value in known):
        return "bool" if len(known) == len(values) else "boolean"
    if known and all(type(value) is int for value in known):
        return "int64" if len(known) == len(values) else "Int64"
    if known and all(isinstance(value, float) for value in known):
        return "float64"
    return "object"
