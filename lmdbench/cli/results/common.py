"""Which finished runs a command of ``lmdbench results`` is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lmdbench.cli.selection import CHOICES
from lmdbench.core.errors import UserError

if TYPE_CHECKING:
    from lmdbench.comparison.results import Results, Run

Command = TypeVar("Command", bound=Callable[..., Any])


def choice_options(command: Command) -> Command:
    """``--dataset``, ``--method`` and ``--split``: pass ``datasets``, ``methods`` and ``splits``,
    tuples of str, for ``finished_runs``."""
    for option in reversed(CHOICES):
        command = option(command)
    return command


def finished_runs(
    folder: Path, datasets: tuple[str, ...], methods: tuple[str, ...], splits: tuple[str, ...]
) -> tuple[Results, list[Run]]:
    """What lies under a results folder, and the finished runs that are chosen.

    Says which records can't be used. Raises UserError where none is left.
    """
    from lmdbench.comparison.compare import select_runs
    from lmdbench.comparison.results import read_results

    results = read_results(folder)
    for problem in results.unreadable:
        click.echo(f"left out: {problem}", err=True)
    if not results.runs:
        raise UserError(f"no finished runs under {folder}; make some with `lmdbench run`")
    return results, select_runs(results, datasets, methods, splits)
