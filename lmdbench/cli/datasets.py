"""``lmdbench datasets``: which data sets there are, and what a split of one holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import (
    data_root_option,
    json_option,
    make_dataset,
    only,
    plugin_option,
    split_options,
)
from lmdbench.cli.text import table

if TYPE_CHECKING:
    from lmdbench.data.choice import SplitChoice
    from lmdbench.data.dataset import Dataset, Split


@click.group(invoke_without_command=True)
@plugin_option
@json_option
@click.pass_context
def datasets(context: click.Context, as_json: bool) -> None:
    """List the data sets, or show the split of one."""
    if context.invoked_subcommand is not None:
        return
    from lmdbench.data.dataset import DATASETS

    kinds = [DATASETS.get(name) for name in DATASETS.names()]
    if as_json:
        listing = [
            {
                "name": kind.name,
                "title": kind.title,
                "classes": len(kind.class_sizes) or None,
                "images": sum(kind.class_sizes.values()) or None,
                "licence": kind.licence,
                "source": kind.source,
                "synthetic": kind.synthetic,
            }
            for kind in kinds
        ]
        click.echo(json.dumps(listing, indent=2))
        return
    rows = [
        [
            kind.name,
            str(len(kind.class_sizes) or "yours"),
            f"{sum(kind.class_sizes.values()):,}" if kind.class_sizes else "yours",
            kind.licence,
            kind.title + (" (synthetic)" if kind.synthetic else ""),
        ]
        for kind in kinds
    ]
    click.echo(table(["name", "classes", "images", "licence", "title"], rows, right=(1, 2)))
    for plugin, problem in DATASETS.broken.items():
        click.echo(f"plug-in {plugin} does not load: {problem}", err=True)
    click.echo("\nlmdbench datasets show NAME: classes, parts and fingerprints of a split")


@datasets.command()
@click.argument("name")
@data_root_option
@split_options
@click.option(
    "--allow-missing", is_flag=True, help="Show what is left of the split with the images there."
)
@plugin_option
@json_option
@click.pass_context
def show(
    context: click.Context,
    name: str,
    data_root: Path | None,
    choices: list[SplitChoice],
    allow_missing: bool,
    as_json: bool,
) -> None:
    """Show a data set's split: its classes, parts and fingerprints. Needs the tables, no images."""
    from lmdbench.data.availability import missing_images, prepare_files, split_files
    from lmdbench.data.choice import make_split

    dataset = make_dataset(name, data_root)
    split = make_split(dataset, only(choices))
    missing = None  # unknown where the data set makes its images when they are first used
    if allow_missing:
        split = prepare_files(dataset, split, allow_missing=True).split
        missing = split.partial.missing if split.partial else 0
    elif not dataset.makes_images:
        missing = len(missing_images(split_files(dataset, split)))
    facts = _facts(dataset, split, missing)
    as_json |= bool(context.parent and context.parent.params.get("as_json"))
    click.echo(json.dumps(facts, indent=2) if as_json else _text(facts))


def _facts(dataset: Dataset, split: Split, missing: int | None) -> dict[str, Any]:
    parts = {
        name: {
            "images": len(part),
            "sha256": part.fingerprint,
            "counts": dict(zip(split.classes, split.counts(name).tolist(), strict=True)),
        }
        for name, part in split.parts.items()
    }
    partial = split.partial
    total = partial.total if partial else sum(len(part) for part in split.parts.values())
    return {
        "name": dataset.name,
        "title": dataset.title,
        "source": dataset.source,
        "licence": dataset.licence,
        "synthetic": dataset.synthetic,
        "results_name": dataset.results_name,
        "classes": list(split.classes),
        "split": {
            "name": split.name,
            "label": split.label,
            "seed": split.seed,
            "imbalance_factor": split.imbalance_factor,
            "measured_imbalance": split.measured_imbalance,
            "fingerprint": split.fingerprint,
            **split.details,
            "notes": list(split.notes),
        },
        "parts": parts,
        "groups": {name: list(members) for name, members in split.groups.items()},
        "group_rule": split.group_rule,
        "images_present": None if missing is None else total - missing,
        "images_missing": missing,
        "partial": partial
        and {
            "missing": partial.missing,
            "total": partial.total,
            "dropped_classes": list(partial.dropped_classes),
        },
    }


def _text(facts: dict[str, Any]) -> str:
    split, parts = facts["split"], facts["parts"]
    asked = "" if split["imbalance_factor"] is None else f" (asked: {split['imbalance_factor']:g})"
    seed = "" if split["seed"] is None else f", seed {split['seed']}"
    lines = [
        f"{facts['name']}: {facts['title']}" + (" (synthetic)" if facts["synthetic"] else ""),
        f"source     {facts['source']}",
        f"licence    {facts['licence']}",
        f"split      {split['label']}{seed}",
        *(f"           {note}" for note in split["notes"]),
        f"imbalance  {split['measured_imbalance']:.4g}{asked}",
        f"groups     {facts['group_rule'] or 'as given'}",
    ]
    if facts["images_missing"] is None:
        lines.append("images     made on first use")
    else:
        total = facts["images_present"] + facts["images_missing"]
        lines.append(f"images     {facts['images_present']:,} of {total:,} are there")
    if facts["partial"]:
        dropped = ", ".join(facts["partial"]["dropped_classes"]) or "none"
        lines.append(f"partial    classes without images in train or test, left out: {dropped}")

    group_of = {label: group for group, members in facts["groups"].items() for label in members}
    trained = parts["train"]["counts"]
    order = sorted(facts["classes"], key=lambda label: -trained[label])
    rows = [
        [label, group_of.get(label, ""), *(f"{part['counts'][label]:,}" for part in parts.values())]
        for label in order
    ]
    for group, members in facts["groups"].items():
        sums = (sum(part["counts"][label] for label in members) for part in parts.values())
        rows.append([f"all of {group}", "", *(f"{n:,}" for n in sums)])
    rows.append(["all", "", *(f"{part['images']:,}" for part in parts.values())])
    numbers = range(2, 2 + len(parts))
    return "\n".join(
        [
            *lines,
            "",
            table(["class", "group", *parts], rows, right=numbers),
            "",
            "fingerprints (SHA-256 of the sorted image ids; of the split: with class and part)",
            *(f"{name:<10} {part['sha256']}" for name, part in parts.items()),
            f"{'split':<10} {split['fingerprint']}",
        ]
    )
