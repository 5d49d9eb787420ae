"""``lmdbench run``: train a method on a data set, with everything it starts from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import (
    data_root_option,
    default_cache,
    execution_option,
    groups_option,
    json_option,
    parse_device,
    parse_numbers,
    parse_size,
    plugin_option,
    precision_option,
    results_option,
    split_options,
    stop_on_sigterm,
)
from lmdbench.core.errors import Interrupted, RunFailed, UserError

if TYPE_CHECKING:
    import torch

    from lmdbench.core.progress import Progress
    from lmdbench.data.dataset import Dataset
    from lmdbench.data.splits.spec import SplitChoice
    from lmdbench.runs.options import RunOptions
    from lmdbench.runs.plan import PlannedRun
    from lmdbench.training.loggers import Log


@click.command()
@click.option("--method", required=True, metavar="NAME", help="See `lmdbench methods`.")
@click.option("--dataset", required=True, metavar="NAME", help="See `lmdbench datasets`.")
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
    help="Start from another method, or from one finished run.",
)
@split_options
@groups_option
@data_root_option
@click.option(
    "--allow-missing", is_flag=True, help="Go on with the images there are; marks it as partial."
)
@click.option(
    "--backbone",
    metavar="NAME",
    help="Such as resnet18, or frozen/resnet18.  [default: the data set's]",
)
@click.option(
    "--weights",
    metavar="none|imagenet|FILE",
    help="What the backbone begins with.  [default: the data set's]",
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
@results_option
@plugin_option
@click.option(
    "--log",
    type=click.Choice(["tensorboard"]),
    help="Write event files, too, into tensorboard/ of each run that is trained.",
)
@click.option(
    "--validate-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="EPOCHS",
    help="Score the validation images in each Nth epoch only, and in the last.",
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
    choices: list[SplitChoice],
    groups: str | None,
    data_root: Path | None,
    allow_missing: bool,
    backbone: str | None,
    weights: str | None,
    image_size: str | None,
    selection: str,
    precision: str,
    device: str,
    execution: str,
    results: Path,
    log: Log | None,
    validate_every: int,
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
    """
    stop_on_sigterm()
    chosen_seeds = parse_numbers(seeds, "--seeds")
    overrides = parse_assignments(assignments)

    # Names are checked before anything is read: a typing mistake should not cost a minute.
    from lmdbench.runs.plan import check_interval
    from lmdbench.training.loggers import check_log
    from lmdbench.training.method import METHODS

    size = None if image_size is None else parse_size(image_size)
    METHODS.get(method)
    check_log(log)
    check_interval(selection, validate_every)  # type: ignore[arg-type]

    from lmdbench.core.progress import watcher
    from lmdbench.runs.options import RunOptions
    from lmdbench.runs.request import Contexts, RunContext, RunRequest

    progress = watcher(quiet)
    contexts = Contexts(results, default_cache(), files=not dry_run, say=progress.say)
    chosen_device = parse_device(device)
    planned: list[list[PlannedRun]] = []  # for each split: one, or the folds
    for choice in choices:
        asked = RunContext(
            dataset=dataset,
            data_root=data_root,
            split=replace(choice, groups=groups),
            allow_missing=allow_missing,
            backbone=backbone,
            weights=weights,
            image_size=size,
            selection=selection,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
        )
        context = contexts.of(asked)
        requests = (RunRequest(asked, method, n, overrides, starts_from) for n in chosen_seeds)
        planned.append([request.plan(context) for request in requests])
    for runs in planned:
        announce(runs, progress)
    everything = [run for runs in planned for run in runs]
    if dry_run:
        if as_json:
            records = [plan_record(run) for run in everything]
            click.echo(json.dumps(records, indent=2, ensure_ascii=False))
        return
    options = RunOptions(
        force=force,
        accept_changed=accept_changed,
        log=log,
        validate_every=validate_every,
        execution=execution,  # type: ignore[arg-type]
    )
    failed: dict[Path, RunFailed] = {}
    for runs in planned:
        failed |= train(
            runs,
            chosen_device,
            progress,
            options,
        )
    finished = [run for run in everything if run.directory not in failed]
    report(finished, as_json=as_json, quiet=quiet)
    if failed:
        reasons = "; ".join(str(error) for error in failed.values())
        raise RunFailed(f"{len(failed)} of {len(everything)} runs failed: {reasons}")


