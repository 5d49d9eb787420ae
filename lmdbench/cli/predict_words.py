"""What ``lmdbench predict`` says to people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmdbench.cli.predict_decisions import decided
from lmdbench.cli.predict_outcome import FEW, SHOWN, Outcome
from lmdbench.cli.text import class_table, table
from lmdbench.core.words import MOST_NAMES, count, listed, pixels
from lmdbench.evaluation.metrics import softmax
from lmdbench.evaluation.recalibration import Calibrator
from lmdbench.reporting.tables.words import MISSING, number
from lmdbench.runs.ensemble import Answers, Ensemble
from lmdbench.runs.likeness import SHARE, Likeness, why_not
from lmdbench.runs.prediction import (
    Score,
    TrainedRun,
    named_as_own,
    other_encoder,
    told_of_pictures,
)
from lmdbench.runs.prediction_sets import LabelMatch, PredictionSet

NOTICE = (
    "for research: no medical device, not approved or tested for any patient; not to be used for a "
    "diagnosis"
)


def about(ensemble: Ensemble, target: PredictionSet, matched: LabelMatch) -> str:
    """What is predicted by what, and what a reader of the scores should know."""
    labels = f"{target.labelled:,} with a label" if target.labelled else "no labels"
    lines = [
        *_runs(ensemble.runs),
        f"{target.title}: {len(target):,} image{'s' * (len(target) != 1)}, {labels}",
    ]
    if target.missing:
        lines.append(f"  {target.missing:,} more are missing and left out")
    lines += target.remarks
    of_scale = {run.scale: run for run in ensemble.runs}
    if (vectors := target.vectors) is not None:
        lines += [line for run in ensemble.runs[:1] if (line := other_encoder(run, vectors))]
        of_scale = {}
    for run in of_scale.values():
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
    lines += [_refitted(run) for run in ensemble.runs if run.spec.refit is not None]
    lines += [line for line in (seen(ensemble, target), *_calibrated(ensemble)) if line]
    return "\n".join(lines)


def _runs(runs: Sequence[TrainedRun]) -> list[str]:
    """What the runs are, a line for those that differ in the seed alone."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        spec, record = run.spec, run.record
        partial = ", on part of its images" if record.partial else ""
        synthetic = ", synthetic images" if record.synthetic else ""
        tuning = "" if spec.tuning == "full" else f", tuning {spec.tuning}"
        rest = (
            f"trained on {record.results_name} {record.split_label}{partial}{synthetic}; "
            f"{spec.backbone}{tuning}, {pixels(spec.image_size)}"
        )
        seeds.setdefault((spec.method, rest), []).append(spec.seed)
    lines = [
        f"{method} seed{'s' * (len(each) > 1)} {', '.join(map(str, each))}, {rest}"
        for (method, rest), each in seeds.items()
    ]
    if len(runs) == 1:
        return lines
    return [f"the mean of {len(runs)} runs' probabilities:", *(f"  {line}" for line in lines)]


def _refitted(run: TrainedRun) -> str:
    """What a reader should know of a run that was trained on its validation images."""
    before = str((run.spec.refit or {})["run"])[:8]
    return (
        f"{run.spec.method} seed {run.spec.seed} is a refit of {before} on training and validation "
        "images: it has no validation scores of its own, and temperatures and thresholds are what "
        f"suits the probabilities of {before}; it may be surer, which nothing here measures"
    )


def seen(ensemble: Ensemble, target: PredictionSet) -> str:
    """Warnings where a run may have been trained on the images; empty where there are none."""
    return "\n".join(dict.fromkeys(filter(None, (_seen(run, target) for run in ensemble.runs))))


def _seen(run: TrainedRun, target: PredictionSet) -> str:
    if target.data_set != run.record.results_name:
        alike = named_as_own(run, target.ids)
        return (
            f"{alike:,} of these images are named as validation or test images of the run: the "
            "others may be among those it was trained on, and make scores too good"
            if 0 < alike < len(target)
            else ""
        )
    known = dict(target.split)
    refit = run.spec.refit is not None
    if run.record.partial or refit:  # the same split, with other images or parts
        known.pop("fingerprint", None)
    if known and all(run.spec.split.get(key) == value for key, value in known.items()):
        trained = "train" in target.parts or (refit and "validation" in target.parts)
        return "the run was trained on some of these images: scores are too good" * trained
    return (
        f"the run was trained on images of {target.data_set}, another split of it or all: they may "
        "be among these, and make scores too good"
    )


