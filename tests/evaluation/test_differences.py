"""Differences against hand values and scipy, and what must hold always."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lmdbench.evaluation import inference, metrics
from lmdbench.evaluation.differences import (
    Gap,
    alone,
    bootstrap_gap,
    corrected_for,
    difference,
    linear_difference,
    linear_gap,
    smooth_gap,
)
from lmdbench.evaluation.inference import ImageVariance
from lmdbench.evaluation.moderation import RowSeeds, SeedVariance, moderated

# Two classes of three and one images, three seeds.
LABELS = np.array([0, 0, 0, 1])
CORRECT = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0]], float)
BALANCED = np.array([0.5, 0.5])


def test_the_worked_example_of_the_page() -> None:
    """docs/statistics.md, to the digits that it shows."""
    seeds = (0, 1, 2)
    rows = {
        "ce": RowSeeds(seeds, np.array([0.4275, 0.4275, 0.4150]), 2.5625e-4),
        "crt": RowSeeds(seeds, np.array([0.7500, 0.7700, 0.7350]), 9.1667e-4),
        "lmd": RowSeeds(seeds, np.array([0.6125, 0.6800, 0.6350]), 15.2708e-4),
    }
    ce, crt, lmd = moderated(list(rows.values()), 0, 0.0152**2)
    assert [round(1e4 * one.variance, 2) for one in (ce, crt, lmd)] == [2.83, 4.11, 10.19]
    test = ImageVariance(0.015233**2, 39.97)
    found = difference(Gap(rows["lmd"].values, rows["ce"].values, test), lmd, ce, comparisons=2)
    assert [round(100 * one, 1) for one in (found.low, found.high)] == [16.2, 27.6]
    assert (round(100 * found.se, 2), round(found.df, 1)) == (2.58, 10.9)
    assert round(100 * found.detectable, 1) == 9.0
    paired = stats.ttest_rel(rows["lmd"].values, rows["ce"].values).confidence_interval()
    assert round(50 * (paired.high - paired.low), 1) == 8.4


def test_test_part_by_hand() -> None:
    b = 1 - CORRECT
    got = linear_gap(CORRECT, b, LABELS, BALANCED)
    d = (CORRECT - b).mean(axis=0)
    # Of few images: each class is given two more with the mean square of all.
    typical = ((d**2).sum() + 0.5) / (len(d) + 1)
    parts, chances = [], []
    for x in (d[k == LABELS] for k in (0, 1)):
        n, squares = len(x), (x**2).sum()
        whole = max(
            inference.difference_variance(x),
            ((squares + 2 * typical) / (n + 2) - (x.sum() / (n + 1)) ** 2) / n,
        )
        # Each image's difference is 1 or −1 in every seed: what is no mean is the seeds' chance.
        parts.append(max(whole - (n - squares) / (2 * n * (n + 2)), whole / 4) / 4)
        chances.append((squares - squares**2 / n) / (n * (n + 2)) ** 2 / 16)
    assert got.test.variance == pytest.approx(sum(parts))
    assert got.test.df == pytest.approx(2 * sum(parts) ** 2 / sum(chances))
    assert got.values_a.tolist() == pytest.approx([5 / 6, 2 / 3, 1 / 3])


def test_difference_by_hand() -> None:
    gap = Gap(np.array([0.6, 0.7, 0.8]), np.array([0.5, 0.55, 0.6]), ImageVariance(4e-4, 20))
    got = difference(gap, SeedVariance(3e-4, 8), SeedVariance(6e-4, 8))
    assert got.value == pytest.approx(0.15)
    assert got.se == pytest.approx(math.sqrt(1e-4 + 2e-4 + 4e-4))
    assert (got.se_seeds, got.se_test) == pytest.approx((math.sqrt(3e-4), 0.02))
    counted = 4e-4 + 1.25 * 1e-4 + 1.25 * 2e-4  # (8 + 2) / 8
    df = counted**2 / (4e-4**2 / 20 + (1.25 * 1e-4) ** 2 / 8 + (1.25 * 2e-4) ** 2 / 8)
    assert got.df == pytest.approx(df)
    half = stats.t.ppf(0.975, df) * got.se
    assert (got.low, got.high) == pytest.approx((0.15 - half, 0.15 + half))
    assert got.p == pytest.approx(2 * stats.t.sf(0.15 / got.se, df))
    assert got.superiority == pytest.approx((8 + 1 / 2) / 9)  # .6 ties with .6
    # A true difference of that size is found four times in five.
    critical = stats.t.ppf(0.975, df)
    assert stats.nct.sf(critical, df, got.detectable / got.se) == pytest.approx(0.8, abs=0.003)
    of_images = stats.nct.sf(
        stats.t.ppf(0.975, 20), 20, got.detectable_more_seeds / got.se_test
    )  # with any number of seeds the images' degrees of freedom remain
    assert of_images == pytest.approx(0.8, abs=0.003)


def test_without_seeds_it_is_welchs_with_seeds_counted_more() -> None:
    a, b = np.array([0.60, 0.64, 0.71]), np.array([0.50, 0.57, 0.55])
    got = alone(Gap(a, b, ImageVariance(0.0)))
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert got.value / got.se == pytest.approx(expected.statistic)
    assert got.df == pytest.approx(expected.df)


def test_comparisons_raise_what_is_detectable() -> None:
    gap = Gap(np.array([0.6, 0.7]), np.array([0.5, 0.4]), ImageVariance(4e-4))
    got = corrected_for(difference(gap, SeedVariance(2e-4, 7), SeedVariance(2e-4, 7)), 6)
    upper = stats.t.ppf(1 - 0.05 / 12, got.df)
    of_size = stats.nct.sf(upper, got.df, got.detectable / got.se)
    assert of_size == pytest.approx(0.8, abs=0.005)
    assert got.detectable_more_seeds == pytest.approx((2.638257 + 0.841621) * got.se_test)
    wide = corrected_for(got, 6, simultaneous=True)
    assert (wide.low, wide.high) == pytest.approx((0.2 - upper * got.se, 0.2 + upper * got.se))
    assert (got.simultaneous, wide.simultaneous) == (False, True)


def test_two_one_sided_tests_find_equal_what_the_margin_holds() -> None:
    gap = Gap(np.array([0.601, 0.601]), np.array([0.6, 0.6]), ImageVariance(4e-6))
    sure = SeedVariance(0.0, 7)
    within = difference(gap, sure, sure).equal_within
    assert stats.norm.sf((within - 0.001) / 0.002) == pytest.approx(0.05)  # the larger of the two
    for margin in (within - 1e-9, within + 1e-9):
        assert difference(gap, sure, sure, margin=margin).equal == (margin > within)


def test_equal_methods_are_found_equal_and_those_at_the_margin_seldom() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 2000)

    def found(gap: float) -> float:
        """Of 200 experiments on 4,000 images with three seeds, a tenth of outcomes discordant."""
        hits = 0
        for _ in range(200):
            discordant = rng.random(4000) < 0.1
            better = rng.random(4000) < (0.1 + gap) / 0.2
            a = np.where(discordant, better, 1.0)
            b = np.where(discordant, 1 - better, 1.0)
            pair = [np.repeat(x[None], 3, axis=0) for x in (a, b)]
            hits += linear_difference(*pair, labels, BALANCED, margin=0.02).equal
        return hits / 200

    assert found(0.0) > 0.95
    assert found(0.02) < 0.1  # .05 expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_p_is_below_05_exactly_where_the_interval_excludes_0(seed: int, seeds: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 60)
    a, b = (rng.random((seeds, 60)) < share for share in rng.random(2))
    weights = metrics.METRICS["accuracy"].weights(np.bincount(labels, minlength=3))
    got = linear_difference(a, b, labels, weights)
    assert (got.p < 0.05) == (got.low > 0 or got.high < 0)
    back = linear_difference(b, a, labels, weights)
    assert (back.value, back.low, back.p) == pytest.approx((-got.value, -got.high, got.p))
    assert back.superiority == pytest.approx(1 - got.superiority)


def test_one_seed_counts_test_images_only() -> None:
    d = linear_difference(CORRECT[:1], CORRECT[1:2], LABELS, BALANCED)
    assert math.isnan(d.se_seeds)
    assert d.se == d.se_test > 0
    assert d.p == pytest.approx(2 * stats.t.sf(abs(d.value) / d.se, d.df))


def test_a_method_against_itself() -> None:
    labels = np.repeat([0, 1], 5000)
    same = np.ones((3, 10_000))
    got = linear_difference(same, same, labels, BALANCED)
    assert (got.value, got.superiority) == (0, 0.5)
    assert got.p == pytest.approx(1)
    assert got.equal
    few = linear_difference(CORRECT, CORRECT, LABELS, BALANCED)
    assert not few.equal  # four images can't show it
    found = alone(smooth_gap(same[:, 0], same[:, 0], same, same, labels))
    assert (found.value, found.p) == (0, 1)


def test_a_seed_that_diverged_and_an_undefined_metric_are_unknown() -> None:
    diverged = CORRECT.copy()
    diverged[1] = np.nan
    nowhere = np.full(2, np.nan)
    absent = np.array([0.5, 0, 0.5])
    for correct, weights in ((diverged, BALANCED), (CORRECT, nowhere), (CORRECT, absent)):
        d = linear_difference(CORRECT, correct, LABELS, weights)
        assert np.isnan([d.value, d.p, d.superiority, d.detectable]).all()
        assert not d.equal


def test_smooth_and_linear_agree_on_a_recall() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [4000, 3000])
    counts = np.bincount(labels)
    logits = rng.normal(size=(3, 7000, 2)) + 0.8 * np.eye(2)[labels]
    scorers = [metrics.Scorer(labels, one) for one in logits]
    metric = metrics.METRICS["balanced_accuracy"]
    gap = smooth_gap(
        *(np.array([s.value(metric) for s in side]) for side in (scorers[:2], scorers[1:])),
        *(np.stack([s.influence(metric) for s in side]) for side in (scorers[:2], scorers[1:])),
        labels,
    )
    correct = np.stack([s.correct for s in scorers])
    expected = linear_gap(correct[:2], correct[1:], labels, metric.weights(counts))
    assert gap.values_a == pytest.approx(expected.values_a)
    assert gap.test.variance == pytest.approx(expected.test.variance, rel=2e-3)


def test_a_smooth_metric_on_too_small_a_class_has_no_interval() -> None:
    labels = np.repeat([0, 1], [9, 4])
    influences = np.ones((2, 13))
    gap = smooth_gap(
        np.array([0.4, 0.6]), np.array([0.4, 0.5]), influences, influences, labels, why="too few"
    )
    d = alone(gap)
    assert d.value == pytest.approx(0.05)
    assert np.isnan([d.low, d.p, d.detectable]).all()
    assert d.superiority == pytest.approx((0.5 + 1 + 1) / 4)


def by_both(name: str, units: np.ndarray | None = None) -> tuple[Any, Any, Any, Any]:
    """Estimate of one method and gap of two, three seeds each: smooth and by bootstrap."""
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2], [300, 150, 60])
    logits = rng.normal(size=(6, 510, 3)) + 1.2 * np.eye(3)[labels]
    if units is not None:  # images of a lesion look alike, in every training
        logits = logits / 2 + rng.normal(size=(510, 3))[units]
    metric = metrics.METRICS[name]
    scorers = [metrics.Scorer(labels, one) for one in logits]
    values = np.array([scorer.value(metric) for scorer in scorers])
    influences = np.stack([scorer.influence(metric) for scorer in scorers])
    drawn = np.stack([scorer.resamples(metric, units) for scorer in scorers])
    a, b = slice(0, 3), slice(3, 6)
    return (
        inference.smooth_estimate(values[a], influences[a], labels, units),
        inference.bootstrap_estimate(values[a], drawn[a]),
        smooth_gap(values[a], values[b], influences[a], influences[b], labels, units),
        bootstrap_gap(values[a], values[b], drawn[a], drawn[b]),
    )


@pytest.mark.parametrize("name", ["macro_f1", "macro_auroc", "mcc", "brier_balanced"])
@pytest.mark.parametrize("units", [None, np.arange(510) // 3], ids=["images", "lesions"])
def test_the_bootstrap_says_what_influences_say(name: str, units: np.ndarray | None) -> None:
    smooth, drawn, of_smooth, of_drawn = by_both(name, units)
    assert (drawn.value, drawn.se_seeds) == (smooth.value, smooth.se_seeds)
    assert drawn.se_test == pytest.approx(smooth.se_test, rel=0.12)
    assert drawn.high - drawn.low == pytest.approx(smooth.high - smooth.low, rel=0.12)
    assert math.sqrt(of_drawn.test.variance) == pytest.approx(
        math.sqrt(of_smooth.test.variance), rel=0.15
    )


def test_chance_between_seeds_is_not_counted_with_the_images() -> None:
    labels = np.repeat([0, 1], 2000)
    rng = np.random.default_rng(0)
    by_chance = rng.random((2, 3, 4000)) < 0.7  # nothing about an image lasts
    lasting = np.repeat(rng.random((2, 1, 4000)) < 0.7, 3, axis=1)
    of_chance, of_lasting = (
        linear_gap(a.astype(float), b.astype(float), labels, BALANCED).test.variance
        for a, b in (by_chance, lasting)
    )
    one_seed = 2 * 0.7 * 0.3 / 4000
    assert of_lasting == pytest.approx(one_seed, rel=0.1)
    assert of_chance == pytest.approx(one_seed / 3 * inference.LEAST_LASTING, rel=0.1)


def test_degrees_of_freedom_of_the_images_by_hand() -> None:
    """Four images of one class, whose differences are ½, ½, 0 and −½ over two seeds."""
    a = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], float)
    b = np.array([[1, 0, 1, 1], [0, 1, 0, 0]], float)
    labels, weights = np.zeros(4, np.int64), np.ones(1)
    gap = linear_gap(a, b, labels, weights)
    chance = min(0.75, 3 / 16 + 0.75 / 4) - 0.75**2 / 4
    assert gap.test.df == pytest.approx(2 * gap.test.variance**2 / (chance / (4 * 6) ** 2))
    one = linear_gap(a[:1], b[:1], labels, weights)
    chance = 2 - 2**2 / 4
    assert one.test.df == pytest.approx(2 * one.test.variance**2 / (chance / (4 * 6) ** 2))


def test_patients_of_many_images_tell_as_much_as_they_are() -> None:
    """Thirty patients of four images each have more than a degree of freedom or two."""
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(30), 4)
    difficulty = 0.6 * rng.normal(size=30)[units] + rng.normal(size=120)
    a, b = (difficulty + 0.5 * rng.normal(size=(3, 120)) < skill for skill in (1.0, 0.6))
    gap = linear_gap(a, b, np.zeros(120, np.int64), np.ones(1), units)
    assert 5 < gap.test.df < 60


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_more_seeds_never_find_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [12, 5, 2])
    a, b = rng.random((2, 3, 19)) < 0.7
    units = rng.integers(0, 8, 19) if seed % 2 else None
    found = linear_difference(a, b, labels, np.full(3, 1 / 3), units)
    assert found.detectable_more_seeds <= found.detectable
