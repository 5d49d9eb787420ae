"""``lmdbench sweep launch``: start what is neither done nor under way."""

from __future__ import annotations

from pathlib import Path

import click

from lmdbench.cli.sweep_common import sweep_options
from lmdbench.cli.sweep_start import start, start_options


@click.command()
@sweep_options
@start_options
def launch(source: str, results: Path, data_root: Path | None, **options: object) -> None:
    """Start the runs of a sweep that are neither done nor running nor queued.

    Safe to repeat, and to do twice at once. Runs that failed are left for `lmdbench sweep retry`.
    On this machine it works until all is done; on SLURM it submits and returns.

    \b
    lmdbench sweep launch demo --workers 2
    lmdbench sweep launch my-sweep.toml --gpus 0,1
    lmdbench sweep launch my-sweep.toml --on slurm --dry-run
    """
    from lmdbench.sweep.launch import LAUNCH

    start(source, results, data_root, LAUNCH, **options)
