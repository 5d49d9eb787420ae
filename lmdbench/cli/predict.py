"""``lmdbench predict``: a finished run on other images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbench.cli.options import (
    calibrate_option,
    data_root_option,
    json_option,
    only,
    parse_device,
    plugin_option,
    prior_option,
    results_option,
    split_options,
    stop_on_sigterm,
)
from lmdbench.cli.text import json_text
from lmdbench.core.errors import RunFailed, UserError
from lmdbench.core.folders import default_cache, expanded
from lmdbench.core.words import MOST_NAMES, count, listed, some

if TYPE_CHECKING:
    import numpy as np

    from lmdbench.data.splits.spec import SplitSpec
    from lmdbench.evaluation.recalibration import Calibrator
    from lmdbench.runs.likeness import Likeness
    from lmdbench.runs.prediction import PredictedLogits, Score, TrainedRun
    from lmdbench.runs.prediction_sets import LabelMatch, PredictionSet

FEW = 20  # images whose predictions are printed; of more a file is written
SHOWN = 3  # classes of an image that are printed
NAMED = 5  # images that a message names
# Columns of the CSV beside one a class.
COLUMNS = ("image", "label", "predicted", "probability", "error")


@click.command()
@click.argument("run_name", metavar="RUN")
@click.argument("words", metavar="FOLDER|DATASET|IMAGE...", nargs=-1, required=True)
@split_options
@click.option(
    "--part",
    type=click.Choice(["train", "validation", "test", "all"]),
    help="Of a data set, or of a folder that is split.  [default: test]",
)
@data_root_option
@click.option("--allow-missing", is_flag=True, help="Go on without images whose files are missing.")
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="LABEL=CLASS,…|FILE",
    help="What the run calls a label of these images (repeatable), or a file of such lines.",
)
@click.option(
    "--ignore-unknown",
    is_flag=True,
    help="Go on where none of the labels is a class of the run: nothing is scored.",
)
@click.option("--unlabelled", is_flag=True, help="Take no labels: names of folders are only names.")
@click.option(
    "--output",
    metavar="FILE.csv",
    help=f"A row an image.  [default: for more than {FEW} images a file named after run and "
    "images, in this folder]",
)
@click.option("--logits", is_flag=True, help="Logits instead of probabilities in the file.")
@calibrate_option
@prior_option
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=256, show_default=True, metavar="N"
)
@results_option
@plugin_option
@click.option("--accept-changed", is_flag=True, help="Trust a run whose code has changed since.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@json_option
def predict(
    run_name: str,
    words: tuple[str, ...],
    choices: list[SplitSpec],
    part: str | None,
    data_root: Path | None,
    allow_missing: bool,
    maps: tuple[str, ...],
    ignore_unknown: bool,
    unlabelled: bool,
    output: str | None,
    logits: bool,
    calibrate: str | None,
    prior: str | None,
    force: bool,
    device: str,
    batch_size: int,
    results: Path,
    accept_changed: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Predict images with a finished RUN: its directory, or 8 digits or more of its id.

    The images are a folder (with a sub-folder a class, or without labels), a table, a .npz or a
    description as `--dataset folder` reads them, a data set's name, or image files. Where they
    have labels, they are scored.

    \b
    lmdbench predict 4f0c2a91 other-hospital/ --map 'melanoma=MEL,nevus=NV'
    lmdbench predict results/isic2019/…/seed0-4f0c2a91 photo.jpg
    lmdbench predict 4f0c2a91 isic2019 --data-root ~/data --part validation --output v.csv
    """
    stop_on_sigterm()
    from lmdbench.runs.state import check_model, find_run

    directory = find_run(run_name, results)
    check_model(directory)
    if output is not None:
        _check_output(expanded(output), f"{directory.name}.csv", force)
    import torch

    from lmdbench.core.progress import watcher
    from lmdbench.evaluation.recalibration import parse_calibration
    from lmdbench.runs.likeness import likeness, reference_of
    from lmdbench.runs.prediction import calibrator_of, load_run, score
    from lmdbench.runs.prediction import predict as predict_files
    from lmdbench.runs.prediction_sets import SetOptions, match_labels, open_target, parse_map

    if unlabelled and (maps or ignore_unknown):
        other = "--map" if maps else "--ignore-unknown"
        raise UserError(f"--unlabelled takes no labels, and {other} is about labels: leave one out")
    progress = watcher(quiet)
    asked = parse_map(maps)
    calibration = parse_calibration(calibrate, prior)
    chosen_device = parse_device(device)
    choice = SetOptions(data_root, only(choices), part, unlabelled, allow_missing)
    target = open_target(words, choice, default_cache(), progress.say)
    run = load_run(directory, chosen_device, accept_changed=accept_changed)
    calibrator = None if calibration is None else calibrator_of(run, calibration)
    matched = match_labels(target.labels, run.classes, asked, ignore_unknown=ignore_unknown)
    file = _output(output, run, target, force, as_json)
    if logits and file is None:
        raise UserError("--logits is about the file: ask for one by --output FILE.csv")
    if not as_json:
        about = _about(run, target, matched)
        about += [] if calibrator is None else [_calibrated(calibrator)]
        click.echo("\n".join(about))
    reference = reference_of(run, default_cache(), progress.say)
    try:
        predicted = predict_files(
            run,
            target.files,
            batch_size,
            lambda done, total: progress.prepare(done, total, "predicting"),
            None if reference is None else reference.scores,
        )
    except torch.cuda.OutOfMemoryError:
        raise UserError("out of GPU memory: try a smaller --batch-size, or --device cpu") from None
    finally:
        progress.end()
    lost = [f"{target.ids[row]} ({why})" for row, why in predicted.unreadable.items()]
    if len(lost) == len(target):
        raise UserError(f"none of the images can be read: {some(lost, NAMED)}")
    alike = likeness(run, predicted, reference)
    if calibrator is not None:
        predicted = replace(predicted, logits=calibrator(predicted.logits))
    if file is not None:
        _write(file, target, run, matched, predicted, logits)
    rows = [
        row
        for row, code in enumerate(matched.codes)
        if code >= 0 and row not in predicted.unreadable
    ]
    units = _column(target.groups)[rows]
    scored = matched.codes[rows], predicted.logits[rows], units
    scores = score(run, *scored, calibrator) if rows else []
    if as_json:
        content = _as_json(run, target, matched, predicted, scores, len(rows), file)
        content["calibration"] = None if calibrator is None else _calibration_json(calibrator)
        content["unlike"] = _unlike_json(target, matched, alike)
        click.echo(json_text(content))
    else:
        told = _unlike(target, matched, alike)
        _print(run, target, predicted, scores, len(rows), told, file)
    if lost:
        raise RunFailed(
            f"{len(lost)} of {len(target):,} images can't be read: {some(lost, NAMED)}; "
            "the others are predicted"
        )


