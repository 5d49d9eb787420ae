"""Whether the files of a run that says it is finished are what was written there."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from lmdbench.core.errors import Damaged, DiskError, UserError
from lmdbench.core.files import NO_FILE, read_file, sha256_of, unreadable, write_text
from lmdbench.evaluation.predictions import Predictions, load_predictions, save_predictions
from lmdbench.runs.record import RunRecord, read_record

DONE = "done"
RECORD = "run.json"
PREDICTIONS = "predictions.npz"
HISTORY = "history.csv"
OF_REFIT = "validation-before-refit.npz"  # what the run that a refit repeats said
REFIT = "validation_before_refit"  # what its SHA-256 is called in the record
MODEL = "model.safetensors"
HEADS = "heads.safetensors"  # in its place, where that is all that was kept
SUSPECTED = "damaged.txt"  # what a reader found damaged; all files are then read before it is told
HEADER_BYTES = 8  # of a safetensors file: how long its header is
LONGEST_HEADER = 100_000_000

Look = tuple[str, int, int, int, bool]  # path, bytes and times of a file, whether it is suspected
_looked: dict[Look, str] = {}  # what this process found; a file that changes is looked at again
_verified: set[Look] = set()  # weights that this process held against their digest


def damage(directory: Path) -> str:
    """Why a run that has ``done`` and ``run.json`` can't be believed to be finished, in one line
    that names the file; empty if it can.

    Of a file that was not written since the run was done, only its place is looked at. What was
    written later is read: the record, all predictions, of the weights their form. Where a reader
    left word (``suspect``) everything is, and the weights are held against their SHA-256. Raises
    OSError and DiskError where the disk won't tell.
    """
    done = directory / DONE
    finished = done.stat()
    if not stat.S_ISREG(finished.st_mode):
        return f"{done}: damaged, no file"
    suspected = (directory / SUSPECTED).exists()
    for name, problem_of in CHECKS.items():
        path = directory / name
        try:
            found = path.stat()
        except FileNotFoundError:
            if name in WEIGHTS:  # imported, pruned, or not kept
                continue
            return f"{path}: no such file"
        except OSError as error:
            if error.errno in NO_FILE:
                return f"{path}: damaged, no file ({error.strerror})"
            raise unreadable(path, error) from error
        if not stat.S_ISREG(found.st_mode):
            return f"{path}: damaged, no file"
        if not found.st_size:
            return f"{path}: damaged, it is empty"
        if suspected or found.st_mtime_ns > finished.st_mtime_ns:
            look = _look(path, found, suspected)
            if look not in _looked:
                _looked[look] = _said(problem_of, path, suspected)
            if why := _looked[look]:
                return why
    return ""


def suspect(directory: Path, why: object) -> None:
    """Leave word beside a finished run that one of its files is damaged, for who looks next. It is
    no verdict: they look themselves. Where nothing can be written it is not left."""
    if (directory / DONE).is_file():
        with suppress(OSError, UserError):
            write_text(directory / SUSPECTED, f"{why}\n")


def spoilt(directory: Path) -> str:
    """Why what is in a run's directory can neither be used nor gone on with; empty if it can. For
    who holds its claim. Raises OSError and DiskError."""
    if (directory / DONE).exists():
        gone = f"{directory / RECORD}: no such file, though the run was done"
        return damage(directory) if (directory / RECORD).exists() else gone
    path = directory / RECORD
    return _said(_record_problem, path, False) if path.exists() else ""


def counted(predictions: Predictions, record: RunRecord, part: str) -> str:
    """What is wrong with the numbers of a part's images and classes; empty if nothing is."""
    classes = len(record.classes)
    if predictions.logits.shape[1] != classes:
        return f"has {predictions.logits.shape[1]} logits an image for {classes} classes"
    counts = np.bincount(predictions.labels, minlength=classes)
    if counts.tolist() != record.class_counts.get(part):
        return f"its {part} labels are not those that run.json counts"
    return ""


