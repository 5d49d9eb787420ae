"""Do the intervals cover, do the tests stay quiet? Simulated runs whose truth is known.

    python benchmarks/coverage.py [--repetitions 2000] [--seed 0] [--table 0]

prints the tables of docs/statistics.md. Intervals are cheap and are simulated five times as often
as said, tables of methods a quarter as often. How runs are drawn: ``evaluation/simulation.py``.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special

from lmdbench.evaluation import inference, metrics, simulation
from lmdbench.evaluation.ends import ends
from lmdbench.evaluation.simulation import TableSimulation, expected, scale_for, shifted

OTHERS = 3000  # images that a class is told from, where one is simulated alone
MIXED = -1.0  # persistence: each class has its own, from .1 to .9
NOISE = (0.005, 0.017, 0.026)  # SD of balanced accuracy over trainings
PERSISTENCE = (0.0, 0.5, 0.9, MIXED)


@dataclass(frozen=True)
class Shape:
    """A test set: images of each class, largest first, and classes in head, medium and tail."""

    name: str
    counts: tuple[int, ...]
    groups: tuple[int, int, int]

    def weights(self) -> dict[str, np.ndarray]:
        """Metric → weights of the recalls (C,)."""
        n = np.array(self.counts)
        edges = np.cumsum((0, *self.groups))
        rank = np.arange(len(n))
        groups = {
            name: ((rank >= low) & (rank < high)) / (high - low)
            for name, low, high in zip(
                ("head", "medium", "tail"), edges[:-1], edges[1:], strict=True
            )
        }
        return {"accuracy": n / n.sum(), "balanced": np.full(len(n), 1 / len(n)), **groups}


SHAPES = (
    Shape("ISIC-2019-LT", (2575, 828, 557, 402, 122, 81, 30, 26), (2, 3, 3)),
    Shape(
        "ISIC-Archive-LT",
        (2575, 904, 678, 293, 174, 131, 77, 54, 50, 49, 6, 6, 3, 3),
        (4, 4, 6),
    ),
    Shape(
        "Hyper-Kvasir",
        (
            *(115, 103, 101, 100, 100, 99, 93, 77, 65, 44, 40, 39),
            *(26, 20, 13, 13, 5, 4, 4, 3, 1, 1, 1),
        ),
        (9, 7, 7),
    ),
)


def persistence_of(classes: int, persistence: float) -> np.ndarray:
    """Of each class, (C,)."""
    if persistence == MIXED:
        return np.random.default_rng(4).uniform(0.1, 0.9, classes)
    return np.full(classes, persistence)


def _spread(classes: int) -> np.ndarray:
    """.25 to .92 in an order that has nothing to do with the classes' sizes."""
    return np.random.default_rng(5).permutation(np.linspace(0.25, 0.92, classes))


def _falling(classes: int) -> np.ndarray:
    return np.linspace(0.93, 0.3, classes)


def _rising(classes: int) -> np.ndarray:
    """The small classes are the easy ones."""
    return np.linspace(0.5, 0.93, classes)


