"""What may go while its runs stay, and runs that nobody needs: weights, leftovers, short runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lmdbench.core.claim import Claim, lives
from lmdbench.core.errors import DiskError
from lmdbench.core.files import HOST, TEMPORARY, disk_errors, write_text
from lmdbench.housekeeping.inventory import KeptRun, disk_usage, seed_of
from lmdbench.housekeeping.removal import delete, remove
from lmdbench.runs.record import MOVED_ASIDE
from lmdbench.runs.state import LENGTHS, PRUNED, run_state

CHECKPOINTS = ("checkpoint.pt", "history.csv.damaged-")  # also those that were moved aside
FOREIGN_AFTER_SECONDS = 86_400.0  # without a change, another machine's temporary file is a leftover


@dataclass(frozen=True)
class Prunable:
    """A file or folder that may go. ``run``: all of it goes, or its weights."""

    path: Path
    size: int
    run: KeptRun | None = None


def weights(
    runs: Sequence[KeptRun], chosen: Sequence[KeptRun], kept_for: Mapping[str, str]
) -> tuple[list[Prunable], dict[str, str]]:
    """The weights of finished runs among the chosen, but of those that others will start from.

    ``kept_for``: keys of runs whose weights stay, with the reason. Returns the latter for all that
    stay: key → why.
    """
    why = dict(kept_for)
    for run in runs:
        if run.state != "finished" and run.above is not None:
            why.setdefault(run.above.key, f"{run.key}, which is not finished, starts from it")
        elif run.shares_encoder and run.above is not None:
            why.setdefault(run.above.key, f"{run.key} kept its heads alone and shares its encoder")
    having = [run for run in chosen if run.state == "finished" and run.has_weights]
    found = [
        Prunable(path, path.stat().st_size, run)
        for run in having
        if run.key not in why
        for path in [run.directory / "model.safetensors"]
    ]
    return found, {run.key: why[run.key] for run in having if run.key in why}


def may_start_from(runs: Sequence[KeptRun], pending: Mapping[str, str]) -> dict[str, str]:
    """Keys of runs that others, which are to come, may start from, with the reason.

    ``pending``: keys of runs that were launched, with who launched them. What they start from is
    not written down: any run of that data set, split and seed counts, unless runs of their method
    are known to start from nothing.
    """
    alone = {run.method for run in runs if run.run is not None and not run.ancestor}
    alone -= {run.method for run in runs if run.ancestor}
    finished = {run.key for run in runs if run.state == "finished"}
    reasons: dict[tuple[str, int], str] = {}
    for key, launched in pending.items():
        folder, method, name = key.rsplit("/", 2)
        if key not in finished and method not in alone:
            why = f"{launched} has {key} to come, which may start from it"
            reasons.setdefault((folder, seed_of(name)), why)
    return {
        run.key: reasons[place]
        for run in runs
        if (place := (f"{run.data_set}/{run.split}", run.seed)) in reasons
    }


def moved_aside(
    aside: Sequence[KeptRun], runs: Sequence[KeptRun]
) -> tuple[list[Prunable], dict[str, str]]:
    """Directories that --force moved out of the way, where what took their place is finished; and
    the others, key → why they stay."""
    states = {run.key: run.state for run in runs}
    gone, kept = [], {}
    for run in aside:
        if states.get(run.key.partition(MOVED_ASIDE)[0]) == "finished":
            gone.append(Prunable(run.directory, run.size, run))
        else:
            kept[run.key] = "what was to take its place is not finished"
    return gone, kept


def short(chosen: Sequence[KeptRun], most: int) -> list[Prunable]:
    """Runs of at most so many epochs or rounds because somebody set them so, in themselves or in
    what they started from. Those that a worker has stay."""
    return [
        Prunable(run.directory, run.size, run)
        for run in chosen
        if run.state != "running" and _is_short(run, most)
    ]


def _is_short(run: KeptRun, most: int) -> bool:
    changed = run.run.record.changed_settings if run.run is not None else {}
    if any(isinstance(changed.get(name), int) and changed[name] <= most for name in LENGTHS):
        return True
    return run.above is not None and _is_short(run.above, most)


def leftovers(folders: Sequence[Path]) -> list[Prunable]:
    """What processes that ended left below the folders: temporary files and folders, and the
    checkpoints of finished runs."""
    return [Prunable(path, disk_usage(path)) for folder in folders for path in _leftovers(folder)]


def _leftovers(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(place) / name
            with suppress(DiskError):  # a claim that cannot be read may be of one that lives
                if _is_dead(path) or (
                    name.startswith(CHECKPOINTS) and run_state(Path(place)) == "finished"
                ):
                    yield path
        folders[:] = [name for name in folders if not TEMPORARY.match(name)]


def _is_dead(path: Path) -> bool:
    """Whether a temporary file or folder is of a process that ended."""
    named = TEMPORARY.match(path.name)
    if named is None:
        return False
    if (Claim(path.parent / "running.json").holder() or {}).get("alive"):
        return False
    if named["host"] == HOST:
        return not lives(int(named["pid"]))
    try:
        return time.time() - path.lstat().st_mtime > FOREIGN_AFTER_SECONDS
    except OSError:
        return False


def prune(thing: Prunable) -> int:
    """Remove it. Returns the bytes that this freed; 0 where a worker has the run by now.

    Weights leave a file behind that says so, which is written first. Raises UserError where it
    can't be removed.
    """
    if thing.run is not None and thing.path == thing.run.directory:
        return remove(thing.path) or 0
    if thing.run is not None:
        write_text(thing.path.parent / PRUNED, time.strftime("%Y-%m-%d\n"))
    with disk_errors(thing.path.parent):
        delete(thing.path)
    return thing.size
