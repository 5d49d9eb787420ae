"""What of a run and of an audit goes to others, and what stays at home."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmdbench.data.check.audit import FACTS, LISTS

FORMAT = 1  # of the archive
NEEDED_FILES = ("run.json", "predictions.npz")
RUN_FILES = (*NEEDED_FILES, "history.csv")
AUDIT_FILES = (FACTS, *LISTS.values())
README = "README.md"
LEFT_OUT = (
    "weights, checkpoints, logs, pictures of an audit, and of run.json what names folders of this "
    "machine"
)

# The keys of run.json that go along: what a table is made of, and how a run came about. Any other
# may tell of a machine or of people.
SHARED = (
    *("format", "id", "spec", "results_name", "split_label", "classes", "class_counts", "groups"),
    *("group_rule", "split_notes", "partial", "synthetic", "changed_settings", "digests"),
    *("versions", "git_commit", "device", "threads", "started", "attempts", "finished", "seconds"),
    *("peak_memory_mib", "precision_used", "epochs", "selected_epoch"),
)


def run_key(record: Mapping[str, Any]) -> str:
    """The directory of a run below the results, from its record."""
    spec = record["spec"]
    folder = f"seed{spec['seed']}-{record['id'][:8]}"
    return f"{record['results_name']}/{record['split_label']}/{spec['method']}/{folder}"


def ancestor_key(record: Mapping[str, Any]) -> str:
    """The same of the run it started from; empty where that is not under its usual name."""
    ancestor = record["ancestor"]
    folder = Path(ancestor["directory"]).name
    if not re.fullmatch(rf"seed\d+-{re.escape(ancestor['id'][:8])}", folder):
        return ""
    return f"{record['results_name']}/{record['split_label']}/{ancestor['method']}/{folder}"


def shared_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """``run.json`` as others get it.

    The ancestor's directory is the one below the results. Where the run came from another archive
    is not told; that its predictions were imported is.
    """
    shared = {key: record[key] for key in SHARED if key in record}
    ancestor = record.get("ancestor")
    shared["ancestor"] = ancestor and {
        "method": ancestor["method"],
        "id": ancestor["id"],
        "directory": ancestor_key(record),
        "usual": ancestor.get("usual"),
    }
    predictions = (record.get("imported") or {}).get("predictions")
    if predictions:
        shared["imported"] = {"predictions": predictions}
    return shared
