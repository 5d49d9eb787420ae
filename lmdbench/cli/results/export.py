"""``lmdbench results export``: finished runs without their weights, to share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import data_root_option, plugin_option, results_option
from lmdbench.cli.results.common import choice_options, finished_runs
from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes

if TYPE_CHECKING:
    from lmdbench.comparison.results import Run
    from lmdbench.sharing.sweeps import SharedSweep


@click.command()
@choice_options
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="SWEEP",
    help="Only the runs that this sweep asks for, and what gives its table: a file, a preset, or "
    "the folder of one that was imported (repeatable).",
)
@click.option(
    "--reference",
    metavar="METHOD",
    shell_complete=complete("methods"),
    help="With --sweep: what its table compares the others with, a method or a row's label.  "
    "[default: lmd]",
)
@click.option("--without-plugins", is_flag=True, help="Leave the source of plug-ins at home.")
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
    reference: str | None,
    without_plugins: bool,
    output: Path,
    data_root: Path | None,
    results: Path,
) -> None:
    """Write finished runs without their weights to one file, for `lmdbench results import`.

    Each goes with its record, its history and its predictions; with the runs that it started from,
    so that others see what it is; with the audits of its split; and with the source of plug-ins. A
    sweep goes with its file and the names of its rows: whoever imports it has its table in one
    command. The same runs make the same file.

    \b
    lmdbench results export --output ours.zip
    lmdbench results export --dataset isic2019 --method lmd --output lmd.zip
    """
    from lmdbench.sharing.archive import check_output
    from lmdbench.sharing.export import export as write
    from lmdbench.sharing.shared import LEFT_OUT
    from lmdbench.sharing.sweeps import compare_command

    check_output(output)
    there, chosen = finished_runs(results, datasets, methods, splits)
    if reference is not None and not sweeps:
        raise UserError("--reference is told with a sweep; give --sweep, or leave it out")
    shared: list[SharedSweep] = []
    if sweeps:
        keys = {run.directory.relative_to(results).as_posix(): run for run in chosen}
        shared = [_shared(name, results, data_root, keys, reference) for name in sweeps]
        wanted = {key for sweep in shared for key in sweep.labels}
        chosen = [run for key, run in keys.items() if key in wanted]
        if not chosen:
            raise UserError("no run of this sweep is finished (and chosen); see its status")
    done = write(there, chosen, output, shared, plugins=not without_plugins)
    for key in done.asked:
        click.echo(key)
    for key in done.started_from:
        click.echo(f"{key}  (what others started from)")
    for key in done.audits:
        click.echo(f"{key}  (audit)")
    for key in done.plugins:
        click.echo(f"{key}  (source of a plug-in)")
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"left out: {LEFT_OUT}", err=True)
    click.echo(f"written: {output}", err=True)
    click.echo(f"elsewhere: lmdbench results import {output.name} --results results", err=True)
    for key, against in done.sweeps.items() or [("", "")]:
        click.echo(f"and then:  {compare_command('results', key, against)}", err=True)


def _shared(
    source: str,
    results: Path,
    data_root: Path | None,
    there: Mapping[str, Run],
    reference: str | None,
) -> SharedSweep:
    """A sweep as it goes along: ``there`` are the finished runs that are chosen, by key.

    Raises UserError for a reference that is neither a method nor a label of it.
    """
    from lmdbench.core.registry import unknown
    from lmdbench.sharing.sweeps import read_shared, shared_folder

    folder = shared_folder(source)
    sweep = read_shared(folder) if folder is not None else _planned(source, results, data_root)
    labels = {key: label for key, label in sweep.labels.items() if key in there}
    if len(labels) < len(sweep.labels):
        missing = len(sweep.labels) - len(labels)
        click.echo(
            f"note: {missing} of {len(sweep.labels)} runs of {sweep.name} are not finished, or not "
            "chosen: they don't go along",
            err=True,
        )
    known = list(dict.fromkeys([*(there[key].method for key in labels), *labels.values()]))
    if reference is not None and reference not in known:
        raise unknown("reference", reference, known)
    return replace(sweep, labels=labels, reference=reference or sweep.reference)


def _planned(source: str, results: Path, data_root: Path | None) -> SharedSweep:
    """A sweep of a file or preset, with the source of its plug-ins and of what these import."""
    from lmdbench.cli.sweep_common import load_plan
    from lmdbench.comparison.compare import REFERENCE
    from lmdbench.runs.code_digest import plugin_sources
    from lmdbench.sharing.sweeps import SharedSweep
    from lmdbench.sweep.config.written import shareable_text

    plan = load_plan(source, results, data_root)
    labels = {key: node.label for key, node in plan.nodes.items() if node.asked}
    plugins = {path.name: read_bytes(path) for path in plan.sweep.plugins}
    runs = {(n.run.spec.method, n.run.spec.backbone): n.run for n in plan.nodes.values()}
    for run in runs.values():
        plugins |= plugin_sources(run.method, run.context.backbone)
    return SharedSweep(plan.sweep.name, labels, REFERENCE, shareable_text(plan.sweep), plugins)
