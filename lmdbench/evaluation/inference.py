"""Intervals of one method, and corrections: pure functions on arrays, see docs/statistics.md.

Two sources of chance are in every interval: which seeds were trained (the spread over seeds) and
which images are in the test set (the test part, from outcomes averaged over seeds). ``correct`` is
(S, N), seeds × images, true where the prediction is right; ``labels`` (N,) int64; ``weights`` (C,)
say what the metric makes of the recalls, Σ weights · recall. ``units`` (N,) names the lesion or
patient of each image, "" for an image that stands alone, or holds the codes of ``unit_codes``;
None: every image stands alone. What can't be said is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from lmdbench.evaluation.ends import ends

Curve = Literal["ROC", "PR"]

SMALLEST_CLASS = 5  # test images or units; metrics that rest on a smaller one have no interval
NEGLIGIBLE = 0.05  # share of the images that may lie in smaller classes, if no class counts much
BORROWED = 5  # images' worth of what all classes say of persistence
SMALL = 10  # test images; classes with fewer lend each other what they tell
NOTHING = 1e-20  # a variance of rounding alone
LEAST_LASTING = 0.25  # the least share of a difference's image variance that is no seed's chance

# What a class without much evidence is given beside its images: ½ an image wrong and ½ right, or
# ¼ of each method alone being right and ½ of both alike. (Images, Σx, Σx²).
_OF_RECALL = (1.0, 0.5, 0.5)
_OF_DIFFERENCE = (1.0, 0.0, 0.5)


@dataclass(frozen=True)
class Estimate:
    """A metric of one method, mean over seeds. Shares, not percent.

    ``low`` and ``high``: 95 % interval, NaN where there is none. ``se`` is made of ``se_test`` and
    ``se_seeds`` (NaN for one seed: then only the test images count). ``df``: Satterthwaite's
    degrees of freedom, infinite where only test images count.
    """

    value: float
    low: float
    high: float
    se: float
    se_test: float
    se_seeds: float
    df: float
    seeds: int


# The test part


def recall_variance(outcomes: np.ndarray, units: np.ndarray | None = None) -> float:
    """Variance of one class's recall from its images.

    ``outcomes`` (n,): each image's correctness averaged over seeds, in [0, 1]. For 0/1 outcomes
    the variance of Jeffreys' posterior: never 0, even of one image.
    """
    return _of_one_class(outcomes, units, _OF_RECALL)


def difference_variance(differences: np.ndarray, units: np.ndarray | None = None) -> float:
    """Variance of a paired difference of one class's recall from its images.

    ``differences`` (n,): correctness of A minus that of B, averaged over seeds, in [−1, 1].
    """
    return _of_one_class(differences, units, _OF_DIFFERENCE)


def augmented_variance(
    n: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
    paired: bool = False,
    agreement: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Variance of the mean of ``n`` outcomes with sum ``total`` and sum of squares ``squares``.

    Arrays of any one shape. Pseudo-observations are added as the protocol says, for a recall or,
    ``paired``, for a difference; ``agreement``: how much of the spread of single outcomes they
    have, less than all where units stand for several images.
    """
    images, first, second = _OF_DIFFERENCE if paired else _OF_RECALL
    spread = first**2 + agreement * (second - first**2)
    mean = (total + first) / (n + images)
    return ((squares + spread) / (n + images) - mean**2) / (n + images + 1)


def persistence(
    n: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
    seeds: int,
    second: np.ndarray | None = None,
) -> np.ndarray:
    """How far a class's same images are right in every seed, (..., C): 0 by chance alone, 1 always.

    ``n`` (C,) images; ``total`` and ``squares`` (..., C) of the seed-averaged outcomes and
    ``second``, of the squared outcomes averaged over seeds (None: outcomes are 0 or 1, so it is
    ``total``). The share of the variance of an image's outcomes that is not chance between seeds.
    Small classes can't tell: each is drawn towards the mean class as by ``BORROWED`` more images.
    1 where nothing is known.
    """
    if seeds == 1:
        return np.ones_like(total)
    second = total if second is None else second
    several = n > 1 + 1e-9
    many = np.where(several, n, 2)
    chance = (second - squares) * seeds / (seeds - 1)
    share = (total + 1) / (n + 2)
    whole = (second - total**2 / many) * many / (many - 1)
    whole = np.where(several, whole, n * share * (1 - share))
    # Of the mean class, an image's.
    classes = max(int(several.sum()), 1)
    chance_there = (chance / many * several).sum(axis=-1, keepdims=True) / classes
    whole_there = (whole / many * several).sum(axis=-1, keepdims=True) / classes
    chance_there = np.minimum(chance_there, whole_there)
    part, of = chance + BORROWED * chance_there, whole + BORROWED * whole_there
    return np.clip(1 - np.divide(part, of, out=np.zeros_like(of), where=of > 0), 0, 1)


