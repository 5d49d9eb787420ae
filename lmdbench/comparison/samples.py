"""What a table is scored on: which images of a part, and what counts as one: an image, a lesion or
a patient."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lmdbench.evaluation.metrics import softmax
from lmdbench.evaluation.predictions import Predictions
from lmdbench.evaluation.recalibration import Calibration

KINDS = ("lesion", "patient")
LEAST = np.finfo(np.float64).tiny  # a probability whose logarithm is finite


@dataclass(frozen=True)
class Units:
    """The lesions or patients that are scored instead of their images.

    ``of``: image → its lesion or patient, where that is known. ``patients``: image → its patient,
    where lesions are scored and patients are known, too.
    """

    kind: str  # lesion or patient
    of: Mapping[str, str]
    patients: Mapping[str, str] = field(default_factory=dict)

    def name(self, image: str) -> str:
        """What an image is scored as part of. Lesions are told apart within patients; an image
        whose lesion or patient is not known stands alone."""
        unit, patient = self.of.get(image, ""), self.patients.get(image, "")
        if not unit:
            return f"image {image}"
        return f"{self.kind} {unit}" + f" of patient {patient}" * bool(patient)


@dataclass(frozen=True)
class Sample:
    """``leaked``: images that are left out; ``within``: the only ones, of a subgroup; ``units``:
    what they are scored as, None as images; ``calibration``: what is done to the logits before, by
    ``predictions_of``."""

    leaked: frozenset[str] = frozenset()
    within: frozenset[str] | None = None
    units: Units | None = None
    calibration: Calibration | None = None

    @property
    def counted(self) -> str:
        """What counts as one: image, lesion or patient."""
        return "image" if self.units is None else self.units.kind

    def in_words(self, text: str) -> str:
        """What is said of images, said of what is scored."""
        if self.units is None:
            return text
        kind = self.units.kind
        return re.sub(r"\bimage(?=s?\b)", kind, text.replace("an image", f"a {kind}"))

    def of(self, predictions: Predictions) -> Predictions:
        """The predictions that are scored, of those of all images of a part."""
        if self.leaked:
            predictions = predictions.of(~np.isin(predictions.ids, sorted(self.leaked)))
        if self.within is not None:
            predictions = predictions.of(np.isin(predictions.ids, sorted(self.within)))
        return predictions if self.units is None else of_units(predictions, self.units)


EVERYTHING = Sample()  # all images of a part


def of_units(predictions: Predictions, units: Units) -> Predictions:
    """Of each lesion or patient the mean of its images' probabilities, as logarithms in float64.

    Images of one unit with different labels are scored apart, label by label. ``units`` of the
    result: the patient of a lesion; else the unit itself where it is scored in several pieces.
    """
    ids = predictions.ids.tolist()
    labels = predictions.labels.astype(np.int64)
    names, of_image = np.unique([units.name(image) for image in ids], return_inverse=True)
    pieces, first, piece_of = np.unique(
        np.stack([of_image, labels], axis=1), axis=0, return_index=True, return_inverse=True
    )
    divided = np.bincount(pieces[:, 0], minlength=len(names)) > 1
    whose = [units.patients.get(ids[image], "") for image in first]
    found, alone_with = [], []
    for (unit, label), patient in zip(pieces.tolist(), whose, strict=True):
        name = str(names[unit])
        found.append(f"{name}, class {label}" if divided[unit] else name)
        alone_with.append(f"patient {patient}" if patient else name * bool(divided[unit]))
    with np.errstate(invalid="ignore"):  # of broken runs
        sums = np.zeros((len(pieces), predictions.logits.shape[1]))
        np.add.at(sums, piece_of.reshape(-1), softmax(predictions.logits))
    means = sums / np.bincount(piece_of.reshape(-1))[:, None]
    return Predictions(
        np.array(found, dtype=np.str_),
        pieces[:, 1],
        np.log(np.maximum(means, LEAST)),
        np.array(alone_with, dtype=np.str_) if any(alone_with) else None,
    )
