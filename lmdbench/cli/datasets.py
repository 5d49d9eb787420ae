"""``lmdbench datasets``: which data sets there are, and what a split of one holds."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.completion import complete
from lmdbench.cli.options import (
    data_root_option,
    groups_option,
    json_option,
    make_dataset,
    only,
    plugin_option,
    skip_damaged_option,
    split_options,
)
from lmdbench.cli.text import json_text, table
from lmdbench.core.errors import UserError
from lmdbench.core.files import write_text
from lmdbench.core.folders import default_cache, expanded
from lmdbench.core.words import both_ends, listed, some

NAMED = 3  # damaged images that a line names

# Whose settings a recipe replaces: a key of ``Dataset.recipes`` that is no method → in words
RECIPES_OF = {"all": "methods that train the whole network", "head": "methods that train a head"}

if TYPE_CHECKING:
    from lmdbench.data.dataset import Dataset, Split
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.data.store.resolutions import Resolutions


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
        click.echo(json_text(listing))
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
@click.argument("name", shell_complete=complete("datasets"))
@data_root_option
@split_options
@groups_option
@click.option(
    "--allow-missing", is_flag=True, help="Show what is left of the split with the images there."
)
@skip_damaged_option
@click.option(
    "--plot",
    metavar="FILE",
    help="Draw the long tail, and examples of the images that are there: .png, .pdf or .svg.",
)
@click.option(
    "--save-split",
    metavar="FILE.csv",
    help="Write the split's images, labels and parts, for --split FILE.csv.",
)
@plugin_option
@json_option
@click.pass_context
def show(
    context: click.Context,
    name: str,
    data_root: Path | None,
    choices: list[SplitSpec],
    groups: str | None,
    allow_missing: bool,
    skip_damaged: bool,
    plot: str | None,
    save_split: str | None,
    as_json: bool,
) -> None:
    """Show a data set's split: its classes, parts and fingerprints. Needs the tables, no images.

    \b
    lmdbench datasets show isic2019 --data-root ~/data --plot isic2019.png
    lmdbench datasets show isic2019 --data-root ~/data --split lesion --save-split lesion.csv
    """
    from lmdbench.data.splits.availability import locate, prepare_files, split_files
    from lmdbench.data.splits.spec import make_split
    from lmdbench.data.store.resolutions import measure
    from lmdbench.data.store.survey import remembered_lines
    from lmdbench.data.vectors import refuse_vectors

    dataset = make_dataset(name, data_root)
    if dataset.recipes:
        from lmdbench.training.recipes import check_recipes

        check_recipes(f"data set {name!r}", dataset.recipes)
    if plot is not None:
        refuse_vectors(dataset.vectors, "--plot")
    picture = None if plot is None else _new_file("--plot", plot, (".png", ".pdf", ".svg"))
    listing = None if save_split is None else _new_file("--save-split", save_split, (".csv",))
    split = make_split(dataset, replace(only(choices), groups=groups))
    if picture is not None:
        dataset.materialise(lambda text: click.echo(text, err=True))
    there: dict[str, Path] | None = None  # unknown where images are made when first used
    missing = None
    told: list[str] = []  # of where images were found
    if allow_missing or skip_damaged:
        prepared = prepare_files(dataset, split, allow_missing, told.append)
        if skip_damaged:
            from lmdbench.runs.damaged import skip_damaged as without_damaged

            prepared = without_damaged(prepared, dataset.image_size, default_cache())
        split, there = prepared.split, dict(prepared.files)
        missing = split.partial.missing if split.partial else 0
    elif picture is not None or not dataset.makes_images:
        located = locate(dataset, split_files(dataset, split))
        there, missing = located.there, len(located.missing)
        told += [located.told] if located.told else []
    resolutions = measure(list(there.values())) if there else None
    facts = _facts(dataset, split, missing, resolutions)
    facts["pictures"] = list(remembered_lines(dataset, there, default_cache()))
    facts["remarks"] += told
    if picture is not None:
        from lmdbench.data.store.survey import take_survey
        from lmdbench.reporting.plots.dataset import plot_dataset
        from lmdbench.reporting.plots.figures import boxes

        survey = take_survey(dataset, there or {}, default_cache())
        unprinted = plot_dataset(dataset, split, there or {}, picture, survey.scale)
        if line := boxes(unprinted):
            click.echo(line, err=True)
        facts["plot"] = str(picture)
    if listing is not None:
        write_text(listing, split_table(split))
        facts["saved_split"] = str(listing)
    as_json |= bool(context.parent and context.parent.params.get("as_json"))
    click.echo(json_text(facts) if as_json else _text(facts))


def _new_file(option: str, text: str, endings: Sequence[str]) -> Path:
    """Raises UserError for a name with another ending, and for a file that is there already."""
    path = expanded(text)
    if path.suffix.lower() not in endings:
        raise UserError(f"{option} {text}: the name must end in {', '.join(endings)}")
    if path.exists():
        raise UserError(f"{option} {text}: is there already; give another name or move it away")
    if not path.parent.is_dir():
        raise UserError(f"{option} {text}: there is no folder {path.parent}")
    return path


def split_table(split: Split) -> str:
    """The split as CSV that ``--split FILE.csv`` reads: columns image, label and split."""
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(("image", "label", "split"))
    for name, part in split.parts.items():
        writer.writerows(
            (image, split.classes[label], name)
            for image, label in zip(part.ids, part.labels, strict=True)
        )
    return rows.getvalue()


def _facts(
    dataset: Dataset, split: Split, missing: int | None, resolutions: Resolutions | None
) -> dict[str, Any]:
    parts = {
        name: {
            "images": len(part),
            "sha256": part.fingerprint,
            "counts": dict(zip(split.classes, split.counts(name).tolist(), strict=True)),
        }
        for name, part in split.parts.items()
    }
    from lmdbench.data.reading import read_remarks

    partial, vectors = split.partial, dataset.vectors
    total = partial.total if partial else sum(len(part) for part in split.parts.values())
    return {
        "name": dataset.name,
        "title": dataset.title,
        "source": dataset.source,
        "licence": dataset.licence,
        "synthetic": dataset.synthetic,
        "results_name": dataset.results_name,
        "remarks": list(read_remarks(dataset)),
        "recipes": {key: dict(recipe) for key, recipe in dataset.recipes.items()},
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
        "features": vectors and {"by": vectors.name, "width": vectors.width},
        "resolutions": resolutions and asdict(resolutions),
        "partial": partial
        and {
            "missing": partial.missing,
            "total": partial.total,
            "dropped_classes": list(partial.dropped_classes),
            "damaged": list(partial.damaged),
        },
    }


def recipe_rows(recipes: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The defaults that a data set or a backbone brings: of which methods, and what, in words."""
    return [
        (RECIPES_OF.get(key, key), ", ".join(f"{name}={value}" for name, value in recipe.items()))
        for key, recipe in recipes.items()
    ]


