"""All runs of one row of a table: its seeds, in all folds."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from lmdbench.comparison.compare import nothing, select_runs
from lmdbench.comparison.folds import pool_folds
from lmdbench.comparison.results import Results, RunGroup, run_groups
from lmdbench.core.errors import UserError
from lmdbench.core.words import some

MOST_ROWS = 5  # that an error names


def runs_of_row(
    results: Results,
    dataset: str | None,
    method: str | None,
    split: str | None,
    keys: Collection[str] | None,
) -> list[Path]:
    """The directories of the runs of the only row that is chosen; None: any. ``keys``: directories
    below the results, of a sweep.

    Raises UserError where no run is chosen, or more than one row.
    """
    if not results.runs:
        raise UserError(nothing(results))
    names = [[] if name is None else [name] for name in (dataset, method, split)]
    chosen = select_runs(results, *names)
    if keys is not None:
        folders = {results.folder / key for key in keys}
        chosen = [run for run in chosen if run.directory in folders]
        if not chosen:
            raise UserError("no run of this sweep is finished (and chosen); see its status")
    rows = [
        (f"{row.label} on {_title(group)}", row)
        for group in pool_folds(run_groups(results, chosen))
        for row in group.rows
    ]
    if len(rows) > 1:
        raise UserError(
            f"these are {len(rows)} rows of tables, and one row answers: "
            f"{some([title for title, _ in rows], MOST_ROWS)}; choose by --dataset, --method, "
            "--run-split and --sweep, or name the runs themselves before a --"
        )
    return [member.directory for run in rows[0][1].runs for member in run.members]


def _title(group: RunGroup) -> str:
    """Data set and split, with what tells a table from others of these."""
    words = (f"{group.record.results_name} {group.record.split_label}", *group.differs)
    return ", ".join(words)