def agreement(
    n: np.ndarray,
    total: np.ndarray,
    second: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> np.ndarray:
    """Variance of the mean outcome of a class's units over that of an outcome, (..., C).

    1 where images stand alone. Of units of k images, ``sizes`` (C,), it is ρ + (1 − ρ) / k, if ρ is
    the correlation of two outcomes in a unit; other arguments as of ``persistence``. ρ is that of
    all classes together, and of one more outcome that agrees.
    """
    if second is None or sizes is None:
        return np.ones_like(total)
    several = n > 1 + 1e-9
    many = np.where(several, n, 2.0)
    squared = total**2 / many
    of_units = np.maximum(second - squared, 0) * many / (many - 1)
    of_outcomes = (total - squared + of_units / many) * several
    alike = (of_units * several - of_outcomes / sizes).sum(axis=-1, keepdims=True)
    whole = (of_outcomes * (1 - 1 / sizes)).sum(axis=-1, keepdims=True)
    correlation = np.clip((alike + 1) / (whole + 1), 0, 1)
    return correlation + (1 - correlation) / sizes


def recall_variances(
    n: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
    seeds: int,
    second: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> np.ndarray:
    """Variance of each class's recall that is owed to its images and not to the seeds, (..., C).

    Arguments as of ``persistence``. An image tells as much as S / (1 + (S − 1) ``persistence``)
    outcomes: Jeffreys' variance for so many, less what the spread over seeds holds already; but
    at least the persistent share of p (1 − p) / n, p by Laplace's rule, as Jeffreys' variance of
    one image that is right in every seed is a third of what its chance can be. Of units of
    ``sizes`` (C,) images, as much of it as they show ``agreement``.
    """
    agreed = agreement(n, total, second, sizes)
    second = total if second is None else second
    lasting = persistence(n, total, squares, seeds, second)
    there = np.maximum(n, 1e-9)
    outcomes = there * seeds / (1 + (seeds - 1) * lasting)
    of_seeds = (second - squares) / (max(seeds - 1, 1) * there**2) * outcomes / (outcomes + 2)
    jeffreys = augmented_variance(
        outcomes, outcomes * total / there, outcomes * second / there, agreement=agreed
    )
    p = (total + 1) / (n + 2)
    return np.maximum(jeffreys - of_seeds, lasting * p * (1 - p) / there * agreed)


def least_variances(
    n: np.ndarray,
    total: np.ndarray,
    seeds: int,
    second: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> np.ndarray:
    """What both sources together can't be less than, (..., C), where seeds happen to agree.

    Jeffreys' variance of n · S outcomes that are all by chance; of classes of ``SMALL`` images and
    more, where that happens seldom, a quarter of it. Of units, as much of it as they show
    ``agreement``.
    """
    outcomes = n * seeds
    by_chance = augmented_variance(outcomes, seeds * total, seeds * total)
    return by_chance * np.where(n < SMALL, 1, 0.25) * agreement(n, total, second, sizes)


def difference_variances(
    n: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
    seeds: int = 1,
    second: np.ndarray | None = None,
) -> np.ndarray:
    """Variance of each class's paired difference of recalls from its images, (..., C).

    ``n`` (C,) images, ``total`` and ``squares`` (..., C) of the seed-averaged differences and
    ``second``, of the squared differences averaged over ``seeds``: what an image's difference
    changes by from seed to seed is in the spread over seeds already, and is taken off. At least
    ``augmented_variance``, and at least what two further images with the mean square of the classes
    with fewer than ``SMALL`` images (of the two smallest if there are none) leave: one image can't
    tell how far others would differ.
    """
    small = (n < SMALL) & (n > 0)
    if not small.any():
        small = n <= np.sort(n)[min(1, len(n) - 1)]
    typical = ((squares * small).sum(axis=-1, keepdims=True) + 0.5) / ((n * small).sum() + 1)
    mean_square = (squares + 2 * typical) / (n + 2)
    borrowed = (mean_square - (total / (n + 1)) ** 2) / np.maximum(n, 1e-9)
    whole = np.maximum(augmented_variance(n, total, squares, paired=True), borrowed)
    if seeds == 1 or second is None:
        return whole
    of_seeds = np.maximum(second - squares, 0) / ((seeds - 1) * np.maximum(n, 1e-9) * (n + 2))
    return np.maximum(whole - of_seeds, LEAST_LASTING * whole)


def unit_codes(units: np.ndarray) -> np.ndarray:
    """Units (N,) str as codes (N,) int64 from 0 on; an image without a unit gets its own."""
    names, codes = np.unique(units, return_inverse=True)
    codes = codes.astype(np.int64)
    alone = units == ""
    codes[alone] = len(names) + np.arange(alone.sum())
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _dense(units: np.ndarray) -> np.ndarray:
    """Units (N,), names or codes, as codes from 0 on without gaps."""
    codes = units if units.dtype.kind in "iu" else unit_codes(units)
    return np.unique(codes, return_inverse=True)[1]


def _of_one_class(
    outcomes: np.ndarray, units: np.ndarray | None, pseudo: tuple[float, float, float]
) -> float:
    pieces = Pieces.cut(outcomes[None], np.zeros(len(outcomes), np.int64), units, 1)
    paired = pseudo is _OF_DIFFERENCE
    return float(augmented_variance(pieces.n, pieces.total, pieces.squares, paired)[0])


@dataclass(frozen=True)
class Pieces:
    """The outcomes of each class as those of ``n`` (C,) images or units that tell as much.

    A unit's piece of a class counts with its mean, and with weight as its share of the images:
    1/Σ share² units of one size tell as much. Sums (C,): ``total`` and ``squares`` of the
    seed-averaged means, ``fourth`` of their fourth powers, ``second`` of the squared means averaged
    over seeds; ``sizes``: images of a unit. ``unit``, ``of_class`` and ``pull`` (P,): each piece,
    and how far it pulls the class's recall from its mean.
    """

    n: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    second: np.ndarray
    fourth: np.ndarray
    sizes: np.ndarray | None = None
    unit: np.ndarray | None = None
    of_class: np.ndarray | None = None
    pull: np.ndarray | None = None

    @classmethod
    def cut(
        cls, outcomes: np.ndarray, labels: np.ndarray, units: np.ndarray | None, classes: int
    ) -> Pieces:
        """``outcomes`` (S, N)."""
        mean = outcomes.mean(axis=0)
        images = np.bincount(labels, minlength=classes).astype(float)
        if units is None:
            total, squares, second, fourth = (
                np.bincount(labels, values, classes)
                for values in (mean, mean**2, (outcomes**2).mean(axis=0), mean**4)
            )
            return cls(images, total, squares, second, fourth)
        unit, of_class, k, sums = _cells(mean, labels, units, classes)
        by_seed = np.stack([_cells(seed, labels, units, classes)[3] for seed in outcomes]) / k
        share = k / images[of_class]
        mass = np.bincount(of_class, share**2, classes)
        n = np.divide(1, mass, out=np.zeros(classes), where=mass > 0)
        recalls = np.bincount(of_class, share * sums / k, classes)
        means = sums / k
        total, squares, second, fourth = (
            n**2 * np.bincount(of_class, share**2 * values, classes)
            for values in (means, means**2, (by_seed**2).mean(axis=0), means**4)
        )
        sizes = np.maximum(images / np.maximum(n, 1e-9), 1.0)
        return cls(
            *(n, total, squares, second, fourth, sizes, unit, of_class),
            share * (means - recalls[of_class]),
        )

    def variance(self, weights: np.ndarray, by_class: np.ndarray) -> float:
        """Of Σ weights · mean outcome: that of each class, and what units add across classes."""
        within = float((weights**2 * by_class)[self.n > 0].sum())
        if self.unit is None or self.of_class is None or self.pull is None:
            return within
        return within + _across_classes(weights[self.of_class] * self.pull, self.unit)


def _cells(
    values: np.ndarray, labels: np.ndarray, units: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Units cut by class: unit code, class, images and sum of the values of each piece."""
    codes = units if units.dtype.kind in "iu" else unit_codes(units)
    keys, piece = np.unique(codes * classes + labels, return_inverse=True)
    return keys // classes, keys % classes, np.bincount(piece), np.bincount(piece, values)


def _across_classes(pull: np.ndarray, unit: np.ndarray) -> float:
    """What units with images of several classes add: Σ of products between their pieces ``pull``.

    Not below 0: a chance negative correlation must not shrink the interval.
    """
    codes = np.unique(unit, return_inverse=True)[1]
    products = np.bincount(codes, pull) ** 2 - np.bincount(codes, pull**2)
    return max(0.0, float(products.sum()))


# Both sources together


def combine(
    values: np.ndarray,
    test_variance: np.ndarray,
    least: np.ndarray | float = 0.0,
    test_df: float = math.inf,
) -> dict[str, np.ndarray]:
    """Standard error and Satterthwaite's degrees of freedom of a mean over seeds.

    ``values`` (..., S), ``test_variance`` (...) with ``test_df``; ``least`` (...): what both
    sources together can't be less than. Returns ``value``, ``se``, ``se_test``, ``se_seeds`` and
    ``df``, each (...).
    """
    seeds = values.shape[-1]
    value = values.mean(axis=-1)
    if seeds == 1:
        se = np.sqrt(test_variance)
        nothing, df = np.full_like(se, np.nan), np.full_like(se, test_df)
        return {"value": value, "se": se, "se_test": se, "se_seeds": nothing, "df": df}
    of_seeds = values.var(axis=-1, ddof=1) / seeds
    of_seeds = np.where(of_seeds < NOTHING, 0.0, of_seeds)
    test_variance = np.maximum(test_variance, least - of_seeds)
    variance = of_seeds + test_variance
    # From few seeds a small s² makes the interval narrow and the df large at once. Counted
    # (S + 3) / (S − 1) times in the df, it covers 95 % whatever the seeds' share.
    counted = of_seeds * (seeds + 3) / (seeds - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_squares = counted**2 / (seeds - 1) + test_variance**2 / test_df
        df = np.where(of_squares == 0, np.inf, (counted + test_variance) ** 2 / of_squares)
    return {
        "value": value,
        "se": np.sqrt(variance),
        "se_test": np.sqrt(test_variance),
        "se_seeds": np.sqrt(of_seeds),
        "df": np.where(np.isnan(variance), np.nan, df),
    }


def quantile(probability: float, df: np.ndarray | float) -> np.ndarray:
    """Of Student's t, any shape of ``df``; infinite: the normal's."""
    df = np.asarray(df, float)
    finite = np.where(np.isinf(df), 1.0, df)
    return np.where(np.isinf(df), special.ndtri(probability), special.stdtrit(finite, probability))


def _estimate(
    values: np.ndarray,
    test: ImageVariance,
    bounds: tuple[float, float],
    level: float,
    least: float = 0.0,
) -> Estimate:
    found = combine(values, np.asarray(test.variance), least, test.df)
    parts = {k: float(v) for k, v in found.items()}
    t = quantile((1 + level) / 2, parts["df"])
    low, high = (float(end[0]) for end in ends(parts["value"], parts["se"], t, bounds))
    return Estimate(low=low, high=high, seeds=len(values), **parts)


# Metrics that are weighted sums of recalls


def linear_estimate(
    correct: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    units: np.ndarray | None = None,
    level: float = 0.95,
) -> Estimate:
    """Accuracy, balanced accuracy, or the recall of a class or group, of one method.

    ``correct`` (S, N), NaN throughout a seed that diverged; ``weights`` (C,), with 0 for classes
    without images, NaN if the metric is undefined: then all is NaN.
    """
    values = weighted_recalls(correct, labels, weights)
    if np.isnan(values).any():
        return _unknown(values)
    (variance,), (least,) = _of_recalls(correct, labels, weights[None], units)
    return _estimate(values, ImageVariance(variance), (0, 1), level, least)


def image_variances(
    correct: np.ndarray, labels: np.ndarray, weights: np.ndarray, units: np.ndarray | None = None
) -> np.ndarray:
    """Variance that each of K weighted sums of recalls, mean over seeds, owes to its images, (K,).

    ``correct`` (S, N) as of ``linear_estimate``, without NaN; ``weights`` (K, C).
    """
    found = [
        combine(weighted_recalls(correct, labels, one), np.asarray(variance), least)
        for one, variance, least in zip(
            weights, *_of_recalls(correct, labels, weights, units), strict=True
        )
    ]
    return np.array([float(parts["se_test"]) ** 2 for parts in found])


def _of_recalls(
    correct: np.ndarray, labels: np.ndarray, weights: np.ndarray, units: np.ndarray | None
) -> tuple[list[float], list[float]]:
    """Of each of K sums, ``weights`` (K, C): what its variance owes to the images, and the least
    that both sources can have together."""
    seeds = len(correct)
    pieces = Pieces.cut(np.asarray(correct, float), labels, units, weights.shape[1])
    sums = pieces.n, pieces.total
    by_class = recall_variances(*sums, pieces.squares, seeds, pieces.second, pieces.sizes)
    least = least_variances(*sums, seeds, pieces.second, pieces.sizes)
    there = pieces.n > 0
    return (
        [pieces.variance(one, by_class) for one in weights],
        [float((one**2 * least)[there].sum()) for one in weights],
    )


def weighted_recalls(correct: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σ weights · recall of each seed, (S,)."""
    images = np.bincount(labels, minlength=len(weights))
    if not len(labels) or np.isnan(weights).any() or (weights[images == 0] != 0).any():
        return np.full(len(correct), np.nan)
    return np.asarray(correct, float) @ (weights / np.maximum(images, 1))[labels]


# Metrics that are not: through the influence of each image


def independent(labels: np.ndarray, units: np.ndarray | None, classes: int) -> np.ndarray:
    """How many images of each class there are, (C,) float; where units are known, how many units of
    one size would tell as much: 1/Σ share², a unit's share being that of the class's images."""
    images = np.bincount(labels, minlength=classes).astype(float)
    if units is None:
        return images
    _, of_class, k, _ = _cells(np.ones(len(labels)), labels, units, classes)
    mass = np.bincount(of_class, (k / images[of_class]) ** 2, classes)
    return np.divide(1, mass, out=np.zeros(classes), where=mass > 0)


def too_small(counts: np.ndarray, carriers: np.ndarray | None = None, units: str = "images") -> str:
    """Why a smooth metric has no interval on a part with ``counts`` (C,) images, or as many units
    as are ``independent``; empty: it has.

    ``carriers`` (C,) bool: the classes that it rests on, None for all. Others may be small while
    they hold less than ``NEGLIGIBLE`` of the images. Classes without any image take no part.
    """
    small = (counts > 0) & (counts < SMALLEST_CLASS - 1e-9)
    if carriers is not None and counts[small].sum() < NEGLIGIBLE * counts.sum():
        small &= carriers
    if not (many := int(small.sum())):
        return ""
    which = "a class has" if many == 1 else f"{many} classes have"
    return f"{which} fewer than {SMALLEST_CLASS} test {units}"


def no_interval(why: str, found: Estimate, resamples: np.ndarray | None = None) -> str:
    """Why the estimate of a smooth metric has no interval; empty: it has, or has no value.

    ``why``: of ``too_small``. Where no image is wrong, or none right, all influences are 0: how far
    other images would vary can't be told from these. ``resamples`` (S, B): of
    ``bootstrap_estimate``.
    """
    if math.isnan(found.value) or not math.isnan(found.low):
        return ""
    if why:
        return why
    if resamples is not None and (without := int(np.isnan(resamples).any(axis=0).sum())):
        return f"it has no value on {without} of {resamples.shape[1]} bootstrap samples"
    return "the test images are all alike in it"


@dataclass(frozen=True)
class ImageVariance:
    """Variance that a metric, mean over seeds, owes to its test images, and how well it is known:
    degrees of freedom, infinite where that is not told. NaN: not known."""

    variance: float
    df: float = math.inf


def jackknife_variance(
    influences: np.ndarray, labels: np.ndarray, units: np.ndarray | None = None
) -> float:
    """Variance of a smooth metric from ``influences`` (N,), within classes.

    An influence is what the metric gains from one more copy of the image, to first order. This
    is the variance of the bootstrap that resamples within classes, to first order too and
    without its Monte Carlo error. Resampled are a class's units where they are known.
    """
    return jackknife(influences, labels, units).variance


def jackknife(
    influences: np.ndarray, labels: np.ndarray, units: np.ndarray | None
) -> ImageVariance:
    images = np.bincount(labels)
    centred = influences - (np.bincount(labels, influences) / np.maximum(images, 1))[labels]
    of_class, pulls, across = labels, centred, 0.0
    if units is not None:
        unit, of_class, _, pulls = _cells(centred, labels, units, len(images))
        across = _across_classes(pulls, unit)
    n = np.bincount(of_class)
    squared = pulls * pulls
    squares = np.bincount(of_class, squared)
    several = n > 1
    within = squares[several] * n[several] / (n[several] - 1)
    fourth = np.bincount(of_class, squared * squared)[several]
    return ImageVariance(
        float(within.sum()) + across,
        df_of_variance(within, fourth - squares[several] ** 2 / n[several]),
    )


def df_of_variance(parts: np.ndarray, variances: np.ndarray) -> float:
    """Degrees of freedom of a variance that is the sum of ``parts``, estimates with ``variances``
    of their own: what a χ² of the same mean and variance has. Infinite where those are 0."""
    spread = float(variances.sum())
    whole = float(parts.sum())
    return 2 * whole**2 / spread if spread > NOTHING * whole**2 else math.inf


def smooth_estimate(
    values: np.ndarray,
    influences: np.ndarray,
    labels: np.ndarray,
    units: np.ndarray | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
    why: str = "",
) -> Estimate:
    """Macro F1, AUROC, MCC, precision, calibration … of one method.

    ``values`` (S,), ``influences`` (S, N) as ``metrics.influences`` gives them. ``bounds``: what
    the metric can be, ``Metric.bounds``. ``why``, of ``too_small``: without an interval then, as
    where ``no_interval`` gives another reason.
    """
    if np.isnan(values).any():
        return _unknown(values)
    found = jackknife(influences.mean(axis=0), labels, units)
    return _estimate(np.asarray(values, float), _known(found, why), bounds, level)


def area_estimate(
    values: np.ndarray,
    influences: np.ndarray,
    labels: np.ndarray,
    n: np.ndarray,
    weights: np.ndarray,
    units: np.ndarray | None = None,
    level: float = 0.95,
    why: str = "",
    curve: Curve = "ROC",
) -> Estimate:
    """Σ weights · areas under the ROC or the precision-recall curves of the classes, one against
    the rest, of one method.

    ``n`` (C,) independent images, ``weights`` (C,). Near 1 an area rests on the few images that
    stand wrong, of which a small class may show none: its variance over images is at least
    ``roc_variance`` or ``pr_variance``, as far as the influences last from seed to seed. The
    interval under ROC curves is made on the logit scale.
    """
    if np.isnan(values).any():
        return _unknown(values)
    mean = float(np.mean(values))
    there = n > 0
    least = (roc_variance if curve == "ROC" else pr_variance)(mean, n[there], weights[there])
    found = jackknife(influences.mean(axis=0), labels, units)
    of_each = float(np.mean([jackknife_variance(seed, labels, units) for seed in influences]))
    lasting_share = found.variance / of_each if of_each > NOTHING else 1.0
    found = replace(found, variance=max(found.variance, least * lasting_share))
    told = _estimate(values, _known(found, why), (0, 1), level)
    if curve == "PR" or not 0 < mean < 1 or math.isnan(told.se):
        return told
    half = float(quantile((1 + level) / 2, told.df)) * told.se / (mean * (1 - mean))
    low, high = special.expit(special.logit(mean) + np.array([-half, half]))
    return replace(told, low=float(low), high=float(high))


def roc_variance(area: float, n: np.ndarray, weights: np.ndarray) -> float:
    """Variance of Σ weights · areas under ROC curves of two normal distributions of scores with
    this ``area``, of ``n`` images of each class against the others, (C,) both."""
    rest = np.maximum(n.sum() - n, 1)
    return binormal_variance(area) * float((weights**2 * (1 / n + 1 / rest)).sum())


def pr_variance(area: float, n: np.ndarray, weights: np.ndarray) -> float:
    """What the variance of Σ weights · average precisions is not likely to be below, (C,) both.

    An average precision is the mean of a precision at each of the class's ``n`` images: half the
    variance of a share of so many outcomes, p (1 − p) / n with p by Laplace's rule. Half is what
    simulated normal scores have near 1, where precisions are 1 or far from 0.
    """
    p = (n * area + 1) / (n + 2)
    return float((weights**2 * p * (1 - p) / n).sum()) / 2


def binormal_variance(area: float) -> float:
    """Variance of an image's placement, the share of the other side that it stands right to, where
    both sides' scores are normal with one spread and the ROC curve has this ``area``."""
    shift = special.ndtri(area)
    both = area - 2 * special.owens_t(shift, 1 / math.sqrt(3))
    return max(float(both) - area**2, 0.0)


def _known(found: ImageVariance, why: str = "") -> ImageVariance:
    """NaN where the metric rests on too small a class, or the variance is nothing."""
    return found if not why and found.variance > NOTHING else ImageVariance(math.nan)


def lasting(of_mean: ImageVariance, of_each: Sequence[float], why: str = "") -> ImageVariance:
    """The variance over images of a metric's mean over seeds, less the chance between seeds in it,
    which the spread over seeds holds already; ``of_each`` (S,): that of each seed's metric."""
    seeds = len(of_each)
    variance = of_mean.variance
    if seeds > 1:
        of_seeds = (float(np.mean(of_each)) - variance) / (seeds - 1)
        variance -= min(max(of_seeds, 0.0), (1 - LEAST_LASTING) * variance)
    return _known(ImageVariance(variance, of_mean.df), why)


def within_class_bootstrap(
    metric: Callable[[np.ndarray], float],
    labels: np.ndarray,
    generator: np.random.Generator,
    rounds: int = 1000,
    units: np.ndarray | None = None,
) -> np.ndarray:
    """``metric(images)`` of resampled image indices (N',), ``rounds`` times: (rounds,).

    Drawn with replacement within each class, its images or, where known, its units; a unit with
    images of several classes is drawn whole, among those of the class it has the most images of.
    It is what ``jackknife_variance`` stands for; slow.
    """
    codes = np.arange(len(labels)) if units is None else _dense(units)
    classes = int(labels.max()) + 1
    by_class = np.bincount(codes * classes + labels, minlength=(codes.max() + 1) * classes)
    home = by_class.reshape(-1, classes).argmax(axis=1)  # of each unit
    in_order = np.argsort(home, kind="stable")
    there = np.bincount(home)
    first, many = (np.cumsum(there) - there)[home[in_order]], there[home[in_order]]
    images, sizes = np.argsort(codes, kind="stable"), np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    found = np.empty(rounds)
    for number in range(rounds):
        units_drawn = in_order[first + generator.integers(many)]
        lengths = sizes[units_drawn]
        skipped = starts[units_drawn] - (np.cumsum(lengths) - lengths)
        found[number] = metric(images[np.repeat(skipped, lengths) + np.arange(lengths.sum())])
    return found


def bootstrap_estimate(
    values: np.ndarray,
    resamples: np.ndarray,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
    why: str = "",
) -> Estimate:
    """Any metric of one method: as ``smooth_estimate``, with ``resamples`` (S, B) for influences.

    They are the metric on B samples of ``within_class_bootstrap``, the same for every seed. Their
    mean over seeds has the variance of the test part. No interval where one has no value.
    """
    if np.isnan(values).any():
        return _unknown(values)
    found = ImageVariance(float(resamples.mean(axis=0).var(ddof=1)))
    return _estimate(np.asarray(values, float), _known(found, why), bounds, level)


def _unknown(values: np.ndarray) -> Estimate:
    """Where a seed has no value, there is no mean."""
    nan = math.nan
    return Estimate(nan, nan, nan, nan, nan, nan, nan, len(values))


# Many comparisons


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's corrected p-values (m,), in the order given. NaN stays NaN and is not counted."""
    p = np.asarray(p, float)
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def permutation_p(
    a: np.ndarray,
    b: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    generator: np.random.Generator,
    rounds: int = 10_000,
    units: np.ndarray | None = None,
) -> float:
    """Two-sided p of A against B for these trained models only; says nothing of a retraining.

    ``a``, ``b`` (S, N), ``weights`` (C,) as for ``linear_difference``. The signs of the
    seed-averaged differences are flipped unit by unit; p = (1 + rounds at least as extreme) /
    (1 + ``rounds``).
    """
    d = np.asarray(a, float).mean(axis=0) - np.asarray(b, float).mean(axis=0)
    images = np.bincount(labels, minlength=len(weights))
    pull = (weights / np.maximum(images, 1))[labels] * d
    if np.isnan(pull).any():
        return math.nan
    if units is not None:
        pull = np.bincount(_dense(units), pull)
    # Flips of equal size add up to a binomial count: as good as one flip at a time, and faster.
    sizes, counts = np.unique(np.abs(pull[pull != 0]), return_counts=True)
    flips = 2 * generator.binomial(counts, 0.5, (rounds, len(counts))) - counts
    extreme = np.abs(flips @ sizes) >= abs(pull.sum()) - 1e-12
    return float((1 + extreme.sum()) / (1 + rounds))
