"""What of a run and of an audit goes to others, and what stays at home."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from lmdbench.data.check.audit import FACTS, LISTS
from lmdbench.runs.record import RunRecord

FORMAT = 1  # of the archive
NEEDED_FILES = ("run.json", "predictions.npz")
RUN_FILES = (*NEEDED_FILES, "history.csv")
AUDIT_FILES = (FACTS, *LISTS.values())
README = "README.md"
LEFT_OUT = (
    "weights, checkpoints, logs, pictures of an audit, and of run.json what names folders of this "
    "machine"
)


def ancestor_key(record: RunRecord) -> str:
    """The directory below the results of the run that a run started from; empty where that is not
    under its usual name."""
    ancestor = record.ancestor
    if ancestor is None:
        return ""
    folder = Path(ancestor.directory).name
    if not re.fullmatch(rf"seed\d+-{re.escape(ancestor.id[:8])}", folder):
        return ""
    return f"{record.results_name}/{record.split_label}/{ancestor.method}/{folder}"


def shared_record(record: RunRecord) -> RunRecord:
    """A record as others get it.

    The ancestor's directory is the one below the results. Where the run came from another archive
    is not told; that its predictions were imported is. What a newer version wrote beside may tell
    of a machine or of people.
    """
    ancestor = record.ancestor and replace(record.ancestor, directory=ancestor_key(record))
    imported = replace(record.imported, archive=None)
    return replace(record, ancestor=ancestor, imported=imported, others={})
