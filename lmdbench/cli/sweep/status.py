"""``lmdbench sweep status``: what has become of each run."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import json_option
from lmdbench.cli.sweep_common import (
    again,
    counts,
    exit_code,
    hours,
    load_plan,
    note,
    place,
    run_record,
    runs,
    sweep_options,
)
from lmdbench.cli.text import json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType

    from lmdbench.sweep.status import Finished, Overview, RunStatus, State

# What differs in alike failures
ACCIDENTAL = re.compile(
    r"\b(?:job|process) [\d_]+|\bStepId=[\d.]+|\b(?:on|see) [^ ,;)]+|\d[\d-]*T?\d\d:\d\d(?::\d\d)?"
    r"|\d+(?:\.\d+)? ?(?:[KMG]i?B|bytes|s)\b"
)
MOST_LINES = 10  # of runs of one state, where not all are asked for


@click.command()
@sweep_options
@click.option("--watch", is_flag=True, help="Look again and again until nothing is under way.")
@click.option(
    "--every", type=click.IntRange(min=1), default=10, show_default=True, metavar="SECONDS",
    help="Between two looks of --watch.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Name all runs, however many they are.")
@json_option
def status(
    source: str,
    results: Path,
    data_root: Path | None,
    watch: bool,
    every: int,
    everything: bool,
    as_json: bool,
) -> None:
    """Show what has become of each run of a sweep: from its directory and from SLURM's queue.

    Exit code 0 if all are done, 1 if some failed, were lost or are damaged, 3 if there is nothing
    of that but some are still to do.

    \b
    lmdbench sweep status demo
    lmdbench sweep status my-sweep.toml --watch
    """
    planned = load_plan(source, results, data_root)

    from lmdbench.sweep.status import MOST_CLOSELY, Finished, look

    finished = Finished(planned, closely=len(planned.nodes) <= MOST_CLOSELY)
    overview = look(planned, finished)
    if watch:
        overview = _watch(overview, finished, every, everything, quiet=as_json)
    if as_json:
        click.echo(json_text(_record(overview)))
    elif not (watch and sys.stdout.isatty()):
        from rich.console import Console

        console = Console(highlight=False)
        console.print(_table(overview))
        for line in _lines(overview, everything):
            click.echo(line)
    click.get_current_context().exit(exit_code(overview))


def _watch(
    overview: Overview, finished: Finished, every: int, everything: bool, *, quiet: bool
) -> Overview:
    """Look until nothing is running or queued. Returns the last look."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from lmdbench.sweep.status import look

    def under_way() -> bool:
        return bool(overview.count("running", "stalled", "queued"))

    if quiet or not sys.stdout.isatty():
        while under_way():
            note(f"{datetime.now():%H:%M:%S}  {counts(overview)}")
            time.sleep(every)
            overview = look(overview.plan, finished)
        return overview

    def shown() -> RenderableType:
        text = "\n".join([*_lines(overview, everything), f"{datetime.now():%H:%M:%S}"])
        return Group(_table(overview), Text(text))

    with Live(shown(), console=Console(highlight=False), auto_refresh=False) as live:
        while under_way():
            time.sleep(every)
            overview = look(overview.plan, finished)
            live.update(shown(), refresh=True)
    return overview


def _table(overview: Overview) -> RenderableType:
    """Method × data set, and in each cell how many runs are in which state."""
    from rich.table import Table
    from rich.text import Text

    from lmdbench.sweep.status import STATES

    cells: dict[tuple[str, str], Counter[str]] = {}
    for one in overview.runs.values():
        node = one.node
        label = node.label if node.asked else f"({node.label})"
        cells.setdefault((label, node.where), Counter())[one.state] += 1
    columns = list(dict.fromkeys(where for _, where in cells))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("method", *columns):
        table.add_column(Text(title.replace("/", "\n", 1).replace(" (", "\n(")), overflow="fold")
    for label in dict.fromkeys(label for label, _ in cells):
        row = []
        for where in columns:
            found = cells.get((label, where), Counter())
            row.append("\n".join(f"{found[state]} {state}" for state in STATES if found[state]))
        table.add_row(Text(label), *row)
    return table


