"""A run that was made elsewhere, into its directory: at once and whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lmdbench.core.files import sha256_of, write_text
from lmdbench.runs.record import RunRecord
from lmdbench.runs.whole import PREDICTIONS
from lmdbench.sharing.archive import new_folder


def place_run(directory: Path, record: RunRecord, fill: Callable[[Path], None]) -> None:
    """Make the directory of a finished run. ``fill`` writes its files, other than ``run.json``.

    Its ``done`` has the time at which the record says that it finished. Raises UserError where
    something is there by then, and for a full disk.
    """
    with new_folder(directory) as folder:
        fill(folder)
        predictions = {"predictions": sha256_of(folder / PREDICTIONS)}
        replace(record, digests={**record.digests, **predictions}).write(folder)
        finished = record.finished or now()
        write_text(folder / "done", f"{finished}\n")
        # No date, or a mount that lets nobody set times: it stays as of now.
        with suppress(ValueError, OverflowError, OSError):
            when = datetime.fromisoformat(finished).timestamp()
            os.utime(folder / "done", (when, when))


def now() -> str:
    """The time as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
