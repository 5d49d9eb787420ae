"""``lmdbench run``: train a method on a data set, with everything it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.completion import complete, complete_backbone
from lmdbench.cli.options import (
    data_root_option,
    dataset_option,
    deterministic_option,
    execution_option,
    groups_option,
    json_option,
    parse_device,
    parse_numbers,
    parse_size,
    plugin_option,
    precision_option,
    results_option,
    skip_damaged_option,
    split_options,
    stop_on_sigterm,
)
from lmdbench.cli.text import json_text
from lmdbench.core.errors import RunFailed, UserError
from lmdbench.core.folders import default_cache

if TYPE_CHECKING:
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.runs.plan import PlannedRun
    from lmdbench.runs.request import Contexts, RunContext

# Parameters that a refit takes from the run
OF_A_REFIT = (
    *("seeds", "assignments", "starts_from", "backbone", "tuning", "image_size"),
    *("selection", "precision"),
)


@click.command()
@click.option(
    "--method",
    required=True,
    metavar="NAME",
    shell_complete=complete("methods"),
    help="See `lmdbench methods`.",
)
@dataset_option
@click.option(
    "--seeds", default="0", show_default=True, metavar="LIST", help="Such as 0, 0-4 or 0,2,5."
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the method, or ANCESTOR.KEY=VALUE of what it starts from (repeatable).",
)
@click.option(
    "--starts-from",
    metavar="NAME|ID|DIR",
    shell_complete=complete("methods"),
    help="Start from another method, or from one finished run.",
)
@click.option(
    "--refit",
    "refits",
    multiple=True,
    metavar="RUN",
    help="Train a finished run, its directory or id, once more on training and validation images "
    "together, as long as it was selected for (repeatable).",
)
@split_options
@groups_option
@data_root_option
@click.option(
    "--allow-missing", is_flag=True, help="Go on with the images there are; marks it as partial."
)
@skip_damaged_option
@click.option(
    "--backbone",
    metavar="NAME",
    shell_complete=complete_backbone,
    help="Such as resnet18, frozen/resnet18, timm/NAME or torchvision/NAME.  "
    "[default: the data set's]",
)
@click.option(
    "--weights",
    metavar="none|imagenet|pretrained|FILE",
    help="What the backbone begins with.  [default: the data set's]",
)
@click.option(
    "--weights-partial",
    is_flag=True,
    help="Take what fits of a FILE; what it lacks, or has in another shape, stays random.",
)
@click.option(
    "--tuning",
    metavar="full|head|lora|…",
    help="How much of the backbone is trained; adapter, norm or last-blocks=N, too.  [default: "
    "full]",
)
@click.option(
    "--feature-views",
    type=click.IntRange(0, 999),
    default=0,
    metavar="K",
    help="Of a frozen backbone: encode K strong views of each training image, of which each step "
    "takes one at random.  [default: 0, the test view alone]",
)
@click.option("--image-size", metavar="PIXELS", help="Side.  [default: the data set's]")
@click.option(
    "--selection",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="The last epoch, or the best by validation balanced accuracy; for the whole chain.",
)
@precision_option
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@execution_option
@deterministic_option
@results_option
@plugin_option
@click.option(
    "--log",
    "loggers",
    shell_complete=complete("loggers"),
    multiple=True,
    metavar="NAME",
    help="Tell a logger, too, such as tensorboard; see `lmdbench list loggers` (repeatable).",
)
@click.option(
    "--validate-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="EPOCHS",
    help="Score the validation images in each Nth epoch only, and in the last.",
)
@click.option(
    "--checkpoint-every",
    default="auto",
    show_default=True,
    metavar="auto|EPOCHS|MINUTESm",
    help="Save what a killed run goes on from in each Nth epoch only, or after so many minutes "
    "(10m), and in the last epoch; auto: in each, unless that would take a tenth of the time.",
)
@click.option(
    "--keep-weights",
    type=click.Choice(["all", "heads", "none"]),
    default="all",
    show_default=True,
    help="Of a finished run; heads: what is not the encoder. What it starts from keeps all.",
)
@click.option("--dry-run", is_flag=True, help="Show what exists and what would be trained.")
@click.option("--force", is_flag=True, help="Train anew; a finished run is moved aside.")
@click.option(
    "--accept-changed", is_flag=True, help="Trust runs made by code or images that changed since."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@json_option
def run(
    method: str,
    dataset: str,
    seeds: str,
    assignments: tuple[str, ...],
    starts_from: str | None,
    refits: tuple[str, ...],
    choices: list[SplitSpec],
    groups: str | None,
    data_root: Path | None,
    allow_missing: bool,
    skip_damaged: bool,
    backbone: str | None,
    weights: str | None,
    weights_partial: bool,
    tuning: str | None,
    feature_views: int,
    image_size: str | None,
    selection: str,
    precision: str,
    device: str,
    execution: str,
    deterministic: bool,
    results: Path,
    loggers: tuple[str, ...],
    validate_every: int,
    checkpoint_every: str,
    keep_weights: str,
    dry_run: bool,
    force: bool,
    accept_changed: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a method on a data set, with everything it starts from, and print its scores.

    Runs that exist are not trained again; one that was interrupted goes on where it stopped.

    \b
    lmdbench run --method lmd --dataset demo
    lmdbench run --method crt --dataset isic2019 --data-root ~/data --seeds 0-4
    lmdbench run --method lmd --dataset demo --set rounds=5 --set rrl.epochs=3 --dry-run
    lmdbench run --method crt --dataset isic2019 --data-root ~/data --refit 4f0c2a91
    """
    stop_on_sigterm()
    if refits:
        _refuse_what_a_refit_has()
    chosen_seeds = parse_numbers(seeds, "--seeds")
    overrides = parse_assignments(assignments)

    size = None if image_size is None else parse_size(image_size)

    from lmdbench.core.progress import watcher
    from lmdbench.runs.options import RunOptions, checkpoint_interval
    from lmdbench.runs.request import Contexts, RunContext
    from lmdbench.runs.session import announce_all, check_weights, plan_runs, train_runs

    try:
        interval = checkpoint_interval(checkpoint_every)
    except ValueError as problem:
        raise UserError(f"--checkpoint-every {checkpoint_every}: give {problem}") from None
    progress = watcher(quiet)
    chosen_device = parse_device(device)
    options = RunOptions(
        force=force,
        accept_changed=accept_changed,
        log=loggers,
        validate_every=validate_every,
        execution=execution,  # type: ignore[arg-type]
        deterministic=deterministic,
        checkpoint_every=interval,
        keep_weights=keep_weights,  # type: ignore[arg-type]
    )
    contexts = [
        RunContext(
            dataset=dataset,
            data_root=data_root,
            split=replace(choice, groups=groups),
            allow_missing=allow_missing,
            skip_damaged=skip_damaged,
            backbone=backbone,
            weights=weights,
            weights_partial=weights_partial,
            feature_views=feature_views,
            image_size=size,
            selection=selection,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            tuning=tuning,
        )
        for choice in choices  # one, or the folds
    ]
    cache = default_cache()
    resolved = Contexts(
        results, cache, files=not dry_run, say=progress.say, progress=progress.prepare
    )
    if refits:
        planned = planned_refits(refits, contexts, method, resolved)
    else:
        planned = plan_runs(
            contexts, method, chosen_seeds, overrides, starts_from, resolved, options
        )
    everything = [run for runs in planned for run in runs]
    if not dry_run:
        check_weights(everything, progress.say)
    announce_all(planned, progress)
    if dry_run:
        if as_json:
            records = [plan_record(run) for run in everything]
            click.echo(json_text(records))
        return
    failed: dict[Path, RunFailed] = {}
    for runs in planned:
        failed |= train_runs(runs, chosen_device, cache, progress, options)
    finished = [run for run in everything if run.directory not in failed]
    report(finished, as_json=as_json, quiet=quiet)
    if failed:
        reasons = "; ".join(str(error) for error in failed.values())
        raise RunFailed(f"{len(failed)} of {len(everything)} runs failed: {reasons}")


