"""``lmdbench sweep worker``: take the next run that is ready, until none is left."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import stop_on_sigterm
from lmdbench.cli.sweep_common import load_plan, note, runs, sweep_options
from lmdbench.cli.sweep_start import (
    StartOptions,
    check_weights,
    finish,
    place_of,
    pool_options,
    pool_where,
)
from lmdbench.core.files import check_writable

if TYPE_CHECKING:
    from lmdbench.sweep.executors.pulled import Patience
    from lmdbench.sweep.plan import SweepPlan

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # of a time → seconds


def _seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no time such as 30s, 90m or 8h")
    return float(found[1]) * UNITS[found[2]]


@click.command()
@sweep_options
@pool_where
@click.option(
    "--for",
    "seconds",
    metavar="TIME",
    callback=_seconds,
    help="Stop after so long, such as 8h; finished epochs stay.  [default: when none is left]",
)
@click.option(
    "--idle",
    metavar="TIME",
    default="2m",
    show_default=True,
    callback=_seconds,
    help="Wait so long, with nothing to do, for runs that others train and more start from.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def worker(
    source: str,
    results: Path,
    data_root: Path | None,
    seconds: float | None,
    idle: float,
    **options: Any,
) -> None:
    """Take the next run of a sweep that is ready, until none is left.

    Start as many as you like, on any machines that share the results folder, under any scheduler:
    each run is done by one of them. What starts from another run is ready when that is finished.
    Runs that failed are left for `lmdbench sweep retry`.

    \b
    lmdbench sweep worker my-sweep.toml --results /shared/results
    lmdbench sweep worker my-sweep.toml --gpus 0 --for 8h
    """
    from lmdbench.sweep.executors import LOCAL
    from lmdbench.sweep.executors.pulled import Patience
    from lmdbench.sweep.status import look

    planned = load_plan(source, results, data_root)
    given = StartOptions(on=LOCAL, **options)
    place_of(planned, given)
    for remark in () if given.quiet else planned.remarks:
        note(remark)
    _work(planned, given, Patience(idle, seconds))
    finish(look(planned), source, LOCAL, quiet=given.quiet)


def _work(planned: SweepPlan, options: StartOptions, patience: Patience) -> None:
    """Take runs until none is left to take. Raises Interrupted after Ctrl-C."""
    from contextlib import ExitStack

    from lmdbench.cli.sweep_live import pool_watcher
    from lmdbench.sweep.executors.local import work_off
    from lmdbench.sweep.executors.pulled import Pulled
    from lmdbench.sweep.executors.watcher import PoolWatcher
    from lmdbench.sweep.launch import PULL, choose, launching, opened_pool, pulled_jobs
    from lmdbench.sweep.status import look

    say = (lambda _: None) if options.quiet else note
    pool = pool_options(planned, options)
    check_writable(planned.results)
    with ExitStack() as stack:
        with launching(planned.results, say):
            nodes = choose(look(planned), PULL, pool.run, join=True).nodes
            if not nodes:
                say(f"{planned.sweep.name}: no run is left to take")
                return
            check_weights(nodes)
            opened = opened_pool(planned, nodes, pool.run, forget=False)
            pool = replace(pool, name=stack.enter_context(opened), chains=False)
        stop_on_sigterm()
        watcher = PoolWatcher() if options.quiet else pool_watcher(planned.sweep.name)
        jobs = pulled_jobs(nodes)
        source = Pulled(jobs, planned.results, watcher, patience, pool.retry.attempts)
        work_off(source, jobs, pool, watcher)
        if source.left:
            say(f"{runs(len(source.left))} left undone: {source.why_over or 'its time is up'}")
