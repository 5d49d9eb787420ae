"""What is decided by an ensemble's probabilities: which images are flagged as a class, and which
are answered at all, by thresholds that are chosen on validation images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.evaluation.inference import linear_estimate
from lmdbench.evaluation.metrics import softmax
from lmdbench.evaluation.thresholds import for_error, for_sensitivity, for_share, for_specificity
from lmdbench.runs.ensemble import Ensemble

OPERATE = "such as melanoma:sensitivity=0.95 or melanoma:specificity=0.9"
ABSTAIN = "such as error=0.05 or share=0.8"


@dataclass(frozen=True)
class Known:
    """Images whose classes are known: ``labels`` (N,) int64, ``chances`` (N, C) float64, ``units``
    (N,), lesion or patient, None where unknown."""

    labels: np.ndarray
    chances: np.ndarray
    units: np.ndarray | None

    def share(self, true: np.ndarray, among: np.ndarray) -> Share:
        """How many of the images ``among`` (N,) bool are ``true`` (N,) bool."""
        images = int(among.sum())
        if not images:
            return Share(math.nan, math.nan, math.nan, 0)
        of_one_kind = np.zeros(images, dtype=np.int64)
        units = None if self.units is None else self.units[among]
        found = linear_estimate(true[among][None].astype(float), of_one_kind, np.ones(1), units)
        return Share(found.value, found.low, found.high, images)


@dataclass(frozen=True)
class Share:
    """A share of ``images`` with its 95 % interval, which counts them alone; NaN without any."""

    value: float
    low: float
    high: float
    images: int


@dataclass(frozen=True)
class OperatingPoint:
    """Flags what is at least ``threshold`` likely to be of a class. ``sensitivity`` and
    ``specificity``: on the validation images that it was chosen on."""

    name: str
    code: int
    kind: Literal["sensitivity", "specificity"]
    wanted: float
    threshold: float = math.nan
    sensitivity: Share | None = None
    specificity: Share | None = None

    def chosen(self, known: Known) -> OperatingPoint:
        """With its threshold. Raises UserError where it can't be chosen on these images."""
        scores, own = known.chances[:, self.code], known.labels == self.code
        if not own.any() or own.all():
            lacking = self.name if not own.any() else f"other classes than {self.name}"
            raise UserError(
                f"--operate {self.name}: there are no validation images of {lacking} to choose a "
                "threshold on"
            )
        choose = for_sensitivity if self.kind == "sensitivity" else for_specificity
        return replace(self, threshold=choose(scores, own, self.wanted)).measured(known)

    def measured(self, known: Known) -> OperatingPoint:
        """With what it reaches on these images."""
        own, flagged = known.labels == self.code, self.flags(known.chances)
        return replace(
            self, sensitivity=known.share(flagged, own), specificity=known.share(~flagged, ~own)
        )

    def flags(self, chances: np.ndarray) -> np.ndarray:
        """(N,) bool of probabilities (N, C)."""
        found: np.ndarray = chances[:, self.code] >= self.threshold
        return found


@dataclass(frozen=True)
class Abstention:
    """Answers where the largest probability is at least ``threshold``. ``share`` of images answered
    and ``error`` among these: on the validation images that it was chosen on; ``by_class``: the
    share answered of each class."""

    kind: Literal["error", "share"]
    wanted: float
    threshold: float = math.nan
    share: Share | None = None
    error: Share | None = None
    by_class: tuple[Share, ...] = ()

    def chosen(self, known: Known) -> Abstention:
        """With its threshold. Raises UserError where none leads to so small an error."""
        confidence = known.chances.max(axis=1)
        if self.kind == "share":
            threshold = for_share(confidence, self.wanted)
        else:
            wrong = known.chances.argmax(axis=1) != known.labels
            threshold = for_error(confidence, wrong, self.wanted)
        if math.isinf(threshold):
            raise UserError(
                f"--abstain error={self.wanted:g}: even of the validation images that are answered "
                "most surely more are wrong; give a larger error, or a share"
            )
        return replace(self, threshold=threshold).measured(known)

    def measured(self, known: Known) -> Abstention:
        """With what it reaches on these images."""
        answered = self.answers(known.chances)
        wrong = known.chances.argmax(axis=1) != known.labels
        everything = np.ones(len(answered), dtype=bool)
        return replace(
            self,
            share=known.share(answered, everything),
            error=known.share(wrong, answered),
            by_class=tuple(
                known.share(answered, known.labels == code)
                for code in range(known.chances.shape[1])
            ),
        )

    def answers(self, chances: np.ndarray) -> np.ndarray:
        """(N,) bool of probabilities (N, C)."""
        found: np.ndarray = chances.max(axis=1) >= self.threshold
        return found