def _lost_tail(classes: int) -> np.ndarray:
    """Falling, and no tail image is ever right."""
    return np.where(np.arange(classes) < 2 * classes // 3, np.linspace(0.93, 0.5, classes), 0)


def _high(classes: int) -> np.ndarray:
    return np.full(classes, 0.97)


# Law → recalls (C,) of the classes, largest first, before the seeds' shifts.
LAWS: dict[str, Callable[[int], np.ndarray]] = {
    "spread": _spread,
    "falling": _falling,
    "rising": _rising,
    "tail recall 0": _lost_tail,
    "all .97": _high,
}
# Laws whose recalls all lie between .2 and .95, where intervals must not be too wide either. In the
# rising one classes of a few images are nearly always right, which those can't show.
MODERATE = ("spread", "falling")
# With recalls of .97 trainings can't differ by more unless some fail altogether.
LARGEST_NOISE = {"all .97": NOISE[0]}


# Rows that deviate (0 is the reference) → how a table calls them.
DEVIANT: dict[tuple[int, ...], str] = {(): "none", (0,): "reference", (1, 2): "two others"}


# What is drawn


def draw_sums(
    counts: np.ndarray,
    recalls: np.ndarray,
    persistence: float,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Test sets drawn through how many images show each pattern of right and wrong over seeds.

    ``recalls`` (R, C, S). Returns Σ m and Σ m² of the seed-averaged outcomes, (R, C), and the
    recalls found, (R, C, S).
    """
    seeds = recalls.shape[-1]
    lasting = persistence_of(len(counts), persistence)[:, None]
    right = np.array(list(itertools.product((False, True), repeat=seeds)))
    each = recalls[..., None, :]
    by_chance = np.where(right, each, 1 - each).prod(axis=-1)
    least_on = np.where(right, each, 1).min(axis=-1)
    by_difficulty = np.maximum(least_on - np.where(right, 0, each).max(axis=-1), 0)
    share = (1 - lasting) * by_chance + lasting * by_difficulty
    share /= share.sum(axis=-1, keepdims=True)
    images = generator.multinomial(np.broadcast_to(counts, share.shape[:-1]), share)
    m = right.mean(axis=1)
    return images @ m, images @ m**2, images @ right / counts[:, None]


def draw_outcomes(
    counts: np.ndarray,
    recalls: np.ndarray,
    persistence: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """One test set image by image, in class order: ``recalls`` (runs, C) → right (runs, N)."""
    steps = 2**16
    shape = (len(recalls), int(counts.sum()))
    chance = generator.integers(0, steps, shape, dtype=np.uint16)
    lasting = generator.random(shape[1]) < np.repeat(
        persistence_of(len(counts), persistence), counts
    )
    chance[:, lasting] = generator.integers(0, steps, int(lasting.sum()), dtype=np.uint16)
    bounds = np.minimum(np.round(recalls * steps), steps - 1).astype(np.uint16)
    return chance < np.repeat(bounds, counts, axis=1)


# What is measured


def coverage(
    shape: Shape,
    law: str,
    seeds: int,
    noise: float,
    persistence: float,
    repetitions: int,
    generator: np.random.Generator,
) -> tuple[dict[str, float], dict[str, float]]:
    """Metric → share of 95 % intervals that hold the truth: ours, and by the plain formula."""
    counts = np.array(shape.counts)
    recalls = LAWS[law](len(counts))
    scale = scale_for(recalls, noise)
    truth = expected(recalls, scale)[0]
    shifts = scale * generator.standard_normal((repetitions, seeds, len(counts)))
    drawn = shifted(recalls, shifts).transpose(0, 2, 1)
    total, squares, found = draw_sums(counts, drawn, persistence, generator)
    by_class = inference.recall_variances(counts, total, squares, seeds)
    least = inference.least_variances(counts, total, seeds)
    plain_by_class = inference.augmented_variance(counts, total, squares)
    ours, plain = {}, {}
    for name, weights in shape.weights().items():
        values = np.einsum("rcs,c->rs", found, weights)
        error = np.abs(values.mean(axis=1) - weights @ truth)
        parts = inference.combine(values, by_class @ weights**2, least @ weights**2)
        t = inference.quantile(0.975, parts["df"])
        low, high = ends(parts["value"], parts["se"], t, (0.0, 1.0))
        ours[name] = float(((low <= weights @ truth) & (weights @ truth <= high)).mean())
        test, of_seeds = plain_by_class @ weights**2, values.var(axis=1, ddof=1) / seeds
        with np.errstate(divide="ignore"):
            df = (seeds - 1) * ((test + of_seeds) / of_seeds) ** 2
        half = inference.quantile(0.975, df) * np.sqrt(test + of_seeds)
        plain[name] = float((error <= half).mean())
    return ours, plain


@dataclass(frozen=True)
class TableLaw(simulation.TableLaw):
    """Unless said otherwise, of seven methods with three seeds on ISIC-2019-LT."""

    counts: tuple[int, ...] = SHAPES[0].counts
    recalls: tuple[float, ...] = tuple(_falling(len(SHAPES[0].counts)))
    methods: int = 7
    seeds: int = 3
    noise: float = NOISE[0]


def unit_coverage(
    shape: Shape,
    images_of_a_unit: int,
    correlation: float,
    seeds: int,
    repetitions: int,
    generator: np.random.Generator,
) -> tuple[float, float, float]:
    """Coverage of balanced accuracy where the difficulties of a lesion's images have a
    ``correlation``, 1 if they are right or wrong together; nine tenths of what is an image's own
    lasts from seed to seed. With the units known and without, and the mean standard error, units
    known, over the true one."""
    counts = np.array(shape.counts)
    labels = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([np.arange(n) for n in counts])
    units = labels * counts.max() + place // images_of_a_unit
    units = np.unique(units, return_inverse=True)[1].astype(np.int64)
    weights = np.full(len(counts), 1 / len(counts))
    recalls = _falling(len(counts))
    limits = special.ndtri(recalls)[labels]
    hits, found = np.zeros((repetitions, 2)), np.zeros((repetitions, 2))
    shares = np.sqrt([correlation, 0.9 * (1 - correlation), 0.1 * (1 - correlation)])
    for number in range(repetitions):
        of_units = generator.standard_normal(units.max() + 1)[units]
        of_images = generator.standard_normal(len(labels))
        of_seeds = generator.standard_normal((seeds, len(labels)))
        difficulty = shares[0] * of_units + shares[1] * of_images + shares[2] * of_seeds
        correct = (difficulty < limits).astype(float)
        for k, known in enumerate((units, None)):
            told = inference.linear_estimate(correct, labels, weights, known)
            hits[number, k] = told.low <= weights @ recalls <= told.high
            if k == 0:
                found[number] = told.se, told.value
    with_units, without = hits.mean(axis=0)
    ratio = found[:, 0].mean() / found[:, 1].std()
    return float(with_units), float(without), float(ratio)


def average_precision(gap: float, images: int) -> float:
    """Of normal scores of so many images and of ``OTHERS``, whose mean is lower by ``gap``."""
    threshold = np.linspace(-8, gap + 8, 20_001)
    found, taken = special.ndtr(gap - threshold), special.ndtr(-threshold)
    precision = images * found / (images * found + OTHERS * taken)
    return float(-np.trapezoid(precision, found))


def normal_gap(name: str, area: float, images: int) -> float:
    """How far apart the means of normal scores stand that have this AUROC or average precision."""
    if name == "auroc":
        return math.sqrt(2) * float(special.ndtri(area))
    return float(optimize.brentq(lambda gap: average_precision(gap, images) - area, 0, 12))


def area_coverage(
    images: int,
    area: float,
    seeds: int,
    persistence: float,
    repetitions: int,
    generator: np.random.Generator,
    name: str = "auroc",
) -> float:
    """Coverage of the AUROC or average precision of a class of so many ``images`` against 3,000
    others, both with normal scores, a share ``persistence`` of whose variance is the same in every
    seed."""
    labels = np.repeat([0, 1], [images, OTHERS])
    gap = normal_gap(name, area, images) * (labels == 0)
    metric = metrics.parse(f"{name}:a", ["a", "b"], {})
    hits = 0
    for _ in range(repetitions):
        shared = math.sqrt(persistence) * generator.standard_normal(len(labels))
        own = math.sqrt(1 - persistence) * generator.standard_normal((seeds, len(labels)))
        scorers = [
            metrics.Scorer(labels, np.stack([score, np.zeros(len(score))], axis=1))
            for score in gap + shared + own
        ]
        found = metric.estimate(
            np.array([scorer.value(metric) for scorer in scorers]),
            np.empty(0),
            np.stack([scorer.influence(metric) for scorer in scorers]),
            labels,
            scorers[0].counts,
            None,
        )
        hits += found.low <= area <= found.high
    return hits / repetitions


# Metrics that are no weighted sums of recalls

SMOOTH = ("macro_f1", "macro_auroc", "mcc", "nll", "ece_balanced")


def draw_logits(
    labels: np.ndarray,
    prior: np.ndarray,
    seeds: int,
    persistence: float,
    generator: np.random.Generator,
    images: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Logits (N, C) of one seed after the other; ``images`` (N, C): what all seeds share."""
    shape = (len(labels), len(prior))
    shared = generator.standard_normal(shape) if images is None else images
    signal = 2.0 * np.eye(len(prior))[labels] + 0.25 * np.log(prior)
    for _ in range(seeds):
        shift = 0.25 * generator.standard_normal(len(prior))
        own = generator.standard_normal(shape)
        yield signal + shift + math.sqrt(persistence) * shared + math.sqrt(1 - persistence) * own


def smooth_coverage(
    shape: Shape,
    seeds: int,
    repetitions: int,
    resampled: int,
    rounds: int,
    generator: np.random.Generator,
    persistence: float = 0.5,
) -> dict[str, tuple[float, float, float]]:
    """Metric → coverage by the jackknife; and of the first ``resampled`` repetitions, coverage by
    the literal bootstrap of ``rounds``, and the mean ratio of the two standard errors."""
    counts = np.array(shape.counts)
    classes = len(counts)
    labels = np.repeat(np.arange(classes), counts)
    chosen = [metrics.parse(name, [str(k) for k in range(classes)], {}) for name in SMOOTH]
    # The truth: the same classes in the same shares, so many images that chance is nothing.
    many = np.repeat(np.arange(classes), 10 * counts)
    of_many = [
        [metrics.Scorer(many, logits).value(m) for m in chosen]
        for logits in draw_logits(many, counts, 150, 0.0, generator)
    ]
    truth = np.mean(of_many, axis=0)
    hits = np.zeros((repetitions, len(chosen)))
    by_bootstrap = np.zeros((resampled, len(chosen), 2))
    for number in range(repetitions):
        runs = list(draw_logits(labels, counts, seeds, persistence, generator))
        scorers = [metrics.Scorer(labels, logits) for logits in runs]
        drawn = _resampled(runs, labels, chosen, rounds, generator) if number < resampled else None
        for k, metric in enumerate(chosen):
            values = np.array([scorer.value(metric) for scorer in scorers])
            influences = np.stack([scorer.influence(metric) for scorer in scorers])
            found = inference.smooth_estimate(values, influences, labels, bounds=metric.bounds)
            hits[number, k] = found.low <= truth[k] <= found.high
            if drawn is not None:
                variance = drawn[:, k].var(ddof=1)
                parts = inference.combine(values, np.asarray(variance))
                half = inference.quantile(0.975, parts["df"]) * parts["se"]
                by_bootstrap[number, k] = (
                    abs(values.mean() - truth[k]) <= half,
                    found.se_test / math.sqrt(variance),
                )
    of_bootstrap = by_bootstrap.mean(axis=0)
    return {
        metric.name: (float(hits[:, k].mean()), *map(float, of_bootstrap[k]))
        for k, metric in enumerate(chosen)
    }


def _resampled(
    runs: list[np.ndarray],
    labels: np.ndarray,
    chosen: list[metrics.Metric],
    rounds: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """The metrics' means over the runs on resampled images, (rounds, metrics)."""
    found: list[np.ndarray] = []

    def score(images: np.ndarray) -> float:
        scorers = [metrics.Scorer(labels[images], logits[images]) for logits in runs]
        found.append(np.mean([[s.value(m) for m in chosen] for s in scorers], axis=0))
        return 0.0

    inference.within_class_bootstrap(score, labels, generator, rounds)
    return np.array(found)


# What is printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000, help="tables of a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=int, choices=range(7), help="only this one")
    options = parser.parse_args()
    tables = (
        _coverage_table,
        _error_table,
        _smooth_table,
        _unit_table,
        _power_table,
        _area_table,
        _together_table,
    )
    for number, table in enumerate(tables):
        if options.table not in (None, number):
            continue
        generator = np.random.default_rng([options.seed, number])
        for line in table(options.repetitions, generator):
            print(line, flush=True)
        print(flush=True)


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|---" * len(cells) + "|"]


def _range(shares: list[float]) -> str:
    low, high = f"{100 * min(shares):.1f}", f"{100 * max(shares):.1f}"
    return low if low == high else f"{low}–{high}"


def _coverage_table(repetitions: int, generator: np.random.Generator) -> Iterator[str]:
    """A line for each shape, law and number of seeds: lowest and highest coverage over the rest."""
    names = list(SHAPES[0].weights())
    yield from _head("test set", "recalls", "seeds", *names, "plain formula, lowest and highest")
    low, rising = 1.0, 0.0
    high = {True: 0.0, False: 0.0}  # by whether an image's outcomes persist at all
    for shape, law, seeds in itertools.product(SHAPES, LAWS, (3, 5)):
        cells = {
            (noise, persistence): coverage(
                shape, law, seeds, noise, persistence, 5 * repetitions, generator
            )
            for noise, persistence in itertools.product(NOISE, PERSISTENCE)
            if noise <= LARGEST_NOISE.get(law, 1)
        }
        by_metric = [[ours[name] for ours, _ in cells.values()] for name in names]
        plain = [share for _, shares in cells.values() for share in shares.values()]
        yield _row(shape.name, law, seeds, *map(_range, by_metric), _range(plain))
        low = min(low, *itertools.chain(*by_metric))
        if law == "rising":
            rising = max(rising, *itertools.chain(*by_metric))
        if law in MODERATE:
            for (_, persistence), (ours, _) in cells.items():
                high[persistence != 0] = max(high[persistence != 0], *ours.values())
    yield ""
    yield (
        f"Lowest {100 * low:.1f} % (bound 93). Highest where recalls lie between .2 and .95 "
        f"{100 * high[True]:.1f} % (bound 98); {100 * high[False]:.1f} % if nothing about an "
        f"image persists from seed to seed, {100 * rising:.1f} % where recall rises to the tail."
    )


def _error_table(repetitions: int, generator: np.random.Generator) -> Iterator[str]:
    """Tables of equal methods with a finding; and how many intervals of differences cover."""
    yield from _head(
        "test set", "methods", "seeds", "rows that deviate", *_noises(), "intervals cover"
    )
    cells = [(shape, methods, 3) for shape in SHAPES for methods in (7, 14)]
    cells += [(SHAPES[0], 7, 2), (SHAPES[0], 7, 5)]
    rows = itertools.product(cells, DEVIANT)
    for (shape, methods, seeds), deviant in rows:
        columns, covered = [], []
        for noise in NOISE:
            laws = [
                TableLaw(
                    shape.counts,
                    tuple(LAWS[recalls](len(shape.counts))),
                    methods,
                    seeds,
                    noise,
                    tuple(persistence_of(len(shape.counts), persistence)),
                    own,
                    deviant,
                )
                for recalls, persistence, own in (
                    ("falling", 0.5, 0.5),
                    ("falling", 0.9, 1.0),
                    ("spread", MIXED, 1.0),
                    ("tail recall 0", 0.5, 0.0),
                )
            ]
            told = [TableSimulation(law).run(repetitions // 4, generator) for law in laws]
            columns.append([findings.false for findings in told])
            covered += [share for findings in told for share in findings.covered]
        yield _row(
            shape.name, methods, seeds, DEVIANT[deviant], *map(_range, columns), _range(covered)
        )


def _together_table(repetitions: int, generator: np.random.Generator) -> Iterator[str]:
    """The same where a seed moves all classes of a run together, so that classes tell nothing of
    how far a row deviates."""
    yield from _head("methods", "seeds", "rows that deviate", *_noises(), "intervals cover")
    for (methods, seeds), deviant in itertools.product(((7, 3), (14, 3), (7, 5)), DEVIANT):
        law = TableLaw(methods=methods, seeds=seeds, deviant=deviant, together=1.0)
        told = [
            TableSimulation(replace(law, noise=noise)).run(repetitions, generator)
            for noise in NOISE
        ]
        columns = [f"{100 * findings.false:.1f}" for findings in told]
        covered = [share for findings in told for share in findings.covered]
        yield _row(methods, seeds, DEVIANT[deviant], *columns, _range(covered))


def _noises() -> list[str]:
    return [f"seed SD {100 * noise:.1f} points" for noise in NOISE]


def _power_table(repetitions: int, generator: np.random.Generator) -> Iterator[str]:
    """How often a gain is found; and one of the size that is printed as detectable."""
    yield from _head(
        "test set",
        "methods",
        "seeds",
        "gain of 4 points",
        "of 8 points",
        "of 12 points",
        "printed as detectable",
        "a gain of that size found",
    )
    for shape, methods, seeds in itertools.product(SHAPES, (2, 7, 14), (2, 3, 5)):
        recalls = tuple(_falling(len(shape.counts)))
        law = TableLaw(shape.counts, recalls, methods, seeds, noise=0.01)
        some = repetitions // 4
        found = [
            TableSimulation(replace(law, gain=gain)).run(some, generator)
            for gain in (0.04, 0.08, 0.12)
        ]
        printed = found[1].detectable
        again = TableSimulation(replace(law, gain=printed)).run(some, generator)
        yield _row(
            shape.name,
            methods,
            seeds,
            *(f"{100 * findings.power:.0f}" for findings in found),
            f"{100 * printed:.1f}",
            f"{100 * again.power:.0f}",
        )


def _smooth_table(repetitions: int, generator: np.random.Generator) -> Iterator[str]:
    yield from _head("metric", "seeds", "jackknife", "bootstrap", "SE jackknife / bootstrap")
    reps, resampled = max(repetitions // 4, 1), max(repetitions // 80, 1)
    for seeds in (3, 5):
        found = smooth_coverage(SHAPES[0], seeds, reps, resampled, 100, generator)
        for name, (ours, bootstrap, ratio) in found.items():
            yield _row(name, seeds, f"{100 * ours:.1f}", f"{100 * bootstrap:.0f}", f"{ratio:.3f}")


def _unit_table(repetitions: int, generator: np.random.Generator) -> Iterator[str]:
    yield from _head(
        "test set",
        "images of a lesion",
        "correlation",
        "seeds",
        "lesions known",
        "standard error, of the true one",
        "not known",
    )
    cells = itertools.product(SHAPES, (2, 4), (0.0, 0.3, 0.6, 1.0), (1, 3))
    for shape, size, correlation, seeds in cells:
        reps = max(repetitions // 2, 1)
        known, unknown, ratio = unit_coverage(shape, size, correlation, seeds, reps, generator)
        shown = f"{100 * known:.1f}", f"{ratio:.2f}", f"{100 * unknown:.1f}"
        yield _row(shape.name, size, correlation, seeds, *shown)


def _area_table(repetitions: int, generator: np.random.Generator) -> Iterator[str]:
    areas = (0.75, 0.9, 0.97, 0.99, 0.995)
    yield from _head("metric", "images of the class", "seeds", *(f"{area:.4g}" for area in areas))
    names = {"auroc": "AUROC", "average_precision": "average precision"}
    reps = max(repetitions // 4, 1)
    for (name, title), images, seeds in itertools.product(names.items(), (8, 26, 81), (1, 3)):
        columns = [
            [
                area_coverage(images, area, seeds, lasting, reps, generator, name)
                for lasting in (0.5, 0.9)
            ]
            for area in areas
        ]
        yield _row(title, images, seeds, *map(_range, columns))


if __name__ == "__main__":
    main()