def _refuse_what_a_refit_has() -> None:
    """Raise UserError for options that say what a refit takes from the run."""
    context = click.get_current_context()
    said = click.core.ParameterSource.COMMANDLINE
    for name in OF_A_REFIT:
        if context.get_parameter_source(name) is said:
            option = next(p for p in context.command.params if p.name == name).opts[0]
            raise UserError(f"{option} goes without --refit, which takes it from the run")


def planned_refits(
    refits: Sequence[str], contexts: Sequence[RunContext], method: str, resolved: Contexts
) -> list[list[PlannedRun]]:
    """The refits of finished runs of a method, each in that of the contexts, folds of one split,
    which has its split."""
    from lmdbench.runs.record import read_record
    from lmdbench.runs.refit import plan_refit
    from lmdbench.runs.state import find_run

    planned = []
    for name in refits:
        directory = find_run(name, resolved.results)
        spec = read_record(directory).spec
        if spec.method != method:
            raise UserError(f"--refit {name}: a run of {spec.method}, not of --method {method}")
        of_run = [
            replace(
                context,
                backbone=spec.backbone,
                image_size=spec.image_size or None,
                precision=spec.precision,
                tuning=None if spec.tuning == "full" else spec.tuning,
            )
            for context in contexts
        ]
        found = [resolved.of(context) for context in of_run]
        fitting = next((one for one in found if one.split_identity == spec.split), found[0])
        planned.append([plan_refit(fitting, directory)])
    return planned


