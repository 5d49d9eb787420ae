"""From predictions to scores: each run is read once, its images brought into one order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lmdbench.comparison.outcomes import aligned, predictions_of
from lmdbench.comparison.results import Run
from lmdbench.core.errors import UserError
from lmdbench.data.check.audit import Leaks
from lmdbench.evaluation import inference
from lmdbench.evaluation.inference import Difference, Estimate
from lmdbench.evaluation.metrics import Metric, Scorer
from lmdbench.evaluation.predictions import Predictions

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

    def values(self, name: str) -> list[float | None]:
        of_seeds = [run.values[name] for run in self.runs]
        return [None if np.isnan(value) else value for value in of_seeds]

    def of_seeds(self, seeds: Sequence[int]) -> RowScores:
        if len(seeds) == len(self.runs):
            return self
        return RowScores(tuple(run for run in self.runs if run.seed in seeds))


def score_runs(
    rows: Sequence[Sequence[Run]], part: str, chosen: Sequence[Metric], leaked: Collection[str] = ()
) -> tuple[ScoredImages, list[RowScores]]:
    """Score the runs of each row, without the images that leak.

    For a bootstrap the runs are read a second time, as any of them may be the first to know units.

    Raises UserError, naming the run, for predictions that are not of the images of the others.
    """
    first: ScoredImages | None = None
    units: np.ndarray | None = None
    scored_rows = []
    for row in rows:
        scores = []
        for run in row:
            predictions = predictions_of(run, part, leaked)
            if first is None:
                first = _images(run, predictions)
            else:
                predictions = aligned(run, predictions, first.ids, first.labels)
            if units is None:
                units = predictions.units
            scores.append(_scored(run, predictions, chosen))
        scored_rows.append(RowScores(tuple(scores)))
    assert first is not None
    if units is not None and (known := int((units != "").sum())):
        codes = inference.unit_codes(units)
        alone = codes.max() + 1 == len(codes)
        first = ScoredImages(first.ids, first.labels, first.counts, None if alone else codes, known)
    drawn = [metric for metric in chosen if metric.resampled]
    if drawn and not inference.too_small(first.counts):
        images = first

        def again(run: Run, scored: RunScores) -> RunScores:
            predictions = predictions_of(run, part, leaked)
            predictions = aligned(run, predictions, images.ids, images.labels)
            return _resampled(scored, predictions, drawn, images.units)

        scored_rows = [
            RowScores(tuple(map(again, row, scores.runs)))
            for row, scores in zip(rows, scored_rows, strict=True)
        ]
    return first, scored_rows


def _images(run: Run, predictions: Predictions) -> ScoredImages:
    if len(np.unique(predictions.ids)) < len(predictions):
        raise UserError(f"{run.directory}: an image is tested twice; do the run again with --force")
    labels = predictions.labels.astype(np.int64)
    return ScoredImages(
        predictions.ids, labels, np.bincount(labels, minlength=predictions.logits.shape[1])
    )


def _scored(run: Run, predictions: Predictions, chosen: Sequence[Metric]) -> RunScores:
    scorer = Scorer(predictions.labels.astype(np.int64), predictions.logits)
    values = {metric.name: scorer.value(metric) for metric in chosen}
    reasons = {m.name: scorer.reason(m) for m in chosen if np.isnan(values[m.name])}
    smooth = not inference.too_small(scorer.counts)
    influences = {
        metric.name: scorer.influence(metric)
        for metric in chosen
        if smooth and metric.weights is None and not metric.resampled
    }
    return RunScores(run.seed, values, reasons, scorer.correct, influences)


def _resampled(
    scored: RunScores, predictions: Predictions, chosen: Sequence[Metric], units: np.ndarray | None
) -> RunScores:
    scorer = Scorer(predictions.labels.astype(np.int64), predictions.logits)
    drawn = {metric.name: scorer.resamples(metric, units) for metric in chosen}
    return replace(scored, influences={**scored.influences, **drawn})


# What is said of a row, and of two


def estimate(row: RowScores, metric: Metric, images: ScoredImages) -> Estimate | None:
    """None where a seed has no value. ``no_interval`` says why it has no interval."""
    values = row.values(metric.name)
    if None in values:
        return None
    pieces = None if metric.weights is not None else _influences(row, metric, images)
    of_part = images.labels, images.counts, images.units
    return metric.estimate(np.array(values, float), row.correct, pieces, *of_part)


def no_interval(
    row: RowScores, metric: Metric, images: ScoredImages, of_row: Estimate | None
) -> str:
    """Why there is no interval; empty if there is, or no value."""
    if of_row is None:
        return ""
    resamples = _influences(row, metric, images) if metric.resampled else None
    return inference.no_interval(images.counts, of_row, resamples)


def difference(
    a: RowScores, b: RowScores, metric: Metric, images: ScoredImages, margin: float
) -> Difference | None:
    """``a`` minus ``b`` over their common seeds; None without any, or where a value is missing.

    ``superiority`` is over all seeds of both. ``margin``: within it they are practically equal, if
    the metric is in percent. Over one seed there is an interval, for the test images, and nothing
    is tested: retraining may turn it. Nor is it on fewer than ``SMALLEST_CLASS`` images. What would
    be detectable is NaN where it is more than the metric can differ.
    """
    seeds = common_seeds(a, b)
    if not seeds:
        return None
    all_a, all_b = (np.array(row.values(metric.name), float) for row in (a, b))
    a, b = a.of_seeds(seeds), b.of_seeds(seeds)
    if None in a.values(metric.name) or None in b.values(metric.name):
        return None
    of_pair = _paired(a, b, metric, images, margin if metric.percent else 0.0)
    nan = np.nan
    several = len(seeds) > 1
    superiority = inference.superiority(all_a, all_b) if several else nan
    if several and metric.images(images.counts) >= inference.SMALLEST_CLASS:
        width = metric.bounds[1] - metric.bounds[0]
        least, ever = (
            value if value <= width else nan
            for value in (of_pair.detectable, of_pair.detectable_more_seeds)
        )
        return replace(
            of_pair, superiority=superiority, detectable=least, detectable_more_seeds=ever
        )
    return replace(
        of_pair,
        superiority=superiority,
        p=nan,
        detectable=nan,
        detectable_more_seeds=nan,
        equal=False,
    )


def _paired(
    a: RowScores, b: RowScores, metric: Metric, images: ScoredImages, margin: float
) -> Difference:
    """Of rows with the same seeds, and a value for each."""
    labels, units, bounds = images.labels, images.units, metric.bounds
    if metric.weights is not None:
        weights = metric.weights(images.counts)
        return inference.linear_difference(a.correct, b.correct, labels, weights, units, margin)
    values_a, values_b = (np.array(row.values(metric.name), float) for row in (a, b))
    of_a, of_b = (_influences(row, metric, images) for row in (a, b))
    if metric.resampled:
        return inference.bootstrap_difference(
            values_a, values_b, of_a, of_b, labels, bounds, margin
        )
    return inference.smooth_difference(
        values_a, values_b, of_a, of_b, labels, units, bounds, margin
    )


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
