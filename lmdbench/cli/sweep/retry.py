"""``lmdbench sweep retry``: start again what failed or was lost."""

from __future__ import annotations

from pathlib import Path

import click

from lmdbench.cli.sweep_common import sweep_options
from lmdbench.cli.sweep_start import start, start_options


@click.command()
@sweep_options
@start_options
def retry(source: str, results: Path, data_root: Path | None, **options: object) -> None:
    """Start again what failed, was lost or is damaged in a sweep, and what waits for it.

    Each run goes on after its last finished epoch, or begins anew where its code has changed. A
    damaged one is moved aside and trained anew.

    \b
    lmdbench sweep retry my-sweep.toml
    """
    from lmdbench.sweep.launch import RETRY

    start(source, results, data_root, RETRY, **options)
