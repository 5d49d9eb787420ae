"""What is said of a table whose runs are calibrated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.words import listed
from lmdbench.evaluation.metrics import described
from lmdbench.evaluation.recalibration import (
    FAR,
    HIGHEST,
    LOWEST,
    OF_TEST,
    UNIFORM,
    Calibration,
    ValidationFit,
)

BCTS_SOURCE = "bias-corrected temperature scaling, Alexandari et al. 2020"
OF_PREDICTED = ("predicted classes", "classes in order")  # what a metric needs that T leaves as is


def calibration_notes(table: ResultTable) -> list[str]:
    """A sentence or two each; none for a table that is not calibrated."""
    if table.calibration is None:
        return []
    notes = _temperature_notes(table, table.calibration) if table.calibration.temperature else []
    return [*notes, *_prior_notes(table, table.calibration)]


def _temperature_notes(table: ResultTable, calibration: Calibration) -> list[str]:
    images = _span((fit.images for row in table.rows for fit in _fits(row)), ",")
    of_rows = [f"{row.label} {_span(f.temperature for f in _fits(row))}" for row in table.rows]
    fitted, source = "by a temperature fitted", "Guo et al. 2017"
    if calibration.bias:
        fitted, source = "by a temperature, and a bias of each class is added, fitted", BCTS_SOURCE
    notes = [
        f"The logits of each run are divided {fitted} on its {images} validation images "
        f"({source}), test images have no part in it: {listed(of_rows)}. Intervals take it as "
        "given."
    ]
    titles = [m.title for m in map(described, table.metrics) if m.needs in OF_PREDICTED]
    if calibration.bias:
        notes.append(
            "Biases change predicted classes: towards those that the validation images have many "
            "of, where a method balances them."
        )
    elif titles and calibration.prior is None:
        notes.append(
            f"A temperature changes no predicted class, and so not {listed(titles)}; it changes "
            "probabilities, and how they rank images."
        )
    remarks: list[tuple[str, Callable[[ValidationFit], bool]]] = [
        (
            f"The temperature is at its bound of {LOWEST:g} or {HIGHEST:g}, as validation images "
            "would have it beyond",
            lambda fit: fit.at_bound,
        ),
        (
            "No temperature, and so no values, as there are no validation logits to fit it on that "
            "are finite",
            lambda fit: math.isnan(fit.temperature),
        ),
        (
            "Validation images whose own class a run gives the probability 0 are left out of its "
            "fit",
            lambda fit: fit.impossible > 0,
        ),
    ]
    return [*notes, *(f"{w}: {listed(of)}." for w, true in remarks if (of := _where(table, true)))]


def _prior_notes(table: ResultTable, calibration: Calibration) -> list[str]:
    if calibration.prior is None:
        return []
    words = f"the shares {calibration.prior_text}"
    if calibration.prior == UNIFORM:
        words = "equal shares"
    if calibration.prior == OF_TEST:
        words = "those of the test images, which a model in use would not know"
    gaps = [f"{row.label} {_span((100 * f.gap for f in _fits(row)), '.1f')}" for row in table.rows]
    notes = [
        "The probabilities of each run are changed from the classes' shares among its validation "
        f"images to {words} (Saerens et al. 2002); predicted classes change with them.",
        "That takes for granted that probabilities fit the validation images. The mean probability "
        "of a class there differs from the class's share by, in points at most: "
        f"{listed(gaps)}.",
    ]
    if far := _where(table, lambda fit: fit.other_prior):
        notes.append(
            "NOT under the new prior, as logits stand for other shares than those of the "
            f"validation images (by more than {100 * FAR:g} points): {listed(far)}. --calibrate "
            "bcts puts that right first."
        )
    return notes


def _fits(row: MethodResult) -> list[ValidationFit]:
    return [fit for folds in row.fits for fit in folds]


def _where(table: ResultTable, true: Callable[[ValidationFit], bool]) -> list[str]:
    """The rows of whose fits, or those of a fold, it is true, with the seeds unless it is all."""
    found = []
    for row in table.rows:
        of_seeds = zip(row.seeds, row.fits, strict=True)
        seeds = [str(seed) for seed, folds in of_seeds if any(map(true, folds))]
        if len(seeds) == len(row.seeds):
            found.append(row.label)
        elif seeds:
            found.append(f"{row.label} (seed {', '.join(seeds)})")
    return found


def _span(values: Iterable[float], form: str = ".2f") -> str:
    """From the smallest to the largest; NaN is left out."""
    finite = [value for value in values if not math.isnan(value)]
    if not finite:
        return "none"
    return " to ".join(dict.fromkeys(f"{value:{form}}" for value in (min(finite), max(finite))))
