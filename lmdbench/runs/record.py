"""``run.json``: the record that every run directory holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_json

FORMAT = 1  # of the run directory
MOVED_ASIDE = ".old-"  # in the name of a directory that --force moved out of the way
NEEDED = ("id", "spec", "results_name", "split_label", "classes", "class_counts", "groups")
NEEDED_IN_SPEC = (
    *("method", "method_version", "settings", "selection", "ancestor", "dataset", "split", "seed"),
    *("results_name", "backbone", "weights", "image_size", "precision"),
)

# The parts of the code behind a run's numbers, in the order of its ``digests``
CODE_PARTS = ("method", "loop", "views", "backbone")
BEGUN = "begun"  # beside them: of all code that began a run which other code went on with


def code_of_record(record: Mapping[str, Any]) -> dict[str, str]:
    """The digests of the code that a run was made by, and of that which began it where it was
    another; parts that nobody recorded are left out."""
    digests = record.get("digests") or {}
    return {part: digests[part] for part in (*CODE_PARTS, BEGUN) if digests.get(part)}


def spec_id(spec: Mapping[str, Any]) -> str:
    """A run's id: SHA-256 of its specification in canonical JSON, 64 hexadecimal digits."""
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_record(directory: Path) -> dict[str, Any]:
    """``run.json`` of a run directory.

    Raises UserError, naming the file, if it is absent, damaged or of another format.
    """
    path = directory / "run.json"
    if not path.exists():
        raise UserError(f"{path}: no such file; move {directory.name} away or run it again")
    record = read_json(path)
    if not isinstance(record, dict):
        raise UserError(f"{path}: damaged, no JSON object; move {directory.name} away")
    if record.get("format") != FORMAT:
        raise UserError(
            f"{path} was written by another version of lmdbench (format {record.get('format')!a}; "
            f"this one reads {FORMAT}): use that version, or another --results folder"
        )
    for key in NEEDED:
        if key not in record:
            raise UserError(f"{path}: lacks {key!r}; move {directory.name} away or run it again")
    if not isinstance(record["spec"], dict) or not isinstance(record.get("digests", {}), dict):
        raise UserError(f"{path}: damaged; move {directory.name} away or run it again")
    for key in NEEDED_IN_SPEC:
        if key not in record["spec"]:
            raise UserError(f"{path}: spec lacks {key!r}; move {directory.name} away")
    return record
