"""From predictions to scores: each run is read once, its images brought into one order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from lmdbench.comparison.outcomes import aligned, predictions_of
from lmdbench.comparison.results import Run
from lmdbench.comparison.samples import EVERYTHING, Sample
from lmdbench.core.errors import UserError
from lmdbench.data.check.audit import Leaks
from lmdbench.evaluation import differences, inference
from lmdbench.evaluation.differences import (
    Difference,
    Gap,
    bootstrap_gap,
    linear_gap,
    smooth_gap,
)
from lmdbench.evaluation.inference import Estimate
from lmdbench.evaluation.metrics import Metric, Scorer
from lmdbench.evaluation.moderation import RowSeeds, SeedVariance
from lmdbench.evaluation.predictions import Predictions

Told = TypeVar("Told")
LeaksOf = Callable[[Run], Leaks]  # a run on disk → its test images that leak


@dataclass(frozen=True)
class ScoredImages:
    """The images of a part, in the order all runs of a table are brought into.

    ``units`` (N,) codes of lesions or patients, None where every image stands alone. ``grouped``:
    of how many images the lesion or patient is known.
    """

    ids: np.ndarray
    labels: np.ndarray
    counts: np.ndarray  # (C,) images of each class
    units: np.ndarray | None = None
    grouped: int = 0

    @cached_property
    def independent(self) -> np.ndarray:
        """Images of each class (C,), or units of one size that would tell as much."""
        return inference.independent(self.labels, self.units, len(self.counts))

    @property
    def standing_alone(self) -> str:
        """What stands alone, in words."""
        return "images" if self.units is None else "lesions or patients"


@dataclass(frozen=True)
class RunScores:
    """Of one run. ``values``: NaN where ``reasons`` says why; ``correct`` and influences (N,), or
    the metric on bootstrap samples (B,)."""

    seed: int
    values: Mapping[str, float]
    reasons: Mapping[str, str]
    correct: np.ndarray
    influences: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class RowScores:
    """The runs of a row, by seed."""

    runs: tuple[RunScores, ...]

    @cached_property
    def correct(self) -> np.ndarray:
        """(S, N)."""
        return np.stack([run.correct for run in self.runs])

    def class_variances(self, images: ScoredImages) -> np.ndarray:
        """Variance over seeds of each class's recall, (C,), NaN for one seed, 0 for a class without
        images."""
        if len(self.runs) < 2:
            return np.full(len(images.counts), np.nan)
        recalls = [np.bincount(images.labels, run, len(images.counts)) for run in self.correct]
        return np.var(recalls / np.maximum(images.counts, 1), axis=0, ddof=1)

    def values(self, name: str) -> list[float | None]:
        of_seeds = [run.values[name] for run in self.runs]
        return [None if np.isnan(value) else value for value in of_seeds]

    def of_metric(self, name: str) -> RowScores:
        """With the influences of one metric alone."""
        return RowScores(
            tuple(
                replace(run, influences={k: v for k, v in run.influences.items() if k == name})
                for run in self.runs
            )
        )

    def of_seeds(self, seeds: Sequence[int]) -> RowScores:
        if len(seeds) == len(self.runs):
            return self
        return RowScores(tuple(run for run in self.runs if run.seed in seeds))


def score_rows(
    rows: Sequence[Sequence[Run]],
    part: str,
    chosen: Sequence[Metric],
    tell: Callable[[int, RowScores, RowScores | None, ScoredImages], Told],
    reference: int | None = None,
    sample: Sample = EVERYTHING,
) -> tuple[ScoredImages, list[Told]]:
    """Score the runs of each row on a sample of a part, and what ``tell`` makes of each.

    ``tell`` is given the row's number, its scores, those of the ``reference``, a row's number, and
    the images; then the scores are dropped, as those of thousands of runs would fill the memory.
    Units are those of the first run that knows them. Where that is not the very first, all begins
    anew once it is met.

    Raises UserError, naming the run, for predictions that are not of the images of the others.
    """
    units: np.ndarray | None = None
    while True:
        table = _RowScorer(rows, part, chosen, sample, units)
        against = None if reference is None else table.scores(reference)
        told = []
        for number in range(len(rows)):
            row = against if against and number == reference else table.scores(number)
            if table.units is None and row[1] is not None:
                units = row[1]
                break
            told.append(tell(number, row[0], against and against[0], table.images))
        else:
            return table.images, told


class _RowScorer:
    """The rows of a table, scored one at a time; ``units`` if a run that is not the first has
    them."""

    def __init__(
        self,
        rows: Sequence[Sequence[Run]],
        part: str,
        chosen: Sequence[Metric],
        sample: Sample,
        units: np.ndarray | None,
    ) -> None:
        self.rows, self.part, self.chosen, self.sample = rows, part, chosen, sample
        first = predictions_of(rows[0][0], part, sample)
        self.units = first.units if units is None else units
        self.images = _with_units(_images(rows[0][0], first), self.units)

    def scores(self, number: int) -> tuple[RowScores, np.ndarray | None]:
        """Of one row, with the first units that its runs have."""
        scores, units = [], None
        for run in self.rows[number]:
            predictions = predictions_of(run, self.part, self.sample)
            predictions = aligned(run, predictions, self.images.ids, self.images.labels)
            units = predictions.units if units is None else units
            scores.append(_scored(run, predictions, self.chosen, self.images))
        return RowScores(tuple(scores)), units


def _with_units(images: ScoredImages, units: np.ndarray | None) -> ScoredImages:
    known = 0 if units is None else int((units != "").sum())
    if units is None or not known:
        return images
    codes = inference.unit_codes(units)
    alone = codes.max() + 1 == len(codes)
    return replace(images, units=None if alone else codes, grouped=known)


def _images(run: Run, predictions: Predictions) -> ScoredImages:
    if len(np.unique(predictions.ids)) < len(predictions):
        raise UserError(f"{run.directory}: an image is tested twice; do the run again with --force")
    labels = predictions.labels.astype(np.int64)
    return ScoredImages(
        predictions.ids, labels, np.bincount(labels, minlength=predictions.logits.shape[1])
    )


def _scored(
    run: Run, predictions: Predictions, chosen: Sequence[Metric], images: ScoredImages
) -> RunScores:
    scorer = Scorer(predictions.labels.astype(np.int64), predictions.logits)
    values = {metric.name: scorer.value(metric) for metric in chosen}
    reasons = {m.name: scorer.reason(m) for m in chosen if np.isnan(values[m.name])}
    influences = {
        metric.name: scorer.resamples(metric, images.units)
        if metric.resampled
        else scorer.influence(metric)
        for metric in chosen
        if metric.weights is None and not metric.too_small(images.independent)
    }
    return RunScores(run.seed, values, reasons, scorer.correct, influences)


# What is said of a row, and of two


def estimate(row: RowScores, metric: Metric, images: ScoredImages) -> Estimate | None:
    """None where a seed has no value. ``no_interval`` says why it has no interval."""
    values = row.values(metric.name)
    if None in values:
        return None
    pieces = None if metric.weights is not None else _influences(row, metric, images)
    of_part = images.labels, images.counts, images.units
    why = metric.too_small(images.independent)
    return metric.estimate(np.array(values, float), row.correct, pieces, *of_part, why)


def no_interval(
    row: RowScores, metric: Metric, images: ScoredImages, of_row: Estimate | None
) -> str:
    """Why there is no interval; empty if there is, or no value."""
    if of_row is None:
        return ""
    resamples = _influences(row, metric, images) if metric.resampled else None
    why = metric.too_small(images.independent, images.standing_alone)
    return inference.no_interval(why, of_row, resamples)


def gap(a: RowScores, b: RowScores, metric: Metric, images: ScoredImages) -> Gap | None:
    """What the test images say of ``a`` minus ``b`` over their common seeds; None without any, or
    where a value is missing."""
    seeds = common_seeds(a, b)
    if not seeds or None in [*a.values(metric.name), *b.values(metric.name)]:
        return None
    a, b = a.of_seeds(seeds), b.of_seeds(seeds)
    labels, units, bounds = images.labels, images.units, metric.bounds
    if metric.weights is not None:
        return linear_gap(a.correct, b.correct, labels, metric.weights(images.counts), units)
    values_a, values_b = (np.array(row.values(metric.name), float) for row in (a, b))
    of_a, of_b = (_influences(row, metric, images) for row in (a, b))
    why = metric.too_small(images.independent)
    if metric.resampled:
        return bootstrap_gap(values_a, values_b, of_a, of_b, bounds, why)
    return smooth_gap(values_a, values_b, of_a, of_b, labels, units, bounds, why)


def row_seeds(row: RowScores, metric: Metric, images: ScoredImages) -> RowSeeds:
    """How the metric varies over the seeds of a row, NaN where a value is missing."""
    values = np.array([run.values[metric.name] for run in row.runs])
    there = images.counts > 0
    weights = there / max(int(there.sum()), 1)
    if metric.weights is not None:
        weights = np.nan_to_num(metric.weights(images.counts))
    spread = float(weights**2 @ row.class_variances(images))
    return RowSeeds(tuple(run.seed for run in row.runs), values, spread)


def difference(
    of_images: Gap,
    of_seeds: tuple[SeedVariance, SeedVariance],
    rows: tuple[RowSeeds, RowSeeds],
    metric: Metric,
    images: ScoredImages,
    margin: float,
    independent: bool = True,
) -> Difference:
    """A minus B, with what their table's seeds say.

    ``superiority`` is over all seeds of both. ``margin``, in points: within it they are practically
    equal, if the metric is in percent. Over one seed there is an interval, for the test images, and
    nothing is tested: retraining may turn it. Nor is it on fewer than ``SMALLEST_CLASS`` images,
    nor where seeds are not ``independent`` trainings, as their spread is too small then.
    """
    found = differences.difference(of_images, *of_seeds, margin / 100 if metric.percent else 0.0)
    superiority = math.nan
    if of_images.seeds > 1:
        superiority = differences.superiority(rows[0].values, rows[1].values)
    found = replace(found, superiority=superiority)
    enough = metric.images(images.independent) >= inference.SMALLEST_CLASS
    if of_images.seeds > 1 and independent and enough:
        return possible(found, metric)
    nan = math.nan
    return replace(
        found, p=nan, detectable=nan, detectable_more_seeds=nan, equal=False, equal_within=nan
    )


def possible(found: Difference, metric: Metric) -> Difference:
    """With an interval within what the metric can differ by, and NaN for what would be detectable
    where it is more."""
    width = metric.bounds[1] - metric.bounds[0]
    least, ever = (
        value if value <= width else math.nan
        for value in (found.detectable, found.detectable_more_seeds)
    )
    low, high = max(found.low, -width), min(found.high, width)
    return replace(found, low=low, high=high, detectable=least, detectable_more_seeds=ever)


def common_seeds(a: RowScores, b: RowScores) -> list[int]:
    of_b = {run.seed for run in b.runs}
    return [run.seed for run in a.runs if run.seed in of_b]


def permutation(
    a: RowScores, b: RowScores, metric: Metric, images: ScoredImages, seed: int
) -> float | None:
    """p over images, of these trained models only; None for metrics that are no sum of recalls."""
    seeds = common_seeds(a, b)
    if not seeds or metric.weights is None:
        return None
    a, b = a.of_seeds(seeds), b.of_seeds(seeds)
    weights = metric.weights(images.counts)
    generator = np.random.default_rng(seed)
    p = inference.permutation_p(
        a.correct, b.correct, images.labels, weights, generator, units=images.units
    )
    return None if np.isnan(p) else p


def _influences(row: RowScores, metric: Metric, images: ScoredImages) -> np.ndarray:
    """(S, N), or (S, B) bootstrap samples; NaN where none were computed, as the metric has no
    interval on these images."""
    nothing = np.full(len(images.labels), np.nan)
    return np.stack([run.influences.get(metric.name, nothing) for run in row.runs])
