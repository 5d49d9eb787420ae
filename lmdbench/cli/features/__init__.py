"""``lmdbench features``: features of encoders that are not trained."""

from __future__ import annotations

import click

from lmdbench.cli.lazy import LazyGroup

# Command → what `lmdbench features --help` says of it.
COMMANDS = {
    "list": "What is kept in the cache.",
    "write": "Compute a data set's features, and write them to a file.",
}


class FeaturesCommands(LazyGroup):
    kind = "command of features"
    commands_of = COMMANDS
    package = "lmdbench.cli.features"
    modules_of = {"list": "list_features"}


@click.command(cls=FeaturesCommands, invoke_without_command=True)
@click.pass_context
def features(context: click.Context) -> None:
    """Features of encoders that are not trained: computed once, for all methods and seeds.

    \b
    lmdbench features list
    lmdbench features write --dataset isic2019 --data-root ~/data \\
      --backbone efficientnet-lite0 --output lite0.npz
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
