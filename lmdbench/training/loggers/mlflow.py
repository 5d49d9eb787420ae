"""MLflow: a store of files beside the results, unless another is named."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmdbench.training.loggers import Logger, Rows, Scores, register_logger

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "mlruns"  # in the results folder
ARTIFACTS = ("run.json", "history.csv")
LONGEST = 500  # letters of a parameter that every version takes

# What MLflow is told where the user does not say otherwise: a store of files is wanted, nothing is
# said to its makers, and a server that is away costs seconds and not the quarter of an hour.
DEFAULTS = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


@register_logger(
    "mlflow", title="MLflow, into files beside the results", needs="mlflow", extra="tracking"
)
class MLflow(Logger):
    """Each attempt is a run of the experiment of its data set, with all epochs so far, and at the
    end the scores, ``run.json`` and ``history.csv``: no images, predictions or weights.

    They lie in ``mlruns/`` of the results folder, or where ``MLFLOW_TRACKING_URI`` says.
    """

    def __init__(self) -> None:
        self._told = 0  # rows of the history

    def begin(
        self, record: Mapping[str, Any], settings: Mapping[str, Any], directory: Path
    ) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        store = directory.resolve().parents[3] / FOLDER
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or store.as_uri())
        self._directory = directory
        spec = record["spec"]
        run = self._client.create_run(
            _experiment(self._client, record["results_name"]),
            run_name=f"{spec['method']} seed {spec['seed']}",
            tags={
                "run": record["id"],
                "attempt": str(record.get("attempts") or 1),
                "directory": str(directory),
            },
        )
        self._id = run.info.run_id
        facts = {**spec, "split": record["split_label"], "settings": settings}
        for name, value in _flat(facts):
            self._client.log_param(self._id, name, str(value)[:LONGEST])

    def epoch(self, history: Rows) -> None:
        from mlflow.entities import Metric

        left = history[self._told :]
        now = time.time()
        metrics = []
        for number, row in enumerate(left, start=1):
            ended = int(1000 * (now - sum(later["seconds"] for later in left[number:])))
            metrics += [
                Metric(name, value, ended, int(row["epoch"]))
                for name, value in row.items()
                if name != "epoch" and math.isfinite(value)
            ]
        self._client.log_batch(self._id, metrics=metrics)
        self._told = len(history)

    def end(self, scores: Scores | None) -> None:
        if scores is None:
            self._client.set_terminated(self._id, "KILLED")
            return
        for part, values in scores.items():
            for metric, value in values.items():
                if value is not None:
                    self._client.log_metric(self._id, f"{part}/{metric}", value)
        for name in ARTIFACTS:
            if (self._directory / name).exists():  # without epochs there is no history
                self._client.log_artifact(self._id, str(self._directory / name))
        self._client.set_terminated(self._id, "FINISHED")

    def fail(self, reason: str) -> None:
        self._client.set_tag(self._id, "failed", reason)
        self._client.set_terminated(self._id, "FAILED")


def _experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment of that name. Where several workers make it at once, all take the
    first one."""
    wanted = f"name = '{name}'"
    if not client.search_experiments(filter_string=wanted):
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):  # another one was quicker
            client.create_experiment(name)
    found = client.search_experiments(filter_string=wanted)
    return str(min(found, key=lambda one: (one.creation_time, one.experiment_id)).experiment_id)


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Names with points between their parts, and values that are no mappings."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
