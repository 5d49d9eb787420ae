"""Which lesion or patient the images of a table are of, for scores of these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmdbench.comparison.columns import CALLED, Tables
from lmdbench.comparison.outcomes import predictions_of
from lmdbench.comparison.results import Run, RunGroup
from lmdbench.comparison.samples import KINDS, Sample, Units
from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.core.words import count
from lmdbench.data.dataset import DATASETS
from lmdbench.data.lesions import known_lesions


@dataclass(frozen=True)
class FoundUnits:
    """``source``: where they are known from, as a note says it."""

    units: Units
    source: str


def check_unit(kind: str) -> None:
    """Raise UserError for what is no unit of scores."""
    if kind not in KINDS:
        raise unknown("unit", kind, list(KINDS))


def units_of(kind: str, group: RunGroup, part: str, tables: Tables) -> FoundUnits:
    """The lesions or patients of a group's images: by a column of the data set's table, else as
    they are recorded with predictions.

    Raises UserError, saying what the table would need, where neither knows them.
    """
    runs = [run for row in group.rows for run in row.runs]
    name = str(group.record.results_name)
    try:
        dataset = tables.dataset(runs[0])
        found = tables.find(runs[0], CALLED[kind])
        if found is not None:
            patients: Mapping[str, str] = {}
            if kind == "lesion" and (column := tables.find(runs[0], CALLED["patient"])):
                patients = _known(column[1])
            source = f"as the column {found[0]} of its table says"
            return FoundUnits(Units(kind, _known(found[1]), patients), source)
        told, why = dataset.group_unit, ""
    except UserError as error:
        told, why = _told(runs[0]), f" ({error})"
    recorded = _recorded(runs, part) if told in ("", kind) else {}
    if recorded:
        doubt = "" if told else "; whether lesions or patients, its table says"
        return FoundUnits(Units(kind, recorded), f"as recorded with the predictions{doubt}")
    other = f", but a {told} is: --unit {told}" if told not in ("", kind) else ""
    raise UserError(
        f"--unit {kind}: no {kind} is recorded for the {part} images of {name}{other}. It takes a "
        f"column {' or '.join(CALLED[kind][:2])} in its table, with the {kind} of each image{why}"
    )


def _told(run: Run) -> str:
    """What its data set says that ``group`` names, as far as that is known without its tables."""
    name = str(run.spec.dataset)
    return DATASETS.get(name).group_unit if name in DATASETS.names() else ""


def _known(cells: Mapping[str, str]) -> dict[str, str]:
    """Image → id, without the words that stand for none."""
    ids = known_lesions(list(cells.values())).groups
    return {image: unit for image, unit in zip(cells, ids, strict=True) if unit}


def _recorded(runs: Sequence[Run], part: str) -> dict[str, str]:
    """Image → unit, of the first run that knows them."""
    for run in runs:
        predictions = predictions_of(run, part)
        if predictions.units is not None and (predictions.units != "").any():
            known = zip(predictions.ids.tolist(), predictions.units.tolist(), strict=True)
            return {image: unit for image, unit in known if unit}
    return {}


def in_numbers(found: FoundUnits, run: Run, part: str, sample: Sample) -> tuple[str, ...]:
    """What a reader must know of how a run's images became units: a note each; () where every
    unit has one image, so that nothing changes."""
    predictions = Sample(sample.leaked, sample.within).of(predictions_of(run, part))
    units, images = found.units, predictions.ids.tolist()
    names = [units.name(image) for image in images]
    sizes = Counter(names)
    if len(sizes) == len(images):
        return ()
    alone = sum(image not in units.of for image in images)
    known = len(sizes) - alone
    kinds = f"{units.kind}s" if known != 1 else units.kind
    lone = (
        f"; {count(alone, 'image')} without a known {units.kind} "
        f"{'stands' if alone == 1 else 'each stand'} alone"
    )
    notes = [
        f"Scored per {units.kind}: the mean of the class probabilities of its images, "
        f"{found.source}; {known:,} {kinds} of {len(images) - alone:,} images{lone * bool(alone)}."
    ]
    labels_of: dict[str, set[int]] = {}
    for name, label in zip(names, predictions.labels.tolist(), strict=True):
        labels_of.setdefault(name, set()).add(label)
    pieces = [len(labels) for labels in labels_of.values() if len(labels) > 1]
    if pieces:
        have = "has" if len(pieces) == 1 else "have"
        notes.append(
            f"{count(len(pieces), units.kind)} {have} images of different classes: these are "
            f"scored apart, class by class ({sum(pieces):,} in place of {len(pieces):,}), and "
            "resampled together."
        )
    if patients := len({units.patients[image] for image in images if image in units.patients}):
        notes.append(f"{count(patients, 'patient')}: lesions of one are resampled together.")
    return tuple(notes)
