"""``lmdbench metrics``: the metrics, what each one needs and how its intervals are made."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import click

from lmdbench.cli.options import json_option, plugin_option
from lmdbench.cli.text import json_text, table

HOW_TO = (
    "lmdbench compare --metric NAME\n"
    "of a class or group: f1:melanoma, auprc:tail, sensitivity@specificity=0.9:melanoma\n"
    "your own: docs/adding-a-metric.md"
)


@click.command()
@plugin_option
@json_option
def metrics(as_json: bool) -> None:
    """The metrics: names, direction, what each needs, where its interval comes from.

    \b
    lmdbench metrics
    lmdbench metrics --plugin my_metric.py
    """
    show_metrics(as_json)


def show_metrics(as_json: bool) -> None:
    """Print all metrics, a line each, and what did not load."""
    from lmdbench.evaluation.metrics import METRICS
    from lmdbench.evaluation.metrics.listing import listing

    listed = listing()
    if as_json:
        click.echo(json_text([_plain(asdict(one)) for one in listed]))
    else:
        rows = [
            [
                one.name,
                one.title,
                ", ".join(alias for alias in one.aliases if not alias.startswith("macro_")),
                one.better,
                one.needs,
                one.interval,
                one.whence,
            ]
            for one in listed
        ]
        head = ["metric", "what it is", "also called", "better", "needs", "interval by", "from"]
        click.echo(table(head, rows))
        click.echo(f"\n{HOW_TO}")
    for plugin, problem in METRICS.broken.items():
        click.echo(f"not loaded: {plugin}: {problem}", err=True)


def _plain(one: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: ``from`` as in other lists, and no infinite numbers."""
    one["from"] = one.pop("whence")
    one["bounds"] = [end if math.isfinite(end) else None for end in one["bounds"]]
    return one
