"""``lmdbench plan-power``: what a table of so many methods, seeds and test images would find."""

from __future__ import annotations

import re
from dataclasses import asdict, astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lmdbench.cli.completion import complete
from lmdbench.cli.options import (
    data_root_option,
    json_option,
    parse_numbers,
    plugin_option,
    split_options,
)
from lmdbench.cli.text import json_text, table
from lmdbench.core.errors import UserError
from lmdbench.core.folders import expanded
from lmdbench.core.words import count, listed

if TYPE_CHECKING:
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.evaluation.planning import PlannedTable, StudyPlan


def _numbers(_context: click.Context, option: click.Parameter, value: str | None) -> list[int]:
    return [] if value is None else parse_numbers(value, option.opts[0])


@click.command()
@click.option(
    "--methods",
    metavar="LIST",
    callback=_numbers,
    help="Rows of the table, the reference among them: 7, or 2,7,14.",
)
@click.option("--seeds", metavar="LIST", callback=_numbers, help="Of each method: 3, or 2,3,5.")
@click.option(
    "--difference",
    type=float,
    metavar="POINTS",
    help="True difference in balanced accuracy that is to be found.",
)
@click.option(
    "--power",
    type=float,
    metavar="SHARE",
    help="Share of tables that are to find a difference.  [default: 0.8]",
)
@click.option(
    "--images",
    metavar="LIST",
    help="Test images of each class: 2575,828,557, or 100x8 for 100 in each of 8 classes.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=complete("datasets"),
    help="Take the test images of this data set's split.",
)
@data_root_option
@split_options
@click.option(
    "--from",
    "results",
    metavar="RESULTS",
    help="Take images, recalls and how far seeds vary from the table below this results folder; "
    "--dataset and --split say which, if there are several.",
)
@click.option(
    "--seed-sd",
    type=float,
    metavar="POINTS",
    help="SD of balanced accuracy over seeds, on unlimited test images.  [default: 1]",
)
@click.option(
    "--recall",
    metavar="LIST",
    help="Expected of all classes, such as 0.7, or of each.  [default: falling from .93 of the "
    "largest class to .3 of the smallest]",
)
@click.option(
    "--persistence",
    type=float,
    metavar="SHARE",
    help="Of the images, that are right or wrong in every seed of a method alike.  [default: 0.5]",
)
@click.option(
    "--shared",
    type=float,
    metavar="SHARE",
    help="Of those, that are as difficult for every method.  [default: 0.5]",
)
@click.option(
    "--tables", type=int, default=400, show_default=True, metavar="N", help="Simulated for a row."
)
@plugin_option
@json_option
def plan_power(
    methods: list[int],
    seeds: list[int],
    difference: float | None,
    power: float | None,
    images: str | None,
    dataset: str | None,
    data_root: Path | None,
    choices: list[SplitSpec],
    results: str | None,
    seed_sd: float | None,
    recall: str | None,
    persistence: float | None,
    shared: float | None,
    tables: int,
    as_json: bool,
) -> None:
    """Plan a study: how many seeds and test images find how small a difference?

    \b
    lmdbench plan-power --methods 7 --seeds 3 --difference 8 --dataset isic2019
    lmdbench plan-power --methods 2,7,14 --seeds 2,3,5 --dataset isic2019
    lmdbench plan-power --methods 7 --difference 4 --images 2575,828,557,402,122,81,30,26

    With --seeds and --difference: how often it is found, after Holm's correction. With --seeds
    alone: the smallest difference that is found in 80 % of tables (--power). With --difference
    alone: how many seeds find it, or how many test images would. Nothing is trained.
    """
    from lmdbench import api
    from lmdbench.core.progress import watcher

    source = click.get_current_context().get_parameter_source("data_root")
    if source == ParameterSource.COMMANDLINE and (dataset is None or results is not None):
        raise UserError("--data-root is for --dataset without --from; leave it out")
    if images is not None and (results is not None or dataset is not None):
        other = "--dataset" if results is None else "--from"
        raise UserError(f"{other} has test images of its own; leave --images out")
    if dataset is None and results is None and any(astuple(choices[0])):
        raise UserError("--split and what belongs to it are for --dataset; leave them out")
    progress = watcher(as_json)
    try:
        plan = api.plan_power(
            None if images is None else parse_images(images),
            dataset=dataset,
            split=_label(choices) if results is not None else choices,
            data_root=data_root,
            results=None if results is None else expanded(results),
            methods=methods or None,
            seeds=seeds,
            difference=difference,
            power=power,
            seed_sd=seed_sd,
            recalls=None if recall is None else parse_recalls(recall),
            persistence=persistence,
            shared=shared,
            tables=tables,
            told=lambda done, total: progress.prepare(done, total, "simulating tables"),
        )
    finally:
        progress.end()
    click.echo(json_text(_facts(plan)) if as_json else _text(plan, power))