def train(
    runs: list[PlannedRun],
    device: torch.device,
    progress: Progress,
    options: RunOptions,
) -> dict[Path, RunFailed]:
    """Open the store and carry the runs out in turn. Returns what failed, by directory."""
    from lmdbench.data.store.store import open_store
    from lmdbench.models.backbones import build_encoder
    from lmdbench.runs.train import Workplace, execute, refuse_stale

    context = runs[0].context
    check_writable(context.results)
    failed: dict[Path, RunFailed] = {}
    try:
        firsts = [r.chain[0] for r in runs if r.state != "finished"]
        if any(first.state != "finished" and not first.given for first in firsts):
            # Weights that lack are told before images are prepared.
            build_encoder(context.backbone, context.weights)
        store = open_store(context.prepared, context.image_size, default_cache(), progress.prepare)
        place = Workplace(store, device, progress, options)
        refuse_stale(runs, place)
        for planned in runs:
            try:
                execute(planned, place)
            except RunFailed as error:
                failed[planned.directory] = error
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; every finished epoch is saved: the same command goes on from there"
        ) from None
    finally:
        progress.end()
    return failed


def check_writable(results: Path) -> None:
    """Raise UserError for a results folder that can't be made or written to."""
    from lmdbench.core.files import disk_errors

    with disk_errors(results):
        try:
            results.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"--results {results}: a file is in the way") from None


def announce(runs: list[PlannedRun], progress: Progress) -> None:
    """Say what is there, what will be trained, and what each run starts from."""
    from lmdbench.data.groups import in_words
    from lmdbench.runs.plan import nearest

    context = runs[0].context
    split, data = context.prepared.split, context.prepared.dataset
    sizes = " · ".join(f"{len(part):,} {name}" for name, part in split.parts.items())
    notes = [split.partial and str(split.partial), _synthetic(data), *split.notes]
    progress.say(f"{data.results_name} {split.label}: {sizes} images, {len(split.classes)} classes")
    for note in filter(None, notes):
        progress.say(f"  {note}")
    progress.say(f"groups: {in_words(split.groups, split.group_rule)}")
    progress.say(
        f"{context.backbone.name}, weights {context.weights.identity[:60]}, "
        f"{context.image_size} px, {context.selection} epoch"
    )
    if context.backbone.frozen:
        progress.say("  frozen encoder: features of the test view, so no augmentation has a part")
    for link in {link.directory: link for run in runs for link in run.chain}.values():
        start = f" from {link.ancestor.spec.method}" if link.ancestor else ""
        progress.say(f"  {link.title}{start}: {state_text(link)}  {link.directory}")
        near = nearest(link) if link.state == "missing" else None
        if near is not None:
            where, differences = near
            there = ", ".join(f"{k} {old} → {new}" for k, (old, new) in differences.items())
            progress.say(f"    nearest there is: {where.name}, which differs in {there}")


def state_text(run: PlannedRun) -> str:
    """What will become of a planned run."""
    from lmdbench.runs.plan import staleness

    stale = staleness(run)
    if stale:
        return f"{run.state}, but {stale}"
    texts = {
        "missing": f"to train ({run.length_text})",
        "interrupted": "interrupted, goes on",
        "failed": "failed before, is tried again",
        "running": "being trained by another process",
    }
    return texts.get(run.state, run.state)


def report(runs: list[PlannedRun], *, as_json: bool, quiet: bool) -> None:
    """The scores of the finished runs and where they lie."""
    from lmdbench.data.groups import in_words
    from lmdbench.evaluation.metrics import images_per_group, missing, scores
    from lmdbench.evaluation.predictions import load_predictions

    if not runs or (quiet and not as_json):
        return
    records = []
    for run in runs:
        split = run.context.prepared.split
        groups = {
            group: [split.classes.index(name) for name in members]
            for group, members in split.groups.items()
        }
        parts = load_predictions(run.directory / "predictions.npz")
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
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
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


def _synthetic(data: Dataset) -> str | None:
    return "synthetic images, drawn by a program" if data.synthetic else None


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
