"""Planning of a study: what would a table of so many methods, seeds and test images find?

Searches go by a formula, which puts what is expected of the variances into the very functions that
judge real tables (``expected_table``); what they find is checked on simulated tables. Differences
and SDs are shares of balanced accuracy here, not points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from lmdbench.core.errors import UserError
from lmdbench.evaluation import differences, inference
from lmdbench.evaluation.differences import LEVEL, POWER, Gap
from lmdbench.evaluation.inference import ImageVariance
from lmdbench.evaluation.moderation import (
    BORROWED_DF,
    WIDE,
    SeedVariance,
    lent_to_reference,
)
from lmdbench.evaluation.simulation import (
    TableLaw,
    TableSimulation,
    expected,
    scale_for,
)

FALLING = (0.93, 0.3)  # recall of the largest and of the smallest class, unless said otherwise
MOST_SEEDS = 20  # that a search goes to
SEEDS_OF_IMAGES = (3, 5, 10, MOST_SEEDS)  # with which it is said how many images would do
MOST_IMAGES = 100_000  # of a class that a search goes to
BEST = 0.995  # expected balanced accuracy: a difference may not lead above it
ROUNDS = 3  # of simulations that a search is corrected by
DIFFICULTIES = (np.arange(200) + 0.5) / 200  # of images: right are runs with a larger recall
MOST_OUTCOMES = 2 * 10**8  # images × runs of a simulated table

# What is expected of a table


@dataclass(frozen=True)
class ExpectedTable:
    """The comparison of the method that gains with the reference. ``sd``: of the difference that is
    found; ``se`` and ``df``: what the table is expected to give as its standard error and degrees
    of freedom; ``df_of_se``: how well that standard error is known."""

    gain: float
    sd: float
    se: float
    df: float
    df_of_se: float
    comparisons: int

    @property
    def power(self) -> float:
        """Share of tables that find the gain at Holm's first step, by the noncentral t."""
        critical = float(inference.quantile(1 - LEVEL / (2 * self.comparisons), self.df))
        critical *= self.se / self.sd
        if math.isinf(self.df_of_se):
            return float(special.ndtr(self.gain / self.sd - critical))
        return float(1 - special.nctdtr(self.df_of_se, self.gain / self.sd, critical))


def expected_table(law: TableLaw) -> ExpectedTable:
    """By the expected values of all sums that ``linear_gap`` and ``moderated`` go by."""
    pair = _Pair.of(law)
    n, seeds, classes = np.array(law.counts), law.seeds, len(law.counts)
    weights = np.full(classes, 1 / classes)
    of_sum = n**2 * (pair.variance_of_class_mean(n, seeds) + pair.gain**2)
    mean_square = pair.moment(2, seeds)
    squares, second = n * mean_square, n * pair.moment(2, 1)
    by_class = inference.difference_variances(n, np.sqrt(of_sum), squares, seeds, second)
    fourth_moment = pair.moment(4, seeds)
    fourth = n * mean_square
    if seeds > 1:
        fourth = np.minimum(fourth, n * fourth_moment + mean_square)
    fourth = fourth - (n - 1) * mean_square**2 - fourth_moment
    test = ImageVariance(
        float(weights**2 @ by_class),
        inference.df_of_variance(weights**2 * by_class, weights**4 * fourth / (n * (n + 2)) ** 2),
    )
    rows = _moderated(law, pair.run_variances(n) / classes**2, test.variance)
    start = pair.recalls[0].mean()
    gap = Gap(np.full(seeds, start + law.gain), np.full(seeds, start), test)
    found = differences.difference(gap, rows[1], rows[0], comparisons=law.methods - 1)
    of_se = test.variance**2 / test.df + sum((v.variance / seeds) ** 2 / v.df for v in rows)
    return ExpectedTable(
        gain=law.gain,
        sd=math.sqrt(float(weights**2 @ pair.variance_of_class_mean(n, seeds))),
        se=found.se,
        df=found.df,
        df_of_se=found.se**4 / of_se if of_se > 0 else math.inf,
        comparisons=law.methods - 1,
    )


