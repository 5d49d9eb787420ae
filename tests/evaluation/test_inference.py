"""Statistics against hand values, scipy and statsmodels, and what must hold always."""

import gc
import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lmdbench.evaluation import inference, metrics
from lmdbench.evaluation.differences import linear_difference
from lmdbench.evaluation.ends import outcomes, wilson

# Two classes of three and one images, three seeds.
LABELS = np.array([0, 0, 0, 1])
CORRECT = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0]], float)
BALANCED = np.array([0.5, 0.5])


def coverage_script() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


# The test part


def test_variance_of_a_recall_is_jeffreys() -> None:
    # Beta(½ + 3, ½ + 1): three of four right.
    assert inference.recall_variance(np.array([1.0, 1, 1, 0])) == pytest.approx(
        stats.beta(3.5, 1.5).var()
    )
    assert inference.recall_variance(np.array([1.0])) == pytest.approx(1 / 16)
    # ((1/9 + 4/9 + ½) / 3 − ((1/3 + 2/3 + ½) / 3)²) / 4
    got = inference.recall_variance(np.array([1 / 3, 2 / 3]))
    assert got == pytest.approx(((5 / 9 + 0.5) / 3 - 0.25) / 4)


def test_variance_of_a_difference() -> None:
    # ((1 + 1/4 + ½) / 4 − ((1 − ½) / 4)²) / 5
    got = inference.difference_variance(np.array([1.0, -0.5, 0]))
    assert got == pytest.approx((1.75 / 4 - (0.5 / 4) ** 2) / 5)
    assert inference.difference_variance(np.array([0.0])) == pytest.approx(1 / 12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_images_that_stand_alone_are_units_of_one(outcomes: list[float]) -> None:
    x = np.array(outcomes)
    alone = np.array([f"lesion {k}" for k in range(len(x))])
    for units in (alone, np.full(len(x), ""), np.arange(len(x))):
        assert inference.recall_variance(x, units) == pytest.approx(inference.recall_variance(x))
        assert inference.difference_variance(x - 0.5, units) == pytest.approx(
            inference.difference_variance(x - 0.5)
        )


def test_units_of_equal_images_count_once() -> None:
    outcomes, units = np.array([1.0, 1, 1, 0, 0, 0]), np.array(list("aaabbb"))
    assert inference.recall_variance(outcomes, units) == pytest.approx(
        inference.recall_variance(np.array([1.0, 0]))
    )


def test_units_of_different_sizes_by_hand() -> None:
    # Sizes 2 and 1: weights 2/3 and 1/3, n = 1 / (4/9 + 1/9) = 1.8; masses 1.44 and 0.36.
    got = inference.recall_variance(np.array([1.0, 0, 1]), np.array(["a", "a", ""]))
    mean = (1.44 * 0.5 + 0.36 + 0.5) / 2.8
    assert got == pytest.approx(((1.44 * 0.25 + 0.36 + 0.5) / 2.8 - mean**2) / 3.8)


def test_a_unit_of_two_classes_adds_its_covariance_unless_negative() -> None:
    labels = np.array([0, 0, 1, 1])
    weights = np.array([0.5, 0.5])
    spanning, apart = np.array(list("abab")), np.array(list("abcd"))
    alike, unlike = np.array([[1.0, 0, 1, 0]]), np.array([[1.0, 0, 0, 1]])
    own = inference.linear_estimate(alike, labels, weights, apart).se_test ** 2
    both = inference.linear_estimate(alike, labels, weights, spanning).se_test ** 2
    # Each piece pulls by ½ · ½ · (±½); two units, twice the product.
    assert both - own == pytest.approx(2 * 2 * 0.125**2)
    same = inference.linear_estimate(unlike, labels, weights, spanning).se_test ** 2
    assert same == pytest.approx(own)


def test_unit_codes_leave_images_without_a_unit_alone() -> None:
    codes = inference.unit_codes(np.array(["b", "", "a", "b", ""]))
    assert codes[0] == codes[3]
    assert sorted(codes) == [0, 1, 1, 2, 3]


def test_persistence_at_its_ends_and_between() -> None:
    rng = np.random.default_rng(0)
    n = np.array([4000, 1000])
    labels = np.repeat([0, 1], [4000, 1000])

    def of(correct: np.ndarray) -> list[float]:
        m = correct.mean(axis=0)
        sums = np.bincount(labels, m), np.bincount(labels, m**2)
        return inference.persistence(n, *sums, seeds=3).tolist()

    fixed = rng.random(5000) < 0.7
    chance = rng.random((3, 5000)) < 0.7
    assert of(np.stack([fixed] * 3)) == [1, 1]
    assert of(chance) == pytest.approx([0, 0], abs=0.06)
    half = np.where((labels == 0) & (rng.random(5000) < 0.5), fixed, chance)
    assert of(half) == pytest.approx([0.5, 0], abs=0.06)
    assert of(np.ones((3, 5000))) == [1, 1]  # nothing known: as if it were so


def test_persistence_of_a_small_class_is_mostly_that_of_the_others() -> None:
    # Over two seeds, 30 images right by halves and 30 right or wrong for good, p = ½; one image.
    n = np.array([30, 30, 1])
    total, squares = np.array([15.0, 15, 0]), np.array([7.5, 15, 0])
    got = inference.persistence(n, total, squares, seeds=2)
    # Variance of an image 15/58 in both large classes, chance ½ and 0, the mean 1/4; the small
    # one has 2/9 (1 of 3 by Laplace), and all of it persists.
    mean, chance = 15 / 58, 1 / 4
    assert got == pytest.approx(
        [
            0,
            1 - 5 * chance / (30 * mean + 5 * mean),
            1 - 5 * chance / (2 / 9 + 5 * mean),
        ]
    )


def test_variance_of_one_image_right_in_every_seed_is_what_its_chance_can_be() -> None:
    one = np.ones(1)
    assert inference.recall_variances(one, one, one, 3) == pytest.approx(2 / 3 * 1 / 3)
    # Many images and one seed: Jeffreys', to the first order.
    n, total = np.array([4000]), np.array([3000.0])
    got = inference.recall_variances(n, total, total, 1)
    assert got == pytest.approx(stats.beta(3000.5, 1000.5).var(), rel=1e-3)


def test_what_the_seeds_hold_is_not_counted_again() -> None:
    rng = np.random.default_rng(1)
    n = np.array([50_000])
    m = (rng.random((4, 50_000)) < 0.6).mean(axis=0)
    sums = np.array([m.sum()]), np.array([(m**2).sum()])
    plain = inference.augmented_variance(n, *sums)
    assert plain == pytest.approx(0.6 * 0.4 / 4 / n, rel=0.02)
    assert inference.recall_variances(n, *sums, seeds=4)[0] < 0.05 * plain[0]


# Both sources together


def test_estimate_by_hand() -> None:
    got = inference.linear_estimate(CORRECT, LABELS, BALANCED)
    values = np.array([(2 / 3 + 1) / 2, (1 / 3 + 1) / 2, (2 / 3 + 0) / 2])
    assert got.value == pytest.approx(values.mean())
    assert got.se_seeds == pytest.approx(values.std(ddof=1) / math.sqrt(3))
    assert got.se == pytest.approx(math.hypot(got.se_seeds, got.se_test))
    counted = got.se_seeds**2 * 3
    df = (counted + got.se_test**2) ** 2 / (counted**2 / 2)
    assert got.df == pytest.approx(df)
    assert got.seeds == 3
    ends = wilson(got.value, outcomes(got.value, got.se), stats.t.ppf(0.975, df))
    assert got.se > 0.25  # so that t · SE would reach beyond 0 and 1
    assert (got.low, got.high) == pytest.approx(tuple(map(float, ends)))
    narrow = inference.linear_estimate(CORRECT, LABELS, BALANCED, level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * stats.t.ppf(0.75, df) * got.se)


def test_one_seed_counts_test_images_only() -> None:
    got = inference.linear_estimate(CORRECT[:1], LABELS, BALANCED)
    assert math.isnan(got.se_seeds)
    assert got.df == math.inf
    assert got.se == got.se_test > 0


def test_a_seed_that_diverged_and_an_undefined_metric_are_unknown() -> None:
    diverged = CORRECT.copy()
    diverged[1] = np.nan
    nowhere = np.full(2, np.nan)
    absent = np.array([0.5, 0, 0.5])
    for correct, weights in ((diverged, BALANCED), (CORRECT, nowhere), (CORRECT, absent)):
        got = inference.linear_estimate(correct, LABELS, weights)
        assert np.isnan([got.value, got.low, got.high, got.se, got.df]).all()


def test_classes_without_images_take_no_part() -> None:
    three = np.array([0.5, 0.5, 0])
    assert inference.linear_estimate(CORRECT, LABELS, three) == inference.linear_estimate(
        CORRECT, LABELS, BALANCED
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_order_of_images_and_classes_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 50)
    counts = np.bincount(labels, minlength=4)
    correct = rng.random((3, 50)) < 0.6
    units = np.array([f"u{k}" for k in rng.integers(0, 20, 50)])
    weights = metrics.METRICS["balanced_accuracy"].weights(counts)
    images, order = rng.permutation(50), rng.permutation(4)
    moved = np.argsort(order)[labels][images]
    before = inference.linear_estimate(correct, labels, weights, units)
    after = inference.linear_estimate(correct[:, images], moved, weights[order], units[images])
    assert list(vars(after).values()) == pytest.approx(list(vars(before).values()))


def test_intervals_stay_within_what_the_metric_can_be() -> None:
    labels = np.repeat([0, 1], 5)
    sure = inference.linear_estimate(np.ones((2, 10)), labels, BALANCED)
    assert sure.high == 1
    assert sure.low < 1
    influences = np.tile(np.linspace(-1, 1, 10), (2, 1))
    free = inference.smooth_estimate(np.array([0.1, 0.2]), influences, labels, bounds=(0, math.inf))
    assert 0 < free.low < 1e-6
    assert free.high > 1


# Smooth metrics


def test_smooth_metrics_have_no_interval_with_a_class_too_small() -> None:
    assert inference.too_small(np.array([9, 5, 0])) == ""
    assert inference.too_small(np.array([9, 4])) == "a class has fewer than 5 test images"
    assert inference.too_small(np.array([1, 4])) == "2 classes have fewer than 5 test images"
    why = inference.too_small(np.array([9, 4]), units="lesions or patients")
    assert why == "a class has fewer than 5 test lesions or patients"
    labels = np.repeat([0, 1], [9, 4])
    influences = np.ones((2, 13))
    why = inference.too_small(np.bincount(labels))
    got = inference.smooth_estimate(np.array([0.4, 0.6]), influences, labels, why=why)
    assert got.value == 0.5
    assert got.se_seeds > 0
    assert np.isnan([got.low, got.high, got.se, got.se_test]).all()


def test_a_smooth_metric_that_is_undefined_is_unknown() -> None:
    labels = np.repeat([0, 1], 9)
    got = inference.smooth_estimate(np.array([0.4, np.nan]), np.ones((2, 18)), labels)
    assert math.isnan(got.value)


# Many comparisons


@pytest.fixture(scope="module")
def little_garbage() -> Iterator[None]:
    """Makes collections of garbage quick: ``multipletests`` makes one at every call."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("little_garbage")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    expected = multipletests(p, method="holm")[1]
    assert inference.holm(np.array(p)) == pytest.approx(expected)


def test_holm_leaves_what_was_not_tested_out() -> None:
    got = inference.holm(np.array([0.04, np.nan, 0.01]))
    assert got == pytest.approx([0.04, np.nan, 0.02], nan_ok=True)


def test_permutation_over_images_counts_every_flip() -> None:
    # Four images of one class differ, all for A: of 16 flips two are as extreme.
    labels = np.zeros(6, int)
    a, b = np.array([[1, 1, 1, 1, 0, 1]]), np.array([[0, 0, 0, 0, 0, 1]])
    rng = np.random.default_rng(0)
    p = inference.permutation_p(a, b, labels, np.ones(1), rng, rounds=40_000)
    assert p == pytest.approx(2 / 16, abs=0.01)
    # As two lesions: two of four flips.
    units = np.array(list("ppqqrs"))
    p = inference.permutation_p(a, b, labels, np.ones(1), rng, rounds=40_000, units=units)
    assert p == pytest.approx(1 / 2, abs=0.01)
    assert inference.permutation_p(a, a, labels, np.ones(1), rng) == 1
    least = inference.permutation_p(
        np.ones((1, 99)), np.zeros((1, 99)), np.zeros(99, int), np.ones(1), rng, rounds=999
    )
    assert least == 1 / 1000


def test_permutation_agrees_with_scipys() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 40)
    a, b = (rng.random((3, 40)) < share for share in (0.7, 0.5))
    weights = np.full(3, 1 / 3)
    d = (a.mean(axis=0) - b.mean(axis=0)) * (weights / np.bincount(labels))[labels]
    expected = stats.permutation_test(
        (d,), np.sum, permutation_type="samples", n_resamples=20_000, rng=1
    ).pvalue
    p = inference.permutation_p(a, b, labels, weights, rng, rounds=20_000)
    assert p == pytest.approx(expected, abs=0.015)


# The simulation, in small


def test_the_simulation_computes_what_the_functions_do() -> None:
    script = coverage_script()
    counts = np.array([40, 12, 3, 1])
    labels = np.repeat(np.arange(4), counts)
    recalls = np.random.default_rng(0).uniform(0.2, 0.9, (3, 4))
    right = script.draw_outcomes(counts, recalls, 0.5, np.random.default_rng(1))
    m = right.mean(axis=0)
    total, squares = np.bincount(labels, m), np.bincount(labels, m**2)
    found = inference.recall_variances(counts, total, squares, 3)
    got = inference.linear_estimate(right, labels, np.full(4, 1 / 4))
    assert got.se_test == pytest.approx(math.sqrt(found.sum() / 16))


def test_the_simulations_two_ways_to_draw_agree() -> None:
    script = coverage_script()
    counts, recalls = np.array([30, 5]), np.array([[0.8, 0.4], [0.7, 0.5], [0.8, 0.3]])
    drawn = np.broadcast_to(recalls.T, (4000, 2, 3))
    total, squares, found = script.draw_sums(counts, drawn, 0.6, np.random.default_rng(0))
    one_by_one = [
        script.draw_outcomes(counts, recalls, 0.6, np.random.default_rng(k)).mean(axis=0)
        for k in range(4000)
    ]
    labels = np.repeat([0, 1], counts)
    sums = np.array([[np.bincount(labels, m), np.bincount(labels, m**2)] for m in one_by_one])
    assert found.mean(axis=0) == pytest.approx(recalls.T, abs=0.02)
    assert total.mean(axis=0) == pytest.approx(sums[:, 0].mean(axis=0), rel=0.02)
    assert squares.mean(axis=0) == pytest.approx(sums[:, 1].mean(axis=0), rel=0.02)
    assert total.std(axis=0) == pytest.approx(sums[:, 0].std(axis=0), rel=0.06)


@pytest.mark.parametrize("persistence", [0.5, 0.9, -1])  # −1: each class has its own
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_and_are_not_too_wide(seeds: int, persistence: float) -> None:
    script = coverage_script()
    rng = np.random.default_rng(seeds)
    for shape in script.SHAPES:
        for law in script.LAWS:
            ours, plain = script.coverage(shape, law, seeds, 0.005, persistence, 1000, rng)
            assert min(ours.values()) > 0.91, (shape.name, law, ours)
            if law in script.MODERATE:
                assert max(ours.values()) < 0.99, (shape.name, law, ours)
    assert set(plain) == set(ours)


def test_tables_of_equal_methods_stay_quiet() -> None:
    script = coverage_script()
    for deviant, most in (((), 0.09), ((0,), 0.09), ((1, 2), 0.09)):  # truly at most 5 %
        law = script.TableLaw(noise=0.017, deviant=deviant)
        found = script.TableSimulation(law).run(150, np.random.default_rng(1))
        assert found.false < most, deviant
        assert min(found.covered) > 0.88


@pytest.mark.parametrize(("methods", "least"), [(7, 0.8), (14, 0.7)])
def test_a_gain_of_eight_points_is_found_with_three_seeds(methods: int, least: float) -> None:
    script = coverage_script()
    law = script.TableLaw(methods=methods, noise=0.01, gain=0.08)
    found = script.TableSimulation(law).run(100, np.random.default_rng(1))
    assert found.power > least
    assert found.detectable == pytest.approx(0.08, abs=0.012)


def test_lesions_are_needed_where_their_images_go_together() -> None:
    script, rng = coverage_script(), np.random.default_rng(0)
    known, unknown, _ = script.unit_coverage(script.SHAPES[0], 4, 1.0, 1, 200, rng)
    assert known > 0.85
    assert unknown < 0.8


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_intervals_are_no_wider_than_lesions_make_them(correlation: float) -> None:
    script, rng = coverage_script(), np.random.default_rng(1)
    for shape in script.SHAPES:
        known, _, ratio = script.unit_coverage(shape, 4, correlation, 1, 200, rng)
        assert known > 0.88, shape.name
        assert 0.8 < ratio < 1.25, shape.name


def test_agreement_by_hand() -> None:
    # Ten lesions of four images, half of which are right in each; and images that stand alone.
    alone = inference.agreement(np.array([10.0]), np.array([5.0]), None, np.array([4.0]))
    assert alone.tolist() == [1.0]
    n, total, second = np.array([10.0]), np.array([5.0]), np.array([2.5])
    # No spread of means: of outcomes 10 · ½ · ½. Correlation (−2.5/4 + 1) / (2.5 · ¾ + 1).
    correlation = (1 - 2.5 / 4) / (2.5 * 0.75 + 1)
    got = inference.agreement(n, total, second, np.array([4.0]))
    assert got == pytest.approx(correlation + (1 - correlation) / 4)


@pytest.mark.parametrize("area", [0.6, 0.9, 0.99])
def test_placements_of_two_normal_distributions(area: float) -> None:
    rng = np.random.default_rng(0)
    placements = stats.norm.cdf(math.sqrt(2) * stats.norm.ppf(area) + rng.normal(size=2_000_000))
    assert placements.mean() == pytest.approx(area, abs=1e-3)
    assert inference.binormal_variance(area) == pytest.approx(placements.var(), rel=0.02)


@pytest.mark.parametrize(
    ("name", "images", "seeds"),
    [("auroc", 8, 1), ("auroc", 26, 2), ("average_precision", 26, 1), ("average_precision", 8, 2)],
)
def test_areas_near_1_are_covered(name: str, images: int, seeds: int) -> None:
    script, rng = coverage_script(), np.random.default_rng(0)
    for area in (0.9, 0.99):
        assert script.area_coverage(images, area, seeds, 0.9, 100, rng, name) > 0.92


def test_the_least_variance_of_average_precisions_by_hand() -> None:
    # Laplace's p: (8 · ¾ + 1) / 10, (18 · ¾ + 1) / 20. Half of p (1 − p) / n each, a quarter of it.
    of_each = [0.7 * 0.3 / 8, 0.725 * 0.275 / 18]
    found = inference.pr_variance(0.75, np.array([8.0, 18.0]), np.array([0.5, 0.5]))
    assert found == pytest.approx(sum(of_each) / 4 / 2)


def test_an_average_precision_of_1_has_an_interval() -> None:
    labels = np.repeat([0, 1], [9, 50])
    scorer = metrics.Scorer(labels, np.stack([1.0 * (labels == 0), np.zeros(59)], axis=1))
    metric = metrics.parse("average_precision:a", ["a", "b"], {})
    found = metric.estimate(
        np.ones(1), np.empty(0), scorer.influence(metric)[None], labels, scorer.counts, None
    )
    assert 0.6 < found.low < 0.9
    assert found.high == 1


class TestNoInterval:
    labels = np.repeat([0, 1], 10)

    def test_of_images_that_are_all_alike(self):
        found = inference.smooth_estimate(np.array([1.0]), np.zeros((1, 20)), self.labels)
        assert (found.value, np.isnan(found.low)) == (1, True)
        assert "all alike" in inference.no_interval("", found)

    def test_of_classes_that_are_too_small(self):
        labels = np.repeat([0, 1], [10, 2])
        why = inference.too_small(np.bincount(labels))
        found = inference.smooth_estimate(np.array([0.5]), np.ones((1, 12)), labels, why=why)
        assert inference.no_interval(why, found) == "a class has fewer than 5 test images"

    def test_not_where_there_is_one(self):
        influences = np.tile([0.01, -0.01], 10)[None]
        found = inference.smooth_estimate(np.array([0.5]), influences, self.labels)
        assert found.low < 0.5 < found.high
        assert inference.no_interval("", found) == ""


# Any metric, by a bootstrap


def test_seeds_and_images_both_count_in_a_bootstrap() -> None:
    drawn = np.random.default_rng(0).normal(0.5, 0.03, (2, 400))
    got = inference.bootstrap_estimate(np.array([0.4, 0.6]), drawn)
    assert got.se_seeds == pytest.approx(0.1)
    assert got.se_test == pytest.approx(drawn.mean(axis=0).std(ddof=1))
    assert got.se == pytest.approx(math.hypot(got.se_seeds, got.se_test))
    one = inference.bootstrap_estimate(np.array([0.4]), drawn[:1])
    assert math.isnan(one.se_seeds)
    assert one.se == pytest.approx(drawn[0].std(ddof=1))


def test_a_bootstrap_without_an_interval_says_why() -> None:
    value = np.array([0.5])
    drawn = np.linspace(0, 1, 400)[None].copy()
    drawn[0, :3] = np.nan
    got = inference.bootstrap_estimate(value, drawn)
    assert (got.value, math.isnan(got.low)) == (0.5, True)
    assert inference.no_interval("", got, drawn) == (
        "it has no value on 3 of 400 bootstrap samples"
    )
    alike = np.full((1, 400), 0.5)
    got = inference.bootstrap_estimate(value, alike)
    assert "all alike" in inference.no_interval("", got, alike)
    why = "a class has fewer than 5 test images"
    got = inference.bootstrap_estimate(value, np.ones((1, 400)), why=why)
    assert math.isnan(got.low)
    assert inference.no_interval(why, got, drawn) == why


def test_a_sample_keeps_classes_and_whole_units() -> None:
    labels = np.array([0, 0, 0, 1, 1, 0, 0, 1, 1, 1])
    units = np.array(["a", "a", "b", "b", "b", "", "", "c", "c", ""])  # b is more of 1 than of 0
    samples: list[np.ndarray] = []

    def keep(images: np.ndarray) -> float:
        samples.append(images)
        return 0.0

    inference.within_class_bootstrap(keep, labels, np.random.default_rng(0), 200, units)
    sizes = set()
    for images in samples:
        times = np.bincount(images, minlength=10)
        assert times[0] == times[1]
        assert times[2] == times[3] == times[4]
        assert times[7] == times[8]
        assert times[0] + times[5] + times[6] == 3  # units whose class is 0
        assert times[2] + times[7] + times[9] == 3
        sizes.add(len(images))
    assert len(sizes) > 1
    samples.clear()
    inference.within_class_bootstrap(keep, labels, np.random.default_rng(0), 50)
    assert all(np.bincount(labels[images]).tolist() == [5, 5] for images in samples)


# What an independent check found


def test_seeds_that_happen_to_agree_leave_an_interval() -> None:
    found = inference.linear_estimate(np.eye(3), np.zeros(3, int), np.ones(1))
    jeffreys = stats.beta(3.5, 6.5).var()  # of nine outcomes, three right
    assert found.se == pytest.approx(math.sqrt(jeffreys))
    assert found.low < 1 / 3 < found.high


@pytest.mark.parametrize("seeds", [1, 3])
def test_copies_of_images_within_their_lesions_change_nothing(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    labels = np.repeat([0, 1, 2], [12, 3, 1])
    right = rng.random((seeds, 16)) < 0.6
    weights = np.full(3, 1 / 3)
    once = inference.linear_estimate(right, labels, weights)
    copies = [np.repeat(x, 4, axis=-1) for x in (right, labels, np.arange(16))]
    again = inference.linear_estimate(copies[0], copies[1], weights, copies[2])
    assert vars(again) == pytest.approx(vars(once), nan_ok=True)
    other = np.repeat(rng.random((seeds, 16)) < 0.5, 4, axis=-1)
    one = linear_difference(right, other[:, ::4], labels, weights)
    four = linear_difference(copies[0], other, copies[1], weights, units=copies[2])
    assert vars(four) == pytest.approx(vars(one), nan_ok=True)


def test_no_images_have_no_value() -> None:
    nothing = np.zeros((3, 0)), np.zeros(0, int)
    assert math.isnan(inference.linear_estimate(*nothing, np.zeros(2)).value)
