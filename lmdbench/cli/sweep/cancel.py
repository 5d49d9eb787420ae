"""``lmdbench sweep cancel``: stop what is running and forget what is queued."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.sweep_common import counts, load_plan, note, place, runs, sweep_options
from lmdbench.core.errors import RunFailed

if TYPE_CHECKING:
    from lmdbench.sweep.status import Overview


@click.command()
@sweep_options
def cancel(source: str, results: Path, data_root: Path | None) -> None:
    """Stop the jobs and workers of a sweep. Nothing finished is lost: every run keeps its epochs.

    \b
    lmdbench sweep cancel my-sweep.toml
    """
    planned = load_plan(source, results, data_root)

    from lmdbench.sweep.cancel import cancel as stop
    from lmdbench.sweep.launch import launching
    from lmdbench.sweep.launch_record import SWEEPS
    from lmdbench.sweep.status import look

    stopped = left = 0
    if (planned.results / SWEEPS).is_dir():
        with launching(planned.results, note):
            stopped, left = stop(planned, note)
    overview = look(planned)
    if not (stopped or left):
        note(f"{planned.sweep.name}: {_nothing_stopped(overview)}")
    click.echo(f"{planned.sweep.name}: {counts(overview)}")
    if left:
        raise RunFailed(f"{planned.sweep.name}: not all of it could be stopped")


def _nothing_stopped(overview: Overview) -> str:
    """Why there was nothing to stop, though runs may be at work."""
    busy = overview.keys("running", "stalled")
    if not busy:
        return "nothing of it is under way"
    first = overview.runs[busy[0]]
    return (
        f"no job and no launch of it is under way; {runs(len(busy))} at work otherwise, such as "
        f"{first.node.title} ({place(first)}), must be ended there"
    )
