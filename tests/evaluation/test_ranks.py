"""Ranks against hand values, tables and scipy."""

import importlib.util
import itertools
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from lmdbench.evaluation import inference, influence, ranks

SCORES = np.array([[0.9, 0.8, 0.7], [0.6, 0.6, 0.5], [0.3, 0.4, 0.2], [0.9, 0.7, 0.8]])


def test_mean_ranks_and_wins() -> None:
    # 1 2 3 | 1½ 1½ 3 | 2 1 3 | 1 3 2
    assert ranks.mean_ranks(SCORES).tolist() == [5.5 / 4, 7.5 / 4, 11 / 4]
    assert ranks.wins(SCORES).tolist() == [[0, 2, 4], [1, 0, 3], [0, 1, 0]]


# Friedman's test


def ranked(*rows: str) -> np.ndarray:
    """Scores (K, M) from the ranks in a setting, as "213"."""
    return -np.array([[float(rank) for rank in row] for row in rows])


@pytest.mark.parametrize(
    ("scores", "statistic", "p"),
    [
        # Friedman (1937), tables V and VI; by hand where all settings agree.
        (ranked("123", "123", "123"), 6, 1 / 36),
        (ranked("123", "123", "213", "123"), 6.5, 0.0417),
        (ranked("123", "123", "123", "123"), 8, 0.0046),
        (ranked("1234", "1234"), 6, 1 / 24),
        (ranked("1234", "1234", "1234"), 9, 1 / 576),
        (ranked("1234", "1234", "1243"), 8.2, 0.0174),
    ],
)
def test_friedmans_p_is_that_of_the_tables(scores: np.ndarray, statistic: float, p: float) -> None:
    found = ranks.friedman(scores)
    assert found.distribution == "exact"
    assert found.statistic == pytest.approx(statistic)
    assert found.p == pytest.approx(p, abs=5e-5)


def test_friedmans_exact_p_counts_all_orders_of_tied_ranks() -> None:
    by_setting = stats.rankdata(-SCORES, axis=1)
    observed = (by_setting.sum(axis=0) ** 2).sum()
    orders = [list(itertools.permutations(row)) for row in by_setting]
    sums = [np.sum(rows, axis=0) for rows in itertools.product(*orders)]
    expected = np.mean([(one**2).sum() >= observed - 1e-9 for one in sums])
    found = ranks.friedman(SCORES)
    assert (found.p, found.distribution) == (pytest.approx(expected), "exact")
    assert found.statistic == pytest.approx(stats.friedmanchisquare(*SCORES.T).statistic)


def test_friedman_by_permutations_is_near_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(3).standard_normal((6, 4)) + 0.4 * np.arange(4)
    exact = ranks.friedman(scores)
    monkeypatch.setattr(ranks, "EXACT_METHODS", 3)
    drawn = ranks.friedman(scores)
    assert (exact.distribution, drawn.distribution) == ("exact", "permutations")
    assert drawn.p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p / ranks.PERMUTATIONS))
    assert ranks.friedman(scores) == drawn


def test_friedman_of_many_settings_is_scipys() -> None:
    scores = np.random.default_rng(0).standard_normal((24, 9)) + 0.05 * np.arange(9)
    expected = stats.friedmanchisquare(*scores.T)
    found = ranks.friedman(scores)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.distribution == "chi-squared"


@pytest.mark.parametrize("scores", [SCORES[:, :2], SCORES[:1], np.ones((9, 3))])
def test_friedman_tests_nothing_of_two_methods_one_setting_or_equal_scores(
    scores: np.ndarray,
) -> None:
    found = ranks.friedman(scores)
    assert (math.isnan(found.statistic), math.isnan(found.p), found.distribution) == (
        True,
        True,
        "",
    )


# Nemenyi


