"""The predictions behind the rows of a table, in arrays: each file is read once, and the images of
all runs are brought into one order."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from lmdbench.comparison.results import Run
from lmdbench.comparison.samples import EVERYTHING, Sample
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.registry import unknown
from lmdbench.evaluation import metrics
from lmdbench.evaluation.predictions import Predictions, load_predictions
from lmdbench.evaluation.recalibration import Calibration, Calibrator, ValidationFit
from lmdbench.runs.whole import PREDICTIONS, counted, suspect


class DamagedRun(UserError):
    """A run whose predictions can't be used; ``directory``: its own."""

    def __init__(self, text: str, directory: Path) -> None:
        super().__init__(text)
        self.directory = directory


PARTS = ("test", "validation")
KEPT = 192 << 20  # bytes of predictions that are kept in memory


@dataclass(frozen=True)
class Outcomes:
    """Of one row: ``ids`` (N,) sorted, ``labels`` (N,), ``logits`` (S, N, C) by ``seeds``;
    ``units`` (N,) the lesions or patients, where they are known."""

    seeds: tuple[int, ...]
    ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    units: np.ndarray | None

    @cached_property
    def usable(self) -> np.ndarray:
        """(S,) bool: whether a seed's logits are finite."""
        return np.array([not metrics.unusable(one) for one in self.logits])

    @property
    def predicted(self) -> np.ndarray:
        """(S, N) int64: the class each image is taken for."""
        return self.logits.argmax(axis=2)

    @property
    def correct(self) -> np.ndarray:
        """(S, N) float, NaN throughout a seed whose logits are not finite."""
        right = (self.predicted == self.labels).astype(float)
        right[~self.usable] = np.nan
        return right

    def of_seeds(self, seeds: Collection[int]) -> Outcomes:
        chosen = [seed in seeds for seed in self.seeds]
        kept = tuple(seed for seed in self.seeds if seed in seeds)
        return replace(self, seeds=kept, logits=self.logits[chosen])


def outcomes(table: ResultTable, row: MethodResult) -> Outcomes:
    """The predictions of a row's runs on the images of its table.

    Raises UserError where a run has other images than the others.
    """
    first, *others = row.runs
    predictions = predictions_of(first, table.part, table.sample)
    predictions = predictions.of(np.argsort(predictions.ids, kind="stable"))
    logits, units = [predictions.logits], predictions.units
    for run in others:
        one = aligned(
            run, predictions_of(run, table.part, table.sample), predictions.ids, predictions.labels
        )
        logits.append(one.logits)
        units = one.units if units is None else units
    return Outcomes(tuple(row.seeds), predictions.ids, predictions.labels, np.stack(logits), units)


def paired(a: Outcomes, b: Outcomes) -> tuple[Outcomes, Outcomes] | None:
    """Both on their common seeds; None where they have none. Raises UserError for other images."""
    if not (np.array_equal(a.ids, b.ids) and np.array_equal(a.labels, b.labels)):
        raise UserError("two methods of one table were scored on other images; see `compare`")
    seeds = set(a.seeds) & set(b.seeds)
    return (a.of_seeds(seeds), b.of_seeds(seeds)) if seeds else None


def aligned(run: Run, predictions: Predictions, ids: np.ndarray, labels: np.ndarray) -> Predictions:
    """A run's predictions in the order of ``ids`` (N,).

    Raises UserError, naming the run, for other images or other labels than ``labels`` (N,).
    """
    if len(predictions) == len(ids) and not np.array_equal(predictions.ids, ids):
        order = np.empty(len(ids), np.int64)
        order[np.argsort(ids, kind="stable")] = np.argsort(predictions.ids, kind="stable")
        predictions = predictions.of(order)
    if not (np.array_equal(predictions.ids, ids) and np.array_equal(predictions.labels, labels)):
        raise DamagedRun(
            f"{run.directory}: its predictions are not of the same images and labels as those of "
            "the other runs of its table; leave it out, or do it again with --force",
            run.directory,
        )
    return predictions


