"""What a planned study would be like: its test images, by a split; or all of it, by a table of
finished runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmdbench.comparison.outcomes import Outcomes, outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset
from lmdbench.data.reading import read_records
from lmdbench.data.splits.spec import SplitSpec, make_split
from lmdbench.evaluation import inference
from lmdbench.evaluation.moderation import RowSeeds, moderated
from lmdbench.evaluation.simulation import TableLaw

LEAST_NOISE = 0.001  # SD over trainings that a table is taken to have at least


@dataclass(frozen=True)
class StudyImages:
    """Of each class: its name, its test images, as how many independent ones these count where
    several show one lesion or patient, and by how many images classes are large or small."""

    classes: tuple[str, ...]
    images: tuple[int, ...]
    counts: tuple[int, ...]
    sizes: tuple[int, ...]


def images_of_split(dataset: Dataset, choices: Sequence[SplitSpec]) -> StudyImages:
    """From the tables of a data set, without images; of several folds together. Classes are large
    by their training images. Classes without test images are left out."""
    splits = [make_split(dataset, choice) for choice in choices]
    classes = splits[0].classes
    ids = np.concatenate([split.parts["test"].ids for split in splits])
    labels = np.concatenate([split.parts["test"].labels for split in splits]).astype(np.int64)
    units = read_records(dataset)["group"].loc[ids].to_numpy(dtype=str)
    known = inference.unit_codes(units) if (units != "").any() else None
    sizes = np.sum([split.counts("train") for split in splits], axis=0)
    return _of_labels(classes, labels, known, sizes)


def _of_labels(
    classes: Sequence[str], labels: np.ndarray, units: np.ndarray | None, sizes: np.ndarray
) -> StudyImages:
    images = np.bincount(labels, minlength=len(classes))
    counted = np.maximum(np.round(inference.independent(labels, units, len(classes))), 1)
    there = np.flatnonzero(images).tolist()
    return StudyImages(
        tuple(classes[k] for k in there),
        *(tuple(int(n[k]) for k in there) for n in (images, counted, sizes)),
    )


def law_of_table(table: ResultTable) -> tuple[StudyImages, TableLaw]:
    """By what the rows with several seeds of a table have on average: the recalls of the classes,
    how far seeds vary, and how far images are difficult for every seed and method.

    The SD over seeds of a table holds the chance of its test images, too, which is taken off.
    Raises UserError where no row has two seeds.
    """
    found = [outcomes(table, row) for row in table.rows if len(row.runs) > 1]
    rows = [row for row in found if row.usable.all()]
    if not rows:
        raise UserError(
            f"{table.title}: no row has two seeds, so nothing tells how far seeds vary; give "
            "--dataset or --images, and --seed-sd"
        )
    classes, labels = list(table.record.classes), rows[0].labels.astype(np.int64)
    units = next((row.units for row in rows if row.units is not None), None)
    codes = None if units is None else inference.unit_codes(units)
    sizes = np.asarray(table.record.class_counts["train"])
    images = _of_labels(classes, labels, codes, sizes)
    there = np.unique(labels)
    labels = np.searchsorted(there, labels)
    n = np.bincount(labels)
    recalls = np.mean([(np.bincount(labels, _mean(row)) + 0.5) / (n + 1) for row in rows], axis=0)
    lasting = np.mean([_persistence(row, labels) for row in rows], axis=0)
    spread = recalls * (1 - recalls) / n
    chance = float(((1 - lasting) * spread).sum()) / len(n) ** 2
    noise = math.sqrt(max(_seed_variance(rows, labels) - chance, LEAST_NOISE**2))
    together = [_covariance(a, b, labels) for a, b in itertools.combinations(rows, 2)]
    alike = float(np.sum(together)) / max(len(together), 1) / float((lasting * spread).sum())
    law = TableLaw(
        images.counts,
        tuple(float(r) for r in recalls),
        max(len(table.rows), 2),
        max(len(row.runs) for row in table.rows),
        noise,
        tuple(float(r) for r in lasting),
        own=1 - min(max(alike, 0.0), 1.0) if together else 0.5,
    )
    return images, law


def _mean(row: Outcomes) -> np.ndarray:
    return row.correct.mean(axis=0)


def _persistence(row: Outcomes, labels: np.ndarray) -> np.ndarray:
    mean = _mean(row)
    total, squares = np.bincount(labels, mean), np.bincount(labels, mean**2)
    return inference.persistence(np.bincount(labels), total, squares, len(row.seeds))


def _seed_variance(rows: Sequence[Outcomes], labels: np.ndarray) -> float:
    """Of balanced accuracy, as the table moderates it, the mean of its rows."""
    n = np.bincount(labels)
    of_rows = []
    for row in rows:
        recalls = np.stack([np.bincount(labels, seed) / n for seed in row.correct])
        wide = float(recalls.var(axis=0, ddof=1).sum()) / len(n) ** 2
        of_rows.append(RowSeeds(row.seeds, recalls.mean(axis=1), wide))
    return float(np.mean([found.variance for found in moderated(of_rows)]))


def _covariance(a: Outcomes, b: Outcomes, labels: np.ndarray) -> float:
    """Of two rows over the images of a class: what images that both find difficult add to the
    variance of its recall, Σ over classes."""
    n = np.bincount(labels)
    apart = [_mean(row) - (np.bincount(labels, _mean(row)) / n)[labels] for row in (a, b)]
    several = np.maximum(n - 1, 1)
    return float((np.bincount(labels, apart[0] * apart[1]) / several / n).sum())
