"""Runs that one process plans and carries out in turn, and what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

from lmdbench.core.environment import lost_device
from lmdbench.core.errors import Damaged, DeviceLost, Interrupted, RunFailed
from lmdbench.core.files import check_writable
from lmdbench.core.progress import Progress
from lmdbench.core.words import pixels
from lmdbench.data.groups import in_words
from lmdbench.data.reading import read_remarks
from lmdbench.data.store.store import open_store
from lmdbench.models.backbones import build_encoder, is_of_features
from lmdbench.runs.execution import execute, refuse_stale
from lmdbench.runs.options import AUTO, RunOptions
from lmdbench.runs.plan import PlannedRun, check_interval, nearest, staleness
from lmdbench.runs.request import Contexts, RunContext, RunRequest
from lmdbench.runs.whole import damage, suspect
from lmdbench.runs.workplace import Workplace
from lmdbench.training.loggers import check_loggers
from lmdbench.training.method import METHODS


def plan_runs(
    contexts: Sequence[RunContext],
    method: str,
    seeds: Iterable[int],
    overrides: Mapping[str, str],
    starts_from: str | None,
    resolved: Contexts,
    options: RunOptions,
) -> list[list[PlannedRun]]:
    """For each context the runs of a method, one a seed; see ``RunRequest``.

    Names and options are checked before anything is read: a typing mistake should not cost a
    minute. Raises UserError.
    """
    METHODS.get(method)
    check_loggers(options.log)
    for context in contexts:
        check_interval(context.selection, options.validate_every)
    seeds = list(seeds)
    return [
        [
            RunRequest(context, method, seed, overrides, starts_from).plan(resolved.of(context))
            for seed in seeds
        ]
        for context in contexts
    ]


def check_weights(runs: Iterable[PlannedRun], say: Callable[[str], None]) -> None:
    """Raise UserError for weights that the runs would begin with and that can't be had; what is
    published is fetched. ``say`` is told, once, what of them does not fit as it is."""
    firsts = {run.chain[0].directory: run.chain[0] for run in runs if run.state != "finished"}
    needed = {
        (first.spec.backbone, first.spec.weights): first.context
        for first in firsts.values()
        if first.context.weights.source != "none" and first.state != "finished" and not first.given
    }
    for context in needed.values():
        build_encoder(context.backbone, context.weights, say)


def train_runs(
    runs: Sequence[PlannedRun],
    device: torch.device,
    cache: Path,
    progress: Progress,
    options: RunOptions,
) -> dict[Path, RunFailed]:
    """Open the store and carry the runs out in turn. Returns what failed, by directory.

    Raises DeviceLost where a GPU broke, and RunFailed where a run left it unusable for the others.
    """
    context = runs[0].context
    check_writable(context.results)
    failed: dict[Path, RunFailed] = {}
    try:
        store = open_store(context.prepared, context.image_size, cache, progress.prepare)
        for line in store.survey.lines:
            progress.say(line)
        place = Workplace(store, device, progress, options)
        refuse_stale(runs, place)
        for planned in runs:
            try:
                execute(planned, place)
            except DeviceLost:
                raise
            except RunFailed as error:
                failed[planned.directory] = error
                if planned is not runs[-1] and (how := lost_device(device)):
                    left = "the same command, without this one, goes on with the others"
                    raise RunFailed(f"{error}; its process {how}: {left}") from error
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; {saved_until(options)}: the same command goes on from there"
        ) from None
    finally:
        progress.end()
    return failed


def saved_until(options: RunOptions) -> str:
    """How much of an unfinished run is on the disk, in words."""
    if options.checkpoint_every == 1:
        return "every finished epoch is saved"
    if options.checkpoint_every == AUTO:
        return "finished epochs are saved, but for the last where to write them takes seconds"
    return "all up to the last checkpoint is saved"


def announce_all(planned: Sequence[Sequence[PlannedRun]], progress: Progress) -> None:
    """Say once what a data set's reader should know, then ``announce`` the runs of each context."""
    datasets = [runs[0].context.prepared.dataset for runs in planned]
    for remark in dict.fromkeys(remark for data in datasets for remark in read_remarks(data)):
        progress.say(remark)
    for runs in planned:
        announce(runs, progress)


def announce(runs: Sequence[PlannedRun], progress: Progress) -> None:
    """Say what is there, what will be trained, and what each run starts from."""
    context = runs[0].context
    split, data = context.prepared.split, context.prepared.dataset
    sizes = " · ".join(f"{len(part):,} {name}" for name, part in split.parts.items())
    notes = [
        split.partial and str(split.partial),
        data.synthetic and "synthetic images, drawn by a program",
        *split.notes,
    ]
    progress.say(f"{data.results_name} {split.label}: {sizes} images, {len(split.classes)} classes")
    for note in filter(None, notes):
        progress.say(f"  {note}")
    progress.say(f"groups: {in_words(split.groups, split.group_rule)}")
    progress.say(
        f"{context.backbone.name}, weights {context.weights.identity[:60]}, "
        f"{pixels(context.image_size)}, {context.selection} epoch"
        + ("" if context.tuning == "full" else f", tuning {context.tuning}")
    )
    if (origin := context.backbone.origin) is not None:
        progress.say(f"  {origin.line}")
    if is_of_features(context.backbone.name):
        progress.say("  an encoder that is not here: heads are trained on the file's features")
    elif context.backbone.frozen:
        progress.say(f"  frozen encoder: {features_text(context.backbone.drawn_views)}")
    for link in {link.directory: link for run in runs for link in run.chain}.values():
        start = f" from {link.ancestor.spec.method}" if link.ancestor else ""
        progress.say(f"  {link.title}{start}: {state_text(link)}  {link.directory}")
        near = nearest(link) if link.state == "missing" else None
        if near is not None:
            where, differences = near
            there = ", ".join(f"{k} {old} → {new}" for k, (old, new) in differences.items())
            progress.say(f"    nearest there is: {where.name}, which differs in {there}")


def features_text(drawn_views: int) -> str:
    """What heads on a frozen encoder learn from, in words."""
    if not drawn_views:
        return "features of the test view, so no augmentation has a part"
    drawn = "one strong view" if drawn_views == 1 else f"{drawn_views} strong views"
    return f"features of {drawn} of each training image, of which a step takes one at random"


def state_text(run: PlannedRun) -> str:
    """What will become of a planned run. Of one that is damaged, word is left for who trains it."""
    if run.state == "damaged":
        return f"damaged: {damage(run.directory)}"
    try:
        stale = staleness(run)
    except Damaged as error:
        suspect(run.directory, error)
        return f"damaged: {str(error).partition('; ')[0]}"
    if stale:
        return f"{run.state}, but {stale}"
    texts = {
        "missing": f"to train ({run.length_text})",
        "interrupted": "interrupted, goes on",
        "failed": "failed before, is tried again",
        "running": "being trained by another process",
    }
    return texts.get(run.state, run.state)