@pytest.mark.parametrize(
    ("methods", "q"),
    # Demšar (2006), table 5(a), two-tailed Nemenyi, .05.
    list(enumerate([1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164], start=2)),
)
def test_critical_difference_is_demsars(methods: int, q: float) -> None:
    got = ranks.nemenyi_critical_difference(methods, 14)
    assert got == pytest.approx(q * math.sqrt(methods * (methods + 1) / (6 * 14)), abs=1.5e-3)


def test_three_settings_make_a_critical_difference_of_most_ranks() -> None:
    assert ranks.nemenyi_critical_difference(5, 3) == pytest.approx(3.52, abs=0.01)


# Intervals over settings


def test_an_interval_of_mean_ranks_by_hand() -> None:
    # Of three methods 1 2 3, five times, and 2 1 3: the means are 7/6, 11/6 and 3. The farthest
    # rank is 5/6 from its method's mean, so 1 rank is taken, within 1 and 3.
    scores = ranked(*["123"] * 5, "213")
    got = ranks.mean_rank_intervals(scores)
    for method, (low, high) in enumerate([(1, 13 / 6), (1, 17 / 6), (2, 3)]):
        eight = [*-scores[:, method], low, high]
        centre, half = np.mean(eight), stats.t.ppf(0.975, 5) * np.std(eight, ddof=1) / math.sqrt(8)
        expected = np.clip([centre - half, centre + half], 1, 3)
        np.testing.assert_allclose(got[method], expected)


def test_the_best_everywhere_has_an_interval_too() -> None:
    low, high = ranks.mean_rank_intervals(ranked(*["1234"] * 6))[0]
    assert low == 1
    assert 1.3 < high < 2


def test_fewer_than_six_settings_have_no_intervals() -> None:
    assert np.isnan(ranks.mean_rank_intervals(SCORES[[0, 1, 2, 3, 0]])).all()


@pytest.mark.parametrize("gap", [0.0, 1.0, 3.0])
def test_intervals_of_mean_ranks_cover(gap: float) -> None:
    generator = np.random.default_rng(0)
    skills = -gap * np.arange(4)
    true = ranks.mean_ranks(skills + generator.standard_normal((100_000, 4)))
    held = [
        (low <= true) & (true <= high)
        for low, high in (
            ranks.mean_rank_intervals(skills + generator.standard_normal((6, 4))).T
            for _ in range(400)
        )
    ]
    assert np.mean(held) >= 0.93


# Within one setting

LABELS = np.repeat([0, 1, 2], [40, 6, 1])


def test_samples_of_images_have_the_variance_of_the_jackknife() -> None:
    generator = np.random.default_rng(0)
    influences = influence.centred(generator.standard_normal(47) / 20, LABELS)
    draws = ranks.Draws.of(LABELS, generator, 40_000)
    found = draws.values(np.array([0.7]), influences[None])
    assert found.mean() == pytest.approx(0.7, abs=0.005)
    expected = inference.jackknife_variance(influences, LABELS)
    assert found.var() == pytest.approx(expected, rel=0.03)
    assert draws.times[:, :40].sum(axis=1).tolist() == [39] * 40_000
    assert (draws.times[:, 46] == 1).all()  # the only image of its class


def test_units_are_drawn_whole_and_have_the_variance_of_the_jackknife() -> None:
    generator = np.random.default_rng(1)
    units = np.array([k // 2 for k in range(40)] + [30, 30, 31, 32, 33, 33, 40])
    influences = influence.centred(generator.standard_normal(47) / 20, LABELS)
    draws = ranks.Draws.of(LABELS, generator, 40_000, units)
    assert (draws.times[:, 0] == draws.times[:, 1]).all()
    assert (draws.times[:, 0] != draws.times[:, 2]).any()
    found = draws.values(np.array([0.7]), influences[None])
    expected = inference.jackknife_variance(influences, LABELS, units)
    assert found.var() == pytest.approx(expected, rel=0.03)


def test_a_unit_of_two_classes_is_drawn_among_those_of_its_larger_one() -> None:
    labels, units = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 2, 2, 3])
    times = ranks.Draws.of(labels, np.random.default_rng(0), 200, units).times
    assert (times[:, 2] == times[:, 3]).all()
    assert (times[:, [0, 1]].sum(axis=1) == 1).all()  # one of two units
    assert (times[:, [3, 5]].sum(axis=1) == 1).all()


