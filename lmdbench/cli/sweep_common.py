"""What the commands of ``lmdbench sweep`` share."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from lmdbench.cli.options import data_root_option, results_option
from lmdbench.core.words import count

if TYPE_CHECKING:
    from lmdbench.sweep.plan import SweepPlan
    from lmdbench.sweep.status import Overview, RunStatus

Command = TypeVar("Command", bound=Callable[..., Any])
CODES = {"done": 0, "broken": 1, "unfinished": 3}  # what `sweep status` ends with


def sweep_options(command: Command) -> Command:
    """The sweep's file or preset (``source``), ``--results`` and ``--data-root``."""
    return click.argument("source", metavar="SWEEP")(results_option(data_root_option(command)))


def load_plan(source: str, results: Path, data_root: Path | None) -> SweepPlan:
    """See ``sweep.plan.load_plan``; what there is to say goes to standard error."""
    from lmdbench.sweep import plan

    return plan.load_plan(source, results, data_root, note)


def note(text: str) -> None:
    """A line for people, out of the way of what a program reads. Lost where a disk is full."""
    with suppress(OSError):
        click.echo(text, err=True)


def again(command: str, source: str) -> str:
    """A command to give next, with the folders that this one was given."""
    context = click.get_current_context()
    words = ["lmdbench", *command.split(), source]
    options = (("results", "--results"), ("data_root", "--data-root"), ("on", "--on"))
    for name, option in options:
        if name == "on" and command.split()[-1] not in ("launch", "retry"):
            continue
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            words += [option, str(context.params[name])]
    return shlex.join(words)


def counts(overview: Overview) -> str:
    """How many runs are in which state, such as ``12 done · 3 running``."""
    from lmdbench.sweep.status import STATES

    found = Counter(status.state for status in overview.runs.values())
    return " · ".join(f"{found[state]} {state}" for state in STATES if found[state])


def exit_code(overview: Overview) -> int:
    """What a script is told."""
    if overview.count("failed", "lost", "damaged"):
        return CODES["broken"]
    done = overview.count("done") == len(overview.runs)
    return CODES["done" if done else "unfinished"]


runs = partial(count, noun="run")


def place(one: RunStatus) -> str:
    """The job or process, and the node, that a run is or was at."""
    where = [f"job {one.job}" if one.job and one.job[0].isdigit() else one.job]
    where.append(f"on {one.host}" if one.host else None)
    return " ".join(filter(None, where))


def run_record(status: RunStatus) -> dict[str, Any]:
    """A run of a sweep as plain data."""
    node = status.node
    spec = node.run.spec
    return {
        "id": spec.id,
        "method": spec.method,
        "labels": sorted({entry.label for _, entry in node.asked if entry.label}),
        "data_set": spec.results_name,
        "split": node.run.context.prepared.split.label,
        "seed": spec.seed,
        "settings": dict(spec.settings),
        "starts_from": node.needs,
        "asked_for": bool(node.asked),
        "directory": str(node.run.directory),
        "state": status.state,
        "job": status.job,
        "host": status.host,
        "epoch": status.epoch,
        "epochs": status.epochs,
        "seconds_left": status.left,
        "cause": status.cause or None,
        "note": status.note,
        "log": status.log and str(status.log),
    }


def hours(seconds: float) -> str:
    """A long time in few words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36000 else f"{seconds / 3600:.0f} h"