@dataclass(frozen=True)
class _Pair:
    """The reference and the method that gains, in this order: ``recalls`` (2, C), their
    ``variances`` over seeds, and ``right`` (2, U, C), how often seeds are right on an image whose
    difficulty lasts, at U difficulties. ``lasting`` (C,) and ``own`` as of ``TableLaw``."""

    recalls: np.ndarray
    variances: np.ndarray
    right: np.ndarray
    lasting: np.ndarray
    own: float

    @classmethod
    def of(cls, law: TableLaw) -> _Pair:
        two = TableSimulation(replace(law, methods=2, deviant=()))
        scale = np.maximum(two.scale, 1e-9)
        recalls, variances = zip(*map(expected, two.recalls, scale), strict=True)
        easier = special.logit(two.recalls)[:, None] - special.logit(DIFFICULTIES)[:, None]
        right = special.ndtr(easier / scale[:, None, None])
        return cls(np.stack(recalls), np.stack(variances), right, law.lasting, law.own)

    @property
    def gain(self) -> np.ndarray:
        return self.recalls[1] - self.recalls[0]

    def moment(self, order: int, seeds: int) -> np.ndarray:
        """Mean power ``order`` of an image's difference averaged over ``seeds``, (C,)."""
        by_chance = _power_of_difference(order, *(_moments(r, seeds) for r in self.recalls))
        a, b = (_moments(right, seeds) for right in self.right)
        alone = _power_of_difference(order, a.mean(axis=1), b.mean(axis=1))
        shared = _power_of_difference(order, a, b).mean(axis=0)
        lasting = self.own * alone + (1 - self.own) * shared
        return self.lasting * lasting + (1 - self.lasting) * by_chance

    def variance_of_class_mean(self, n: np.ndarray, seeds: int) -> np.ndarray:
        """Of the difference of a class's recalls on ``n`` images, averaged over seeds."""
        of_seeds = self.variances.sum(axis=0) / seeds
        of_images = self.moment(2, seeds) - self.gain**2 - of_seeds
        return of_seeds + of_images / n

    def run_variances(self, n: np.ndarray) -> np.ndarray:
        """Variance of a method's recalls from seed to seed on the same ``n`` images, (2, C)."""
        in_two_runs = self.lasting * ((self.right**2).mean(axis=1) - self.recalls**2)
        chance = self.recalls * (1 - self.recalls) - self.variances - in_two_runs
        return self.variances + chance / n


def _moments(right: np.ndarray, seeds: int) -> np.ndarray:
    """Mean powers 0 to 4 of the share of ``seeds`` that are right, each with chance ``right``
    (...): (5, ...)."""
    ones = np.ones_like(right)
    pairs, triples, fours = (math.perm(seeds, k) * right**k for k in (2, 3, 4))
    third = seeds * right + 3 * pairs + triples
    fourth = seeds * right + 7 * pairs + 6 * triples + fours
    second = seeds * right + pairs
    return np.stack([ones, right, second / seeds**2, third / seeds**3, fourth / seeds**4])


