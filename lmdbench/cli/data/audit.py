"""``lmdbench data audit``: what makes the test scores of a split too good, or say too little."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.completion import complete, complete_backbone
from lmdbench.cli.options import (
    data_root_option,
    json_option,
    make_dataset,
    parse_device,
    plugin_option,
    results_option,
    skip_damaged_option,
    split_options,
)
from lmdbench.cli.text import class_table, json_text
from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from lmdbench.data.check.audit import Findings
    from lmdbench.data.check.pictures import Pair, SimilarPictures
    from lmdbench.data.dataset import Dataset, Prepared, Split
    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.data.store.scale import Scale

UNREADABLE_SHOWN = 5


@click.command()
@click.argument("name", shell_complete=complete("datasets"))
@data_root_option
@split_options
@click.option(
    "--allow-missing", is_flag=True, help="Audit what is left of the split with the images there."
)
@skip_damaged_option
@click.option(
    "--near-duplicates",
    is_flag=True,
    help="Compare the pictures, too: by perceptual hash, and by the features of --backbone.",
)
@click.option(
    "--backbone",
    metavar="NAME|none",
    shell_complete=complete_backbone,
    default="none",
    show_default=True,
    help="Whose features to search near-duplicates by, beside the hash.",
)
@click.option(
    "--weights",
    metavar="imagenet|pretrained|FILE",
    default="imagenet",
    show_default=True,
    help="Of --backbone; of a network of timm or torchvision, imagenet is pretrained.",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@results_option
@plugin_option
@json_option
@click.pass_context
def audit(
    context: click.Context,
    name: str,
    data_root: Path | None,
    choices: list[SplitSpec],
    allow_missing: bool,
    skip_damaged: bool,
    near_duplicates: bool,
    backbone: str,
    weights: str,
    device: str,
    results: Path,
    as_json: bool,
) -> None:
    """Look for images and lesions in two parts of a split, and for classes too small to judge.

    That needs the tables alone; --near-duplicates needs the images, too. The audit and its lists
    are kept beside the results, where `lmdbench compare --drop-leaked` finds them. Exit code 0 if
    the split is clean, 1 if not.

    \b
    lmdbench data audit isic2019 --data-root ~/data
    lmdbench data audit isic2019 --data-root ~/data --near-duplicates --backbone efficientnet-lite0
    """
    from lmdbench.data.splits.spec import make_split
    from lmdbench.data.vectors import refuse_vectors

    if backbone != "none" and not near_duplicates:
        raise UserError("--backbone is for --near-duplicates; add that, or leave it out")
    search = None
    if near_duplicates:
        search = _Search(backbone, _encoder(backbone, weights), parse_device(device))
    dataset = make_dataset(name, data_root)
    if near_duplicates:
        refuse_vectors(dataset.vectors, "--near-duplicates")
    made = [
        _prepared(
            dataset, make_split(dataset, choice), allow_missing, skip_damaged, search is not None
        )
        for choice in choices
    ]
    audits = [_audit(prepared, search, results, as_json) for prepared in made]
    if as_json:
        click.echo(json_text(audits if len(audits) > 1 else audits[0]))
    context.exit(0 if all(facts["clean"] for facts in audits) else 1)


@dataclass(frozen=True)
class _Search:
    """How pictures are compared."""

    backbone: str
    encoder: nn.Module | None
    device: torch.device


def _prepared(
    dataset: Dataset, split: Split, allow_missing: bool, without_damaged: bool, files: bool
) -> Prepared:
    """What is left of a split. ``files``: whether its images are needed."""
    from lmdbench.data.dataset import Prepared
    from lmdbench.data.splits.availability import prepare_files

    say = partial(click.echo, err=True)
    if not (allow_missing or without_damaged or files):
        return Prepared(dataset, split, {})
    prepared = prepare_files(dataset, split, allow_missing, say)
    if without_damaged:
        from lmdbench.runs.damaged import skip_damaged  # torch: only where it is needed

        prepared = skip_damaged(prepared, dataset.image_size, default_cache(), say=say)
    return prepared


def _audit(
    prepared: Prepared, search: _Search | None, results: Path, quiet: bool
) -> dict[str, Any]:
    """Audit one split: look, say what was found, and keep it. Returns the facts, with ``clean``."""
    from lmdbench.data.check import audit as audits

    dataset, split = prepared.dataset, prepared.split
    parts = {"tables": audits.audit_tables(dataset, split)}
    found = None
    told = _remembered(dataset, split)
    if search:
        from lmdbench.data.store.survey import take_survey

        survey = take_survey(dataset, prepared.files, default_cache())
        found = _compare_pictures(prepared, search, survey.scale)
        told = survey.lines
        by = "perceptual hash" + (f" and features of {search.backbone}" if search.encoder else "")
        parts["pictures"] = audits.audit_pictures(split, found, by)
    where = (dataset.results_name, split.label, split.fingerprint)
    folder = audits.audit_folder(results, *where)
    facts = audits.with_earlier(folder, audits.describe(dataset, split, parts))
    facts["picture_remarks"] = list(told)
    clean = audits.is_clean(facts)
    if not quiet:  # before it is kept: a full disk must not cost what was found
        click.echo(_text(facts, clean))
    audits.save(folder, facts, parts)
    if found and found.pairs:
        _draw(folder / audits.SHEET, found.pairs, prepared.files, parts["pictures"], survey.scale)
    if not quiet:
        click.echo(f"\nlists: {folder}\n")
    return {**facts, "clean": clean}


def _encoder(backbone: str, weights: str) -> nn.Module | None:
    """The backbone with its weights, None for none. Raises UserError where they cannot be had."""
    if backbone == "none":
        return None
    from lmdbench.data.check.fingerprints import SIDE
    from lmdbench.models.backbones import build_encoder, get_backbone, resolve_weights

    known = get_backbone(backbone, SIDE)
    if weights == "imagenet" and known.published is not None:
        weights = "pretrained"  # of a library's networks, the usual ones
    return build_encoder(known, resolve_weights(known, weights, weights))


def _remembered(dataset: Dataset, split: Split) -> tuple[str, ...]:
    """What is known of the pictures, if any is there: an audit needs the tables alone."""
    from lmdbench.data.splits.availability import missing_images, split_files
    from lmdbench.data.store.survey import remembered_lines

    files = split_files(dataset, split)
    lacking = missing_images(files)
    there = {image: file for image, file in files.items() if image not in lacking}
    return remembered_lines(dataset, there, default_cache())


def _compare_pictures(prepared: Prepared, search: _Search, scale: Scale) -> SimilarPictures:
    """Find near-duplicates, with progress."""
    from lmdbench.core.progress import watcher
    from lmdbench.data.check.pictures import find_pairs

    watch, begun = watcher(quiet=False), ""

    def progress(what: str, done: int, total: int) -> None:
        nonlocal begun
        if what != begun:
            watch.start(what, total, "images" if "pairs" not in what else "pairs")
            begun = what
        watch.update(done)

    parts = [part.ids.tolist() for part in prepared.split.parts.values()]
    try:
        return find_pairs(prepared.files, parts, search.encoder, search.device, progress, scale)
    finally:
        watch.end()


def _draw(
    path: Path,
    pairs: Sequence[Pair],
    files: Mapping[str, Path],
    findings: Findings,
    scale: Scale,
) -> None:
    """Draw the sheet of the worst pairs."""
    from lmdbench.data.check.contact_sheet import draw_pairs

    rows = zip(*(findings.rows[column] for column in ("image", "part", "label")), strict=True)
    captions = {image: f"{part}, {label}" for image, part, label in rows}
    draw_pairs(path, pairs, files, captions, scale)


def _text(facts: Mapping[str, Any], clean: bool) -> str:
    tables, split, groups = facts["tables"], facts["split"], facts["tables"]["groups"]
    sizes = " · ".join(f"{n:,} {part}" for part, n in tables["images"].items())
    lines = [f"{facts['results_name']} {split['label']}: {sizes} images"]
    if facts["partial"]:
        lines.append(facts["partial"])
    if facts["synthetic"]:
        lines.append("SYNTHETIC DATA, drawn by a program")
    lines += [*facts["remarks"], *facts["picture_remarks"]]
    lines += ["", _shared_line("images", tables["shared_images"])]
    lines.append(f"images with two labels: {tables['label_conflicts'] or 'none'}")
    if groups["known"]:
        lines.append(_shared_line("lesions", tables["shared_groups"]))
        alone = groups["images_without"]
        lines.append(
            f"  {groups['known']:,} lesions (or patients) are known; {alone:,} images have none"
        )
        if groups["two_labels"]:
            lines.append(f"  {groups['two_labels']:,} of them have images of several classes")
        if tables["shared_groups"]["shared"]:
            lines += ["", _class_table(tables["shared_groups"]["by_class"])]
    else:
        why = f"{groups['source']} would name them" if groups["source"] else "no table names them"
        lines.append(f"lesions in two parts: unknown, {why}")
    if "pictures" in facts:
        lines += _picture_lines(facts["pictures"])
    if tables["small_classes"]:
        lines += ["", _small_table(tables["small_classes"])]
    return "\n".join([*lines, "", _verdict(facts, clean)])


def _verdict(facts: Mapping[str, Any], clean: bool) -> str:
    from lmdbench.data.check.audit import unseen

    words = ", ".join(unseen(facts))
    if not clean:
        return "NOT CLEAN"
    return f"clean as far as was looked: {words}" if words else "clean"


def _picture_lines(pictures: Mapping[str, Any]) -> list[str]:
    of_pairs = f"{pictures['identical']:,} of identical files"
    if pictures["pairs_of_two_labels"]:
        of_pairs += f", {pictures['pairs_of_two_labels']:,} with two labels"
    lines = [
        _shared_line("near-duplicate pairs", pictures["shared"]),
        f"  {of_pairs}; {pictures['images']:,} images compared by {pictures['evidence']}",
    ]
    if pictures["identical_files_of_two_labels"]:
        lines.append(f"  {pictures['identical_files_of_two_labels']:,} files have two labels")
    for image, why in list(pictures["unreadable"].items())[:UNREADABLE_SHOWN]:
        lines.append(f"  not read: {image} ({why})")
    if len(pictures["unreadable"]) > UNREADABLE_SHOWN:
        lines.append(f"  and {len(pictures['unreadable']) - UNREADABLE_SHOWN:,} more not read")
    return lines


def _shared_line(things: str, shared: Mapping[str, Any]) -> str:
    """What two parts share, and how much of the test set that concerns."""
    if not shared["shared"]:
        return f"{things} in two parts: none"
    between = ", ".join(f"{n:,} {pair}" for pair, n in shared["between"].items() if n)
    return (
        f"{things} in two parts: {shared['shared']:,} ({between})\n"
        f"  {shared['test_with_train']:,} of {shared['test']:,} test images "
        f"({100 * (shared['share_of_test'] or 0):.1f} %) share one with training, "
        f"{shared['test_with_train_or_validation']:,} with training or validation"
    )


def _class_table(by_class: Mapping[str, Mapping[str, int]]) -> str:
    rows = [
        [
            label,
            f"{n['shared']:,}",
            f"{n['test']:,}",
            f"{n['test_with_train']:,}",
            f"{100 * n['test_with_train'] / n['test']:.0f} %" if n["test"] else "–",
        ]
        for label, n in sorted(by_class.items(), key=lambda item: -item[1]["test"])
    ]
    header = ["class", "shared", "test images", "of them shared with training", "share"]
    return class_table(header, rows, right=range(1, 5))


def _small_table(small: list[Mapping[str, Any]]) -> str:
    rows = []
    for of_class in small:
        width = of_class["half_width"]
        shown = "none" if width is None else f"± {100 * width:.0f} points"
        rows.append([of_class["class"], f"{of_class['test']:,}", shown])
    return "\n".join(
        [
            "classes whose test images say little (95 % interval of a recall of one half):",
            class_table(["class", "test images", "interval"], rows, right=(1, 2)),
        ]
    )