def _label(choices: list[SplitSpec]) -> str | None:
    """Of a split of finished runs, which has no other options."""
    if any(astuple(choices[0])[1:]):
        raise UserError("--from: give --split LABEL as its folder is called, and no more of it")
    return choices[0].name


def parse_images(text: str) -> list[int]:
    """``2575,828`` or ``100x8``, or both."""
    found: list[int] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})(?:x(\d{1,4}))?\s*", word)
        if match is None:
            raise UserError(
                f"--images {text!r}: give whole numbers, such as 2575,828,557, or 100x8"
            )
        found += [int(match[1])] * int(match[2] or 1)
    return found


def parse_recalls(text: str) -> float | list[float]:
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise UserError(f"--recall {text!r}: give shares, such as 0.7 or 0.9,0.6,0.3") from None
    return found[0] if len(found) == 1 else found


# What is printed


def _facts(plan: StudyPlan) -> dict[str, Any]:
    law = plan.law
    return {
        "metric": "balanced_accuracy",
        "classes": [
            {
                "class": name,
                "images": images,
                "independent_images": counted,
                "recall": recall,
                "persistence": float(lasting),
            }
            for name, images, counted, recall, lasting in zip(
                plan.classes, plan.images, law.counts, law.recalls, law.lasting, strict=True
            )
        ],
        "seed_sd": law.noise,
        "shared": 1 - law.own,
        "tables": [asdict(one) for one in plan.tables],
    }


def _text(plan: StudyPlan, power: float | None) -> str:
    rows = [
        [
            str(one.methods),
            f"none up to {_most_seeds()}" if one.seeds is None else str(one.seeds),
            "none" if one.difference is None else f"{100 * one.difference:.1f} points",
            _share(one),
        ]
        for one in plan.tables
    ]
    aim = "80 %" if power is None else f"{100 * power:g} %"
    lines = [
        *_supposed(plan),
        "",
        table(["methods", "seeds", "difference", "found in"], rows, right=(0,)),
        "",
        "found: p after Holm's correction below .05, all others being as good as the reference;",
        f"in brackets the 95 % error of {plan.tables[0].power.tables:,} simulated tables"
        if plan.tables[0].power
        else f"wanted: in {aim} of tables",
    ]
    for one in plan.tables:
        if one.images is not None:
            lines += ["", *_needed(plan, one, aim)]
        elif one.difference is None:
            lines += [
                "",
                f"{one.methods} methods, {one.seeds} seeds: no difference that the "
                f"expected recalls leave room for is found in {aim} of tables",
            ]
    return "\n".join(lines)


def _supposed(plan: StudyPlan) -> list[str]:
    law = plan.law
    images, counted = sum(plan.images), sum(law.counts)
    units = f", which count as {counted:,} by lesion or patient" if counted < images else ""
    lasting = sum(law.lasting) / len(law.counts)
    return [
        f"balanced accuracy over {len(plan.classes)} classes, {count(images, 'test image')} "
        f"({min(plan.images):,} to {max(plan.images):,} a class){units}",
        f"supposed: seed SD {100 * law.noise:.3g} {_points(law.noise)}, recalls "
        f"{_recalls(law.recalls)}, {100 * lasting:.0f} % of images alike in every seed, "
        f"{100 * (1 - law.own):.0f} % of these in every method",
    ]


def _points(share: float) -> str:
    return "point" if round(100 * share, 2) == 1 else "points"


def _recalls(recalls: tuple[float, ...]) -> str:
    low, high = min(recalls), max(recalls)
    return f"{high:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def _share(one: PlannedTable) -> str:
    if one.power is None:
        return "–"
    value, low, high = (100 * x for x in (one.power.value, one.power.low, one.power.high))
    return f"{value:.0f} % of tables ({low:.0f} to {high:.0f})"


def _most_seeds() -> int:
    from lmdbench.evaluation.planning import MOST_SEEDS

    return MOST_SEEDS


def _needed(plan: StudyPlan, one: PlannedTable, aim: str) -> list[str]:
    """How many test images would do, where no number of seeds does."""
    lines = [
        f"{one.methods} methods: no number of seeds up to {_most_seeds()} finds "
        f"{100 * (one.difference or 0):g} points in {aim} of tables on these test images; by the "
        "formula, these would:"
    ]
    for seeds, least in (one.images or {}).items():
        if least is None:
            lines.append(f"{seeds:>4} seeds  no number of images: the seeds vary too much")
            continue
        more = [
            f"{name} {counted:,} → {least:,}"
            for name, counted in zip(plan.classes, plan.law.counts, strict=True)
            if counted < least
        ]
        lines.append(f"{seeds:>4} seeds  {least:,} in each class that has fewer: {listed(more)}")
    return lines
