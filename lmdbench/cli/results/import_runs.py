"""``lmdbench results import``: runs that someone exported, checked before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.options import results_option
from lmdbench.core.errors import UserError

if TYPE_CHECKING:
    from lmdbench.sharing.importing import CheckedArchive, CheckedEntry

EXAMPLES = 3


@click.command("import")
@click.argument("archive", metavar="FILE.zip|FOLDER", type=click.Path(path_type=Path))
@results_option
@click.option("--dry-run", is_flag=True, help="Check all of it and show what would come in.")
@click.option(
    "--keep-existing",
    is_flag=True,
    help="Where a run is here with other predictions, leave it and import the others.",
)
def import_runs(archive: Path, results: Path, dry_run: bool, keep_existing: bool) -> None:
    """Bring in runs that `lmdbench results export` wrote, here or elsewhere.

    Everything is checked first: hashes, ids against specifications, predictions against records,
    and the images against the runs of the same split that are here. Nothing here is overwritten; a
    run that is here already is left as it is. Imported runs have no weights: they stand in tables,
    but nothing can start from them.
    """
    from lmdbench.comparison.results import Results, read_results
    from lmdbench.sharing.archive import open_archive
    from lmdbench.sharing.importing import carry_out, look

    there = read_results(results) if results.is_dir() else Results(results, (), ())
    with open_archive(archive) as opened:
        looked = look(opened, there)
        in_the_way = [run for run in looked.runs if run.state == "in the way"]
        if in_the_way and not keep_existing:
            some = "; ".join(f"{f.entry.key}: {f.reason}" for f in in_the_way[:EXAMPLES])
            raise UserError(
                f"{archive}: {len(in_the_way)} of {len(looked.runs)} runs can't come in ({some}); "
                "nothing was imported: move those here away, or leave them with --keep-existing"
            )
        if not dry_run:
            carry_out(opened, looked, results)
    for found in (*looked.runs, *looked.audits, *(found for found, _ in looked.sweeps)):
        click.echo(f"{found.entry.key}  {_in_words(found, dry_run)}")
    if looked.ignored:
        some = ", ".join(looked.ignored[:EXAMPLES])
        click.echo(f"ignored {len(looked.ignored)} files not in its manifest: {some}", err=True)
    new = sum(run.state == "new" for run in looked.runs)
    here = sum(run.state == "already there" for run in looked.runs)
    kept = f", {len(in_the_way)} left as they are here" if in_the_way else ""
    verb = "to import" if dry_run else "imported"
    click.echo(f"{new} runs {verb}, {here} already there{kept}: {results}", err=True)
    if not dry_run:
        _say_what_next(looked, results)


def _say_what_next(looked: CheckedArchive, results: Path) -> None:
    """The command that gives each sweep's table, and which plug-ins came along."""
    from lmdbench.sharing.sweeps import PLUGIN, compare_command

    for found, sweep in looked.sweeps:
        command = compare_command(str(results), found.entry.key, sweep.reference)
        click.echo(f"table of {sweep.name}: {command}", err=True)
    entries = [found.entry for found in (*looked.runs, *(found for found, _ in looked.sweeps))]
    source = [
        f"{results}/{entry.key}/{name}"
        for entry in entries
        for name in entry.files
        if PLUGIN.fullmatch(name)
    ]
    if source:
        more = f" and {len(source) - 1} more" if len(source) > 1 else ""
        click.echo(
            f"source of plug-ins: {source[-1]}{more}: only kept, not executed; to train by one, "
            "look at it, then name it by --plugin",
            err=True,
        )


def _in_words(found: CheckedEntry, dry_run: bool) -> str:
    if found.state == "new":
        return "to import" if dry_run else "imported"
    return f"{found.state}{f': {found.reason}' if found.reason else ''}"
