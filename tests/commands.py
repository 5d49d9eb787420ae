"""Whether command lines that stand in pages and scripts are ones that lmdbench takes."""

from collections.abc import Sequence

import click

from lmdbench.cli.commands import cli


def check_command(words: Sequence[str]) -> None:
    """Raise for a command or an option, behind ``lmdbench``, that there is not. Nothing is run."""
    command: click.Command = cli
    left = list(words)
    while isinstance(command, click.Group) and left and not left[0].startswith("-"):
        name = left.pop(0)
        found = command.get_command(click.Context(command), name)
        if found is None:
            raise LookupError(f"{command.name} has no command {name}")
        command = found
    command.make_parser(click.Context(command)).parse_args(left)
