"""Curves of a class against the rest, held against scikit-learn and values by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from lmdbench.evaluation.curves import (
    Curve,
    Roc,
    band,
    decided,
    net_benefits,
    precisions,
    sensitivities,
    treat_all,
)
from lmdbench.evaluation.inference import linear_estimate

RATES = np.linspace(0, 1, 21)


@pytest.fixture(params=["no ties", "ties"])
def run(request):
    """Labels (N,) of three classes and scores (S, N) of class 1."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 200, p=[0.6, 0.3, 0.1])
    scores = rng.normal(size=(3, 200)) + 1.2 * (labels == 1)
    return labels, np.round(scores, 1) if request.param == "ties" else scores


def test_points_of_a_run_are_those_of_scikit_learn(run):
    labels, scores = run
    false_positives, sensitivity, thresholds = roc_curve(
        labels == 1, scores[0], drop_intermediate=False
    )
    found = Roc.of(labels == 1, scores[0])
    np.testing.assert_allclose(found.false_positives, false_positives)
    np.testing.assert_allclose(found.sensitivity, sensitivity)
    np.testing.assert_allclose(found.thresholds, thresholds)


def test_the_roc_curve_is_that_of_scikit_learn_averaged_over_seeds(run):
    labels, scores = run
    curves = [roc_curve(labels == 1, one, drop_intermediate=False)[:2] for one in scores]
    at = RATES + 0.004  # between the rates that 140 images can have
    expected = [np.interp(at, *curve) for curve in curves]
    found = sensitivities(scores, labels, 1, at)
    np.testing.assert_allclose(found.values, expected, atol=1e-9)
    np.testing.assert_allclose(band([found]).value, np.mean(expected, axis=0), atol=1e-9)


def test_precision_at_a_recall_that_is_reached_is_the_largest_of_scikit_learn(run):
    labels, scores = run
    precision, recall, _ = precision_recall_curve(labels == 1, scores[0])
    reached = np.unique(recall)[1:]
    expected = [precision[recall == one].max() for one in reached]
    found = precisions(scores[:1], labels, 1, reached)
    np.testing.assert_allclose(found.values[0], expected)


def test_precision_between_two_points_is_that_of_davis_and_goadrich():
    """Their example: of 20 positives 5 with 5 false ones, then 10 with 30."""
    labels = np.repeat([1, 0, 1, 0, 1, 0], [5, 5, 5, 25, 10, 50])
    scores = np.repeat([3.0, 3.0, 2.0, 2.0, 1.0, 1.0], [5, 5, 5, 25, 10, 50])
    recalls = np.array([0.25, 0.3, 0.35, 0.4, 0.45, 0.5])
    found = precisions(scores[None], labels, 1, recalls).values[0]
    np.testing.assert_allclose(found, [0.5, 0.375, 0.318, 0.286, 0.265, 0.25], atol=5e-4)


def test_at_an_operating_point_is_the_last_threshold_that_is_specific_enough():
    labels = np.array([1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])  # ten of the rest
    scores = np.arange(13, 0, -1.0)
    rates = np.array([0.05, 0.1, 0.2])
    found = sensitivities(scores[None], labels, 1, rates, steps=True)
    np.testing.assert_allclose(found.values[0], [1 / 3, 2 / 3, 1])
    straight = sensitivities(scores[None], labels, 1, rates)
    np.testing.assert_allclose(straight.values[0], [1 / 3, 2 / 3, 1])
    tied = sensitivities(np.ones((1, 13)), labels, 1, rates, steps=True)
    np.testing.assert_allclose(tied.values[0], 0)
    np.testing.assert_allclose(sensitivities(np.ones((1, 13)), labels, 1, rates).values[0], rates)


def test_net_benefit_by_hand():
    labels = np.array([1, 1, 1, 0, 0, 0, 2, 2, 2, 2])
    probabilities = np.array([[0.9, 0.5, 0.1, 0.6, 0.2, 0.2, 0.3, 0.0, 0.0, 0.0]])
    found = net_benefits(probabilities, labels, 1, np.array([0, 0.2, 0.5]))
    # Of 10 images: 3 and 7 taken at 0; 2 and 4 at .2, odds ¼; 2 and 1 at .5, odds 1.
    np.testing.assert_allclose(found.values[0], [0.3, 0.2 - 0.4 / 4, 0.2 - 0.1])
    assert found.below[0] == found.above[0] == 0
    assert (found.below[1:] > 0).all()


