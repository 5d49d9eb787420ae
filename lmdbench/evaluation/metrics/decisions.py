"""Metrics of what decisions by the predictions are worth."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes
from lmdbench.core.registry import unknown
from lmdbench.evaluation.metrics.calibration import image_weights
from lmdbench.evaluation.metrics.families import Family
from lmdbench.evaluation.metrics.metric import PROBABILITIES, Classes, ClassStat, Metric, Scorer

NAME = "expected_cost"
KEYS = ("costs", "prior")  # what may be said behind its @
PRIORS = ("equal", "test")
FORM = f"{NAME}@costs=FILE.csv,prior=test"
ROUNDED = 1e-9  # by which a probability may lie below a threshold that it was given as


# Expected cost

Costs = Mapping[str, Mapping[str, float]]  # true class → predicted class → cost


def expected_cost(said: str = "", classes: Classes | None = None) -> Metric:
    """The mean cost of an image, its classes weighing the same or, ``prior=test``, its images.

    ``said``: what stands behind the @, such as ``costs=FILE.csv,prior=test``. Costs are those of
    the file, else those that the data set says; of what neither says 0 where the prediction is
    right and 1 where it is wrong: the mean over classes is 1 − balanced accuracy then. Without
    ``classes`` no file is read. Raises UserError for what can't be said, and for a file that isn't
    a table of costs.
    """
    words = _words(said)
    prior, file = words.get("prior", "equal"), words.get("costs", "")
    name = NAME + "@" * bool(words) + ",".join(f"{key}={value}" for key, value in words.items())
    costs: Costs = {}
    if classes is not None:
        costs = _read(Path(file), classes.names) if file else classes.facts.costs
    matrix = None if not costs else _matrix(costs, classes.names if classes else ())

    def of_images(scorer: Scorer) -> np.ndarray:
        each = 1 - scorer.correct if matrix is None else matrix[scorer.labels, scorer.predicted]
        found: np.ndarray = each * image_weights(scorer.counts, scorer.labels, prior == "equal")
        return found

    what = "a wrong prediction costs 1"
    if file or costs:
        what = f"costs of {Path(file).name or 'the data set'}, of what it leaves out 1 if wrong"
    who = "every class with images" if prior == "equal" else "every image"
    return Metric(
        name,
        "Expected cost" + f" ({', '.join(Path(v).name for v in words.values())})" * bool(words),
        lambda s: float(of_images(s).sum()),
        of_images,
        bounds=(0.0, np.inf),
        lower_is_better=True,
        percent=False,
        note=f"{what}; {who} weighs the same",
        bind=lambda known: expected_cost(said, known),
        of_images=prior == "test",
    )


def _words(said: str) -> dict[str, str]:
    words = {}
    for word in said.split(",") if said else ():
        key, _, value = word.partition("=")
        if key.strip() not in KEYS:
            raise UserError(f"{unknown(f'word of {NAME}', key, list(KEYS))} As in {FORM}.")
        words[key.strip()] = value.strip()
    if (prior := words.get("prior", "equal")) not in PRIORS:
        raise unknown(f"prior of {NAME}", prior, list(PRIORS))
    if words.get("costs") == "":
        raise UserError(f"{NAME}: no file of costs; as in {FORM}")
    return words


def _matrix(costs: Costs, names: Sequence[str]) -> np.ndarray:
    """(C, C), true classes down, predicted ones across."""
    matrix = 1.0 - np.eye(len(names))
    place = {name: k for k, name in enumerate(names)}
    for true, row in costs.items():
        for predicted, cost in row.items():
            if true in place and predicted in place:  # of a split without a class it is left out
                matrix[place[true], place[predicted]] = cost
    return matrix


def _read(path: Path, names: Sequence[str]) -> Costs:
    """A table of costs: a row a true class, which stands first, and a column a predicted one."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{NAME}: there is no file {path}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: no text in UTF-8; save it as CSV in UTF-8") from None
    head, *rows = [
        [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if row
    ] or [[]]
    costs: dict[str, dict[str, float]] = {}
    for true, *cells in rows:
        for known in (true, *head[1:]):
            if known not in names:
                raise UserError(f"{path}: {unknown('class', known, list(names))}")
        if true in costs:
            raise UserError(f"{path}: two rows of {true}; leave one out")
        if len(cells) != len(head) - 1:
            raise UserError(
                f"{path}: {len(cells)} costs of {true} for {len(head) - 1} columns of classes"
            )
        costs[true] = {
            predicted: _cost(cell, f"{path}: the cost of {true} taken for {predicted}")
            for predicted, cell in zip(head[1:], cells, strict=True)
        }
    if not any(costs.values()):
        raise UserError(
            f"{path}: no costs; write a header of an empty cell and the predicted classes, and a "
            "row for each true class: its name and its costs"
        )
    return costs


def _cost(text: str, what: str) -> float:
    try:
        cost = float(text)
    except ValueError:
        cost = math.nan
    if not 0 <= cost < math.inf:
        raise UserError(f"{what} is {text!r}, but must be a number from 0 on")
    return cost


# Net benefit


def _net_benefit(name: str, threshold: float) -> ClassStat:
    """Of each class against the rest (Vickers & Elkin 2006), at a threshold probability of t:
    (true positives − false positives · t / (1 − t)) / images, at the prevalence of the part. An
    image is positive with a probability of t or more."""
    odds = threshold / (1 - threshold)

    def parts(scorer: Scorer) -> np.ndarray:
        """Of each image (N, C)."""
        taken = scorer.probabilities >= threshold - ROUNDED
        ours = scorer.labels[:, None] == np.arange(scorer.classes)
        found: np.ndarray = taken * np.where(ours, 1.0, -odds) / len(scorer.labels)
        return found

    return ClassStat(
        f"Net benefit at threshold {threshold:.12g}",
        name,
        lambda s: np.where(s.counts > 0, s.once(parts).sum(axis=0), np.nan),
        lambda s, weights: s.once(parts) @ weights,
        bounds=(-odds, 1.0),
        percent=False,
        needs=PROBABILITIES,
        note=(
            "true positives less false ones times the odds of the threshold, per image, each class "
            "against the rest at the prevalence of these images"
        ),
    )


FAMILIES = (Family("net_benefit", "threshold", "0.2", _net_benefit, below_one=True),)
ALL = (expected_cost(),)