def _text(facts: dict[str, Any]) -> str:
    split, parts = facts["split"], facts["parts"]
    asked = "" if split["imbalance_factor"] is None else f" (asked: {split['imbalance_factor']:g})"
    seed = "" if split["seed"] is None else f", seed {split['seed']}"
    lines = [
        f"{facts['name']}: {facts['title']}" + (" (synthetic)" if facts["synthetic"] else ""),
        f"source     {facts['source']}",
        f"licence    {facts['licence']}",
        *(f"read as    {remark}" for remark in facts["remarks"]),
        f"split      {split['label']}{seed}",
        *(f"           {note}" for note in split["notes"]),
        f"imbalance  {split['measured_imbalance']:.4g}{asked}",
        f"groups     {facts['group_rule'] or 'as given'}",
    ]
    recipes = [f"{which}: {what}" for which, what in recipe_rows(facts["recipes"])]
    for number, text in enumerate(recipes or ["each method's own"]):
        lines.append(f"{'' if number else 'recipe':<10} {text}")
    if facts["images_missing"] is None:
        lines.append("images     made on first use")
    else:
        total = facts["images_present"] + facts["images_missing"]
        lines.append(f"images     {facts['images_present']:,} of {total:,} are there")
        if facts["features"] is None:
            lines.append(f"sizes      {_sizes_text(facts['resolutions'])}")
        lines += [f"pictures   {remark}" for remark in facts["pictures"]]
    if facts["partial"]:
        if damaged := facts["partial"]["damaged"]:
            lines.append(f"damaged    {some(damaged, NAMED)}: left out")
        dropped = listed(facts["partial"]["dropped_classes"]) or "none"
        lines.append(f"partial    classes without images in train or test, left out: {dropped}")

    group_of = {label: group for group, members in facts["groups"].items() for label in members}
    trained = parts["train"]["counts"]
    order = sorted(facts["classes"], key=lambda label: -trained[label])
    rows = [
        [label, group_of.get(label, ""), *(f"{part['counts'][label]:,}" for part in parts.values())]
        for label in order
    ]
    rows = both_ends(rows, lambda n: [f"… {n:,} more (--json)", *[""] * (1 + len(parts))])
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
            *(f"written    {facts[key]}" for key in ("plot", "saved_split") if key in facts),
        ]
    )


def _sizes_text(sizes: dict[str, Any] | None) -> str:
    if sizes is None:
        return "no image here that can be read, no resolutions"
    smallest, median, largest = (
        "×".join(f"{side:,}" for side in sizes[name]) for name in ("smallest", "median", "largest")
    )
    formats = ", ".join(f"{name} {n:,}" for name, n in sizes["formats"].items())
    unreadable = f", {sizes['unreadable']:,} unreadable" if sizes["unreadable"] else ""
    return (
        f"{smallest} to {largest}, median {median}, {sizes['different']:,} different; {formats} "
        f"({sizes['read']:,} of {sizes['of']:,} headers read{unreadable})"
    )
