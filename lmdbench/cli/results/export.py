"""``lmdbench results export``: finished runs without their weights, to share."""

from __future__ import annotations

from pathlib import Path

import click

from lmdbench.cli.options import data_root_option, plugin_option, results_option
from lmdbench.cli.results.common import choice_options, finished_runs
from lmdbench.core.errors import UserError


@click.command()
@choice_options
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="SWEEP",
    help="Only the runs that this sweep asks for: a file or a preset (repeatable).",
)
@click.option(
    "--output",
    required=True,
    metavar="FILE.zip|FOLDER",
    type=click.Path(path_type=Path),
    help="A new zip file, or a new folder if the name has another ending.",
)
@data_root_option
@results_option
@plugin_option
def export(
    datasets: tuple[str, ...],
    methods: tuple[str, ...],
    splits: tuple[str, ...],
    sweeps: tuple[str, ...],
    output: Path,
    data_root: Path | None,
    results: Path,
) -> None:
    """Write finished runs without their weights to one file, for `lmdbench results import`.

    Each goes with its record, its history and its predictions; with the runs that it started from,
    so that others see what it is; and with the audits of its split. The same runs make the same
    file.

    \b
    lmdbench results export --output ours.zip
    lmdbench results export --dataset isic2019 --method lmd --output lmd.zip
    """
    from lmdbench.sharing.archive import check_output
    from lmdbench.sharing.export import export as write
    from lmdbench.sharing.shared import LEFT_OUT

    check_output(output)
    there, chosen = finished_runs(results, datasets, methods, splits)
    if sweeps:
        from lmdbench.cli.sweep_common import load_plan

        plans = [load_plan(source, results, data_root) for source in sweeps]
        keys = {key for plan in plans for key, node in plan.nodes.items() if node.asked}
        chosen = [r for r in chosen if r.directory.relative_to(results).as_posix() in keys]
        if not chosen:
            raise UserError("no run of this sweep is finished (and chosen); see its status")
    done = write(there, chosen, output)
    for key in done.asked:
        click.echo(key)
    for key in done.started_from:
        click.echo(f"{key}  (what others started from)")
    for key in done.audits:
        click.echo(f"{key}  (audit)")
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"left out: {LEFT_OUT}", err=True)
    click.echo(f"written: {output}", err=True)