def parse_operating_points(texts: Sequence[str], classes: Sequence[str]) -> list[OperatingPoint]:
    """``CLASS:sensitivity=SHARE`` or ``CLASS:specificity=SHARE`` each. Raises UserError."""
    points: list[OperatingPoint] = []
    for text in texts:
        name, _, rest = text.rpartition(":")
        kind, _, number = rest.partition("=")
        if not name or kind not in ("sensitivity", "specificity"):
            raise UserError(f"--operate {text}: give a class and what it is to reach, {OPERATE}")
        if name not in classes:
            raise UserError(f"--operate: {unknown('class', name, list(classes))}")
        if name in [point.name for point in points]:
            raise UserError(f"--operate: {name} is given twice; a class has one threshold")
        wanted = _share(number, f"--operate {text}", OPERATE)
        points.append(OperatingPoint(name, classes.index(name), kind, wanted))  # type: ignore[arg-type]
    return points


def parse_abstention(text: str | None) -> Abstention | None:
    """``error=SHARE`` or ``share=SHARE``. Raises UserError."""
    if text is None:
        return None
    kind, _, number = text.partition("=")
    if kind not in ("error", "share"):
        raise UserError(
            f"--abstain {text}: give the error of what is answered or its share, {ABSTAIN}"
        )
    return Abstention(kind, _share(number, f"--abstain {text}", ABSTAIN))  # type: ignore[arg-type]


def _share(text: str, what: str, example: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise UserError(f"{what}: give a share between 0 and 1, {example}")
    return share


def validation_images(ensemble: Ensemble) -> Known:
    """The validation images of the runs, each with the mean of what those runs say that it is a
    validation image of: of folds these are fewer than all.

    Raises UserError where a run keeps none, and where their logits are not finite.
    """
    labels: dict[str, int] = {}
    units: dict[str, str] = {}
    chances: dict[str, list[np.ndarray]] = {}
    for number, part in enumerate(ensemble.validation):
        own = softmax(ensemble.corrected(number, part.logits))
        known = [""] * len(part) if part.units is None else part.units
        for image, label, unit, chance in zip(part.ids, part.labels, known, own, strict=True):
            labels[str(image)] = int(label)
            units[str(image)] = str(unit)
            chances.setdefault(str(image), []).append(chance)
    means = np.array([np.mean(each, axis=0) for each in chances.values()])
    if not np.isfinite(means).all():
        raise UserError("--operate and --abstain: validation logits are not finite; leave them out")
    there = np.array(list(units.values()))
    return Known(
        np.array(list(labels.values()), dtype=np.int64), means, there if there.any() else None
    )


@dataclass(frozen=True)
class Decisions:
    """What is asked for, with thresholds chosen on ``images`` validation images; ``whole``: with
    the mean of all runs, and not of those alone that an image is a validation image of."""

    points: Sequence[OperatingPoint] = ()
    abstention: Abstention | None = None
    images: int = 0
    whole: bool = True

    def measured(self, known: Known) -> Decisions:
        """The same thresholds, with what they reach on these images."""
        abstention = self.abstention and self.abstention.measured(known)
        return replace(
            self, points=[point.measured(known) for point in self.points], abstention=abstention
        )


def decisions(
    ensemble: Ensemble, operate: Sequence[str], abstention: Abstention | None
) -> Decisions:
    """What ``--operate`` and ``--abstain`` ask for, chosen on the runs' validation images.

    Raises UserError as ``parse_operating_points``, ``validation_images`` and ``chosen`` do.
    """
    points = parse_operating_points(operate, ensemble.classes)
    if not points and abstention is None:
        return Decisions()
    known = validation_images(ensemble)
    first, *others = (set(part.ids) for part in ensemble.validation)
    return Decisions(
        [point.chosen(known) for point in points],
        abstention and abstention.chosen(known),
        len(known.labels),
        all(other == first for other in others),
    )
