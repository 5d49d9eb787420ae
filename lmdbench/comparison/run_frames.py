"""Finished runs as pandas DataFrames, each for itself: nothing is averaged or compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lmdbench.comparison.outcomes import predictions_of
from lmdbench.comparison.results import Run
from lmdbench.evaluation.metrics import Scorer, parse, softmax, summary


def scores_of_runs(runs: Sequence[Run], part: str, metrics: Sequence[str]) -> pd.DataFrame:
    """A row a run: what it is, its metrics (NaN where one has no value), and changed settings."""
    rows = []
    for run in runs:
        predictions = predictions_of(run, part)
        scorer = Scorer(predictions.labels, predictions.logits)
        wanted = [parse(name, run.classes, run.groups) for name in metrics or summary(run.groups)]
        found = {metric.name: scorer.value(metric) for metric in wanted}
        changed = run.record.changed_settings or {}
        rows.append({**_facts(run), **found, **{f"set {k}": v for k, v in changed.items()}})
    frame = pd.DataFrame(rows)
    return frame[sorted(frame.columns, key=lambda name: str(name).startswith("set "))]


def images_of_runs(runs: Sequence[Run], part: str) -> pd.DataFrame:
    """A row an image of each run: ``image``, its ``unit`` (lesion or patient, missing where
    unknown), ``truth`` and ``predicted`` (classes), and ``p:CLASS`` the probability of each."""
    frames = []
    for run in runs:
        predictions = predictions_of(run, part)
        classes = np.array(run.classes, dtype=object)
        units = np.full(len(predictions), None)
        if predictions.units is not None:
            units = np.where(predictions.units == "", units, predictions.units)
        frame = pd.DataFrame(
            {
                **_facts(run),
                "image": predictions.ids.astype(object),
                "unit": units,
                "truth": classes[predictions.labels],
                "predicted": classes[predictions.logits.argmax(axis=1)],
            }
        )
        chances = softmax(predictions.logits)
        for k, name in enumerate(run.classes):
            frame[f"p:{name}"] = chances[:, k]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _facts(run: Run) -> dict[str, Any]:
    return {
        "results_name": run.record.results_name,
        "split_label": run.record.split_label,
        "method": run.method,
        "seed": run.seed,
        "id": run.id[:8],
        "directory": str(run.directory),
    }