def test_the_metric_on_a_sample_is_that_of_the_images_in_it() -> None:
    # Two classes of four, of which three are drawn and counted 4/3 times.
    labels = np.repeat([0, 1], 4)
    right = np.array([[1, 1, 0, 0, 1, 0, 0, 0]], float)
    draws = ranks.Draws.of(labels, np.random.default_rng(0), 50)
    found = draws.values(right.sum(axis=1) / 8, influence.centred(right[0] / 8, labels)[None])
    by_sample = np.repeat(right, 50, axis=0) * draws.times
    recalls = by_sample.reshape(50, 2, 4).sum(axis=2) / 3
    mean = right.reshape(2, 4).mean(axis=1)
    expected = mean.mean() + (4 / 3 * 3 / 4 * (recalls - mean)).mean(axis=1)
    np.testing.assert_allclose(found[0], expected)


def test_the_mean_over_drawn_seeds_has_the_variance_of_the_mean() -> None:
    values = np.array([0.5, 0.6, 0.64])
    samples = np.repeat(values[:, None], 40_000, axis=1)
    found = ranks.over_seeds(samples, np.random.default_rng(0))
    assert found.var() == pytest.approx(values.var(ddof=1) / 3, rel=0.03)
    one = np.array([[0.1, 0.2]])
    assert ranks.over_seeds(one, np.random.default_rng(0)).tolist() == [0.1, 0.2]


def test_stability_by_hand() -> None:
    # Ranks in four samples: 1 2 3 | 2 1 3 | 1 2½ 2½ | 1 2 3.
    samples = np.array([[3, 2, 1], [2, 3, 1], [3, 1, 1], [9, 8, 7]], float).T
    found = ranks.stability(np.array([0.3, 0.2, 0.1]), samples)
    assert found.ranks.tolist() == [1, 2, 3]
    assert found.median.tolist() == [1, 2, 3]
    assert (found.low.tolist(), found.high.tolist()) == ([1, 1, 2.5], [2, 2.5, 3])
    assert found.shares.tolist() == [[0.75, 0.25, 0], [0.25, 0.625, 0.125], [0, 0.125, 0.875]]
    expected = [1, 1 / 3, 2 / math.sqrt(2 * 3), 1]
    np.testing.assert_allclose(found.tau, expected)


def test_kendalls_tau_is_scipys() -> None:
    generator = np.random.default_rng(0)
    observed = stats.rankdata(generator.integers(0, 5, 8))
    by_sample = stats.rankdata(generator.integers(0, 4, (30, 8)), axis=1)
    expected = [stats.kendalltau(observed, one).statistic for one in by_sample]
    np.testing.assert_allclose(ranks.kendall(observed, by_sample), expected)
    assert np.isnan(ranks.kendall(np.full(8, 4.5), by_sample)).all()


# The simulation, in small


def simulation() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "rank_coverage.py"
    spec = importlib.util.spec_from_file_location("rank_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_simulated_methods_are_as_far_apart_as_said() -> None:
    script = simulation()
    skills = script.Skills.of((4000, 4000, 4000), 2, 0.02)
    labels = np.repeat([0, 1, 2], 4000)
    values = skills.correct(labels, 60, np.random.default_rng(0)).mean(axis=2)
    assert values[0].mean() - values[1].mean() == pytest.approx(0.02, abs=0.006)
    assert values.std(axis=1, ddof=1).mean() == pytest.approx(script.SEED_NOISE, rel=0.2)


def test_the_simulation_finds_what_the_bootstrap_over_settings_covers() -> None:
    script = simulation()
    found = script.simulate(script.LAWS[0], 6, 3, 400, np.random.default_rng(0))
    assert (found.held > 0.93).all()
    assert (found.bootstrap < 0.93).all()
    assert 1 < found.width < 2
