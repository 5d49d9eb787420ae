"""Runs and comparisons as pandas DataFrames: shares between 0 and 1 in full precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmdbench.comparison.outcomes import predictions_of
from lmdbench.comparison.results import Run
from lmdbench.comparison.types import Cell, MethodResult, Ranks, ResultTable
from lmdbench.evaluation.metrics import Scorer, parse, softmax, summary, unusable
from lmdbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from pandas import DataFrame

    from lmdbench.evaluation.differences import Difference
    from lmdbench.evaluation.inference import Estimate

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
    "equal_within": "practically_equal_within",
}


def scores(tables: Sequence[ResultTable], ranks: Ranks | None = None) -> DataFrame:
    """A row for each table, method and metric.

    ``kind`` tells these (score) from rows that are there if they were asked for: statistics of
    classes (class), pairs of methods (pair, ``reference`` is the other one), ranks on bootstrap
    samples (stability), numbers that papers print (published), scores of subgroups (subgroup, the
    ``subgroup`` of a column ``by``), mean ranks across data sets (rank). ``scored``: what counts as
    one, image, lesion or patient.
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
    """A row for each table, run and image; see ``run_images``. Beside what a run is stands what
    tells the tables apart, and ``dropped``, missing but where images that leak are left out. Of a
    table of lesions or patients it is their images."""
    settings = [
        name
        for name in dict.fromkeys(name for table in tables for name in table.setting)
        if name not in NOT_COLUMNS
        and any(table.setting.get(name) != tables[0].setting.get(name) for table in tables)
    ]
    pieces = []
    for table in tables:
        common = _table_columns(table, settings)
        sample = replace(table.sample, units=None)
        for row in table.rows:
            for run in row.runs:
                facts = {**common, "method": row.method, "label": row.label, "seed": run.seed}
                pieces.append((facts, run, predictions_of(run, table.part, sample)))
    return _image_rows(pieces)


def run_scores(runs: Sequence[Run], part: str, names: Sequence[str] = ()) -> DataFrame:
    """A row a run, each for itself: what it is, its metrics (missing where one has no value), and
    changed settings. ``names`` of metrics; by default the usual ones and every group."""
    records = []
    for run in runs:
        predictions = predictions_of(run, part)
        scorer = Scorer(predictions.labels, predictions.logits)
        asked, facts = names or summary(run.groups), run.facts
        chosen = [parse(name, run.classes, run.groups, facts) for name in asked]
        values = {metric.name: float(scorer.value(metric)) for metric in chosen}
        changed = {f"set {k}": v for k, v in (run.record.changed_settings or {}).items()}
        records.append({**_run_columns(run), **values, **changed})
    frame = _frame(records)
    return frame[sorted(frame.columns, key=lambda name: str(name).startswith("set "))]


def run_images(runs: Sequence[Run], part: str) -> DataFrame:
    """A row an image of each run.

    ``image``: its id; ``unit``: its lesion or patient, missing where unknown; ``truth`` and
    ``predicted``: names of classes; ``p:CLASS``: the probability given to each class, missing for
    those that another data set has. A run whose logits are not finite predicts nothing.
    """
    return _image_rows([(_run_columns(run), run, predictions_of(run, part)) for run in runs])


def _image_rows(pieces: Sequence[tuple[dict[str, Any], Run, Predictions]]) -> DataFrame:
    """A row an image, with what is said of its run before it."""
    import pandas as pd

    values = [_image_columns(run, predictions) for _, run, predictions in pieces]
    numbers = np.repeat(np.arange(len(pieces)), [len(of_run["image"]) for of_run in values])
    facts = _frame([facts for facts, _, _ in pieces]).loc[numbers].reset_index(drop=True)
    columns = {
        name: np.concatenate(
            [of_run.get(name, np.full(len(of_run["image"]), np.nan)) for of_run in values]
        )
        for name in dict.fromkeys(name for of_run in values for name in of_run)
    }
    return pd.concat([facts, pd.DataFrame(columns)], axis=1)


def _image_columns(run: Run, predictions: Predictions) -> dict[str, np.ndarray]:
    """Of one run, by the images' ids."""
    part = predictions.of(np.argsort(predictions.ids, kind="stable"))
    classes = np.array(run.classes, dtype=object)
    nothing = np.full(len(part), None)
    usable = not unusable(part.logits)
    chances = softmax(part.logits) if usable else np.full(part.logits.shape, np.nan)
    return {
        "image": part.ids.astype(object),
        "unit": nothing if part.units is None else np.where(part.units == "", nothing, part.units),
        "truth": classes[part.labels],
        "predicted": classes[part.logits.argmax(axis=1)] if usable else nothing,
        **{f"p:{name}": chances[:, k] for k, name in enumerate(run.classes)},
    }


def _run_columns(run: Run) -> dict[str, Any]:
    return {
        "results_name": run.record.results_name,
        "split_label": run.record.split_label,
        "method": run.method,
        "seed": run.seed,
        "id": run.id[:8],
        "directory": str(run.directory),
    }


def _table_columns(table: ResultTable, settings: Iterable[str]) -> dict[str, Any]:
    return {
        "results_name": table.setting["results_name"],
        "split_label": table.setting["split_label"],
        **{name: table.setting.get(name) for name in settings},
        "partial": table.partial is not None,
        "synthetic": table.synthetic,
        "part": table.part,
        "scored": table.sample.counted,
        "dropped": table.dropped,
        **_calibration_columns(table),
    }


def _calibration_columns(table: ResultTable) -> dict[str, Any]:
    """Of a table whose runs are calibrated; there are no such columns if none is."""
    if table.calibration is None:
        return {}
    return {"calibration": table.calibration.method, "prior": table.calibration.prior_text}


def _lines(table: ResultTable) -> Iterator[dict[str, Any]]:
    yield from _own_lines(table)
    for subgroups in table.subgroups:
        for part in subgroups.parts:
            for line in _own_lines(part.table):
                what = {"by": subgroups.by, "subgroup": part.name}
                yield {**line, "kind": "subgroup", **what}


def _own_lines(table: ResultTable) -> Iterator[dict[str, Any]]:
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
    if table.stability is not None:
        for spread in table.stability.rows:
            yield {
                "kind": "stability",
                "label": spread.label,
                "metric": table.primary,
                "rank": spread.rank,
                "rank_median": spread.median,
                "rank_low": spread.low,
                "rank_high": spread.high,
                "first": spread.shares[0],
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
        **_temperatures(table, row),
        f"n_{table.sample.counted}s": cell.n,
        "best": cell.best,
        "second": cell.second,
        "reason": cell.reason,
    }


def _temperatures(table: ResultTable, row: MethodResult) -> dict[str, str]:
    """By seed, with / between those of folds."""
    if table.calibration is None or not table.calibration.temperature:
        return {}
    of_seeds = ["/".join(f"{fit.temperature:.4g}" for fit in folds) for folds in row.fits]
    return {"temperatures": " ".join(of_seeds)}


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
