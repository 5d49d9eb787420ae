"""Ranks against hand values, tables and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from lmdbench.evaluation import ranks

SCORES = np.array([[0.9, 0.8, 0.7], [0.6, 0.6, 0.5], [0.3, 0.4, 0.2], [0.9, 0.7, 0.8]])


def test_ranks_wins_and_friedman() -> None:
    # 1 2 3 | 1½ 1½ 3 | 2 1 3 | 1 3 2
    assert ranks.ranks(SCORES).tolist() == [5.5 / 4, 7.5 / 4, 11 / 4]
    assert ranks.wins(SCORES).tolist() == [[0, 2, 4], [1, 0, 3], [0, 1, 0]]
    expected = stats.friedmanchisquare(*SCORES.T)
    assert ranks.friedman(SCORES) == pytest.approx((expected.statistic, expected.pvalue))
    assert np.isnan(ranks.friedman(SCORES[:, :2])).all()
    assert np.isnan(ranks.friedman(SCORES[:1])).all()
    assert np.isnan(ranks.friedman(np.ones((9, 3)))).all()


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


def test_bootstrap_of_ranks_holds_the_mean_and_repeats() -> None:
    got = ranks.bootstrap_mean_ranks(SCORES, np.random.default_rng(0), 2000)
    again = ranks.bootstrap_mean_ranks(SCORES, np.random.default_rng(0), 2000)
    assert got.tolist() == again.tolist()
    mean = ranks.ranks(SCORES)
    assert ((got[:, 0] <= mean) & (mean <= got[:, 1])).all()
    alike = ranks.bootstrap_mean_ranks(SCORES[[0, 0]], np.random.default_rng(0))
    assert alike.tolist() == [[1, 1], [2, 2], [3, 3]]
