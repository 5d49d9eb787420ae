"""``lmdbench doctor``: whether this machine has what lmdbench needs."""

from __future__ import annotations

from pathlib import Path

import click

from lmdbench.cli.options import data_root_option, json_option, plugin_option, results_option
from lmdbench.cli.text import json_text
from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache


@click.command()
@results_option
@data_root_option
@plugin_option
@json_option
@click.pass_context
def doctor(context: click.Context, results: Path, data_root: Path | None, as_json: bool) -> None:
    """Look at this machine: Python, torch, devices, room, data, weights, SLURM.

    One line a thing: ok, note (missing, and not needed by all) or problem, with what to do. Exit
    code 1 if there is a problem. On a cluster, look at a compute node as well:

    \b
    srun --partition gpu lmdbench doctor
    """
    from lmdbench.doctor.checks import examine

    try:
        cache = default_cache()
    except UserError:
        cache = None
    found = []
    for check in examine(results, data_root, cache):
        found.append(check)
        if not as_json:
            click.echo(f"{check.state:<7}  {check.name:<14}  {check.text}")
    if as_json:
        click.echo(json_text([vars(check) for check in found]))
    if any(check.state == "problem" for check in found):
        context.exit(1)