def _output(
    output: str | None, run: TrainedRun, target: PredictionSet, force: bool, as_json: bool
) -> Path | None:
    """Where the predictions are written, if anywhere. Raises UserError before any is made."""
    if output is None and (as_json or len(target) <= FEW):
        return None
    name = f"{run.spec.method}-{run.directory.name}-on-{target.name}.csv"
    path = expanded(output) if output is not None else Path(name)
    _check_output(path, name, force)
    return path


def _check_output(path: Path, name: str, force: bool) -> None:
    """Raise UserError where the predictions can't be written. ``name``: one that could be given."""
    from lmdbench.core.files import check_new_file

    if path.is_dir() or not path.parent.is_dir():
        what = "is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UserError(f"--output {path}: {what}; give a file, such as {name}")
    if path.suffix.lower() != ".csv":
        raise UserError(f"--output {path}: give a name that ends in .csv, such as {name}")
    if path.exists() and not force:
        raise UserError(f"{path} is there already; --force replaces it, --output names another")
    check_new_file(path)


def _about(run: TrainedRun, target: PredictionSet, matched: LabelMatch) -> list[str]:
    """What is predicted by what, and what a reader of the scores should know."""
    from lmdbench.runs.prediction import told_of_pictures

    spec, record = run.spec, run.record
    partial = ", on part of its images" if record.partial else ""
    synthetic = ", synthetic images" if record.synthetic else ""
    labels = f"{target.labelled:,} with a label" if target.labelled else "no labels"
    lines = [
        f"{spec.method} seed {spec.seed}, trained on {record.results_name} "
        f"{record.split_label}{partial}{synthetic}; {spec.backbone}, {spec.image_size} px",
        f"{target.title}: {len(target):,} image{'s' * (len(target) != 1)}, {labels}",
    ]
    if target.missing:
        lines.append(f"  {target.missing:,} more are missing and left out")
    lines += target.remarks
    lines += told_of_pictures(run, target.ids, target.files)
    if target.note:
        lines.append(target.note)
    if matched.renamed:
        pairs = listed([f"{label} → {name}" for label, name in matched.renamed.items()])
        lines.append(f"labels taken for classes: {pairs}")
    if matched.ignored:
        named = listed(matched.in_words)
        line = f"predicted but not scored, as the run has no such class: {named}"
        first = next(iter(matched.near.items()), None)
        lines.append(line + (f"; --map '{first[0]}={first[1]}' says otherwise" if first else ""))
    seen = _seen(run, target)
    return [*lines, seen] if seen else lines


