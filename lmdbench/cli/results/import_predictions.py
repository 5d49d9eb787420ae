"""``lmdbench results import-predictions``: a CSV of any code's predictions becomes a run."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.completion import complete, complete_backbone
from lmdbench.cli.options import (
    data_root_option,
    groups_option,
    only,
    parse_size,
    plugin_option,
    results_option,
    skip_damaged_option,
    split_options,
)
from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache

if TYPE_CHECKING:
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.runs.record import RunRecord
    from lmdbench.runs.request import RunContext
    from lmdbench.sharing.setting import SharedContext
    from lmdbench.sharing.table import TablePredictions


@click.command("import-predictions")
@click.argument("file", metavar="FILE.csv", type=click.Path(path_type=Path))
@click.option("--name", required=True, metavar="NAME", help="What the row is called, as my-loss.")
@click.option(
    "--like",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="The directory of a finished run: the split, and the table to stand in, are its own. "
    "Needs no other files.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    shell_complete=complete("datasets"),
    help="Without --like: see `lmdbench datasets`.",
)
@split_options
@groups_option
@data_root_option
@click.option("--allow-missing", is_flag=True, help="The split of the images there are, as in run.")
@skip_damaged_option
@click.option(
    "--validation",
    metavar="FILE.csv",
    type=click.Path(path_type=Path),
    help="Predictions of the validation images, if they are in a file of their own.",
)
@click.option("--seed", default="0", show_default=True, metavar="N", help="Of the training.")
@click.option(
    "--values",
    type=click.Choice(["auto", "logits", "probabilities"]),
    default="auto",
    show_default=True,
    help="auto: probabilities if all lie in [0, 1] and rows add up to 1.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting to record, of your own naming (repeatable); other settings are another row.",
)
@click.option(
    "--backbone",
    metavar="NAME",
    shell_complete=complete_backbone,
    help="[default: as --like, else the data set's]",
)
@click.option("--weights", metavar="none|imagenet|…", help="[default: likewise]")
@click.option("--tuning", metavar="full|head|lora|…", help="[default: likewise, full]")
@click.option("--image-size", metavar="PIXELS", help="[default: likewise]")
@click.option("--selection", type=click.Choice(["last", "best"]), help="[default: likewise, last]")
@click.option(
    "--precision", type=click.Choice(["mixed", "float32"]), help="[default: likewise, mixed]"
)
@results_option
@plugin_option
@click.option("--dry-run", is_flag=True, help="Check and score, but write nothing.")
def import_predictions(
    file: Path,
    name: str,
    like: Path | None,
    dataset: str | None,
    choices: list[SplitSpec],
    groups: str | None,
    data_root: Path | None,
    allow_missing: bool,
    skip_damaged: bool,
    validation: Path | None,
    seed: str,
    values: str,
    assignments: tuple[str, ...],
    backbone: str | None,
    weights: str | None,
    tuning: str | None,
    image_size: str | None,
    selection: str | None,
    precision: str | None,
    results: Path,
    dry_run: bool,
) -> None:
    """Make a run of the predictions in a CSV file (or .csv.gz), from any code.

    The file has a column with the images' ids and a column for each class, of logits or
    probabilities, and all test images of the split; all validation images, too, or none.

    \b
    lmdbench results import-predictions mine.csv --name my-loss --like results/…/ce/seed0-1a2b3c4d
    lmdbench results import-predictions mine.csv --name my-loss --dataset isic2019
        --data-root ~/data --seed 1
    """
    chosen_seed = _seed(seed)
    settings = _settings(assignments)
    _check_name(name)
    choice = replace(only(choices), groups=groups)
    changes: dict[str, Any] = {
        "selection": selection,
        "precision": precision,
        "image_size": None if image_size is None else parse_size(image_size),
        "tuning": None if tuning is None else _tuning(tuning),
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    stated = {*changes, *(k for k, v in (("backbone", backbone), ("weights", weights)) if v)}
    if like is not None:
        setting = _like(like, dataset, choice, backbone, weights, changes)
    elif dataset is None:
        raise UserError("say which split these are of: --like RUN, or --dataset NAME")
    else:
        from lmdbench.runs.request import RunContext

        setup = RunContext(
            dataset,
            data_root,
            choice,
            allow_missing,
            backbone,
            weights,
            skip_damaged=skip_damaged,
        )
        setting = _of(setup, changes, results)

    from lmdbench.sharing.imported import place_predictions, predictions_record
    from lmdbench.sharing.table import read_predictions

    files = [file] if validation is None else [file, validation]
    read = read_predictions(files, setting, values)  # type: ignore[arg-type]
    record = predictions_record(setting, name, chosen_seed, settings, files, read, stated)
    directory = results / record.key
    _announce(record, setting, read)
    _say_where_it_stands(record, read, results)
    if dry_run:
        click.echo(f"to import: {directory}")
    elif place_predictions(directory, record, read.parts):
        click.echo(f"results: {directory}")
    else:
        click.echo(f"already there, with the same predictions: {directory}")


def _seed(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise UserError(f"--seed {text!r}: give one number from 0 on")
    return int(text)


def _tuning(text: str) -> str:
    """A tuning as it identifies runs. Raises UserError for ``head``, which a backbone says."""
    from lmdbench.models.tuning import parse_tuning

    tuning = parse_tuning(text)
    if tuning.kind == "head":
        raise UserError("--tuning head: say it of the backbone, as in --backbone frozen/resnet18")
    return str(tuning)


def _settings(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Settings by name: numbers, true, false and null as such, all else as text."""
    from lmdbench.cli.run import parse_assignments

    settings: dict[str, Any] = {}
    for key, text in parse_assignments(assignments).items():
        try:
            value = json.loads(text, parse_constant=str)
        except ValueError:
            value = text
        plain = isinstance(value, str | int | None) or (
            isinstance(value, float) and math.isfinite(value)
        )
        settings[key] = value if plain else text
    return settings


