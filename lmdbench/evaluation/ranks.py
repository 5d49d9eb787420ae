"""Ranks of methods, across data sets and within one: pure functions on arrays, the protocol of
docs/statistics.md.

``scores`` (K, M): settings × methods, larger is better. Seeds, images and classes as in
``inference.py``. What can't be said is NaN.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

NEMENYI_FROM = 8  # data-set settings; with fewer a critical difference spans most ranks
INTERVALS_FROM = 6  # settings; what fewer say of settings to come is next to nothing
EXACT_METHODS = 7  # of Friedman's exact test
EXACT_WORK = 500_000  # rank sums that a step of it may look at
CHI_SQUARED_FROM = 20  # settings
PERMUTATIONS = 20_000  # of Friedman's test where it is neither exact nor χ²
SEED = 0  # of their generator
SAMPLES_AT_ONCE = 100  # that are held as float64


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all methods rank alike.

    ``statistic``: χ², corrected for ties. ``distribution``: what its p is from, "exact",
    "permutations" or "chi-squared"; empty where there is no test and both numbers are NaN.
    """

    statistic: float
    p: float
    distribution: str


def mean_ranks(scores: np.ndarray) -> np.ndarray:
    """Mean rank of each method (M,), 1 is best; equal scores share their ranks."""
    return _ranks(scores).mean(axis=0)