def saved_predictions(
    directory: Path, record: RunRecord, parts: Sequence[str] | None = None
) -> dict[str, Predictions]:
    """The named parts of a finished run's predictions, or all of them, held against the SHA-256 in
    its record, where that has one.

    Raises Damaged where they are not those that the run saved, which leaves word of it, and
    DiskError.
    """
    sha256 = record.digests.get("predictions")
    try:
        return load_predictions(directory / PREDICTIONS, parts, sha256)
    except Damaged as error:
        suspect(directory, error)
        raise


def keep_validation(source: Path, directory: Path) -> str:
    """Keep beside a refit what the run that it repeats said of its validation images; returns the
    SHA-256. Raises UserError as ``saved_predictions`` does."""
    parts = saved_predictions(source, read_record(source), ["validation"])
    save_predictions(directory / OF_REFIT, parts)
    return sha256_of(directory / OF_REFIT)


def validation_predictions(directory: Path, record: RunRecord) -> Predictions:
    """What a run said of its validation images; of a refit, which has none, what the run said that
    it repeats. Raises as ``saved_predictions`` does."""
    if record.spec.refit is None:
        return saved_predictions(directory, record, ["validation"])["validation"]
    path, sha256 = directory / OF_REFIT, record.digests.get(REFIT)
    try:
        return load_predictions(path, ["validation"], sha256)["validation"]
    except Damaged as error:
        suspect(directory, error)
        raise


def read_weights(path: Path, record: RunRecord, way: str) -> bytes:
    """The content of a run's weights, held against the SHA-256 in its record, where that has one:
    once a process, unless the file changes.

    Raises Damaged where they are not those that the run saved, which leaves word of it (``way``:
    what to do), and DiskError.
    """
    look, content = read_file(path, _content)
    if look not in _verified:
        if why := _other_weights(path, hashlib.sha256(content).hexdigest(), record):
            suspect(path.parent, why)
            raise Damaged(f"{why}; {way}")
        _verified.add(look)
    return content


def _content(path: Path) -> tuple[Look, bytes]:
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        return _look(path, found, True), file.read()


def _look(path: Path, found: os.stat_result, suspected: bool) -> Look:
    return str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns, suspected


def _other_weights(path: Path, sha256: str, record: RunRecord) -> str:
    if record.digests.get(WEIGHTS[path.name]) in (None, sha256):
        return ""
    return f"{path}: damaged, its SHA-256 is not the one in run.json"


def _said(problem_of: Callable[[Path, bool], str], path: Path, suspected: bool) -> str:
    try:
        return problem_of(path, suspected)
    except Damaged as error:
        return str(error).partition("; ")[0]


def _record(directory: Path) -> RunRecord | None:
    """None for one of another version, which is not damaged for that. Raises Damaged."""
    try:
        return read_record(directory)
    except (Damaged, DiskError):
        raise
    except UserError:
        return None


def _record_problem(path: Path, _: bool) -> str:
    _record(path.parent)
    return ""


def _predictions_problem(path: Path, _: bool) -> str:
    record = _record(path.parent)
    if record is None:
        load_predictions(path)
        return ""
    parts = load_predictions(path, sha256=record.digests.get("predictions"))
    imported = record.imported.predictions
    for part in imported["parts"] if imported else ("validation", "test"):
        if part not in parts:
            return f"{path}: damaged, has no {part} predictions"
        if why := counted(parts[part], record, part):
            return f"{path}: damaged, {why}"
    return ""


def _weights_problem(path: Path, suspected: bool) -> str:
    if not read_file(path, _has_form):
        return f"{path}: damaged, not as long as its header says, or without one"
    record = _record(path.parent) if suspected else None
    return _other_weights(path, sha256_of(path), record) if record is not None else ""


def _has_form(path: Path) -> bool:
    """Whether a file is as long as the header of a safetensors file says."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(HEADER_BYTES), "little")
        if not 0 < length < LONGEST_HEADER:
            return False
        try:
            header = json.loads(file.read(length))
            ends = [one["data_offsets"][1] for k, one in header.items() if k != "__metadata__"]
            return HEADER_BYTES + length + max(ends, default=0) == path.stat().st_size
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return False


WEIGHTS = {MODEL: "model", HEADS: "heads"}  # file → what its SHA-256 is called in the record
CHECKS = {
    RECORD: _record_problem,
    PREDICTIONS: _predictions_problem,
    **dict.fromkeys(WEIGHTS, _weights_problem),
}
