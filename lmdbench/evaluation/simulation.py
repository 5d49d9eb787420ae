"""Simulated tables of runs whose truth is known, judged as ``lmdbench compare`` judges real ones.

A class's recall is shifted, seed by seed, on the logit scale, so far that balanced accuracy has the
wanted SD over trainings. A share of the images (``persistence``, the correlation of an image's
outcomes over seeds) has a difficulty that decides in every run alike; the others are right by
chance. Truth is the expected value over seeds and images, known exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lmdbench.evaluation import differences, inference
from lmdbench.evaluation.differences import LEVEL, Difference
from lmdbench.evaluation.moderation import RowSeeds, moderated

NODES, MASS = np.polynomial.hermite_e.hermegauss(80)
MASS = MASS / MASS.sum()
DEVIATES = 3  # times the SD over trainings of the other rows


# Recalls and how they vary from seed to seed


def shifted(recalls: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Recalls (C,) shifted by ``shifts`` (..., C) on the logit scale; 0 stays 0."""
    inside = np.where(recalls > 0, recalls, 0.5)
    moved = 1 / (1 + (1 / inside - 1) * np.exp(-shifts))
    return np.where(recalls > 0, moved, 0)


def expected(recalls: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over seeds (C,) of recalls with normal shifts of SD ``scale``."""
    moved = shifted(recalls, scale * NODES[:, None])
    mean = MASS @ moved
    return mean, MASS @ moved**2 - mean**2


def scale_for(recalls: np.ndarray, noise: float) -> float:
    """The SD of the shifts that gives balanced accuracy the SD ``noise`` over seeds."""
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        sd = math.sqrt(expected(recalls, middle)[1].sum()) / len(recalls)
        low, high = (middle, high) if sd < noise else (low, middle)
    return low


def moved_to(recalls: np.ndarray, scale: float, mean: float) -> np.ndarray:
    """Recalls (C,) shifted on the logit scale, so that with the seeds' shifts their expected mean
    is ``mean``."""
    low, high = -8.0, 8.0
    for _ in range(50):
        middle = (low + high) / 2
        moved = shifted(recalls, np.full(len(recalls), middle))
        low, high = (middle, high) if expected(moved, scale)[0].mean() < mean else (low, middle)
    return shifted(recalls, np.full(len(recalls), low))


# Tables


@dataclass(frozen=True)
class TableLaw:
    """Tables of methods that are equal but for the ``gain`` in balanced accuracy of the second.

    ``counts`` (C,): test images of each class, ``recalls`` (C,) before the seeds' shifts.
    ``noise``: SD of balanced accuracy over trainings, of ``deviant`` rows (0 is the reference)
    ``DEVIATES`` times that. ``persistence``: one for all classes, or each class's. ``own``: share
    of the lasting images that each method finds difficult on its own; of the others all do.
    ``together``: share of a class's shifts over seeds that all classes of a run have in common.
    """

    counts: tuple[int, ...]
    recalls: tuple[float, ...]
    methods: int
    seeds: int
    noise: float
    persistence: float | tuple[float, ...] = 0.5
    own: float = 0.5
    deviant: tuple[int, ...] = ()
    gain: float = 0.0
    together: float = 0.0

    @property
    def lasting(self) -> np.ndarray:
        """Persistence of each class, (C,)."""
        return np.broadcast_to(self.persistence, len(self.counts))


@dataclass(frozen=True)
class TableFindings:
    """Of simulated tables: the share with a finding among equal methods, the share in which the
    gain is found, the lowest and highest coverage of the intervals, and the mean of what is printed
    as detectable."""

    false: float
    power: float
    covered: tuple[float, float]
    detectable: float


class TableSimulation:
    """Draws tables by a law and lets the package judge them."""

    def __init__(self, law: TableLaw) -> None:
        self.law = law
        self.counts = np.array(law.counts)
        classes = len(self.counts)
        self.labels = np.repeat(np.arange(classes), self.counts)
        self.weights = np.full(classes, 1 / classes)
        start = np.array(law.recalls, float)
        noise = np.full(law.methods, law.noise)
        noise[list(law.deviant)] *= DEVIATES
        gain = np.zeros(law.methods)
        gain[1] = law.gain
        # Shifts that go together add up instead of averaging out.
        alone = noise / math.sqrt(1 + law.together * (classes - 1))
        self.scale = np.array([scale_for(start, sd) for sd in alone])
        aim = expected(start, self.scale[0])[0].mean() + gain
        self.recalls = np.stack([moved_to(start, *to) for to in zip(self.scale, aim, strict=True)])
        self.truth = np.array(
            [expected(*of)[0].mean() for of in zip(self.recalls, self.scale, strict=True)]
        )

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Whether each image is right, (methods, seeds, N)."""
        law, steps = self.law, 2**16
        shape = (law.methods, law.seeds, len(self.counts))
        shifts = math.sqrt(1 - law.together) * generator.standard_normal(shape)
        shifts += math.sqrt(law.together) * generator.standard_normal((*shape[:2], 1))
        recalls = shifted(self.recalls[:, None], self.scale[:, None, None] * shifts)
        images = len(self.labels)
        chance = generator.integers(0, steps, (*shape[:2], images), dtype=np.uint16)
        lasting = generator.random(images) < np.repeat(law.lasting, self.counts)
        many = int(lasting.sum())
        theirs = generator.integers(0, steps, (law.methods, 1, many), dtype=np.uint16)
        shared = generator.integers(0, steps, many, dtype=np.uint16)
        chance[:, :, lasting] = np.where(generator.random(many) < law.own, theirs, shared)
        bounds = np.minimum(np.round(recalls * steps), steps - 1).astype(np.uint16)
        return chance < np.repeat(bounds, self.counts, axis=2)

    def differences(self, right: np.ndarray) -> list[Difference]:
        """Each row but the first minus the first, as ``lmdbench compare`` tells them."""
        gaps = [
            differences.linear_gap(row, right[0], self.labels, self.weights) for row in right[1:]
        ]
        first = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        found = np.add.reduceat(right, first, axis=2, dtype=np.int32) / self.counts
        spread = found.var(axis=1, ddof=1) @ self.weights**2
        seeds = tuple(range(self.law.seeds))
        rows = [
            RowSeeds(seeds, values, wide)
            for values, wide in zip(found @ self.weights, spread, strict=True)
        ]
        of_images = float(np.mean([gap.test.variance for gap in gaps]))
        of_seeds = moderated(rows, reference=0, of_images=of_images)
        return [
            differences.difference(gap, row, of_seeds[0], comparisons=self.law.methods - 1)
            for gap, row in zip(gaps, of_seeds[1:], strict=True)
        ]

    def run(
        self,
        repetitions: int,
        generator: np.random.Generator,
        done: Callable[[int], None] | None = None,
    ) -> TableFindings:
        """``done``: told how many tables are judged, after each."""
        truth = self.truth[1:] - self.truth[0]
        found = np.zeros((repetitions, 3, self.law.methods - 1))
        equal = np.abs(truth) < 1e-6
        for table in range(repetitions):
            told = self.differences(self.draw(generator))
            p = inference.holm(np.array([d.p for d in told]))
            covers = [d.low <= t <= d.high for d, t in zip(told, truth, strict=True)]
            found[table] = p < LEVEL, covers, [d.detectable for d in told]
            if done is not None:
                done(table + 1)
        significant, covered, detectable = found.transpose(1, 0, 2)
        share = covered.mean(axis=0)
        return TableFindings(
            false=float(significant[:, equal].any(axis=1).mean()),
            power=float(significant[:, 0].mean()),
            covered=(float(share.min()), float(share.max())),
            detectable=float(detectable.mean()),
        )
