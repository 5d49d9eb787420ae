"""``lmdbench sweep show``: the text of a preset, to begin a file of one's own with."""

from __future__ import annotations

import click

from lmdbench.cli.completion import complete_preset
from lmdbench.core.registry import unknown


@click.command()
@click.argument("preset", required=False, shell_complete=complete_preset)
def show(preset: str | None) -> None:
    """Print a preset, or the names of all.

    \b
    lmdbench sweep show paper > my-sweep.toml
    """
    from lmdbench.sweep.config.file import presets

    known = presets()
    if preset is None:
        for name, text in known.items():
            first = text.partition("\n")[0].removeprefix("# ")
            click.echo(f"{name:10}  {first}")
    elif preset in known:
        click.echo(known[preset], nl=False)
    else:
        raise unknown("preset", preset, list(known))
