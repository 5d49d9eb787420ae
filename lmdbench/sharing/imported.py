"""Predictions of other code as a finished run: its record and its directory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes
from lmdbench.evaluation.predictions import Predictions, load_predictions, save_predictions
from lmdbench.runs.record import Imported, RunRecord
from lmdbench.sharing.check import same_predictions
from lmdbench.sharing.place import now, place_run
from lmdbench.sharing.setting import SharedContext
from lmdbench.sharing.table import TablePredictions


def predictions_record(
    setting: SharedContext,
    name: str,
    seed: int,
    settings: Mapping[str, Any],
    files: Sequence[Path],
    read: TablePredictions,
    stated: Collection[str],
) -> RunRecord:
    """The record of predictions that came from CSV files. ``stated``: which parts of the
    specification were said of them; what a table asks for beside these is taken as usual."""
    source = {
        "from": " and ".join(path.name for path in files),
        "sha256": " and ".join(hashlib.sha256(read_bytes(path)).hexdigest() for path in files),
        "date": now(),
        "values": read.values,
        "zeros": read.zeros,
        "parts": sorted(read.parts),
        "stated": sorted(stated),
    }
    record = setting.record_of(name, seed, settings)
    return replace(record, finished=now(), imported=Imported(predictions=source))


def place_predictions(directory: Path, record: RunRecord, parts: Mapping[str, Predictions]) -> bool:
    """Make a finished run of predictions. Returns False where the same are there already.

    Raises UserError where a run of the same name, seed and settings has others.
    """
    if os.path.lexists(directory):
        if (directory / "done").exists() and same_predictions(
            load_predictions(directory / "predictions.npz"), parts
        ):
            return False
        raise UserError(
            f"{directory} is there already, with other predictions: give another --seed, --name "
            "or --set, or move it away"
        )
    place_run(directory, record, lambda to: save_predictions(to / "predictions.npz", parts))
    return True