def report(runs: list[PlannedRun], *, as_json: bool, quiet: bool) -> None:
    """The scores of the finished runs and where they lie."""
    from lmdbench.data.groups import in_words
    from lmdbench.evaluation.metrics import images_per_group, missing, scores
    from lmdbench.runs.whole import saved_predictions

    if not runs or (quiet and not as_json):
        return
    records = []
    for run in runs:
        split = run.context.prepared.split
        groups = {
            group: [split.classes.index(name) for name in members]
            for group, members in split.groups.items()
        }
        parts = saved_predictions(run.directory, run.record())
        results = {part: scores(p.labels, p.logits, groups) for part, p in parts.items()}
        records.append({**plan_record(run), "scores": results})
        if as_json:
            continue
        from rich.console import Console

        from lmdbench.reporting.tables import scores_table

        images = {
            part: images_per_group(p.labels, groups, len(split.classes))
            for part, p in parts.items()
        }
        reasons = {part: missing(p.labels, p.logits, groups) for part, p in parts.items()}
        click.echo(
            f"\n{run.spec.method} on {run.spec.results_name} {split.label}, seed {run.spec.seed}"
        )
        Console(highlight=False).print(scores_table(results, images, reasons))
        click.echo(f"results: {run.directory}")
    if as_json:
        click.echo(json_text(records))
        return
    splits = [run.context.prepared.split for run in runs]
    for words in dict.fromkeys(in_words(split.groups, split.group_rule) for split in splits):
        click.echo(f"\ngroups: {words}")
    if any(_recorded_groups(run) != run.context.prepared.split.groups for run in runs):
        click.echo(
            "these runs were recorded with other groups, which `lmdbench compare` shows: give it "
            "the same --groups"
        )
    if len(runs) > 1:
        together = "folds and seeds" if "fold" in runs[0].spec.split else "seeds"
        where = runs[0].context.results
        click.echo(f"\nAll {together} together: lmdbench compare --results {where}")


def _recorded_groups(run: PlannedRun) -> dict[str, tuple[str, ...]]:
    return {group: tuple(labels) for group, labels in run.record().groups.items()}


def plan_record(run: PlannedRun) -> dict[str, Any]:
    """A planned run and what it starts from, as plain data."""
    return {
        "method": run.spec.method,
        "seed": run.spec.seed,
        "id": run.spec.id,
        "state": run.state,
        "directory": str(run.directory),
        "settings": dict(run.spec.settings),
        "starts_from": run.ancestor and plan_record(run.ancestor),
    }


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, str]:
    """``key=value`` texts by key. Raises UserError for one without ``=`` or a key given twice."""
    overrides: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {assignment!r}: give it as key=value, such as --set epochs=20")
        if key.strip() in overrides:
            raise UserError(f"--set {key.strip()} is given twice")
        overrides[key.strip()] = value.strip()
    return overrides
