"""What ``lmdbench predict`` writes: a CSV, or JSON."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np

from lmdbench.cli.predict_outcome import Outcome
from lmdbench.cli.predict_words import NOTICE, seen
from lmdbench.core.files import atomic
from lmdbench.evaluation.metrics import softmax
from lmdbench.evaluation.recalibration import Calibrator
from lmdbench.runs.decisions import Abstention, OperatingPoint, Share
from lmdbench.runs.prediction import Score, TrainedRun

# Columns of the CSV beside one a class, and one a flag
COLUMNS = (
    *("image", "label", "predicted", "probability"),
    *("agreement", "spread", "unlike", "answered", "error"),
)


def columns_of(outcome: Outcome, logits: bool) -> dict[str, list[Any]]:
    """The predictions by column: see ``COLUMNS``, and one a class with its probability, or its
    logit. None where there is nothing."""
    target, answers, classes = outcome.target, outcome.answers, outcome.classes
    probabilities = softmax(answers.logits).astype(np.float32)
    best = answers.logits.argmax(axis=1)
    lost = answers.unreadable
    rows = range(len(target))
    columns: dict[str, list[Any]] = {"image": list(target.ids)}
    if target.labelled:
        columns["label"] = [
            classes[code] if code >= 0 else label or None
            for code, label in zip(outcome.matched.codes, target.labels, strict=True)
        ]
    columns["predicted"] = [None if row in lost else classes[best[row]] for row in rows]
    columns["probability"] = [None if r in lost else probabilities[r, best[r]] for r in rows]
    values = answers.logits.astype(np.float32) if logits else probabilities
    for code, name in enumerate(classes):
        column = name if name not in COLUMNS else f"class {name}"
        columns[column] = [None if row in lost else values[row, code] for row in rows]
    for column, cells in _further(outcome).items():
        columns[column] = [None if row in lost else cells[row] for row in rows]
    if lost:
        columns["error"] = [lost.get(row) for row in rows]
    return columns


def _further(outcome: Outcome) -> dict[str, np.ndarray]:
    """What is said of each image beside its classes: column → cells (N,)."""
    answers, columns = outcome.answers, {}
    if answers.agreement is not None and answers.spread is not None:
        columns["agreement"] = answers.agreement.astype(np.float32)
        columns["spread"] = answers.spread.astype(np.float32)
    if answers.alike is not None:
        columns["unlike"] = answers.alike.unlike.astype(int)
    columns |= {column: mark.astype(int) for column, mark in outcome.marks.items()}
    return columns


def write(path: Path, outcome: Outcome, logits: bool) -> None:
    """The CSV, whole or not at all. Numbers read back as the same float32."""
    columns = columns_of(outcome, logits)
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def as_json(outcome: Outcome) -> dict[str, Any]:
    """All that is told, with the predictions where no file has them. Of several runs ``runs`` and
    ``calibrations`` say what ``run`` and ``calibration`` say of one."""
    ensemble, target, matched = outcome.ensemble, outcome.target, outcome.matched
    runs = [_run(run) for run in ensemble.runs]
    fits = [None if one is None else _calibration(one) for one in ensemble.calibrators]
    content: dict[str, Any] = {
        **({"runs": runs} if ensemble.several else {"run": runs[0]}),
        "target": target.title,
        "images": len(target),
        "missing": target.missing,
        "scored": outcome.scored,
        "renamed": dict(matched.renamed),
        "ignored": dict(matched.ignored),
        "unreadable": {target.ids[r]: why for r, why in outcome.answers.unreadable.items()},
        "note": target.note or None,
        "remarks": list(target.remarks),
        "warning": seen(ensemble, target) or None,
        "scores": {one.metric.name: _score(one) for one in outcome.scores},
        "file": outcome.file and str(outcome.file),
        **({"calibrations": fits} if ensemble.several else {"calibration": fits[0]}),
        "unlike": _unlike(outcome),
        "operating_points": _points(outcome),
        "abstention": _abstention(outcome),
        "notice": NOTICE,
    }
    if outcome.file is None:
        columns = columns_of(outcome, logits=False)
        plain = [[_plain(value) for value in column] for column in columns.values()]
        content["predictions"] = [
            dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)
        ]
    return content


def _run(run: TrainedRun) -> dict[str, Any]:
    return {
        "id": run.spec.id,
        "directory": str(run.directory),
        "method": run.spec.method,
        "seed": run.spec.seed,
        "trained_on": f"{run.record.results_name} {run.record.split_label}",
        "synthetic": bool(run.record.synthetic),
        "classes": list(run.classes),
    }


def _calibration(calibrator: Calibrator) -> dict[str, Any]:
    asked, fit = calibrator.calibration, calibrator.fit
    return {
        "temperature": fit.temperature if asked.temperature else None,
        "bias": fit.bias,
        "prior": asked.prior_text,
        "validation_images": fit.images,
        "gap": fit.gap,
    }


def _unlike(outcome: Outcome) -> dict[str, Any] | None:
    alike = outcome.answers.alike
    if alike is None:
        return None
    return {
        "images": alike.images,
        "of": alike.readable,
        "by": "features" if alike.by_features else "probability",
        "threshold": alike.threshold,
        "ignored": {label: alike.of(rows) for label, rows in outcome.ignored.items()},
    }


def _points(outcome: Outcome) -> list[dict[str, Any]]:
    here = (
        [None] * len(outcome.decisions.points)
        if outcome.reached is None
        else outcome.reached.points
    )
    return [
        {
            "class": point.name,
            "wanted": {point.kind: point.wanted},
            "threshold": point.threshold,
            "flagged": int(outcome.marks[f"flag {point.name}"].sum()),
            "validation": _shares(point, "sensitivity", "specificity"),
            "here": _shares(reached, "sensitivity", "specificity"),
        }
        for point, reached in zip(outcome.decisions.points, here, strict=True)
    ]


def _abstention(outcome: Outcome) -> dict[str, Any] | None:
    chosen = outcome.decisions.abstention
    if chosen is None:
        return None
    reached = None if outcome.reached is None else outcome.reached.abstention
    return {
        "wanted": {chosen.kind: chosen.wanted},
        "threshold": chosen.threshold,
        "answered": int(outcome.marks["answered"].sum()),
        "validation": _shares(chosen, "share", "error"),
        "here": _shares(reached, "share", "error"),
        "here_by_class": reached
        and {
            name: _share(one) for name, one in zip(outcome.classes, reached.by_class, strict=True)
        },
    }


def _shares(of: OperatingPoint | Abstention | None, *names: str) -> dict[str, Any] | None:
    return None if of is None else {name: _share(getattr(of, name)) for name in names}


def _share(share: Share) -> dict[str, Any]:
    return {k: None if math.isnan(v) else v for k, v in vars(share).items()}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else float(value)


def _score(one: Score) -> dict[str, Any]:
    numbers = one.estimate and {
        name: None if math.isnan(value) else value
        for name, value in vars(one.estimate).items()
        if name in ("value", "low", "high")
    }
    numbers = numbers or dict.fromkeys(("value", "low", "high"))
    return {**numbers, "images": one.images, "reason": one.reason or None, "own_test": one.own}