def mean_rank_intervals(scores: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Intervals (..., M, 2) of the mean ranks over settings to come, within 1 and M; ``scores``
    (..., K, M).

    Student's t with K − 1 degrees of freedom on K + 2 settings: the K there are, and two in which
    the method stands as far above and below its mean as any method did in any setting, but at
    least one rank, and no farther than 1 and M. Without them a method that is the best everywhere
    would have an interval of width 0. NaN for fewer than ``INTERVALS_FROM`` settings.
    """
    *many, settings, methods = scores.shape
    if settings < INTERVALS_FROM:
        return np.full((*many, methods, 2), np.nan)
    by_setting = _ranks(scores)
    means = by_setting.mean(axis=-2, keepdims=True)
    farthest = np.abs(by_setting - means).max(axis=(-2, -1), keepdims=True)
    further = np.maximum(farthest, 1) * np.array([[-1.0], [1.0]])
    everything = np.concatenate([by_setting, np.clip(means + further, 1, methods)], axis=-2)
    centre = everything.mean(axis=-2)
    half = stats.t.ppf((1 + level) / 2, settings - 1) * stats.sem(everything, axis=-2)
    return np.clip(np.stack([centre - half, centre + half], axis=-1), 1, methods)


def wins(scores: np.ndarray) -> np.ndarray:
    """(M, M): in how many settings the row's method scores above the column's.

    Losses are the transpose, ties what is left of K.
    """
    return (scores[:, :, None] > scores[:, None, :]).sum(axis=0)


def friedman(scores: np.ndarray) -> Friedman:
    """Friedman's test; none for fewer than three methods or two settings, or where all are equal.

    From ``CHI_SQUARED_FROM`` settings on by χ². With fewer, exact where the rank sums can all be
    counted, which allows for ties, else by ``PERMUTATIONS`` random permutations within settings.
    """
    settings, methods = scores.shape
    if methods < 3 or settings < 2 or (scores == scores[:, :1]).all():
        return Friedman(math.nan, math.nan, "")
    found = stats.friedmanchisquare(*scores.T)
    statistic = float(found.statistic)
    if settings >= CHI_SQUARED_FROM:
        return Friedman(statistic, float(found.pvalue), "chi-squared")
    doubled = np.rint(2 * _ranks(scores)).astype(np.int64)
    exact = _exact_p(doubled)
    if exact is not None:
        return Friedman(statistic, exact, "exact")
    return Friedman(statistic, _permutation_p(doubled), "permutations")


def _exact_p(doubled: np.ndarray) -> float | None:
    """p of the rank sums when each row of ``doubled`` (K, M) ranks, int64, is permuted at random.

    Rows are added one at a time to all sums there can be, each with its probability. As every
    order of a row is equally likely, sums that are permutations of each other are one. None for
    more than ``EXACT_METHODS``, or where a step would look at more than ``EXACT_WORK`` sums.
    """
    settings, methods = doubled.shape
    if methods > EXACT_METHODS:
        return None
    places = (2 * methods * settings + 1) ** np.arange(methods)  # sums as the digits of one number
    first, *others = np.sort(doubled, axis=1)
    sums: np.ndarray = first[None]
    chances: np.ndarray = np.ones(1)
    for row in others:
        orders = np.array(sorted(set(itertools.permutations(row.tolist()))))
        if len(sums) * len(orders) > EXACT_WORK:
            return None
        added = np.sort((sums[:, None] + orders).reshape(-1, methods), axis=1)
        _, kept, which = np.unique(added @ places, return_index=True, return_inverse=True)
        each = np.repeat(chances / len(orders), len(orders))
        sums, chances = added[kept], np.bincount(which, each)
    extreme = (sums**2).sum(axis=1) >= (doubled.sum(axis=0) ** 2).sum()
    return min(1.0, float(chances[extreme].sum()))


def _permutation_p(doubled: np.ndarray) -> float:
    """The same by random permutations: (1 + those as extreme) / (1 + ``PERMUTATIONS``)."""
    generator = np.random.default_rng(SEED)
    sums = np.zeros((PERMUTATIONS, doubled.shape[1]), np.int64)
    for row in doubled:
        sums += generator.permuted(np.broadcast_to(row, sums.shape), axis=1)
    extreme = ((sums**2).sum(axis=1) >= (doubled.sum(axis=0) ** 2).sum()).sum()
    return float((1 + extreme) / (1 + PERMUTATIONS))


def nemenyi_critical_difference(methods: int, settings: int, level: float = 0.95) -> float:
    """Mean ranks farther apart than this differ (Demšar 2006): q √(M (M + 1) / 6K)."""
    q = stats.studentized_range.ppf(level, methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * settings)))


def _ranks(scores: np.ndarray) -> np.ndarray:
    return stats.rankdata(-np.asarray(scores, float), axis=-1)


# Within one setting: how far seeds and test images make the ranking


@dataclass(frozen=True)
class Draws:
    """Bootstrap samples of test images, the same for all methods of a table.

    ``times`` (B, N) int16: how often each image is in each. ``scale`` (N,): what an image's
    influence is multiplied by, n / (n − 1) of the n units of its class, as n − 1 of them are drawn
    (Rao and Wu 1988): so the variance is unbiased, be n as small as 2.
    """

    times: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        generator: np.random.Generator,
        rounds: int = 1000,
        units: np.ndarray | None = None,
    ) -> Draws:
        """Units, or images where ``units`` (N,) int64 is None, drawn within each class (N,).

        A unit with images of several classes is drawn among those of the class it has the most
        images of. The only unit of a class is in every sample.
        """
        codes = (
            np.arange(len(labels)) if units is None else np.unique(units, return_inverse=True)[1]
        )
        classes = int(labels.max()) + 1
        of_classes = np.bincount(codes * classes + labels, minlength=(codes.max() + 1) * classes)
        home = of_classes.reshape(-1, classes).argmax(axis=1)
        times = np.ones((rounds, len(home)), np.int16)
        scale = np.ones(len(home))
        for k in np.unique(home):
            members = np.flatnonzero(home == k)
            n = len(members)
            if n > 1:
                times[:, members] = generator.multinomial(n - 1, np.full(n, 1 / n), rounds)
                scale[members] = n / (n - 1)
        return cls(times[:, codes], scale[codes])

    def values(self, values: np.ndarray, influences: np.ndarray) -> np.ndarray:
        """A metric on the samples (S, B), to first order, from its ``values`` (S,) and influences
        (S, N), centred within classes."""
        scaled = influences * self.scale
        blocks = np.array_split(self.times, max(1, len(self.times) // SAMPLES_AT_ONCE))
        sums = np.concatenate([scaled @ block.T.astype(float) for block in blocks], axis=1)
        return (values - influences.sum(axis=1))[:, None] + sums


def over_seeds(samples: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Mean over seeds drawn with replacement, (B,), of a metric (S, B) on samples of images.

    S − 1 of S are drawn, so that the variance is unbiased; one seed is taken as it is.
    """
    seeds, rounds = samples.shape
    if seeds == 1:
        return samples[0]
    times = generator.multinomial(seeds - 1, np.full(seeds, 1 / seeds), rounds)
    return (times.T * samples).sum(axis=0) / (seeds - 1)


@dataclass(frozen=True)
class Stability:
    """The ranks of M methods over B bootstrap samples.

    ``ranks`` (M,): as observed. ``median``, ``low``, ``high`` (M,): of the ranks in the samples,
    with 95 % between low and high. ``shares`` (M, M): in which share of the samples a method (row)
    has a place (column), the best first; methods that tie share theirs. ``tau`` (B,): Kendall's
    rank correlation of a sample with what was observed, NaN where all are equal.
    """

    ranks: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    shares: np.ndarray
    tau: np.ndarray


def stability(values: np.ndarray, samples: np.ndarray, level: float = 0.95) -> Stability:
    """``values`` (M,) observed and ``samples`` (M, B), larger is better; within 1e-10 they tie.

    It says how stable the ranking is in these data. Intervals of ranks are no confidence intervals
    of the ranks that endlessly many seeds and images would give.
    """
    observed = _ranks(np.round(values, 10)[None])[0]
    drawn = -np.round(samples.T, 10)
    by_sample = stats.rankdata(drawn, axis=1)
    tails = [0.5, (1 - level) / 2, (1 + level) / 2]
    median, low, high = np.quantile(by_sample, tails, axis=0, method="inverted_cdf")
    first, last = (stats.rankdata(drawn, method=way, axis=1) for way in ("min", "max"))
    shares = [
        (((first <= place) & (place <= last)) / (last - first + 1)).mean(axis=0)
        for place in range(1, len(values) + 1)
    ]
    tau = kendall(observed, by_sample)
    return Stability(observed, median, low, high, np.stack(shares, axis=1), tau)


def kendall(observed: np.ndarray, by_sample: np.ndarray) -> np.ndarray:
    """Kendall's τ-b (B,) of ranks (M,) with each of the ranks (B, M); NaN where one has ties alone.

    scipy's takes a pair of rankings at a time: a second for a thousand.
    """
    agreeing = np.zeros(len(by_sample))
    told = np.zeros(len(by_sample))
    told_observed = 0
    for k in range(len(observed) - 1):
        there = np.sign(observed[k + 1 :] - observed[k])
        here = np.sign(by_sample[:, k + 1 :] - by_sample[:, k : k + 1])
        agreeing += here @ there
        told += np.abs(here).sum(axis=1)
        told_observed += int(np.abs(there).sum())
    pairs = np.sqrt(told * told_observed)
    return np.divide(agreeing, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