def _seen(run: TrainedRun, target: PredictionSet) -> str:
    """A warning where the run may have been trained on the images."""
    from lmdbench.runs.prediction import named_as_own

    if target.data_set != run.record.results_name:
        alike = named_as_own(run, target.ids)
        return (
            f"{alike:,} of these images are named as validation or test images of the run: the "
            "others may be among those it was trained on, and make scores too good"
            if 0 < alike < len(target)
            else ""
        )
    known = dict(target.split)
    if run.record.partial:  # the same split, with the images that were there
        known.pop("fingerprint", None)
    if known and all(run.spec.split.get(key) == value for key, value in known.items()):
        trained = "train" in target.parts
        return "the run was trained on some of these images: scores are too good" * trained
    return (
        f"the run was trained on images of {target.data_set}, another split of it or all: they may "
        "be among these, and make scores too good"
    )


def _calibrated(calibrator: Calibrator) -> str:
    """What was done to the probabilities, and what to know of it."""
    asked, fit = calibrator.calibration, calibrator.fit
    words = "probabilities: " + ", ".join(asked.words)
    if asked.temperature:
        bound = ", a bound" * fit.at_bound
        bias = " and biases" * asked.bias
        words += f"; temperature {fit.temperature:.3g}{bound}{bias}, fitted on"
    else:
        words += "; changed from the shares among"
    words += f" the run's {count(fit.images, 'validation image')}"
    if asked.prior is not None:
        words += (
            ", on which the mean probability of a class differs from its share by up to "
            f"{100 * fit.gap:.1f} points"
        )
        if fit.other_prior:
            words += (
                ": NOT under the new prior, as its logits stand for other shares than those of its "
                "validation images; --calibrate bcts puts that right first"
            )
    return words


def _calibration_json(calibrator: Calibrator) -> dict[str, Any]:
    asked, fit = calibrator.calibration, calibrator.fit
    return {
        "temperature": fit.temperature if asked.temperature else None,
        "bias": fit.bias,
        "prior": asked.prior_text,
        "validation_images": fit.images,
        "gap": fit.gap,
    }


def _column(values: Sequence[str]) -> np.ndarray:
    import numpy as np

    return np.array(values, dtype=str)


def _table(
    target: PredictionSet,
    run: TrainedRun,
    matched: LabelMatch,
    predicted: PredictedLogits,
    logits: bool,
) -> dict[str, list[Any]]:
    """The predictions by column: see ``COLUMNS``, and one a class. None where there is nothing."""
    import numpy as np

    from lmdbench.evaluation.metrics import softmax

    probabilities = softmax(predicted.logits).astype(np.float32)
    best = predicted.logits.argmax(axis=1)
    lost = predicted.unreadable
    rows = range(len(target))
    columns: dict[str, list[Any]] = {"image": list(target.ids)}
    if target.labelled:
        columns["label"] = [
            run.classes[code] if code >= 0 else label or None
            for code, label in zip(matched.codes, target.labels, strict=True)
        ]
    columns["predicted"] = [None if row in lost else run.classes[best[row]] for row in rows]
    columns["probability"] = [None if r in lost else probabilities[r, best[r]] for r in rows]
    values = predicted.logits.astype(np.float32) if logits else probabilities
    for code, name in enumerate(run.classes):
        column = name if name not in COLUMNS else f"class {name}"
        columns[column] = [None if row in lost else values[row, code] for row in rows]
    if lost:
        columns["error"] = [lost.get(row) for row in rows]
    return columns


