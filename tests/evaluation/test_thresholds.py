"""Thresholds and curves of risk against coverage, against hand values and direct computations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.evaluation.thresholds import (
    for_error,
    for_sensitivity,
    for_share,
    for_specificity,
    risk_coverage,
    risk_coverage_area,
)

SCORES = np.array([0.9, 0.8, 0.7, 0.4, 0.6, 0.3, 0.2, 0.1])
OWN = np.array([True, True, True, True, False, False, False, False])


@pytest.mark.parametrize(
    ("wanted", "threshold"), [(1.0, 0.4), (0.75, 0.7), (0.76, 0.4), (0.5, 0.8), (0.01, 0.9)]
)
def test_the_largest_threshold_with_a_sensitivity(wanted, threshold):
    """Of the class: .9, .8, .7, .4; 95 % of four are four of them."""
    assert for_sensitivity(SCORES, OWN, wanted) == threshold


@pytest.mark.parametrize(("wanted", "above"), [(1.0, 0.6), (0.75, 0.3), (0.5, 0.2), (0.01, 0.1)])
def test_the_smallest_threshold_with_a_specificity(wanted, above):
    """Of others: .6, .3, .2, .1, which must lie below it."""
    threshold = for_specificity(SCORES, OWN, wanted)
    assert above < threshold < above + 1e-9


def test_the_share_that_is_answered():
    assert for_share(SCORES, 0.5) == 0.6
    assert for_share(SCORES, 1.0) == 0.1
    assert for_share(SCORES, 0.51) == 0.4


def test_the_most_answers_with_an_error():
    """Wrong is the third surest: 0, 0, 1/3, 1/4, 1/5 of those answered."""
    confidence, wrong = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0, 0, 1, 0, 0], bool)
    for most, threshold in ((0.2, 0.5), (0.25, 0.5), (0.1, 0.8), (0.0, 0.8), (1.0, 0.5)):
        assert for_error(confidence, wrong, most) == threshold
    assert for_error(confidence, ~wrong, 0.4) == math.inf
    ties = np.array([0.9, 0.9, 0.5])  # both or none
    assert for_error(ties, np.array([False, True, False]), 0.4) == 0.5
    assert for_error(ties, np.array([False, True, True]), 0.4) == math.inf


def test_risk_against_coverage_by_hand():
    confidence, wrong = np.array([0.5, 0.9, 0.7, 0.8]), np.array([False, False, True, False])
    assert risk_coverage(confidence, wrong) == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert risk_coverage_area(confidence, wrong) == pytest.approx(7 / 48)
    tied = np.array([0.9, 0.7, 0.7, 0.7])  # one of three is wrong
    found = risk_coverage(tied, np.array([False, True, False, False]))
    assert found == pytest.approx([0, (1 / 3) / 2, (2 / 3) / 3, 1 / 4])


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=7))
def test_the_area_is_the_mean_over_all_orders_of_equal_images(images):
    """Directly: errors of the k surest over k, by many orders at random for ties."""
    confidence = np.array([float(one) for one, _ in images])
    wrong = np.array([bad for _, bad in images])
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(400):
        order = np.lexsort((rng.random(len(wrong)), -confidence))
        areas.append(np.mean(np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1)))
    close = 4 * np.std(areas) / 20 + 1e-9
    assert risk_coverage_area(confidence, wrong) == pytest.approx(np.mean(areas), abs=close)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: len({own for _, own in rows}) == 2
    ),
    st.floats(0.01, 1.0),
)
def test_thresholds_reach_what_is_wanted_and_the_next_does_not(rows, wanted):
    scores, own = np.array([s for s, _ in rows]), np.array([o for _, o in rows])
    threshold = for_sensitivity(scores, own, wanted)
    assert (scores[own] >= threshold).mean() >= wanted - 1e-8
    assert (scores[own] > threshold).mean() < wanted
    threshold = for_specificity(scores, own, wanted)
    assert (scores[~own] < threshold).mean() >= wanted - 1e-8
    assert (scores[~own] < np.nextafter(threshold, -np.inf)).mean() < wanted