def _lines(overview: Overview, everything: bool) -> list[str]:
    """What there is to say of single runs, the worst last."""
    lines = [""]
    if any(not one.node.asked for one in overview.runs.values()):
        lines.append("(in brackets: only to start others from)")
    for state, tell in TOLD.items():
        found = [one for one in overview.runs.values() if one.state == state]
        alike = [[one] for one in found] if everything else _alike(found)
        shown = alike if everything else alike[:MOST_LINES]
        for first, *others in shown:
            more = f" (and {runs(len(others))} alike; --all names them)" if others else ""
            lines.append(f"{state}: {first.node.title}{tell(first)}{more}")
        left = len(found) - sum(map(len, shown))
        if left:
            lines.append(f"{state}: {runs(left)} more; --all names them")
    reasons = Counter(one.note for one in overview.runs.values() if one.state == "queued")
    if reasons:
        why = "; ".join(f"{n} {reason or 'waiting'}" for reason, n in reasons.most_common())
        lines.append(f"queued: {why}")
    changed = [one for one in overview.runs.values() if one.state == "changed"]
    if changed:
        lines.append(
            f"changed: {runs(len(changed))}, such as {changed[0].node.title}: {changed[0].note}; "
            "launch with --redo-changed or --accept-changed"
        )
    lines += _workers(overview)
    for path in overview.damaged[:MOST_LINES]:
        lines.append(f"{path}: damaged, so what that launch started is not known; move it away")
    if overview.silent:
        lines.append(f"{overview.silent}; what was submitted is counted as queued")
    lines.append(f"{overview.plan.sweep.name}: {counts(overview)}")
    source = overview.plan.sweep.argument
    if overview.count("failed", "lost", "damaged"):
        lines.append(f"try them again: {again('sweep retry', source)}")
    elif overview.count("missing") and not overview.count("running", "stalled", "queued"):
        lines.append(f"start the rest: {again('sweep launch', source)}")
    return lines


def _workers(overview: Overview) -> list[str]:
    """How many of the sweep's worker jobs are alive, while there is something for them to do."""
    wanted = overview.plan.sweep.resources.worker_jobs
    if not wanted or overview.silent or overview.count("done") == len(overview.runs):
        return []
    left = overview.count("lost") + overview.count("missing")
    ready = "" if overview.workers or not left else f"; launch again for {runs(left)}"
    return [f"workers: {overview.workers} of {wanted} alive{ready}"]


def _alike(found: Sequence[RunStatus]) -> list[list[RunStatus]]:
    """Runs by what is said of them, apart from names, places, times and amounts of memory."""
    groups: dict[object, list[RunStatus]] = {}
    for one in found:
        own = one.node.key, one.node.title, one.node.run.directory.name
        note = one.note
        for name in own:
            note = note.replace(name, "")
        said = ACCIDENTAL.sub("", note)
        groups.setdefault(said or one.node.key, []).append(one)
    return list(groups.values())


def _running(one: RunStatus) -> str:
    parts = [f"epoch {one.epoch or 0}" + (f"/{one.epochs}" if one.epochs else "")]
    if one.left is not None:
        parts.append(f"{hours(one.left)} left")
    return ": " + ", ".join([*parts, *filter(None, [place(one), one.note])])


def _broken(one: RunStatus) -> str:
    done = f"after epoch {one.epoch}" if one.epoch else ""
    log = f"log {one.log}" if one.log and one.log.exists() else ""
    return ": " + ", ".join(filter(None, [done, place(one), one.note, log]))


# State → what is told of each run in it, the worst last.
TOLD: dict[State, Callable[[RunStatus], str]] = {
    "running": _running,
    "stalled": _running,
    "lost": _broken,
    "damaged": _broken,
    "failed": _broken,
}


def _record(overview: Overview) -> dict[str, Any]:
    return {
        "sweep": overview.plan.sweep.name,
        "states": dict(Counter(one.state for one in overview.runs.values())),
        "queue": overview.silent or "read",
        "workers": overview.workers,
        "runs": [run_record(one) for one in overview.runs.values()],
    }
