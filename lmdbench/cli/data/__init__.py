"""``lmdbench data``: the images and tables of a data set, from download to audit."""

from __future__ import annotations

import click

from lmdbench.cli.lazy import LazyGroup

# Command → what `lmdbench data --help` says of it. Each lives in the module of its own name.
COMMANDS = {
    "download": "Fetch a data set from its official addresses.",
    "prepare": "Decode and resize its images, once, for every size asked for.",
    "verify": "Check that everything is there and whole.",
    "audit": "Look for what makes a test score too good: leaks, near-duplicates, doubtful labels.",
}


class DataCommands(LazyGroup):
    kind = "command of data"
    commands_of = COMMANDS
    package = "lmdbench.cli.data"


@click.command(cls=DataCommands, invoke_without_command=True)
@click.pass_context
def data(context: click.Context) -> None:
    """The images and tables of a data set: download, prepare, verify, audit.

    \b
    lmdbench data download isic2019 --data-root ~/data
    lmdbench data prepare isic2019 --data-root ~/data --image-size 224
    lmdbench data verify isic2019 --data-root ~/data
    lmdbench data audit isic2019 --data-root ~/data
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
