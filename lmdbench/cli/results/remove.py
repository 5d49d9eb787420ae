"""``lmdbench results remove``: whole runs, after a look at what goes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.options import results_option
from lmdbench.cli.results.columns import terminal_width
from lmdbench.cli.results.common import count_of, filter_options, kept_runs
from lmdbench.cli.results.list_runs import run_lines
from lmdbench.core.errors import UserError
from lmdbench.core.words import size as size_text

if TYPE_CHECKING:
    from lmdbench.housekeeping.inventory import Filters, KeptRun


@click.command()
@click.argument("references", metavar="[RUN]...", nargs=-1)
@filter_options
@click.option("--yes", is_flag=True, help="Don't ask.")
@results_option
def remove(references: tuple[str, ...], filters: Filters, yes: bool, results: Path) -> None:
    """Remove runs: by directory or id (8 digits or more of it), or all that the options choose.

    First it shows what goes, how much room that makes, and which runs started from it. Then it
    asks; where there is no terminal to ask on, nothing is removed without --yes. A run that is
    being trained stays.

    \b
    lmdbench results remove 1a2b3c4d
    lmdbench results remove --method lmd --set rounds=2 --yes
    """
    from lmdbench.housekeeping import removal
    from lmdbench.housekeeping.inventory import choose

    if bool(references) == filters.chooses:
        raise UserError(
            "say which runs: by directory or id, or else by options such as --method and --failed"
        )
    there = kept_runs(results)
    chosen = removal.named(there, references) if references else choose(there, filters)
    going = [run for run in chosen if run.state != "running"]
    for run in chosen:
        if run.state == "running":
            click.echo(f"stays, as it is being trained: {run.directory}", err=True)
    if not going:
        raise UserError("nothing was removed: what was chosen is being trained")
    for line in run_lines(going, terminal_width(), remark=filters.other_code):
        click.echo(line)
    click.echo(f"{count_of(going)} to remove: {size_text(sum(run.size for run in going))}")
    left = removal.started_from(there, going)
    for becomes in dict.fromkeys(map(_what_becomes, left)):
        those = [run for run in left if _what_becomes(run) == becomes]
        click.echo(f"{count_of(those)} started from what goes; {becomes}:")
        for run in those:
            click.echo(f"  {run.key}")
    if not yes:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UserError("nothing was removed: there is no terminal to ask on; --yes removes")
        if not click.confirm("Remove them for good?"):
            raise UserError("nothing was removed")
    freed, removed = 0, 0
    for run in going:
        size = removal.remove(run.directory)
        if size is None:
            click.echo(f"stays, as it is being trained by now: {run.directory}", err=True)
        else:
            freed, removed = freed + size, removed + 1
    click.echo(f"removed {removed:,} of {count_of(going)}: {size_text(freed)} freed")


def _what_becomes(run: KeptRun) -> str:
    """What the removal means for a run that started from one that goes."""
    if run.state == "finished":
        return "usable as before, but in a row of its own, since its start can't be looked up"
    if run.state == "running":
        return "being trained, and that goes on"
    return "not finished, and to go on that must be trained again"