def _write(
    path: Path,
    target: PredictionSet,
    run: TrainedRun,
    matched: LabelMatch,
    predicted: PredictedLogits,
    logits: bool,
) -> None:
    """The CSV, whole or not at all. Numbers read back as the same float32."""
    import csv

    from lmdbench.core.files import atomic

    columns = _table(target, run, matched, predicted, logits)
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _as_json(
    run: TrainedRun,
    target: PredictionSet,
    matched: LabelMatch,
    predicted: PredictedLogits,
    scores: Sequence[Score],
    scored: int,
    file: Path | None,
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "run": {
            "id": run.spec.id,
            "directory": str(run.directory),
            "method": run.spec.method,
            "seed": run.spec.seed,
            "trained_on": f"{run.record.results_name} {run.record.split_label}",
            "synthetic": bool(run.record.synthetic),
            "classes": list(run.classes),
        },
        "target": target.title,
        "images": len(target),
        "missing": target.missing,
        "scored": scored,
        "renamed": dict(matched.renamed),
        "ignored": dict(matched.ignored),
        "unreadable": {target.ids[row]: why for row, why in predicted.unreadable.items()},
        "note": target.note or None,
        "remarks": list(target.remarks),
        "warning": _seen(run, target) or None,
        "scores": {one.metric.name: _score_json(one) for one in scores},
        "file": file and str(file),
    }
    if file is None:
        columns = _table(target, run, matched, predicted, logits=False)
        plain = [[_plain(value) for value in column] for column in columns.values()]
        content["predictions"] = [
            dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)
        ]
    return content


def _rows_of_ignored(target: PredictionSet, matched: LabelMatch) -> dict[str, list[int]]:
    """Label that is no class of the run → the rows of its images."""
    rows: dict[str, list[int]] = {label: [] for label in matched.ignored}
    for row, label in enumerate(target.labels):
        if label in rows:
            rows[label].append(row)
    return rows


def _unlike_json(
    target: PredictionSet, matched: LabelMatch, alike: Likeness | None
) -> dict[str, Any] | None:
    if alike is None:
        return None
    ignored = _rows_of_ignored(target, matched)
    return {
        "images": alike.images,
        "of": alike.readable,
        "by": "features" if alike.by_features else "probability",
        "threshold": alike.threshold,
        "ignored": {label: alike.of(rows) for label, rows in ignored.items()},
    }


def _unlike(target: PredictionSet, matched: LabelMatch, alike: Likeness | None) -> str:
    """How many images the run is less sure of than of nearly all its own, in a few lines."""
    from lmdbench.runs.likeness import FEWEST, SHARE

    if alike is None:
        return f"unlike the run's images: not told, as it keeps no {FEWEST} validation images"
    words = [
        f"{alike.images:,} of {alike.readable:,} images look unlike the run's: {_how(alike)} of "
        f"{100 * (1 - SHARE):.0f} % of its validation images. A hint, no proof: most images of "
        "classes that a run has never seen look like its own"
    ]
    words += [
        f"  {label}, no class of the run: {alike.of(rows):,} of {len(rows):,}"
        for label, rows in _rows_of_ignored(target, matched).items()
    ]
    return "\n".join(words)


def _how(alike: Likeness) -> str:
    """Of what an image looks unlike; "of 95 % of its validation images" follows."""
    if alike.by_features:
        return "their features are farther from its training images' than those"
    return (
        "their largest probability (as its training images are not prepared in the cache here) is "
        "below those"
    )


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else float(value)


def _score_json(one: Score) -> dict[str, Any]:
    numbers = one.estimate and {
        name: None if math.isnan(value) else value
        for name, value in vars(one.estimate).items()
        if name in ("value", "low", "high")
    }
    numbers = numbers or dict.fromkeys(("value", "low", "high"))
    return {**numbers, "images": one.images, "reason": one.reason or None, "own_test": one.own}


# For people


def _print(
    run: TrainedRun,
    target: PredictionSet,
    predicted: PredictedLogits,
    scores: Sequence[Score],
    scored: int,
    told: str,
    file: Path | None,
) -> None:
    blocks = []
    if len(target) <= FEW:
        blocks.append(_of_each(run, target, predicted))
    if scores:
        blocks.append(_scores(scores, scored))
    elif target.labelled:
        blocks.append("not scored: no image that can be read has a label that is a class")
    if scores or len(target) > FEW:
        blocks.append(_of_classes(run, predicted, scores))
    blocks.append(told)
    if notes := _notes(run, scores):
        blocks.append("\n".join(notes))
    if file is not None:
        blocks.append(f"predictions: {file}")
    click.echo("\n" + "\n\n".join(blocks))


