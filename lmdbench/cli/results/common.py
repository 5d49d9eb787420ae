"""Which runs a command of ``lmdbench results`` is about."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from lmdbench.cli.options import parse_numbers, plugin_option, stacked
from lmdbench.cli.selection import CHOICES
from lmdbench.core.errors import UserError

if TYPE_CHECKING:
    from lmdbench.comparison.results import Results, Run
    from lmdbench.housekeeping.inventory import KeptRun

Command = TypeVar("Command", bound=Callable[..., Any])


def choice_options(command: Command) -> Command:
    """``--dataset``, ``--method`` and ``--split``: pass ``datasets``, ``methods`` and ``splits``,
    tuples of str, for ``finished_runs``."""
    return stacked(command, CHOICES)


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


def filter_options(command: Command) -> Command:
    """Everything that chooses runs in whatever state: passes ``filters``, for ``kept_runs``."""

    @functools.wraps(command)
    def with_filters(
        *args: Any,
        datasets: tuple[str, ...],
        methods: tuple[str, ...],
        splits: tuple[str, ...],
        seeds: str | None,
        assignments: tuple[str, ...],
        unfinished: bool,
        failed: bool,
        changed: bool,
        **others: Any,
    ) -> Any:
        from lmdbench.cli.run import parse_assignments
        from lmdbench.housekeeping.inventory import Filters

        other_code: Callable[[KeptRun], str] | None = None
        if changed:
            from lmdbench.housekeeping.code import changed_code

            other_code = changed_code
        filters = Filters(
            datasets,
            methods,
            splits,
            () if seeds is None else tuple(parse_numbers(seeds, "--seed")),
            parse_assignments(assignments),
            unfinished,
            failed,
            other_code,
        )
        return command(*args, filters=filters, **others)

    options = (
        *CHOICES,
        click.option("--seed", "seeds", metavar="LIST", help="Only these, such as 0 or 0-4."),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            help="Only runs with this setting, of the method or as METHOD.KEY of what it started "
            "from (repeatable).",
        ),
        click.option("--unfinished", is_flag=True, help="Only runs that are not finished."),
        click.option("--failed", is_flag=True, help="Only runs that failed."),
        click.option(
            "--changed",
            is_flag=True,
            help="Only runs that other code made than is here now (takes seconds).",
        ),
        plugin_option,
    )
    return cast(Command, stacked(with_filters, options))


def kept_runs(results: Path) -> list[KeptRun]:
    """All runs under a results folder. Raises UserError where there is none."""
    from lmdbench.housekeeping.inventory import read_inventory

    runs = read_inventory(results)
    if not runs:
        what = "no runs under" if results.is_dir() else "no results folder"
        raise UserError(
            f"{what} {results}; make some with `lmdbench run`, bring some in with `lmdbench "
            "results import`, or say where they lie with --results"
        )
    return runs


def count_of(runs: Sequence[KeptRun]) -> str:
    return f"{len(runs):,} run" + "s" * (len(runs) != 1)
