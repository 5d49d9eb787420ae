"""Runs that go: which are meant, what started from them, and away with them as one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, temporary_path
from lmdbench.core.folders import expanded
from lmdbench.housekeeping.inventory import KeptRun, disk_usage

EXAMPLES = 3


def named(runs: Sequence[KeptRun], references: Iterable[str]) -> list[KeptRun]:
    """The runs that are called so: by directory, its name, or 8 digits or more of the id.

    Raises UserError for what is none of these, or is of several runs.
    """
    found: dict[str, KeptRun] = {}
    for reference in references:
        run = _named(runs, reference)
        found[run.key] = run
    return list(found.values())


def _named(runs: Sequence[KeptRun], reference: str) -> KeptRun:
    path = expanded(reference)
    place = path.resolve() if path.is_dir() else None
    fitting = [run for run in runs if place is not None and run.directory.resolve() == place]
    fitting = fitting or [run for run in runs if reference in (run.key, run.name)]
    if not fitting and re.fullmatch(r"[0-9a-f]{8,64}", reference):
        fitting = [run for run in runs if run.id.startswith(reference)]
    if not fitting:
        raise UserError(
            f"{reference}: no run that is here; give its directory, or 8 digits or more of its id, "
            "as `lmdbench results list` shows them"
        )
    if len(fitting) > 1:
        some = ", ".join(str(run.directory) for run in fitting[:EXAMPLES])
        raise UserError(f"{reference}: {len(fitting)} runs are called so ({some}); say which")
    return fitting[0]


def started_from(runs: Sequence[KeptRun], gone: Iterable[KeptRun]) -> list[KeptRun]:
    """The runs that stay, but started from one that goes."""
    going = {run.key for run in gone}
    return [
        run
        for run in runs
        if run.key not in going and run.above is not None and run.above.key in going
    ]


def remove(directory: Path) -> int | None:
    """Remove a run's directory. Returns the bytes of it; None where a worker has it.

    From one moment to the next it is no run any more: it gets a temporary name before anything in
    it goes. What a kill leaves under that name is a leftover. Raises UserError where it can't be
    removed.
    """
    size, aside = disk_usage(directory), temporary_path(directory)
    claim = Claim(directory / "running.json")
    if (claim.holder() or {}).get("alive") or not claim.acquire():
        return None
    try:
        with disk_errors(directory.parent):
            directory.rename(aside)
    finally:
        claim.release()
    with disk_errors(directory.parent):
        (aside / "running.json").unlink(missing_ok=True)  # the claim moved along
        delete(aside)
    return size


def delete(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link to either."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