def _check_name(name: str) -> None:
    """Raises UserError for a name that no method could have, or that one has."""
    from lmdbench.training.method import METHODS

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(f"--name {name!r}: letters, digits, - and _ only, as in my-loss")
    if name in METHODS.names():
        raise UserError(
            f"--name {name} is a method of lmdbench: its rows would mix with runs trained here; "
            f"give another, such as my-{name}"
        )


def _like(
    directory: Path,
    dataset: str | None,
    choice: SplitSpec,
    backbone: str | None,
    weights: str | None,
    changes: dict[str, Any],
) -> SharedContext:
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.sharing.setting import setting_like

    if choice != SplitSpec():
        raise UserError("--like brings its split and groups along: leave the options of these out")
    changes |= {k: v for k, v in (("backbone", backbone), ("weights", weights)) if v is not None}
    setting = setting_like(directory, changes)
    if dataset not in (None, setting.record.spec.dataset, setting.record.results_name):
        raise UserError(
            f"--dataset {dataset}: the run of --like is of {setting.record.results_name}; leave "
            "one of them out"
        )
    return setting


def _of(setup: RunContext, changes: dict[str, Any], results: Path) -> SharedContext:
    """The setting of a set-up's runs. Backbones and weights that lmdbench has no name for are
    recorded as they are said."""
    from lmdbench.models.backbone import FROZEN_NAME
    from lmdbench.models.backbones import BACKBONES, is_of_library
    from lmdbench.runs.request import Contexts
    from lmdbench.sharing.setting import setting_of

    backbone = setup.backbone
    known = (
        backbone is None
        or backbone in BACKBONES
        or FROZEN_NAME.match(backbone) is not None
        or is_of_library(backbone)
    )
    if not known:
        changes |= {"backbone": backbone, "weights": setup.weights or "none"}
        setup = replace(setup, backbone=None, weights=None)
    contexts = Contexts(
        results, default_cache(), files=False, say=lambda text: click.echo(text, err=True)
    )
    return setting_of(contexts.of(setup), changes)


def _announce(record: RunRecord, setting: SharedContext, read: TablePredictions) -> None:
    """What was read, and its scores: whoever made it knows what they should be."""
    from lmdbench.evaluation.metrics import DEFAULT_METRICS, METRICS, scores

    spec = record.spec
    sizes = " and ".join(
        f"{len(read.parts[p]):,} {p}" for p in ("test", "validation") if p in read.parts
    )
    click.echo(f"{spec.method} seed {spec.seed} on {setting.title}: {sizes} images")
    for note in read.notes:
        click.echo(note)
    zeros = f", {read.zeros:,} zeros as nearly zero" if read.zeros else ""
    logarithms = f", stored as their logarithms{zeros}" if read.values == "probabilities" else ""
    click.echo(f"values: {read.values}{logarithms}")
    test = read.parts["test"]
    index = {name: k for k, name in enumerate(setting.classes)}
    groups = {g: [index[name] for name in names] for g, names in record.groups.items()}
    found = scores(test.labels, test.logits, groups)
    titles = {name: METRICS[name].title for name in DEFAULT_METRICS}
    words = [
        f"{titles.get(name, name)} {'–' if found[name] is None else f'{found[name]:.1%}'}"
        for name in (*DEFAULT_METRICS, *groups)
    ]
    click.echo(f"test: {' · '.join(words)}")


def _say_where_it_stands(record: RunRecord, read: TablePredictions, results: Path) -> None:
    """Which runs share a table with these predictions, or what keeps them apart; and which seed of
    the same name has the same ones."""
    from lmdbench.comparison.results import Run, in_words, read_results
    from lmdbench.runs.whole import saved_predictions
    from lmdbench.sharing.check import same_predictions

    own = Run(results, record).setting
    beside: set[str] = set()
    apart = ""
    for run in read_results(results).runs:
        other = run.setting
        if run.id == record.id or other["split_fingerprint"] != own["split_fingerprint"]:
            continue
        differing = [
            name
            for name in own
            if own[name] != other[name] and (name, own[name]) != ("store", None)
        ]
        if run.method == record.spec.method and same_predictions(
            saved_predictions(run.directory, run.record), read.parts
        ):
            click.echo(f"seed {run.seed} has the very same predictions: is it the right file?")
        if not differing:
            beside.add(run.method)
        elif not apart:
            here, there = (", ".join(in_words(n, s[n]) for n in differing) for s in (own, other))
            apart = f"{here}, where {run.method} has {there}; --like {run.directory} joins it"
    if beside:
        click.echo(f"table: together with {', '.join(sorted(beside))}")
    elif apart:
        click.echo(f"table: of its own: {apart}")
    else:
        click.echo("table: of its own; no other run of this split is here")