def test_to_treat_all_is_to_take_every_image_for_the_class():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    thresholds = np.array([0.0, 0.1, 0.3, 0.8])
    taken = net_benefits(np.ones((1, 100)), labels, 2, thresholds).values[0]
    np.testing.assert_allclose(treat_all(0.2, thresholds), taken)


def test_where_the_largest_decides_the_intervals_are_those_of_recalls():
    rng = np.random.default_rng(1)
    labels = rng.choice(3, 120, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random((4, 120)) < 0.6, labels, rng.integers(3, size=(4, 120)))
    sensitivity, specificity = (band([one]) for one in decided(predicted, labels, 1))
    counts = np.bincount(labels)
    rest = counts * [1, 0, 1] / (counts[0] + counts[2])
    for found, outcomes, weights in (
        (sensitivity, predicted == 1, np.array([0.0, 1, 0])),
        (specificity, predicted != 1, rest),
    ):
        expected = linear_estimate(outcomes, labels, weights)
        limits = [found.value[0], found.low[0], found.high[0]]
        np.testing.assert_allclose(limits, [expected.value, expected.low, expected.high])


@pytest.mark.parametrize("seeds", [1, 3])
def test_bands_hold_the_curve_and_stay_within_what_it_can_be(run, seeds):
    labels, scores = run
    roc = band([sensitivities(scores[:seeds], labels, 1, RATES)])
    recall = band([precisions(scores[:seeds], labels, 1, RATES[1:])])
    probabilities = 1 / (1 + np.exp(-scores[:seeds]))
    benefit = band([net_benefits(probabilities, labels, 1, RATES[:-1])], (-np.inf, 1))
    for found in (roc, recall, benefit):
        assert (found.low <= found.value + 1e-12).all()
        assert (found.value <= found.high + 1e-12).all()
        assert (found.high - found.low)[1:-1].min() > 0.001
    assert roc.low.min() >= 0
    assert recall.high.max() <= 1
    assert (roc.low[-1], roc.high[-1]) == (1, 1)


def test_copies_of_images_within_their_lesions_tell_nothing_new(run):
    labels, scores = run
    units = np.arange(len(labels))
    twice = np.tile(units, 2)
    for curve, at in ((sensitivities, RATES), (precisions, RATES[1:])):
        once = band([curve(scores, labels, 1, at, units)])
        again = band([curve(scores[:, twice], labels[twice], 1, at, twice)])
        np.testing.assert_allclose(again.low, once.low, atol=1e-9)
        np.testing.assert_allclose(again.high, once.high, atol=1e-9)
    one = scores[:1, twice]
    alone = band([sensitivities(one, labels[twice], 1, RATES)])
    known = band([sensitivities(one, labels[twice], 1, RATES, twice)])
    assert ((alone.high - alone.low) < (known.high - known.low))[1:-1].all()


def test_the_mean_of_classes_has_the_variance_of_a_mean():
    steady, falling = np.array([0.04, 0.01]), np.array([0.0, 0.03])
    one = Curve(np.array([[0.4, 0.6], [0.5, 0.7]]), steady, steady / 4)
    other = Curve(np.array([[0.8, 0.2], [0.7, 0.1]]), falling, falling / 4)
    found = band([one, other])  # of seeds that agree on the mean
    np.testing.assert_allclose(found.value, [0.6, 0.4])
    np.testing.assert_allclose(found.value - found.low, 1.96 * 0.1, atol=1e-4)
    np.testing.assert_allclose(found.high - found.value, 1.96 * 0.05, atol=1e-4)


def test_limits_lie_about_a_curve_as_unevenly_as_it_bends():
    """Far to the left a ROC curve is as steep above as it is flat to the right."""
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], [100, 1000])
    scores = rng.normal(size=(1, 1100)) + 2 * labels
    found = band([sensitivities(scores, labels, 1, np.array([0.05]))])
    assert found.value - found.low > 1.3 * (found.high - found.value)
