"""Trained runs that answer together: the mean of their probabilities, and how far they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from lmdbench.core.errors import UserError
from lmdbench.core.words import listed
from lmdbench.evaluation.ensembles import agreement, mean_logits, spread
from lmdbench.evaluation.predictions import Predictions
from lmdbench.evaluation.recalibration import Calibration, Calibrator
from lmdbench.runs.likeness import Likeness, likeness, reference_of, together
from lmdbench.runs.prediction import (
    Score,
    TrainedRun,
    calibrator_of,
    load_run,
    own_test,
    predict,
    score_beside,
    validation_of,
)


@dataclass(frozen=True)
class Ensemble:
    """One trained run, or several of the same classes. ``calibrators``: one a run, or None."""

    runs: tuple[TrainedRun, ...]
    calibrators: tuple[Calibrator | None, ...]

    @property
    def lead(self) -> TrainedRun:
        """The first run, for what is equal in all."""
        return self.runs[0]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.lead.classes

    @property
    def several(self) -> bool:
        return len(self.runs) > 1

    def corrected(self, number: int, logits: np.ndarray) -> np.ndarray:
        """Logits (N, C) of the run of this number, calibrated where that is asked for."""
        calibrator = self.calibrators[number]
        return logits if calibrator is None else calibrator(logits)

    def together(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """What all say (N, C) of the corrected logits (N, C) of each: of one run these."""
        return mean_logits(np.stack(logits)) if self.several else logits[0]

    @cached_property
    def validation(self) -> list[Predictions]:
        """What each run said of its validation images. Raises UserError where one keeps none."""
        return [validation_of(run, "--operate and --abstain") for run in self.runs]

    @cached_property
    def own_test(self) -> Predictions | None:
        """What the runs together say of their own test images; None where these are not the same
        for all, as in folds, or not there."""
        parts = [own_test(run) for run in self.runs]
        first = parts[0]
        if first is None:
            return None
        logits = []
        for number, part in enumerate(parts):
            if part is None or sorted(part.ids) != sorted(first.ids):
                return None
            place = {image: row for row, image in enumerate(part.ids)}
            rows = [place[image] for image in first.ids]
            logits.append(self.corrected(number, part.logits[rows]))
        return replace(first, logits=self.together(logits))


@dataclass(frozen=True)
class Answers:
    """What an ensemble says of N images. ``logits`` (N, C): of one run its own, of several the
    logarithms of their mean probabilities; NaN where ``unreadable`` (position → why).

    Of several runs: ``agreement`` (N,), the share of them with the same answer, and ``spread``
    (N,), the standard deviation of its probability; else None. ``alike``: None where not told.
    """

    logits: np.ndarray
    unreadable: dict[int, str]
    alike: Likeness | None
    agreement: np.ndarray | None = None
    spread: np.ndarray | None = None


def load_ensemble(
    directories: Sequence[Path],
    device: torch.device,
    calibration: Calibration | None,
    *,
    accept_changed: bool,
) -> Ensemble:
    """Load finished runs, each with what calibrates it by its own validation images.

    Raises UserError as ``load_run`` and ``calibrator_of`` do, for a run that is given twice, and
    for runs whose classes, or their order, differ.
    """
    runs: list[TrainedRun] = []
    for directory in directories:
        run = load_run(directory, device, accept_changed=accept_changed)
        if run.spec.id in {other.spec.id for other in runs}:
            raise UserError(f"{directory}: the run {run.spec.id[:8]} is given twice")
        _check_classes(run, runs)
        runs.append(run)
    calibrators = [None if calibration is None else calibrator_of(run, calibration) for run in runs]
    return Ensemble(tuple(runs), tuple(calibrators))


def _check_classes(run: TrainedRun, others: Sequence[TrainedRun]) -> None:
    if not others or run.classes == others[0].classes:
        return
    first = others[0]
    how = (
        "the same classes in another order"
        if set(run.classes) == set(first.classes)
        else "other classes"
    )
    raise UserError(
        f"{run.directory} has {how} ({listed(run.classes)}) than {first.directory} "
        f"({listed(first.classes)}): only runs of the same classes in one order answer together"
    )


def answers(
    ensemble: Ensemble,
    images: Sequence[Path] | Sequence[np.ndarray],
    batch_size: int,
    cache: Path,
    progress: Callable[[int, int, str], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Answers:
    """What an ensemble says of images, see ``predict``, run by run. ``progress``: images done, of
    how many, and what is done with them."""
    each, alike = [], []
    unreadable: dict[int, str] = {}
    for number, run in enumerate(ensemble.runs):
        what = "predicting" + f", run {number + 1} of {len(ensemble.runs)}" * ensemble.several
        reference = reference_of(run, cache, say)
        found = predict(
            run,
            images,
            batch_size,
            lambda done, total, what=what: progress(done, total, what),  # type: ignore[misc]
            None if reference is None else reference.scores,
        )
        unreadable |= found.unreadable
        alike.append(likeness(run, found, reference))
        each.append(ensemble.corrected(number, found.logits))
    return _answers(ensemble, each, dict(sorted(unreadable.items())), together(alike))


def _answers(
    ensemble: Ensemble,
    each: Sequence[np.ndarray],
    unreadable: dict[int, str],
    alike: Likeness | None,
) -> Answers:
    logits = ensemble.together(each)
    logits[list(unreadable)] = np.nan
    if not ensemble.several:
        return Answers(logits, unreadable, alike)
    of_each = np.stack(each)
    of_each[:, list(unreadable)] = np.nan
    return Answers(logits, unreadable, alike, agreement(of_each), spread(of_each))


def scores(
    ensemble: Ensemble, labels: np.ndarray, logits: np.ndarray, units: np.ndarray | None
) -> list[Score]:
    """``prediction.score`` of what an ensemble says, beside what it says of its own test images."""
    return score_beside(ensemble.lead, labels, logits, units, ensemble.own_test)
