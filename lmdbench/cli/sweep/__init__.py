"""``lmdbench sweep``: many runs from one file, on local devices or on SLURM."""

from __future__ import annotations

import click

from lmdbench.cli.lazy import LazyGroup

# Command → what `lmdbench sweep --help` says of it. Each lives in the module of its own name.
COMMANDS = {
    "plan": "Show every run, what is shared, and how long it will take.",
    "launch": "Start what is neither done nor under way.",
    "status": "Show what has become of each run.",
    "worker": "Take the next run that is ready, until none is left.",
    "retry": "Start again what failed or was lost.",
    "cancel": "Stop what is running and forget what is queued.",
    "show": "Print a preset, to begin a file of your own with.",
}


class SweepCommands(LazyGroup):
    kind = "command of sweep"
    commands_of = COMMANDS
    package = "lmdbench.cli.sweep"


@click.command(cls=SweepCommands, invoke_without_command=True)
@click.pass_context
def sweep(context: click.Context) -> None:
    """Many runs from one file, on local devices or on SLURM.

    SWEEP is a TOML file, or a preset (paper, ablation, demo, what-makes-it-work, linear-probe,
    foundation), and the same for all commands.

    \b
    lmdbench sweep plan demo
    lmdbench sweep launch demo
    lmdbench sweep status my-sweep.toml --watch
    lmdbench sweep retry my-sweep.toml
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