def _calibrated(ensemble: Ensemble) -> list[str]:
    """What was done to the probabilities, a line a run."""
    lines = []
    for run, calibrator in zip(ensemble.runs, ensemble.calibrators, strict=True):
        if calibrator is not None:
            spec = run.spec
            whose = f"{spec.method} seed {spec.seed}, {run.record.split_label}: "
            lines.append(whose * ensemble.several + _of_calibrator(calibrator))
    return lines


def _of_calibrator(calibrator: Calibrator) -> str:
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


def _unlike(outcome: Outcome) -> str:
    """How many images the run is less sure of than of nearly all its own, in a few lines."""
    alike = outcome.answers.alike
    if alike is None:
        why = why_not(outcome.ensemble.lead)
        return f"unlike the run's images: not told, as {why}"
    carried = any(run.spec.refit is not None for run in outcome.ensemble.runs)
    by = " (of a refit: by how far those of the run that it repeats do)" * carried
    words = [
        f"{alike.images:,} of {alike.readable:,} images look unlike {_whose(outcome)}: "
        f"{_how(alike)} of "
        f"{100 * (1 - SHARE):.0f} % of the validation images{by}. A hint, no proof: most images of "
        "classes that a run has never seen look like its own"
    ]
    words += [
        f"  {label}, no class of the run: {alike.of(rows):,} of {len(rows):,}"
        for label, rows in outcome.ignored.items()
    ]
    return "\n".join(words)


def _whose(outcome: Outcome) -> str:
    several = outcome.ensemble.several
    return "the images of more than half of the runs" if several else "the run's"


def _how(alike: Likeness) -> str:
    """Of what an image looks unlike; "of 95 % of its validation images" follows."""
    if alike.by_features:
        return "their features are farther from the training images' than those"
    return (
        "their largest probability (as its training images are not prepared in the cache here) is "
        "below those"
    )


def found(outcome: Outcome) -> str:
    """What came out, block by block."""
    target, scores = outcome.target, outcome.scores
    blocks = []
    if len(target) <= FEW:
        blocks.append(_of_each(outcome))
    if scores:
        blocks.append(_scores(scores, outcome.scored))
    elif target.labelled:
        blocks.append("not scored: no image that can be read has a label that is a class")
    if scores or len(target) > FEW:
        blocks.append(_of_classes(outcome))
    if outcome.ensemble.several:
        blocks.append(_agreed(outcome.answers))
    if outcome.decisions.images:
        blocks.append(decided(outcome))
    blocks.append(_unlike(outcome))
    if notes := _notes(outcome):
        blocks.append("\n".join(notes))
    blocks.append(NOTICE)
    if outcome.file is not None:
        blocks.append(f"predictions: {outcome.file}")
    return "\n\n".join(blocks)


def _agreed(answers: Answers) -> str:
    """How far the runs agree, over all images."""
    assert answers.agreement is not None
    assert answers.spread is not None
    there = answers.agreement[np.isfinite(answers.agreement)]
    whole = int((there == 1).sum())
    return (
        f"all runs give the same answer for {whole:,} of {count(len(there), 'image')}; agreement: "
        "the share of runs whose own answer is that of the mean, spread: the standard deviation "
        f"over runs of its probability, on average {100 * np.nanmean(answers.spread):.1f} points"
    )