def _of_each(run: TrainedRun, target: PredictionSet, predicted: PredictedLogits) -> str:
    """The likeliest classes of each image."""
    import numpy as np

    from lmdbench.cli.text import table
    from lmdbench.evaluation.metrics import softmax

    probabilities = softmax(predicted.logits)
    shown = min(SHOWN, len(run.classes))
    rows = []
    for row, (image, label) in enumerate(zip(target.ids, target.labels, strict=True)):
        cells = [image, label] if target.labelled else [image]
        if why := predicted.unreadable.get(row):
            rows.append([*cells, f"can't be read: {why}", *[""] * (shown - 1)])
            continue
        likeliest = np.argsort(-probabilities[row], kind="stable")[:shown]
        rows.append(
            [*cells, *(f"{run.classes[c]} {100 * probabilities[row, c]:.1f} %" for c in likeliest)]
        )
    of_label = ["label"] if target.labelled else []
    return table(["image", *of_label, "predicted", *["then"] * (shown - 1)], rows, [])


def _scores(scores: Sequence[Score], scored: int) -> str:
    from lmdbench.cli.text import table

    rows = [
        [one.metric.title, *_numbers(one), f"{one.images:,}"]
        for one in scores
        if not one.metric.of_class
    ]
    header = ["score (%)", "here", "95 %", "own test", "images"]
    return table(header, rows, [1, 2, 3, 4]) + f"\n{scored:,} images scored"


def _of_classes(run: TrainedRun, predicted: PredictedLogits, scores: Sequence[Score]) -> str:
    """How often each class is predicted, and how well it is found."""
    import numpy as np

    from lmdbench.cli.text import class_table

    there = [row for row in range(len(predicted.logits)) if row not in predicted.unreadable]
    counts = np.bincount(predicted.logits[there].argmax(axis=1), minlength=len(run.classes))
    training = run.record.class_counts["train"]
    rows = [
        [name, f"{trained:,}", f"{n:,}"]
        for name, trained, n in zip(run.classes, training, counts, strict=True)
    ]
    header = ["class", "trained on", "predicted"]
    recalls = [one for one in scores if one.metric.of_class]
    if recalls:
        header += ["images", "recall (%)", "95 %", "own test"]
        for row, one in zip(rows, recalls, strict=True):
            row += [f"{one.images:,}", *_numbers(one)]
    if len(rows) > MOST_NAMES:
        rows = [rows[c] for c in np.argsort(-np.array(training), kind="stable")]
    return class_table(header, rows, range(1, len(header)))


def _numbers(one: Score) -> list[str]:
    """Value, interval, and value on the run's own test images."""
    from lmdbench.reporting.tables.words import MISSING, number

    percent, value, interval = one.metric.percent, MISSING, MISSING
    if one.estimate is not None:
        value = number(one.estimate.value, percent)
        low, high = number(one.estimate.low, percent), number(one.estimate.high, percent)
        interval = MISSING if MISSING in (low, high) else f"{low} to {high}"
    return [value, interval, number(one.own, percent)]


def _notes(run: TrainedRun, scores: Sequence[Score]) -> list[str]:
    """What the numbers are, and why some are not there."""
    if not scores:
        return []
    notes = [
        "95 %: from these images alone; how training runs differ is not in it",
        "own test: the run's own test images, of the classes that have images here",
    ]
    absent = [
        str(one.metric.sets[0][0]) for one in scores if one.metric.of_class and not one.images
    ]
    if absent:
        notes.append(
            f"no images of {listed(absent)}: means are over the "
            f"{len(run.classes) - len(absent)} of {len(run.classes)} classes that have some"
        )
    if plain := [one.metric.title for one in scores if not one.metric.percent]:
        notes.append(f"{' and '.join(plain)}: no percent")
    if drawn := [one.metric.title for one in scores if one.metric.resampled and not one.reason]:
        notes.append(f"95 % of {' and '.join(drawn)}: by a bootstrap within classes")
    reasons: dict[str, list[str]] = {}
    for one in scores:
        if one.reason and (one.images or not one.metric.of_class):
            reasons.setdefault(one.reason, []).append(one.metric.title)
    return [*notes, *(f"– {listed(names)}: {why}" for why, names in reasons.items())]
