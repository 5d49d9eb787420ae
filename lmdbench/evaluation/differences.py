"""Is A better than B? Paired differences with intervals and p, the protocol of docs/statistics.md.

A difference is paired by seed and by image. What its test images say follows from the two rows
alone, a ``Gap``; how far seeds vary is told by all rows of the table (``moderation.py``).
``labels`` (N,), ``weights`` (C,) and ``units`` (N,) are as in ``inference.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from lmdbench.evaluation.inference import (
    NOTHING,
    Estimate,
    ImageVariance,
    Pieces,
    df_of_variance,
    difference_variances,
    jackknife,
    jackknife_variance,
    lasting,
    quantile,
    weighted_recalls,
)
from lmdbench.evaluation.moderation import RowSeeds, SeedVariance, moderated

POWER = 0.8  # of the difference that is called detectable
LEVEL = 0.05  # a corrected p below it is a finding
MARGIN = 0.01  # a share: within it two methods are practically equal, unless said otherwise


@dataclass(frozen=True)
class Difference(Estimate):
    """A metric of method A minus that of B, on the same images and seeds.

    ``se_seeds``: of the moderated variances of both rows. ``p`` is two-sided and uncorrected, below
    .05 exactly where the 95 % interval leaves 0 out. ``superiority``: share of the pairs (seed of
    A, seed of B) in which A's value is the larger, ties one half. ``detectable``: the smallest true
    difference that is found in ``POWER`` of such tables, ``comparisons`` being corrected for;
    ``detectable_more_seeds``: the same with any number of seeds on this test set. ``equal_within``:
    the smallest margin at which two one-sided tests at 5 % (Schuirmann 1987) show that the two are
    equal; ``equal``: it is below the margin asked for. ``df_test``: degrees of freedom of the part
    of the images. ``simultaneous``: the interval holds together with those of all ``comparisons``.
    """

    p: float
    superiority: float
    detectable: float
    detectable_more_seeds: float
    equal: bool
    equal_within: float
    df_test: float = math.inf
    comparisons: int = 1
    simultaneous: bool = False


@dataclass(frozen=True)
class Gap:
    """Two rows on the same images and seeds: their values (S,) seed by seed, what the variance of
    the mean difference owes to the images, and by how much the metric can differ."""

    values_a: np.ndarray
    values_b: np.ndarray
    test: ImageVariance
    width: float = 1.0

    @property
    def seeds(self) -> int:
        return len(self.values_a)

    @property
    def known(self) -> bool:
        """Whether both rows have a value for every seed."""
        return not (np.isnan(self.values_a).any() or np.isnan(self.values_b).any())


# What the test images say


def linear_gap(
    a: np.ndarray,
    b: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    units: np.ndarray | None = None,
) -> Gap:
    """Of a weighted sum of recalls; ``a`` and ``b`` (S, N) correct, seed by seed a pair."""
    values_a, values_b = (weighted_recalls(x, labels, weights) for x in (a, b))
    if np.isnan(values_a).any() or np.isnan(values_b).any():
        return Gap(values_a, values_b, ImageVariance(math.nan))
    d = np.asarray(a, float) - np.asarray(b, float)
    pieces = Pieces.cut(d, labels, units, len(weights))
    n = pieces.n
    by_class = difference_variances(n, pieces.total, pieces.squares, len(d), pieces.second)
    there = n > 0
    parts = weights**2 * by_class
    chances = weights**4 * _chance_of_squares(pieces, len(d)) / (np.maximum(n, 1) * (n + 2)) ** 2
    df = df_of_variance(parts[there], chances[there])
    return Gap(values_a, values_b, ImageVariance(pieces.variance(weights, by_class), df))


def _chance_of_squares(pieces: Pieces, seeds: int) -> np.ndarray:
    """Variance of the sum of squared differences of each class, (C,).

    By their fourth powers and those of one more piece, whose fourth power is as large as its square
    can make it: few pieces that happen to be alike tell little. All are as large over one seed.
    """
    n = np.maximum(pieces.n, 1)
    fourth = pieces.squares
    if seeds > 1:
        fourth = np.minimum(fourth, pieces.fourth + pieces.squares / n)
    return np.maximum(fourth - pieces.squares**2 / n, 0)


def smooth_gap(
    values_a: np.ndarray,
    values_b: np.ndarray,
    influences_a: np.ndarray,
    influences_b: np.ndarray,
    labels: np.ndarray,
    units: np.ndarray | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    why: str = "",
) -> Gap:
    """Of a metric with influences (S, N). ``why``: as of ``inference.too_small``."""
    pulls = influences_a - influences_b
    of_mean = jackknife(pulls.mean(axis=0), labels, units)
    of_each = [jackknife_variance(seed, labels, units) for seed in pulls]
    test = lasting(of_mean, of_each, why)
    return Gap(np.asarray(values_a, float), np.asarray(values_b, float), test, _width(bounds))


def bootstrap_gap(
    values_a: np.ndarray,
    values_b: np.ndarray,
    resamples_a: np.ndarray,
    resamples_b: np.ndarray,
    bounds: tuple[float, float] = (0.0, 1.0),
    why: str = "",
) -> Gap:
    """Of any metric, from its values on the same bootstrap samples, (S, B) each."""
    drawn = resamples_a - resamples_b
    of_mean = ImageVariance(float(drawn.mean(axis=0).var(ddof=1)))
    test = lasting(of_mean, list(drawn.var(axis=1, ddof=1)), why)
    return Gap(np.asarray(values_a, float), np.asarray(values_b, float), test, _width(bounds))


def _width(bounds: tuple[float, float]) -> float:
    return bounds[1] - bounds[0]


# With what the seeds say


def difference(
    gap: Gap,
    seeds_a: SeedVariance,
    seeds_b: SeedVariance,
    margin: float = MARGIN,
    level: float = 0.95,
    comparisons: int = 1,
) -> Difference:
    """A minus B, with the variances over seeds of both rows as their table moderates them.

    The standard error is √((σ²_a + σ²_b)/S + V); its degrees of freedom are Satterthwaite's, in
    which a variance with ν of them counts (ν + 2)/ν times, as small ones make a test sure of itself
    just where they are too small. ``comparisons``: how many the table corrects for.
    """
    if not gap.known:
        return _unknown(gap)
    value = float(gap.values_a.mean() - gap.values_b.mean())
    of_seeds = [SeedVariance(0.0, 0.0)] * 2
    if gap.seeds > 1:
        of_seeds = [replace(v, variance=v.variance / gap.seeds) for v in (seeds_a, seeds_b)]
    se, df = _combined(of_seeds, gap.test)
    se_seeds = math.sqrt(sum(part.variance for part in of_seeds)) if gap.seeds > 1 else math.nan
    se_test = math.sqrt(gap.test.variance)
    half = float(quantile((1 + level) / 2, df)) * se
    low, high = (float(end) for end in np.clip([value - half, value + half], -gap.width, gap.width))
    within = abs(value) + float(quantile(level, df)) * se
    found = Difference(
        value=value,
        low=low,
        high=high,
        se=se,
        se_test=se_test,
        se_seeds=se_seeds,
        df=df,
        seeds=gap.seeds,
        p=_p(value, se, df),
        superiority=superiority(gap.values_a, gap.values_b),
        detectable=math.nan,
        detectable_more_seeds=math.nan,
        equal=within < margin,
        equal_within=within,
        df_test=gap.test.df,
    )
    return corrected_for(found, comparisons)


def corrected_for(found: Difference, comparisons: int, simultaneous: bool = False) -> Difference:
    """With what would be detectable among so many comparisons, at Holm's first step: where no
    other of them is a finding; with more seeds it is no more than that. ``simultaneous``: with an
    interval that holds the truth together with those of all comparisons in 95 % of tables
    (Bonferroni)."""
    tail = LEVEL / (2 * max(comparisons, 1))
    detectable = _found_in(POWER, tail, found.df) * found.se
    by_images = _found_in(POWER, tail, found.df_test) * found.se_test
    found = replace(
        found,
        comparisons=comparisons,
        detectable=detectable,
        detectable_more_seeds=min(by_images, detectable),
    )
    if not simultaneous:
        return found
    half = float(quantile(1 - tail, found.df)) * found.se
    low, high = found.value - half, found.value + half
    return replace(found, low=low, high=high, simultaneous=True)


def _found_in(power: float, tail: float, df: float) -> float:
    """How many standard errors a true difference must have to be found in a share ``power`` of
    tables where ``tail`` of Student's t lies above what makes a finding: the noncentral t, by the
    normal approximation to it (Johnson and Welch 1940)."""
    critical = float(quantile(1 - tail, df))
    spread = math.sqrt(1 + critical**2 / (2 * df))
    return critical * (1 - 1 / (4 * df)) + float(special.ndtri(power)) * spread


def _combined(of_seeds: list[SeedVariance], test: ImageVariance) -> tuple[float, float]:
    """Standard error and degrees of freedom of the sum of two variances over seeds and one over
    images."""
    whole = sum(part.variance for part in of_seeds) + test.variance
    counted, squares = test.variance, test.variance**2 / test.df
    for part in of_seeds:
        if part.variance > NOTHING:
            more = part.variance * (part.df + 2) / part.df
            counted += more
            squares += more**2 / part.df
    if math.isnan(whole):
        return math.nan, math.nan
    return math.sqrt(whole), counted**2 / squares if squares > 0 else math.inf


def _p(value: float, se: float, df: float) -> float:
    if value == 0:
        return 1.0
    if math.isnan(se):
        return math.nan
    if se == 0:
        return 0.0
    t = -abs(value) / se
    return float(2 * (special.ndtr(t) if math.isinf(df) else special.stdtr(df, t)))


def linear_difference(
    a: np.ndarray,
    b: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    units: np.ndarray | None = None,
    margin: float = MARGIN,
    level: float = 0.95,
) -> Difference:
    """Of two rows that no others stand beside; ``a`` and ``b`` (S, N) as of ``linear_gap``."""
    return alone(linear_gap(a, b, labels, weights, units), margin, level)


def alone(gap: Gap, margin: float = MARGIN, level: float = 0.95) -> Difference:
    """The difference of two rows without a table."""
    seeds = tuple(range(gap.seeds))
    rows = [RowSeeds(seeds, values, 1.0) for values in (gap.values_a, gap.values_b)]
    seeds_a, seeds_b = moderated(rows)
    return difference(gap, seeds_a, seeds_b, margin, level)


def superiority(a: np.ndarray, b: np.ndarray) -> float:
    """Share of all pairs of a value of ``a`` (S,) and one of ``b`` (T,) in which a's is larger.

    Ties count one half; values that differ by less than 1e-12 tie. NaN if any value is.
    """
    gap = np.subtract.outer(a, b)
    if np.isnan(gap).any():
        return math.nan
    return float(((gap > 1e-12) + (np.abs(gap) <= 1e-12) / 2).mean())


def _unknown(gap: Gap) -> Difference:
    nan = math.nan
    return Difference(
        *(nan,) * 7,
        seeds=gap.seeds,
        p=nan,
        superiority=superiority(gap.values_a, gap.values_b),
        detectable=nan,
        detectable_more_seeds=nan,
        equal=False,
        equal_within=nan,
    )
