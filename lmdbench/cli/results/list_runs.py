"""``lmdbench results list``: the finished runs, one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import json_option, results_option
from lmdbench.cli.results.common import choice_options, finished_runs

if TYPE_CHECKING:
    from lmdbench.comparison.results import Run


@click.command("list")
@choice_options
@json_option
@results_option
def list_runs(
    datasets: tuple[str, ...],
    methods: tuple[str, ...],
    splits: tuple[str, ...],
    as_json: bool,
    results: Path,
) -> None:
    """The finished runs: when, whether their weights are here, and where they came from."""
    _, runs = finished_runs(results, datasets, methods, splits)
    facts = [_facts(run, results) for run in runs]
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    width = max(len(fact["key"]) for fact in facts)
    for fact in facts:
        weights = "weights" if fact["weights"] else "no weights"
        source = f"  imported from {fact['imported_from']}" if fact["imported_from"] else ""
        click.echo(f"{fact['key']:{width}}  {fact['finished'] or '?':25}  {weights:10}{source}")
    click.echo(f"{len(facts)} finished runs under {results}", err=True)


def _facts(run: Run, results: Path) -> dict[str, Any]:
    imported = run.record.get("imported") or {}
    archive = imported.get("archive") or {}
    return {
        "key": run.directory.relative_to(results).as_posix(),
        "id": run.id,
        "method": run.method,
        "seed": run.seed,
        "finished": run.record.get("finished"),
        "weights": (run.directory / "model.safetensors").exists(),
        "imported_from": archive.get("from") or run.predictions_from,
    }