def predictions_of(run: Run, part: str, sample: Sample = EVERYTHING) -> Predictions:
    """The predictions of a run, of all its folds, for what is scored of a part. Where that is
    calibrated, each fold's logits are corrected by what its own validation images say.

    Raises UserError for a part that there is not, and DamagedRun for a file that is damaged, cannot
    be read, or is not what ``run.json`` counts.
    """
    if part not in PARTS:
        raise unknown("part", part, list(PARTS))
    pieces = [_on_disk(member, part) for member in run.members]
    if sample.calibration is not None:
        pieces = [
            replace(piece, logits=correct(piece.logits))
            for piece, correct in zip(pieces, calibrators(run, sample.calibration), strict=True)
        ]
    predictions = pieces[0]
    if len(pieces) > 1:
        units = [np.full(len(p), "") if p.units is None else p.units for p in pieces]
        predictions = Predictions(
            np.concatenate([piece.ids for piece in pieces]),
            np.concatenate([piece.labels for piece in pieces]),
            np.concatenate([piece.logits for piece in pieces]),
            np.concatenate(units) if any(p.units is not None for p in pieces) else None,
        )
    return sample.of(predictions)


def calibrators(run: Run, calibration: Calibration) -> list[Calibrator]:
    """What corrects the logits of each fold of a run; fitted once, until its file changes.

    Raises DamagedRun as ``predictions_of``, and UserError for a prior of other classes.
    """
    tested = run.record.class_counts["test"]  # of all folds
    return [
        calibration.calibrator(
            _fit(member, calibration),
            run.classes,
            {**member.record.class_counts, "test": tested},
        )
        for member in run.members
    ]


def _fit(run: Run, calibration: Calibration) -> ValidationFit:
    path = run.directory / PREDICTIONS
    written = _written(path, run.record.digests.get("predictions"))
    kept = _fitted.get((path, calibration.method))
    if kept is None or kept[0] != written:
        validation = _on_disk(run, "validation", _load)
        kept = written, calibration.fit(validation.labels, validation.logits)
        _fitted[path, calibration.method] = kept
    return kept[1]


def _on_disk(
    run: Run, part: str, read: Callable[[Path, str, str | None], Predictions] | None = None
) -> Predictions:
    """``read``: by default ``_read``, which keeps what it reads."""
    path = run.directory / PREDICTIONS
    try:
        predictions = (read or _read)(path, part, run.record.digests.get("predictions"))
        if why := counted(predictions, run.record, part):
            raise Damaged(f"{path}: {why}; do the run again with --force")
    except Damaged as error:
        suspect(run.directory, error)
        raise DamagedRun(str(error), run.directory) from error
    except UserError as error:
        raise DamagedRun(str(error), run.directory) from error
    return predictions


Written = tuple[int, int, str | None]  # when a file was written and changed, and its SHA-256
_kept: dict[tuple[Path, str], tuple[Written, Predictions]] = {}
_fitted: dict[tuple[Path, str | None], tuple[Written, ValidationFit]] = {}


def _written(path: Path, sha256: str | None) -> Written:
    try:
        found = path.stat()
    except OSError:  # told by who reads it
        return 0, 0, sha256
    return found.st_mtime_ns, found.st_ctime_ns, sha256


def _load(path: Path, part: str, sha256: str | None) -> Predictions:
    return load_predictions(path, [part], sha256)[part]


def _read(path: Path, part: str, sha256: str | None) -> Predictions:
    """A part of the predictions file of a SHA-256, which is kept for who looks at it again until it
    changes; of more than ``KEPT`` bytes those that were looked at last."""
    written = _written(path, sha256)
    kept = _kept.pop((path, part), None)
    if kept is None or kept[0] != written:
        kept = written, _shared(_load(path, part, sha256))
    _kept[path, part] = kept
    size = kept[1].labels.nbytes + kept[1].logits.nbytes
    while len(_kept) > 1 and len(_kept) * size > KEPT:
        del _kept[next(iter(_kept))]
    return kept[1]


def _shared(predictions: Predictions) -> Predictions:
    """The same with the ids of what was read before, where they are equal: as a rule all runs have
    the same, and they are larger than all else."""
    before = next(reversed(_kept.values()))[1].ids if _kept else None
    if before is None or not np.array_equal(before, predictions.ids):
        return predictions
    return replace(predictions, ids=before)