def _power_of_difference(order: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean power of the difference of two independent variables, of their ``_moments``."""
    powers = range(order + 1)
    return np.sum([math.comb(order, k) * (-1) ** k * b[order - k] * a[k] for k in powers], axis=0)


def _moderated(law: TableLaw, by_class: np.ndarray, of_images: float) -> list[SeedVariance]:
    """As ``moderation.moderated`` on average; ``by_class`` (2, C)."""
    own_df = law.seeds - 1
    own = by_class.sum(axis=1)
    usual = ((law.methods - 1) * own[0] + own[1]) / law.methods
    most = np.array([lent_to_reference(of_images, usual, law.seeds), BORROWED_DF])
    lent = np.minimum((law.methods - 2) * own_df, most)
    df_of_spread = own_df * own**2 / (by_class**2).sum(axis=1)
    prior = usual * _widened(df_of_spread)
    variances = (own_df * own + lent * prior) / (own_df + lent)
    return [SeedVariance(float(v), float(own_df + k)) for v, k in zip(variances, lent, strict=True)]


def _widened(df: np.ndarray) -> np.ndarray:
    """How much larger the prior becomes on average as rows are taken for wide by chance: their
    spread is χ² with ``df``, and counts where it is ``WIDE`` times the middle one."""
    middle = special.chdtri(df, 0.5)
    edge = WIDE * middle
    return 1 - special.chdtrc(df, edge) + special.chdtrc(df + 2, edge) * df / middle


# What it takes


@dataclass(frozen=True)
class Share:
    """Of ``tables`` simulated ones that find the difference, with its 95 % Monte Carlo error
    (Clopper and Pearson 1934)."""

    value: float
    low: float
    high: float
    tables: int

    @classmethod
    def of(cls, found: int, tables: int) -> Share:
        low = special.betaincinv(found, tables - found + 1, 0.025) if found else 0.0
        high = special.betaincinv(found + 1, tables - found, 0.975) if found < tables else 1.0
        return cls(found / tables, float(low), float(high), tables)


@dataclass(frozen=True)
class PlannedTable:
    """``difference`` is found by ``power`` of the tables with ``seeds``, of which ``by_formula``
    are expected.

    Where nothing does, both are None: without ``seeds`` no number up to ``MOST_SEEDS``, without
    ``difference`` none that the recalls leave room for. ``images``: number of seeds → how many test
    images every class must have at least, for what no number of seeds can do; None: no number.
    """

    methods: int
    seeds: int | None
    difference: float | None
    power: Share | None = None
    by_formula: float | None = None
    images: Mapping[int, int | None] | None = None


@dataclass(frozen=True)
class StudyPlan:
    """``images`` (C,) of ``classes``, which count as ``law.counts`` independent ones, what else was
    supposed, and a table for each number of methods and seeds."""

    classes: tuple[str, ...]
    images: tuple[int, ...]
    law: TableLaw
    tables: tuple[PlannedTable, ...]


Told = Callable[[int, int], None]  # tables that are simulated, and how many there will be


def plan_tables(
    law: TableLaw,
    methods: Sequence[int],
    seeds: Sequence[int] = (),
    difference: float | None = None,
    power: float | None = None,
    tables: int = 400,
    seed: int = 0,
    told: Told | None = None,
) -> list[PlannedTable]:
    """A table for each number of methods and of seeds.

    ``law`` says all else. With ``seeds`` and ``difference``: how often it is found. With ``seeds``
    alone: the smallest difference that is found in ``power`` (80 % if not said) of the tables. With
    ``difference`` alone: the least number of seeds that find it so often. ``seed``: of the
    simulation. Raises UserError for what can't be planned.
    """
    _check(law, methods, seeds, difference, power, tables)
    aim = POWER if power is None else power
    cells = [(m, s) for m in methods for s in (seeds or (None,))]
    planned = []
    for number, (rows, runs) in enumerate(cells):
        simulate = _Simulator(tables, seed, number, len(cells), told)
        table = replace(law, methods=rows, seeds=runs or MOST_SEEDS, gain=difference or 0.0)
        if difference is None:
            planned.append(_with_difference(table, aim, simulate))
        elif runs is None:
            planned.append(_with_seeds(table, aim, simulate))
        else:
            planned.append(simulate(table))
    return planned


@dataclass(frozen=True)
class _Simulator:
    """Simulates the tables of one cell, ``number`` of ``cells``."""

    tables: int
    seed: int
    number: int
    cells: int
    told: Told | None

    def __call__(self, law: TableLaw) -> PlannedTable:
        before, told = self.number * self.tables, self.told
        generator = np.random.default_rng([self.seed, self.number])
        done = None if told is None else lambda n: told(before + n, self.cells * self.tables)
        found = TableSimulation(law).run(self.tables, generator, done)
        share = Share.of(round(found.power * self.tables), self.tables)
        formula = expected_table(law).power
        return PlannedTable(law.methods, law.seeds, law.gain, share, formula)


def _with_difference(law: TableLaw, power: float, simulate: _Simulator) -> PlannedTable:
    """The formula's, corrected as long as the simulation finds another share of tables."""
    aim, found = power, PlannedTable(law.methods, law.seeds, None)
    for _ in range(ROUNDS):
        gain = smallest_difference(law, aim)
        if gain is None:
            return PlannedTable(law.methods, law.seeds, None)
        found = simulate(replace(law, gain=gain))
        assert found.power is not None
        if found.power.low <= power <= found.power.high:
            break
        off = special.ndtri(found.power.value or found.power.high) - special.ndtri(aim)
        aim = float(special.ndtr(special.ndtri(power) - off))
    return found


def _with_seeds(law: TableLaw, power: float, simulate: _Simulator) -> PlannedTable:
    """The formula's least number of seeds, raised while simulated tables say that it is too low."""
    seeds = least_seeds(law, power)
    while seeds is not None:
        found = simulate(replace(law, seeds=seeds))
        if found.power is not None and found.power.high >= power:
            return found
        seeds = seeds + 1 if seeds < MOST_SEEDS else None
    images = {s: least_images(replace(law, seeds=s), power) for s in SEEDS_OF_IMAGES}
    return PlannedTable(law.methods, None, law.gain, images=images)


def smallest_difference(law: TableLaw, power: float) -> float | None:
    """The gain that a share ``power`` of tables finds, by the formula; None where the recalls leave
    no room for it."""
    low, high = 0.0, room(law)
    if expected_table(replace(law, gain=high)).power < power:
        return None
    for _ in range(20):
        middle = (low + high) / 2
        enough = expected_table(replace(law, gain=middle)).power >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def least_seeds(law: TableLaw, power: float) -> int | None:
    """That find the law's gain in a share ``power`` of tables, by the formula; None: none do."""
    for seeds in range(2, MOST_SEEDS + 1):
        if expected_table(replace(law, seeds=seeds)).power >= power:
            return seeds
    return None


def least_images(law: TableLaw, power: float) -> int | None:
    """So many test images must every class have that has fewer, to find the law's gain in a share
    ``power`` of tables, by the formula; None: ``MOST_IMAGES`` are too few."""
    low, high = min(law.counts), MOST_IMAGES
    if expected_table(with_images(law, high)).power < power:
        return None
    while low < high:
        middle = (low + high) // 2
        enough = expected_table(with_images(law, middle)).power >= power
        low, high = (low, middle) if enough else (middle + 1, high)
    return high


def with_images(law: TableLaw, least: int) -> TableLaw:
    """With at least so many test images in every class."""
    return replace(law, counts=tuple(max(n, least) for n in law.counts))


def room(law: TableLaw) -> float:
    """The largest gain that the expected recalls leave room for."""
    start = np.array(law.recalls)
    return BEST - float(expected(start, scale_for(start, law.noise))[0].mean())


def falling(sizes: Sequence[int]) -> tuple[float, ...]:
    """Recalls (C,) that fall evenly from the largest class to the smallest, as ``FALLING`` says."""
    recalls = np.empty(len(sizes))
    recalls[np.argsort(-np.asarray(sizes), kind="stable")] = np.linspace(*FALLING, len(sizes))
    return tuple(float(r) for r in recalls)


# What can't be planned


def _check(
    law: TableLaw,
    methods: Sequence[int],
    seeds: Sequence[int],
    difference: float | None,
    power: float | None,
    tables: int,
) -> None:
    """Raises UserError."""
    if not seeds and difference is None:
        raise UserError(
            "give --seeds, to be told the smallest difference that is found, or --difference, to "
            "be told how many seeds find it, or both"
        )
    if seeds and difference is not None and power is not None:
        raise UserError(
            "--seeds, --difference and --power: the third follows from two; leave one out"
        )
    if min(methods) < 2:
        raise UserError("--methods 1: a comparison needs 2 or more, the reference among them")
    if seeds and min(seeds) < 2:
        raise UserError(f"--seeds {min(seeds)}: of fewer than 2 seeds nothing is tested")
    if power is not None and not 0.05 < power < 1:
        raise UserError(f"--power {power:g}: give a share above 0.05 and below 1, such as 0.8")
    if not 20 <= tables <= 100_000:
        raise UserError(f"--tables {tables}: give a number from 20 to 100,000")
    _check_law(law)
    if difference is not None and not 0 < difference <= room(law):
        raise UserError(
            f"--difference {100 * difference:g}: give points above 0 and at most "
            f"{100 * room(law):.1f}, which is what the expected recalls leave room for"
        )
    outcomes = sum(law.counts) * max(methods) * max(seeds or (MOST_SEEDS,))
    if outcomes > MOST_OUTCOMES:
        raise UserError(
            f"{sum(law.counts):,} test images, {max(methods):,} methods and "
            f"{max(seeds or (MOST_SEEDS,)):,} seeds are too many to simulate; give fewer"
        )


def _check_law(law: TableLaw) -> None:
    if len(law.counts) < 2 or min(law.counts) < 1:
        raise UserError("--images: give 2 classes or more, and an image or more of each")
    if len(law.recalls) != len(law.counts):
        raise UserError(
            f"--recall gives {len(law.recalls)} values for {len(law.counts)} classes; give one for "
            "all, or one for each"
        )
    if not 0 < min(law.recalls) <= max(law.recalls) < 1:
        raise UserError("--recall: give shares above 0 and below 1, such as 0.7")
    for option, value in (("--persistence", law.lasting), ("--shared", np.array([1 - law.own]))):
        if not ((value >= 0) & (value <= 1)).all():
            raise UserError(f"{option} {value[0]:g}: give a share from 0 to 1")
    most = math.sqrt(expected(np.array(law.recalls), 8.0)[1].sum()) / len(law.counts)
    if not 0 < law.noise < 0.9 * most:
        raise UserError(
            f"--seed-sd {100 * law.noise:g}: give points above 0 and below {90 * most:.1f}, as far "
            "as such recalls can vary"
        )
