"""Ends of intervals: within what is possible, and Wilson's for a share of images."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lmdbench.evaluation import inference
from lmdbench.evaluation.ends import ends, outcomes, wilson

Z = stats.norm.ppf(0.975)


@pytest.mark.parametrize(("right", "n"), [(3, 12), (9, 12), (1, 30), (1, 2), (0, 12), (999, 1000)])
def test_ends_of_a_share_are_those_of_wilson(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n, Z) == pytest.approx((expected.low, expected.high), abs=1e-12)
    correct = np.arange(n)[None] < right
    found = inference.linear_estimate(correct, np.zeros(n, np.int64), np.ones(1))
    symmetric = found.value - Z * found.se, found.value + Z * found.se
    for bound, end, plain, by_wilson in (
        (0, found.low, symmetric[0], expected.low),
        (1, found.high, symmetric[1], expected.high),
    ):
        if not 0 <= plain <= 1:
            assert end == pytest.approx(by_wilson, abs=1e-9)
        else:
            farther = max if bound else min
            assert end == pytest.approx(farther(plain, by_wilson), abs=1e-9)


def test_three_and_nine_of_twelve() -> None:
    labels = np.zeros(12, np.int64)
    for right, low, high in ((3, 0.0889, 0.5323), (9, 0.4677, 0.9111)):
        found = inference.linear_estimate(np.arange(12)[None] < right, labels, np.ones(1))
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 400), st.data())
def test_outcomes_are_as_many_as_have_the_standard_error(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    p = Fraction(right + 1, n + 2)
    assert outcomes(right / n, math.sqrt(p * (1 - p) / n)) == pytest.approx(n, rel=1e-6)


@given(
    st.floats(0, 1),
    st.floats(1e-6, 1),
    st.floats(1, 13),
    st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.0, 2.0), (0.0, math.inf), (-math.inf, 1.0)]),
)
def test_ends_are_possible_and_hold_the_value(
    place: float, se: float, quantile: float, bounds: tuple[float, float]
) -> None:
    least, most = bounds
    value = least + place * (most - least) if math.isfinite(most - least) else place
    low, high = (float(end[0]) for end in ends(value, se, quantile, bounds))
    assert least <= low <= value + 1e-9
    assert value - 1e-9 <= high <= most
    if math.isfinite(most - least) and least + 1e-6 < value < most - 1e-6:
        assert least < low
        assert high < most
    if least < value - quantile * se and value + quantile * se < most:
        assert (low, high) == (value - quantile * se, value + quantile * se)


def test_a_bound_is_reached_by_the_value_alone() -> None:
    low, high = ends(np.array([0.0, 1.0, 0.4]), 0.2, 12.7, (0.0, 1.0))  # as of two seeds
    assert (low[0], high[1]) == (0, 1)
    assert 0.001 < low[2] < 0.01
    assert 0.98 < high[2] < 0.999


def test_below_an_infinite_bound_the_logarithm_counts() -> None:
    value = np.array([0.2, 0.0, 3.0])
    low, high = ends(value, 0.3, 2.0, (0.0, math.inf))
    assert low == pytest.approx([0.2 * math.exp(-3), 0.0, 2.4])
    assert high == pytest.approx([0.8, 0.6, 3.6])
    mirrored = ends(-value, 0.3, 2.0, (-math.inf, 0.0))
    assert np.array(mirrored) == pytest.approx(np.array([-high, -low]))


def test_what_is_unknown_stays_so() -> None:
    low, high = ends(np.array([0.5, 0.5]), np.array([math.nan, 0.1]), 2.0, (0.0, 1.0))
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == pytest.approx((0.3, 0.7))
