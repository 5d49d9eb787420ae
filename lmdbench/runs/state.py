"""Where a run is and what has become of it, told from directories alone; needs nothing that
trains."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.core.files import read_text, write_text
from lmdbench.core.folders import expanded
from lmdbench.runs.record import AncestorRecord, RunRecord, read_record
from lmdbench.runs.whole import HEADS, damage

LENGTHS = ("epochs", "rounds")  # settings that say how long a run is
PRUNED = "pruned.txt"  # says when the weights of a finished run were removed

# damaged: it says that it is finished, and a file of it can't be what was written, see ``damage``.
State = Literal["missing", "interrupted", "running", "failed", "finished", "damaged"]


def run_state(directory: Path) -> State:
    """What a run directory holds, told by its state files; ``done`` is believed where the files of
    a finished run are whole, as far as ``damage`` looks. Raises OSError and DiskError."""
    has_record = (directory / "run.json").exists()
    if has_record and (directory / "done").exists():
        return _finished_or_damaged(directory)
    if (Claim(directory / "running.json").holder() or {}).get("alive"):
        return "running"
    if (directory / "failed.txt").exists():
        return "failed"
    if has_record and (directory / "done").exists():  # since the first look, its claim given up
        return _finished_or_damaged(directory)
    return "interrupted" if has_record else "missing"


def _finished_or_damaged(directory: Path) -> State:
    try:
        return "damaged" if damage(directory) else "finished"
    except FileNotFoundError:  # moved aside meanwhile
        return "missing"


def mark_failed(directory: Path, text: str) -> bool:
    """Leave ``failed.txt`` for a run that its own worker could not mark, unless it is finished.

    False where somebody else has the run. Raises OSError and DiskError.
    """
    claim = Claim(directory / "running.json")
    if not claim.acquire():
        return False
    try:
        if run_state(directory) != "finished":
            write_text(directory / "failed.txt", text)
    finally:
        claim.release()
    return True


def last_error(directory: Path) -> str:
    """What ``failed.txt`` says went wrong, in its first line; empty where that can't be read."""
    with suppress(OSError, ValueError):
        return read_text(directory / "failed.txt").partition("\n")[0].strip()
    return ""


def train_anew(method: str, seed: int) -> str:
    """What mends a damaged run."""
    return (
        f"lmdbench run --method {method} --seeds {seed} … --force, or of a sweep lmdbench sweep "
        "retry, moves it aside and trains it anew"
    )


def require_weights(directory: Path, method: str, seed: int) -> None:
    """Raises UserError for a finished run without weights: imported, pruned, or not kept; heads do
    where the run whose encoder they share has its weights."""
    if not (directory / "model.safetensors").exists():
        record = read_record(directory)
        if record.kept_weights == "heads" and not (why := _without_encoder(directory, record)):
            return
        if record.kept_weights != "heads":
            why = _without_weights(directory, record)
        raise UserError(
            f"{directory}: {why}; train it here: lmdbench run --method {method} --seeds "
            f"{seed} … --force (moves this one aside)"
        )


def ancestor_directory(directory: Path, ancestor: AncestorRecord) -> Path:
    """Where the run lies that another started from: as recorded, or beside that one, where the
    results were moved since or the path was of another working directory."""
    recorded = Path(ancestor.directory)
    if (recorded / "run.json").exists():
        return recorded
    return directory.parent.parent / recorded.parent.name / recorded.name


def _without_encoder(directory: Path, record: RunRecord) -> str:
    """Why heads can't be made a whole model; empty if they can."""
    kept = "of its weights only the heads were kept (keep_weights)"
    if not (directory / HEADS).exists():
        return f"{kept}, and {HEADS} is gone"
    if record.ancestor is None or not record.digests.get("encoder"):
        return f"{kept}, without the encoder that it trained"
    above = ancestor_directory(directory, record.ancestor)
    if not (above / "model.safetensors").exists():
        return f"{kept}, and {above}, whose encoder it shares, has no weights any more"
    return ""


def _without_weights(directory: Path, record: RunRecord) -> str:
    """Why a run has no weights at all."""
    if record.kept_weights == "none":
        return "its weights were not kept (keep_weights = none)"
    with suppress(OSError, ValueError):
        return f"its weights were pruned on {read_text(directory / PRUNED).strip()}"
    return "finished, but without its weights (model.safetensors), as imported runs are"


def check_model(directory: Path) -> RunRecord:
    """The record of a run that can predict: finished, and with its weights. Raises UserError."""
    record = read_record(directory)
    state = run_state(directory)
    if state == "damaged":
        raise UserError(f"{damage(directory)}; {train_anew(record.spec.method, record.spec.seed)}")
    if state != "finished":
        raise UserError(f"{directory} is {state}, not finished: there is no model to predict with")
    if record.was_imported:
        raise UserError(f"{directory} was imported as predictions alone: it has no model")
    require_weights(directory, record.spec.method, record.spec.seed)
    return record


def find_run(reference: str, results: Path) -> Path:
    """The run directory that a path, or the beginning of a run's id, names.

    Raises UserError where it is neither or the id is not of one run alone.
    """
    if not reference:
        raise UserError("the run's name is empty; give its directory, or 8 digits of its id")
    directory = expanded(reference)
    if (directory / "run.json").is_file():
        return directory
    if directory.exists():
        raise UserError(f"{reference}: no run directory, it has no run.json")
    found = runs_with_id(results, reference)
    if not found:
        raise UserError(
            f"{reference}: neither a run directory nor the id of a run in {results} (8 digits or "
            "more of it, as its folder's name ends); --results says where else to look"
        )
    if len(found) > 1:
        raise UserError(f"{reference}: several runs have this id: {', '.join(map(str, found))}")
    return found[0]


def runs_with_id(results: Path, reference: str) -> list[Path]:
    """The directories of the runs whose id begins so; none for fewer than 8 digits of it."""
    if not re.fullmatch(r"[0-9a-f]{8,64}", reference):
        return []
    return [
        path.parent
        for path in sorted(results.glob(f"*/*/*/seed*-{reference[:8]}/run.json"))
        if read_record(path.parent).id.startswith(reference)
    ]
