"""How often do the bands of curves hold the truth? Simulated runs whose truth is known.

    python benchmarks/curve_coverage.py [--repetitions 500] [--seed 0]

prints the table of docs/plots.md: mean, lowest and highest share of bands that hold the truth, in
percent, over places of a curve, skills, spreads and persistence. The scores of a class and of the
rest are normal, apart by a skill that differs from seed to seed; of an image's own part in its
score a share persists over seeds. Truth is the mean over seeds of the curve of endlessly many
images, known exactly; of one seed that of this seed.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri

from lmdbench.evaluation import curves
from lmdbench.evaluation.curves import Curve

NODES, MASS = np.polynomial.hermite_e.hermegauss(40)
MASS = MASS / MASS.sum()

REST = 1000  # images of the other classes
OWN = (5, 10, 30, 100, 300)  # of the class
SEEDS = (1, 3, 5)
SKILL = (1.0, 2.0)  # standard deviations between the class and the rest
SPREAD = (0.0, 0.2)  # of the skill, over seeds
PERSISTENCE = (0.5, 0.9)  # of an image's part in its score
RATES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.5])
RECALLS = np.array([0.2, 0.3, 0.5, 0.7, 0.8, 0.9])
THRESHOLDS = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.5])

Truth = Callable[[float], np.ndarray]  # of a skill, at the places of a curve


def truths(own: int, skill: float) -> dict[str, Truth]:
    """Each kind of curve without chance; ``skill``: that on which probabilities are calibrated."""
    prevalence = own / (own + REST)
    cuts = (logit(THRESHOLDS) - logit(prevalence) + skill**2 / 2) / skill

    def precision(apart: float) -> np.ndarray:
        alarms = (1 - prevalence) * ndtr(ndtri(RECALLS) - apart)
        return prevalence * RECALLS / (prevalence * RECALLS + alarms)

    def net_benefit(apart: float) -> np.ndarray:
        alarms = (1 - prevalence) * ndtr(-cuts) * THRESHOLDS / (1 - THRESHOLDS)
        return prevalence * ndtr(apart - cuts) - alarms

    return {
        "roc": lambda apart: ndtr(apart + ndtri(RATES)),
        "precision-recall": precision,
        "decision-curve": net_benefit,
    }


def covered(
    own: int,
    seeds: int,
    skill: float,
    spread: float,
    persistence: float,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Kind → whether the band of one simulated experiment holds the truth, at each place."""
    labels = np.repeat([0, 1], [REST, own])
    apart = skill + spread * generator.normal(size=seeds)
    lasting = generator.normal(size=len(labels)) * np.sqrt(persistence)
    scores = lasting + generator.normal(size=(seeds, len(labels))) * np.sqrt(1 - persistence)
    scores += apart[:, None] * labels
    probabilities = expit(logit(own / len(labels)) - skill**2 / 2 + skill * scores)
    found: dict[str, Curve] = {
        "roc": curves.sensitivities(scores, labels, 1, RATES),
        "precision-recall": curves.precisions(scores, labels, 1, RECALLS),
        "decision-curve": curves.net_benefits(probabilities, labels, 1, THRESHOLDS),
    }
    held = {}
    for kind, true in truths(own, skill).items():
        if seeds == 1:
            expected = true(apart[0])
        else:
            expected = MASS @ np.stack([true(skill + spread * node) for node in NODES])
        band = curves.band([found[kind]], (-np.inf if kind == "decision-curve" else 0, 1))
        held[kind] = (band.low <= expected) & (expected <= band.high)
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    print("| images of the class | seeds | roc | precision-recall | decision-curve |")
    print("|---|---|---|---|---|")
    for own, seeds in itertools.product(OWN, SEEDS):
        cells: dict[str, list[np.ndarray]] = {}
        for cell in itertools.product(SKILL, SPREAD, PERSISTENCE):
            runs = [covered(own, seeds, *cell, generator) for _ in range(options.repetitions)]
            for kind in runs[0]:
                cells.setdefault(kind, []).append(np.mean([run[kind] for run in runs], axis=0))
        shares = [100 * np.array(found) for found in cells.values()]
        words = [f"{share.mean():.1f} ({share.min():.0f}–{share.max():.0f})" for share in shares]
        print(f"| {own} | {seeds} | {' | '.join(words)} |", flush=True)


if __name__ == "__main__":
    main()
