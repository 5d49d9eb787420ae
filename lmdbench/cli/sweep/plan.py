"""``lmdbench sweep plan``: every run with its state, what is shared, and how long it will take."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import json_option, parse_device
from lmdbench.cli.sweep_common import (
    counts,
    hours,
    load_plan,
    note,
    run_record,
    runs,
    sweep_options,
)
from lmdbench.cli.text import json_text, table

if TYPE_CHECKING:
    from lmdbench.sweep.estimate import Estimate
    from lmdbench.sweep.plan import SweepPlan
    from lmdbench.sweep.status import Overview

COLUMNS = ("id", "method", "data set and split", "seed", "starts from", "state", "takes")


@click.command()
@sweep_options
@click.option("--summary", is_flag=True, help="Leave out the list of runs.")
@click.option(
    "--calibrate",
    is_flag=True,
    help="Measure, here and now, the kinds of runs of which none is finished; kept for later.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@json_option
def plan(
    source: str,
    results: Path,
    data_root: Path | None,
    summary: bool,
    calibrate: bool,
    device: str,
    as_json: bool,
) -> None:
    """Show every run of a sweep with its id and state, what is shared, and how long it will take.

    Needs no GPU, no image and no network.

    \b
    lmdbench sweep plan demo
    lmdbench sweep plan my-sweep.toml --data-root ~/data --calibrate
    """
    planned = load_plan(source, results, data_root)

    from lmdbench.sweep.status import look

    overview = look(planned)
    estimates = _estimates(planned, overview, calibrate, device)
    if as_json:
        click.echo(json_text(_record(planned, overview, estimates)))
        return
    if not summary:
        click.echo(f"{table(COLUMNS, _rows(overview, estimates))}\n")
    for line in _summary(planned, overview, estimates):
        click.echo(line)
    if overview.silent:
        note(overview.silent)


def _estimates(
    planned: SweepPlan, overview: Overview, calibrate: bool, device: str
) -> dict[str, Estimate]:
    """Key → how long a run takes, of those not done that anything is known of."""
    from lmdbench.sweep.calibrate import calibrate as measure
    from lmdbench.sweep.estimate import (
        CALIBRATIONS,
        estimate,
        finished_records,
        kind_of,
        load_calibrations,
        save_calibrations,
    )

    nodes = list(planned.nodes.values())
    known = load_calibrations(planned.folder / CALIBRATIONS)
    found = dict(
        zip(
            planned.nodes,
            estimate([node.run for node in nodes], finished_records(planned.results), known),
            strict=True,
        )
    )
    chosen = parse_device(device)
    if calibrate:
        for node in nodes:
            guess, kind = found[node.key], kind_of(node.run)
            if overview.runs[node.key].state == "done" or not (guess is None or guess.scaled):
                continue
            if kind not in known:
                note(f"measuring {node.label} on {node.where}")
                known[kind] = measure(node.run, chosen)
                save_calibrations(planned.folder / CALIBRATIONS, known)
            found[node.key] = known[kind]
    return {key: guess for key, guess in found.items() if guess is not None}


def _rows(overview: Overview, estimates: dict[str, Estimate]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key, status in overview.runs.items():
        node = status.node
        above = node.run.ancestor
        guess = estimates.get(key)
        rows.append(
            (
                node.run.spec.id[:8],
                node.label,
                node.where,
                str(node.run.spec.seed),
                f"{above.spec.method} {above.spec.id[:8]}" if above else "",
                status.state,
                "" if guess is None or status.state == "done" else hours(guess.seconds),
            )
        )
    return rows


def _summary(planned: SweepPlan, overview: Overview, estimates: dict[str, Estimate]) -> list[str]:
    nodes = planned.nodes.values()
    extra = sum(not node.asked for node in nodes)
    beside = f", {extra} of them only to start others from" if extra else ""
    lines = [f"sweep {planned.sweep.name}: {runs(len(nodes))}{beside}: {counts(overview)}"]
    lines += planned.remarks
    if line := _weights(planned):
        lines.append(line)
    shared = planned.shared
    saved = {node.key: planned.times_needed(node) - 1 for node in shared}
    if any(saved.values()):
        seconds = sum(n * estimates[key].seconds for key, n in saved.items() if key in estimates)
        about = f", about {hours(seconds)}" if seconds else ""
        lines.append(
            f"shared: {runs(len(shared))} trained once and started from by others, which saves "
            f"{runs(sum(saved.values()))}{about}"
        )
    to_do = [key for key, status in overview.runs.items() if status.state != "done"]
    by_device: dict[str, list[Estimate]] = {}
    for key in to_do:
        if key in estimates:
            by_device.setdefault(estimates[key].device, []).append(estimates[key])
    for name, guesses in by_device.items():
        sources = list(dict.fromkeys(guess.source for guess in guesses))
        from_what = ", ".join(sources[:3]) + (" and others" if len(sources) > 3 else "")
        seconds = sum(guess.seconds for guess in guesses)
        lines.append(f"to do: {runs(len(guesses))}, about {hours(seconds)} on {name} ({from_what})")
    unknown = Counter(planned.nodes[key].label for key in to_do if key not in estimates)
    if unknown:
        what = ", ".join(f"{label} ({n})" for label, n in unknown.items())
        lines.append(f"no estimate, as none like it is finished: {what}; --calibrate measures it")
    return lines


def _record(
    planned: SweepPlan, overview: Overview, estimates: dict[str, Estimate]
) -> dict[str, Any]:
    shared = {node.key: planned.times_needed(node) - 1 for node in planned.shared}
    to_do = [key for key, status in overview.runs.items() if status.state != "done"]
    known = [estimates[key].seconds for key in to_do if key in estimates]
    return {
        "sweep": planned.sweep.name,
        "source": planned.sweep.source,
        "runs": [
            {
                **run_record(status),
                "saves_runs": shared.get(key, 0),
                "estimate": (key in estimates and vars(estimates[key])) or None,
            }
            for key, status in overview.runs.items()
        ],
        "states": dict(Counter(status.state for status in overview.runs.values())),
        "saved_runs": sum(shared.values()),
        "seconds_to_do": sum(known),
        "runs_without_estimate": len(to_do) - len(known),
    }


def _weights(planned: SweepPlan) -> str:
    """What finished runs keep of their weights; empty where that is all."""
    keeps = planned.sweep.resources.run.keep_weights
    if keeps == "all":
        return ""
    starting = sum(node.job.starts_others for node in planned.nodes.values())
    but = f", but all of the {runs(starting)} that others start from" if starting else ""
    return f"weights: {'heads alone' if keeps == 'heads' else 'none'} of each run are kept{but}"
