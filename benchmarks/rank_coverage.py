"""Do intervals of ranks cover? Simulated methods whose ranks are known.

    python benchmarks/rank_coverage.py [--repetitions 4000] [--seed 0] [--quick]

prints the two tables on ranks of docs/statistics.md.

Across settings: in a setting (data set and split) a method's score is its skill and an error of its
own, of SD 1; the truth is its mean rank over endlessly many settings. The percentile bootstrap over
settings stands beside, to show what it would cover.

Within one setting: an image is right where a method's skill in its class, shifted by the seed, is
above the image's difficulty, half of whose variance all methods and seeds share; the truth is the
rank by skill. Samples are those of ``lmdbench compare --ranks``.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from lmdbench.evaluation import ranks
from lmdbench.evaluation.influence import centred

SETTINGS = (6, 8, 12, 20)
METHODS = (2, 3, 5, 10)
TRUE_SETTINGS = 200_000  # behind a true mean rank
BOOTSTRAPS = 500
FAILURE = -100.0  # what the score of a method that fails is lowered by

IMAGES = {  # Test set → images of each class
    "ISIC-2019-LT": (2575, 828, 557, 402, 122, 81, 30, 26),
    "Hyper-Kvasir": (
        *(115, 103, 101, 100, 100, 99, 93, 77, 65, 44, 40, 39),
        *(26, 20, 13, 13, 5, 4, 4, 3, 1, 1, 1),
    ),
}
RECALLS = (0.9, 0.4)  # of the largest and the smallest class; the others lie between
SEED_NOISE = 0.017  # SD of balanced accuracy over seeds
GAPS = (0.0, 0.005, 0.01, 0.02, 0.04)  # of balanced accuracy, between a method and the next
SEEDS = 3
SAMPLES = 200
FEWER = 20  # times fewer repetitions than across settings


@dataclass(frozen=True)
class Law:
    """How methods score. ``skills``: of M methods (M,); ``failing``: how often each fails (M,)."""

    name: str
    skills: Callable[[int], np.ndarray]
    failing: Callable[[int], np.ndarray] = lambda methods: np.zeros(methods)
    heavy: bool = False  # errors of Student's t with 2 degrees of freedom

    def scores(self, *shape: int, generator: np.random.Generator) -> np.ndarray:
        """(..., M), M the last of ``shape``."""
        methods = shape[-1]
        normal = generator.standard_normal(shape)
        errors = normal / np.sqrt(generator.chisquare(2, shape) / 2) if self.heavy else normal
        fails = generator.random(shape) < self.failing(methods)
        return self.skills(methods) + errors + FAILURE * fails


def apart(gap: float) -> Callable[[int], np.ndarray]:
    """Skills (M,) so far apart."""
    return lambda methods: -gap * np.arange(methods)


def _one_best(methods: int) -> np.ndarray:
    return 3.0 * (np.arange(methods) == 0)


def _two_groups(methods: int) -> np.ndarray:
    return 4.0 * (np.arange(methods) < methods // 2)


def _each_fails(methods: int) -> np.ndarray:
    return np.full(methods, 0.1)


def _first_fails(methods: int) -> np.ndarray:
    return 0.1 * (np.arange(methods) == 0)


LAWS = (
    Law("equal", apart(0)),
    Law("½ SD apart", apart(0.5)),
    Law("1 SD apart", apart(1)),
    Law("2 SD apart", apart(2)),
    Law("3 SD apart", apart(3)),
    Law("one 3 SD above equal ones", _one_best),
    Law("two groups 4 SD apart", _two_groups),
    Law("heavy tails, 1 apart", apart(1), heavy=True),
    Law("heavy tails, 4 apart", apart(4), heavy=True),
    Law("2 SD apart, each fails in 1 of 10", apart(2), _each_fails),
    Law("2 SD apart, the best fails in 1 of 10", apart(2), _first_fails),
)


@dataclass(frozen=True)
class Covered:
    """Shares of intervals that hold the truth, of each method (M,), and the mean width in ranks."""

    held: np.ndarray
    bootstrap: np.ndarray
    width: float


def simulate(
    law: Law, settings: int, methods: int, repetitions: int, generator: np.random.Generator
) -> Covered:
    true = _ranks(law.scores(TRUE_SETTINGS, methods, generator=generator)).mean(axis=0)
    scores = law.scores(repetitions, settings, methods, generator=generator)
    low, high = np.moveaxis(ranks.mean_rank_intervals(scores), -1, 0)
    held = ((low <= true) & (true <= high)).mean(axis=0)
    width = float((high - low).mean())
    low, high = percentile_intervals(scores[: repetitions // 4], generator)
    return Covered(held, ((low <= true) & (true <= high)).mean(axis=0), width)


def percentile_intervals(scores: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(2, R, M) of scores (R, K, M), settings drawn with replacement."""
    settings = scores.shape[1]
    drawn = generator.multinomial(settings, np.full(settings, 1 / settings), BOOTSTRAPS)
    return np.quantile(drawn @ _ranks(scores) / settings, [0.025, 0.975], axis=1)


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Of the last axis, 1 the largest; no two are equal."""
    return (-scores).argsort(axis=-1).argsort(axis=-1) + 1.0


def table_of_settings(
    repetitions: int,
    seed: int,
    laws: Sequence[Law] = LAWS,
    settings: Sequence[int] = SETTINGS,
    methods: Sequence[int] = METHODS,
) -> list[str]:
    """Lines of Markdown: coverage by law and number of settings, the lowest over numbers of methods
    of the mean of all methods and, in brackets, of a single one."""
    heads = [f"{count} settings" for count in settings]
    few = settings[0]
    lines = [
        f"| scores of methods | {' | '.join(heads)} | width at {few} | bootstrap at {few} |",
        "|---" * (len(settings) + 3) + "|",
    ]
    for law in laws:
        found = [
            [
                simulate(law, count, m, repetitions, np.random.default_rng([seed, count, m]))
                for m in methods
            ]
            for count in settings
        ]
        cells = [
            f"{100 * min(one.held.mean() for one in row):.1f} "
            f"({100 * min(one.held.min() for one in row):.1f})"
            for row in found
        ]
        widths = [one.width for one in found[0]]
        before = [100 * one.bootstrap.mean() for one in found[0]]
        lines.append(
            f"| {law.name} | {' | '.join(cells)} | {min(widths):.1f}–{max(widths):.1f} | "
            f"{min(before):.0f}–{max(before):.0f} |"
        )
    return lines


# Within one setting


@dataclass(frozen=True)
class Skills:
    """What methods can in a test set: ``probits`` (M, C), and ``shift``, the SD over seeds."""

    counts: np.ndarray
    probits: np.ndarray
    shift: float

    @classmethod
    def of(cls, counts: Sequence[int], methods: int, gap: float) -> Skills:
        """Balanced accuracies so far apart, to first order, the first method the best."""
        probits = special.ndtri(np.linspace(*RECALLS, len(counts)))
        slope = stats.norm.pdf(probits).mean()  # of balanced accuracy by a shift of all probits
        ahead = gap / slope * ((methods - 1) / 2 - np.arange(methods))
        return cls(np.array(counts), probits + ahead[:, None], SEED_NOISE / slope)

    def correct(self, labels: np.ndarray, seeds: int, generator: np.random.Generator) -> np.ndarray:
        """(M, S, N) float64."""
        methods = len(self.probits)
        shifts = self.shift * generator.standard_normal((methods, seeds, 1))
        own = generator.standard_normal((methods, seeds, len(labels)))
        difficulty = (generator.standard_normal(len(labels)) + own) / math.sqrt(2)
        return (self.probits[:, None, labels] + shifts > difficulty).astype(float)


def resampled(
    skills: Skills, seeds: int, samples: int, generator: np.random.Generator
) -> ranks.Stability:
    """What a table of simulated runs says of its ranking by balanced accuracy."""
    labels = np.repeat(np.arange(len(skills.counts)), skills.counts)
    each = (1 / len(skills.counts) / skills.counts)[labels]
    draws = ranks.Draws.of(labels, generator, samples)
    pulls = (each * skills.correct(labels, seeds, generator)).reshape(-1, len(labels))
    values = pulls.sum(axis=1)
    of_samples = draws.values(values, np.stack([centred(one, labels) for one in pulls]))
    of_methods = of_samples.reshape(-1, seeds, samples)
    drawn = np.stack([ranks.over_seeds(one, generator) for one in of_methods])
    return ranks.stability(values.reshape(-1, seeds).mean(axis=1), drawn)


def table_of_samples(
    repetitions: int,
    seed: int,
    gaps: Sequence[float] = GAPS,
    methods: Sequence[int] = (7, 14),
    samples: int = SAMPLES,
) -> list[str]:
    """Lines of Markdown: how often a method's true rank lies within 95 % of its samples."""
    lines = [
        "| test set | methods | points apart | holds the rank | lowest method | width | "
        "truly best is first |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name, counts), m, gap in itertools.product(IMAGES.items(), methods, gaps):
        generator = np.random.default_rng([seed, m, round(1000 * gap)])
        skills = Skills.of(counts, m, gap)
        true = np.full(m, (m + 1) / 2) if gap == 0 else 1.0 + np.arange(m)
        found = [resampled(skills, SEEDS, samples, generator) for _ in range(repetitions)]
        held = np.mean([(one.low <= true) & (true <= one.high) for one in found], axis=0)
        width = np.mean([one.high - one.low for one in found])
        first = f"{100 * np.mean([one.ranks[0] == 1 for one in found]):.0f}" if gap else "–"
        lines.append(
            f"| {name} | {m} | {100 * gap:g} | {100 * held.mean():.1f} | "
            f"{100 * held.min():.0f} | {width:.1f} | {first} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few cells of 200 repetitions")
    args = parser.parse_args()
    if args.quick:
        lines = table_of_settings(200, args.seed, LAWS[:5:2], (6, 12), (3, 5))
        within = table_of_samples(10, args.seed, (0.0, 0.02), (5,), 100)
    else:
        lines = table_of_settings(args.repetitions, args.seed)
        within = table_of_samples(args.repetitions // FEWER, args.seed)
    print("\n".join([*lines, "", *within]))


if __name__ == "__main__":
    main()