def _of_each(outcome: Outcome) -> str:
    """The likeliest classes of each image."""
    target, answers, classes = outcome.target, outcome.answers, outcome.classes
    probabilities = softmax(answers.logits)
    shown = min(SHOWN, len(classes))
    of_label = ["label"] if target.labelled else []
    header = ["image", *of_label, "predicted", *["then"] * (shown - 1), *_further(outcome)]
    rows = []
    for row, (image, label) in enumerate(zip(target.ids, target.labels, strict=True)):
        cells = [image, label] if target.labelled else [image]
        if why := answers.unreadable.get(row):
            cells.append(f"can't be read: {why}")
            rows.append([*cells, *[""] * (len(header) - len(cells))])
            continue
        likeliest = np.argsort(-probabilities[row], kind="stable")[:shown]
        cells += [f"{classes[c]} {100 * probabilities[row, c]:.1f} %" for c in likeliest]
        rows.append([*cells, *(column[row] for column in _further(outcome).values())])
    return table(header, rows, [])


def _further(outcome: Outcome) -> dict[str, list[str]]:
    """What is said of each image beside its classes: head of a column → its cells."""
    answers, columns = outcome.answers, {}
    if answers.agreement is not None and answers.spread is not None:
        runs = len(outcome.ensemble.runs)
        columns["agreement"] = [f"{runs * a:.0f} of {runs}" for a in answers.agreement]
        columns["spread"] = [f"{100 * s:.1f}" for s in answers.spread]
    if answers.alike is not None:
        columns["unlike"] = ["yes" if one else "" for one in answers.alike.unlike]
    for column, mark in outcome.marks.items():
        columns[column] = ["yes" if one else "" for one in mark]
    return columns


def _scores(scores: Sequence[Score], scored: int) -> str:
    rows = [
        [one.metric.title, *_numbers(one), f"{one.images:,}"]
        for one in scores
        if not one.metric.of_class
    ]
    header = ["score (%)", "here", "95 %", "own test", "images"]
    return table(header, rows, [1, 2, 3, 4]) + f"\n{scored:,} images scored"


def _of_classes(outcome: Outcome) -> str:
    """How often each class is predicted, and how well it is found."""
    answers, classes = outcome.answers, outcome.classes
    there = [row for row in range(len(answers.logits)) if row not in answers.unreadable]
    counts = np.bincount(answers.logits[there].argmax(axis=1), minlength=len(classes))
    training = outcome.ensemble.lead.record.class_counts["train"]
    rows = [
        [name, f"{trained:,}", f"{n:,}"]
        for name, trained, n in zip(classes, training, counts, strict=True)
    ]
    header = ["class", "trained on", "predicted"]
    recalls = [one for one in outcome.scores if one.metric.of_class]
    if recalls:
        header += ["images", "recall (%)", "95 %", "own test"]
        for row, one in zip(rows, recalls, strict=True):
            row += [f"{one.images:,}", *_numbers(one)]
    if len(rows) > MOST_NAMES:
        rows = [rows[c] for c in np.argsort(-np.array(training), kind="stable")]
    return class_table(header, rows, range(1, len(header)))


def _numbers(one: Score) -> list[str]:
    """Value, interval, and value on the run's own test images."""
    percent, value, interval = one.metric.percent, MISSING, MISSING
    if one.estimate is not None:
        value = number(one.estimate.value, percent)
        low, high = number(one.estimate.low, percent), number(one.estimate.high, percent)
        interval = MISSING if MISSING in (low, high) else f"{low} to {high}"
    return [value, interval, number(one.own, percent)]


def _notes(outcome: Outcome) -> list[str]:
    """What the numbers are, and why some are not there."""
    scores, classes = outcome.scores, outcome.classes
    if not scores:
        return []
    notes = [
        "95 %: from these images alone; how training runs differ is not in it",
        _own_test(outcome.ensemble),
    ]
    absent = [
        str(one.metric.sets[0][0]) for one in scores if one.metric.of_class and not one.images
    ]
    if absent:
        notes.append(
            f"no images of {listed(absent)}: means are over the "
            f"{len(classes) - len(absent)} of {len(classes)} classes that have some"
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


def _own_test(ensemble: Ensemble) -> str:
    if not ensemble.several:
        return "own test: the run's own test images, of the classes that have images here"
    if ensemble.own_test is None:
        return "own test: none, as the runs were not all tested on the same images"
    return (
        "own test: the mean of the runs on the test images of all, of the classes that have images "
        "here"
    )
