"""Make sure that a planned run is finished: refuse, wait, move aside, or train it, and first what
it starts from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lmdbench.core.aside import free_name
from lmdbench.core.claim import Claim
from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.files import (
    disk_errors,
)
from lmdbench.core.progress import Progress
from lmdbench.runs.plan import PlannedRun, staleness
from lmdbench.runs.record import MOVED_ASIDE
from lmdbench.runs.state import require_weights, train_anew
from lmdbench.runs.train import Training
from lmdbench.runs.whole import (
    damage,
    spoilt,
    suspect,
)
from lmdbench.runs.workplace import Busy, Workplace, holder_text

WAIT_SECONDS = 2.0  # between two looks at a run that another worker is training


def refuse_stale(runs: Sequence[PlannedRun], place: Workplace) -> None:
    """Raise UserError for the first run that must not be used as it is, or can't be started from,
    before any is trained."""
    asked = {run.directory for run in runs}
    for run in runs:
        for link in run.chain:
            if link.directory not in asked:
                _refuse_damaged(link)
        usable = [
            link
            for link in run.chain
            if not _must_redo(link, place, forced=place.options.force and link is run)
            and link.state == "finished"
        ]
        if usable and usable[-1] is not run:  # the next one starts from it
            _need_weights(usable[-1])


def _refuse_damaged(run: PlannedRun) -> None:
    """Raise UserError for a damaged run that others start from: only who asks for it mends it."""
    if run.state == "damaged":
        way = train_anew(run.spec.method, run.spec.seed)
        raise UserError(f"{run.title} is damaged, {damage(run.directory)}; {way}")


def _need_weights(run: PlannedRun) -> None:
    require_weights(run.directory, run.spec.method, run.spec.seed)


def execute(run: PlannedRun, place: Workplace) -> Path:
    """Make sure that a run, and what it needs to start from, is finished. Returns its directory.

    Raises UserError for a stale run, DiskError for a full disk, RunFailed for a run that breaks,
    Busy for one that another worker has, unless the options say to wait for it.
    """
    _ensure(run, place, forced=place.options.force)
    return run.directory


def lacking(run: PlannedRun, place: Workplace) -> PlannedRun | None:
    """What a run starts from, if that must be trained first. Raises UserError as ``execute``."""
    above = run.ancestor
    if above is None or (run.state == "finished" and not _must_redo(run, place, forced=False)):
        return None
    untrained = above.state != "finished" or _must_redo(above, place, forced=False)
    return above if untrained else None


def _ensure(run: PlannedRun, place: Workplace, *, forced: bool) -> None:
    redo = _must_redo(run, place, forced=forced)
    if run.state == "finished" and not redo:
        return  # what it started from may be gone
    if run.ancestor is not None:
        _refuse_damaged(run.ancestor)
        _ensure(run.ancestor, keeping_all(place), forced=False)
        _need_weights(run.ancestor)
    _train(run, place, redo=redo)


def keeping_all(place: Workplace) -> Workplace:
    """Where a run is trained that another starts from, which needs its weights."""
    return replace(place, options=replace(place.options, keep_weights="all"))


def _must_redo(run: PlannedRun, place: Workplace, *, forced: bool) -> bool:
    """Whether a run must be moved aside and trained anew. Raises UserError where it may not be.

    A damaged run is moved aside by who gets its claim, if it still is damaged then.
    """
    finished, options = run.state == "finished", place.options
    if run.state == "damaged" and not run.given:
        return False
    try:
        stale = staleness(run, place.store.digest)
    except Damaged as error:
        suspect(run.directory, error)
        if run.given or run.state == "finished":  # no word of it could be left
            raise
        return False
    accepted = options.accept_changed and (finished or options.redo == "nothing")
    if stale and not accepted:
        may_redo = options.redoes_changed or (options.redo == "unfinished" and not finished)
        if run.given or not (options.force or may_redo):
            raise UserError(f"{run.directory}: {stale}; {_way_out(run, place, finished)}")
        return True
    if run.given and not finished:
        raise UserError(f"{run.directory} is {run.state}, not finished: nothing can start from it")
    return forced and finished


def _way_out(run: PlannedRun, place: Workplace, finished: bool) -> str:
    force = "--force" if place.options.redo == "nothing" else "--redo-changed"  # of a sweep
    ways = [] if run.given else [f"{force} moves it aside and trains it anew"]
    if finished:
        ways.append("--accept-changed trusts it as it is")
    elif not run.given:
        ways.append("--accept-changed goes on with it by the code as it is now")
    return ", ".join(ways) or "train it by its own command"


def _train(run: PlannedRun, place: Workplace, *, redo: bool) -> None:
    """Train under the run's claim; wait while another worker holds it, or raise Busy."""
    waiting = False
    while redo or run.state != "finished":
        with disk_errors(run.directory.parent):
            run.directory.mkdir(parents=True, exist_ok=True)
        claim = Claim(run.directory / "running.json")
        if (claim.holder() or {}).get("alive") or not claim.acquire():
            busy = f"{run.title}: being trained {holder_text(claim)}"
            if not place.options.wait:
                raise Busy(busy, claim)
            if not waiting:
                place.progress.say(f"{busy}; waiting")
                waiting = True
            time.sleep(WAIT_SECONDS)
            continue
        try:
            if redo and (run.directory / "run.json").exists():
                _move_aside(run.directory, place.progress)
            elif why := spoilt(run.directory):
                place.progress.say(f"{run.title}: {why}")
                _move_aside(run.directory, place.progress)
            elif run.state != "finished":
                Training(run, place, claim).carry_out()
        finally:
            claim.release()
        redo = False


def _move_aside(directory: Path, progress: Progress) -> None:
    aside = free_name(directory, MOVED_ASIDE)
    with disk_errors(directory.parent):
        directory.rename(aside)
    (aside / "running.json").unlink(missing_ok=True)  # the claim moved along
    progress.say(f"moved aside: {aside}")
