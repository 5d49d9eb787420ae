"""``lmdbench results check``: whether the entries of the reference results are sound."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from lmdbench.cli.options import plugin_option


@click.command()
@click.argument(
    "repository", metavar="[FOLDER]", default="results/reference", type=click.Path(path_type=Path)
)
@plugin_option
@click.pass_context
def check(context: click.Context, repository: Path) -> None:
    """Look through every entry of the reference results, as `submit` did. Writes nothing.

    One line an entry. Exit code 0 if all are sound, 1 if one is not: what a pull request is
    checked by.
    """
    from lmdbench.core.errors import UserError
    from lmdbench.sharing.repository import gather

    sound, problems = 0, 0
    with tempfile.TemporaryDirectory(prefix="lmdbench-") as folder:
        for found in gather(repository, Path(folder) / "results"):
            if isinstance(found, UserError):
                problems += 1
                click.echo(f"problem  {found}")
            else:
                sound += 1
                megabytes = found.nbytes / 1e6
                click.echo(f"ok       {found.name}: {len(found.runs)} runs, {megabytes:.1f} MB")
    click.echo(f"{sound} sound, {problems} not: {repository}", err=True)
    if problems:
        context.exit(1)
