"""``lmdbench results list``: the runs there are, one a line."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import json_option, results_option
from lmdbench.cli.results.columns import Column, fitted, shortened, terminal_width
from lmdbench.cli.results.common import count_of, filter_options, kept_runs
from lmdbench.cli.text import json_text
from lmdbench.core.errors import UserError
from lmdbench.core.words import size as size_text

if TYPE_CHECKING:
    from lmdbench.housekeeping.inventory import Filters, KeptRun

# What --sort takes → the sign that comes first; by name they come as they lie.
ORDERS: dict[str, Callable[[KeptRun], float]] = {
    "date": lambda run: -run.when,
    "score": lambda run: -(run.scores.get("balanced_accuracy") or -1.0),
    "size": lambda run: -run.size,
}


@click.command("list")
@filter_options
@click.option(
    "--sort",
    type=click.Choice(["name", *ORDERS]),
    default="name",
    show_default=True,
    help="date: the latest first; score: the best; size: the largest.",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: everything of every run.")
@results_option
def list_runs(filters: Filters, sort: str, as_json: bool, as_csv: bool, results: Path) -> None:
    """The runs there are: what was set, state, scores on test images, size and age.

    The name of a run is that of its directory; the 8 digits behind the dash are its id, which other
    commands take. Not more is shown than the terminal has room for; --json and --csv have all.

    \b
    lmdbench results list --method lmd --sort score
    lmdbench results list --set lr=0.1 --unfinished
    """
    from lmdbench.housekeeping.inventory import choose, remember

    if as_json and as_csv:
        raise UserError("--json and --csv contradict each other; leave one out")
    runs = choose(kept_runs(results), filters)
    if sort in ORDERS:
        runs.sort(key=ORDERS[sort])
    if as_json:
        click.echo(json_text([_facts(run) for run in runs]))
    elif as_csv:
        click.echo(_csv(runs), nl=False)
    else:
        for line in run_lines(runs, terminal_width(), sort, filters.other_code):
            click.echo(line)
        states = Counter(run.state for run in runs)
        told = ", ".join(f"{number:,} {state}" for state, number in states.most_common())
        size = size_text(sum(run.size for run in runs))
        click.echo(f"{count_of(runs)} under {results}: {told}; {size}", err=True)
    remember(runs)


def run_lines(
    runs: Sequence[KeptRun],
    width: int,
    sort: str = "name",
    remark: Callable[[KeptRun], str] | None = None,
) -> list[str]:
    """A line for each run, none wider than ``width``. By name they stand under data set and split;
    in another order these have a column, unless all agree, and what they are sorted by is always
    shown. ``remark``: what more to say of a run."""
    places = [f"{run.data_set} {run.split}" for run in runs]
    headed = sort == "name" or len(set(places)) == 1
    setups: dict[str, set[str]] = {}
    for place, run in zip(places, runs, strict=True):
        setups.setdefault(place, set()).add(", ".join(run.setup))
    alike = {place for place, those in setups.items() if headed and len(those) == 1}
    now = time.time()
    groups = list(dict.fromkeys(name for run in runs for name in run.scores))
    columns = [
        Column("data set and split", [] if headed else places, least=20),
        Column("run", [run.name for run in runs]),
        Column("method", [run.label for run in runs], least=24),
        Column(
            "set-up",
            ["" if p in alike else ", ".join(r.setup) for r, p in zip(runs, places, strict=True)],
            least=10,
            leave=2,
        ),
        Column("state", [_state(run) for run in runs]),
        *(
            Column(
                "BAcc" if name == "balanced_accuracy" else name,
                [_percent(run, name) for run in runs],
                right=True,
                leave=0 if name == "balanced_accuracy" else 3,
            )
            for name in groups
        ),
        Column("size", [size_text(run.size) for run in runs], True, leave=5 * (sort != "size")),
        Column("age", [age_text(now - run.when) for run in runs], True, leave=4 * (sort != "date")),
        Column("", [_weights(run) for run in runs], least=14, leave=6),
        Column("", [_note(run, remark) for run in runs], least=16, leave=1),
    ]
    title, *lines = fitted([c for c in columns if c.cells], width)
    shown = [title]
    for number, (place, line) in enumerate(zip(places, lines, strict=True)):
        if headed and (number == 0 or place != places[number - 1]):
            setup = "".join(setups[place]) if place in alike else ""
            shown += [*([""] * (number > 0)), shortened(f"{place}{setup and f': {setup}'}", width)]
        shown.append(line)
    return shown


def _state(run: KeptRun) -> str:
    if run.state == "finished" and run.imported_from:
        return "imported"
    return "begun" if run.state == "missing" else run.state


def _percent(run: KeptRun, name: str) -> str:
    if name not in run.scores:
        return ""
    value = run.scores[name]
    return "–" if value is None else f"{100 * value:.1f}"


def _weights(run: KeptRun) -> str:
    """Why a finished run has no weights."""
    if run.state != "finished" or run.has_weights:
        return ""
    if run.imported_from:
        return f"from {run.imported_from}"
    if run.kept_weights != "all":
        return "heads alone kept" if run.kept_weights == "heads" else "weights not kept"
    return "weights pruned" if run.is_pruned else "no weights"


def _note(run: KeptRun, remark: Callable[[KeptRun], str] | None) -> str:
    words = [run.note]
    if run.state != "finished" and run.epoch is not None:
        length = run.settings.get("epochs") or run.settings.get("rounds")
        words.append(f"after epoch {run.epoch}" + (f" of {length}" if length else ""))
    words.append(remark(run) if remark is not None else "")
    return ", ".join(filter(None, words))


def age_text(seconds: float) -> str:
    """How long ago, in one number: ``40 s``, ``5 min``, ``3 h``, ``12 d``."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.0f} d"


def _facts(run: KeptRun) -> dict[str, Any]:
    record = run.run.record if run.run is not None else None
    spec: dict[str, Any] = asdict(record.spec) if record else {}
    of_setup = ("backbone", "tuning", "image_size", "selection", "precision")
    return {
        "key": run.key,
        "id": run.id,
        "data_set": run.data_set,
        "split": run.split,
        "method": run.method,
        "seed": run.seed,
        "label": run.label,
        "settings": spec.get("settings") or {},
        "changed_settings": record.changed_settings if record else {},
        "started_from": run.ancestor and run.ancestor.id,
        **{name: spec.get(name) for name in of_setup},
        "pretrained": spec.get("weights"),
        "state": run.state,
        "note": run.note,
        "epoch": run.epoch,
        "scores": run.scores,
        "size": run.size,
        "finished": record and record.finished,
        "last_change": datetime.fromtimestamp(run.when, UTC).isoformat(timespec="seconds"),
        "weights": run.has_weights,
        "kept_weights": run.kept_weights,
        "imported_from": run.imported_from,
        "directory": str(run.directory),
    }


def _csv(runs: Sequence[KeptRun]) -> str:
    """One row a run; settings as JSON, a column for each score."""
    names = list(dict.fromkeys(name for run in runs for name in run.scores))
    text = io.StringIO()
    writer = None
    for run in runs:
        facts = _facts(run)
        scores = facts.pop("scores")
        row = {
            key: json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
            for key, value in facts.items()
        } | {name: scores.get(name) for name in names}
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    return text.getvalue()
