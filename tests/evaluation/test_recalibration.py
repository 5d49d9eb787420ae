"""Temperatures and priors, against a grid, scikit-learn, hand values and what must always hold."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.calibration import _TemperatureScaling

from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics import Scorer, parse
from lmdbench.evaluation.recalibration import (
    HIGHEST,
    LOWEST,
    Calibration,
    corrected,
    fit,
    fit_bcts,
    fit_temperature,
    parse_calibration,
    parse_prior,
    prior_shift,
    shares,
)

CLASSES = ["nv", "mel", "bcc"]


def drawn(images, classes=4, true=1.0, seed=0):
    """Labels drawn from softmax(logits / true)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, classes)) * 2
    chances = softmax(logits / true, axis=1).cumsum(axis=1)
    return (rng.random((images, 1)) > chances).sum(axis=1).clip(max=classes - 1), logits


def nll(labels, logits, temperature):
    return -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean()


@st.composite
def predictions(draw):
    labels, logits = drawn(draw(st.integers(1, 60)), seed=draw(st.integers(0, 10**6)))
    logits = logits * draw(st.floats(0.01, 100))
    return labels, logits.astype(draw(st.sampled_from([np.float32, np.float64])))


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5, 8.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(true):
    """Within four standard errors, from the curvature of the likelihood."""
    labels, logits = drawn(20_000, true=true)
    chances = softmax(logits / true, axis=1)
    spread = (chances * logits**2).sum(axis=1) - (chances * logits).sum(axis=1) ** 2
    se = true**2 / np.sqrt(spread.sum())
    assert fit_temperature(labels, logits) == pytest.approx(true, abs=4 * se)


def test_it_is_the_best_of_a_grid_and_that_of_scikit_learn():
    labels, logits = drawn(500, true=1.7)
    grid = np.arange(0.5, 4, 0.001)
    best = grid[np.argmin([nll(labels, logits, t) for t in grid])]
    found = fit_temperature(labels, logits)
    assert found == pytest.approx(best, abs=0.001)
    theirs = _TemperatureScaling().fit(logits, labels)
    assert found == pytest.approx(1 / theirs.beta_, rel=1e-4)


@given(predictions())
def test_the_validation_likelihood_never_falls(data):
    labels, logits = data
    temperature = fit_temperature(labels, logits)
    assert LOWEST <= temperature <= HIGHEST
    before, after = nll(labels, logits.astype(float), 1), nll(labels, logits, temperature)
    assert after <= before + 1e-9 * max(before, 1)
    for other in (LOWEST, 0.5 * temperature, 2 * temperature, HIGHEST):
        if LOWEST <= other <= HIGHEST:
            assert after <= nll(labels, logits, other) + 1e-6


@given(predictions(), st.floats(LOWEST, HIGHEST))
def test_a_temperature_keeps_the_order_of_classes(data, temperature):
    _, logits = data
    found = corrected(logits, temperature)
    np.testing.assert_array_equal(found.argsort(axis=1), logits.argsort(axis=1))
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)


def test_separated_images_stop_at_the_lowest_and_nonsense_at_the_highest():
    labels = np.arange(4)
    assert fit_temperature(labels, 1e3 * np.eye(4)) == LOWEST
    assert fit_temperature(labels, 3 * np.eye(4)) == LOWEST
    assert fit_temperature(labels, -3 * np.eye(4)) == HIGHEST
    assert fit_temperature(labels, np.ones((4, 4))) == 1  # says nothing at any temperature


def test_logits_that_are_not_finite_have_no_temperature():
    labels, logits = drawn(20)
    for value in (np.nan, np.inf):
        broken = logits.copy()
        broken[3, 1] = value
        assert np.isnan(fit_temperature(labels, broken))
        assert np.isnan(corrected(logits, fit(labels, broken).temperature)).all()
    assert np.isnan(fit_temperature(labels[:0], logits[:0]))


def test_a_probability_of_0_counts_as_such_and_of_the_own_class_not_at_all():
    labels, logits = drawn(300, true=2)
    labels[:2] = 0, 1
    logits[0, 3] = logits[1, 1] = -np.inf  # another's, then the own
    found = fit(labels, logits)
    far = logits[[0, *range(2, 300)]]
    far[0, 3] = -1e9
    assert found.temperature == pytest.approx(fit_temperature(np.delete(labels, 1), far))
    assert found.impossible == 1
    assert np.isfinite(corrected(logits, found.temperature)[2:]).all()
    assert corrected(logits, found.temperature)[0, 3] == -np.inf


def test_a_class_without_validation_images_keeps_its_probability():
    labels, logits = drawn(200, true=2)
    some = labels < 3
    temperature = fit_temperature(labels[some], logits[some])
    assert 1 < temperature < 4
    assert np.isfinite(corrected(logits, temperature)).all()


def test_corrected_by_hand():
    """Odds of 3 to 1 under equal shares become 3·0.2 to 1·0.8; at T = 0.5 they are 9 to 1."""
    logits = np.log([[3.0, 1.0]])
    shift = prior_shift(np.array([0.2, 0.8]), np.array([5, 5]), ["a", "b"])
    np.testing.assert_allclose(np.exp(corrected(logits, 1.0, shift)), [[3 / 7, 4 / 7]])
    np.testing.assert_allclose(np.exp(corrected(logits, 0.5)), [[0.9, 0.1]])
    np.testing.assert_allclose(np.exp(corrected(logits, 0.5, shift)), [[9 / 13, 4 / 13]])


def test_another_prior_and_back_is_the_same():
    _, logits = drawn(50, 3)
    old, new = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
    there = corrected(logits, 1, prior_shift(new, old, CLASSES))
    np.testing.assert_allclose(
        corrected(there, 1, prior_shift(old, new, CLASSES)), corrected(logits)
    )


def test_the_posterior_of_known_densities_under_another_prior():
    """Of two normal densities, what Bayes' rule gives under the new shares."""
    x = np.linspace(-3, 3, 13)[:, None]
    densities = np.exp(-((x - np.array([-1.0, 1.0])) ** 2) / 2)
    old, new = np.array([0.9, 0.1]), np.array([0.3, 0.7])
    shift = prior_shift(new, old, ["a", "b"])
    expected = densities * new / (densities * new).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(corrected(np.log(densities * old), 1, shift)), expected)


def test_a_class_of_share_0_is_ruled_out():
    _, logits = drawn(20, 3)
    found = np.exp(corrected(logits, 1, prior_shift(np.array([0.5, 0.5, 0]), np.ones(3), CLASSES)))
    assert (found[:, 2] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    only_it = np.array([[-np.inf, -np.inf, 0.0]])
    shift = prior_shift(np.array([1, 0, 0]), np.ones(3), CLASSES)
    assert np.isnan(corrected(only_it, 1, shift)).all()


def test_metrics_take_what_is_corrected_for_probabilities():
    labels, logits = drawn(200, true=3)
    logits = log_softmax(logits, axis=1)  # as an import of probabilities
    found = corrected(logits, 1.003)
    scorer = Scorer(labels, found)
    np.testing.assert_allclose(scorer.probabilities, softmax(logits / 1.003, axis=1))
    metric = parse("nll", ["a", "b", "c", "d"], {})
    assert scorer.value(metric) == pytest.approx(nll(labels, logits, 1.003))


def test_gap_is_the_largest_between_mean_probability_and_share():
    logits = np.log([[0.5, 0.5], [0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    assert fit(np.array([0, 0, 1, 1]), logits, scaled=False).gap == pytest.approx(0.7 - 0.5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("uniform", [1 / 3, 1 / 3, 1 / 3]),
        ("test", [0.5, 0.3, 0.2]),
        ("0.7, 0.2,0.1", [0.7, 0.2, 0.1]),
        ("mel=0.2,nv=0.8,bcc=0", [0.8, 0.2, 0]),
        ((0.7, 0.2, 0.1), [0.7, 0.2, 0.1]),
        (np.array([0.7, 0.2, 0.1]), [0.7, 0.2, 0.1]),
        ({"bcc": 1, "nv": 0, "mel": 0}, [0, 0, 1]),
    ],
)
def test_a_prior_in_each_of_its_forms(given, expected):
    np.testing.assert_allclose(shares(parse_prior(given), CLASSES, [5, 3, 2]), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("even", "--prior even: give test, uniform, or the share of each class"),
        ("", "give test, uniform"),
        (0.5, "give test, uniform"),
        ("0.7,0.2", "add up to 0.9, not to 1"),
        ("1.5,-0.5", "a share is a number from 0 to 1"),
        ("nan,1", "a share is a number from 0 to 1"),
        ("nv=0.5,nv=0.5", "a class is named twice"),
        ("nv=0.5,0.5", "--prior nv=0.5,0.5: give test, uniform"),
    ],
)
def test_what_is_no_prior(given, message):
    with pytest.raises(UserError, match=message):
        shares(parse_prior(given), CLASSES, [1, 1, 1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0.5,0.5", r"2 shares for 3 classes \(nv, mel, bcc\)"),
        ("nv=0.5,mel=0.5", "no share of bcc"),
        ("nv=0.5,mle=0.5", "unknown class of --prior 'mle'. Did you mean mel"),
    ],
)
def test_a_prior_of_other_classes(given, message):
    with pytest.raises(UserError, match=message):
        shares(parse_prior(given), CLASSES, [1, 1, 1])


def test_a_class_without_validation_images_can_be_given_no_share():
    with pytest.raises(UserError, match="no validation images of mel"):
        prior_shift(np.full(3, 1 / 3), np.array([3, 0, 1]), CLASSES)
    shift = prior_shift(np.array([0.5, 0, 0.5]), np.array([3, 0, 1]), CLASSES)
    np.testing.assert_allclose(shift, [np.log(0.5 / 0.75), -np.inf, np.log(2)])


def drawn_under(prior, images, seed):
    """Labels by ``prior`` (C,), and what a network trained on equally many images of each class,
    too sure of itself by a factor 2, would say of two normal features: logits (N, C)."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(len(prior), images, p=prior)
    means = np.array([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
    features = means[labels] + generator.normal(size=(images, 2))
    densities = -((features[:, None] - means) ** 2).sum(axis=2) / 2
    return labels, 2 * densities


def test_biases_give_a_balanced_run_the_posterior_of_another_prior():
    """log π among validation images are the biases, 2 the temperature; then any prior is right."""
    prior = np.array([0.8, 0.15, 0.05])
    labels, logits = drawn_under(prior, 40_000, 0)
    found = fit(labels, logits, True, True)
    assert found.temperature == pytest.approx(2, rel=0.05)
    expected = np.log(prior) - np.log(prior).mean()
    assert found.bias == pytest.approx(list(expected), abs=0.08)
    assert found.gap < 1e-6
    assert fit(labels, logits).gap > 0.1  # by a temperature alone
    new = (0.2, 0.3, 0.5)
    asked = Calibration(True, new, bias=True)
    counts = {"validation": np.bincount(labels), "test": ()}
    correct = asked.calibrator(found, CLASSES, counts)
    others, scores = drawn_under(np.array(new), 20_000, 1)
    posterior = softmax(scores / 2 + np.log(new), axis=1)
    np.testing.assert_allclose(np.exp(correct(scores)), posterior, atol=0.02)
    means = np.exp(correct(scores)).mean(axis=0)
    assert means == pytest.approx(np.bincount(others) / len(others), abs=0.01)


def test_temperature_and_biases_are_statsmodels_multinomial_regression_of_one_score():
    """Of two classes they are logistic regression on the difference of the logits."""
    labels, logits = drawn_under(np.array([0.7, 0.3, 0.0]), 500, 2)
    temperature, bias = fit_bcts(labels, logits[:, :2])
    design = sm.add_constant(logits[:, 1] - logits[:, 0])
    constant, slope = sm.Logit(labels, design).fit(disp=0).params
    assert 1 / temperature == pytest.approx(slope, rel=1e-4)
    assert bias[1] - bias[0] == pytest.approx(constant, rel=1e-4)


@pytest.mark.filterwarnings("error")
def test_biases_of_float32_logits_and_of_classes_that_are_ruled_out():
    labels, logits = drawn_under(np.array([0.7, 0.2, 0.1]), 300, 3)
    exact, _ = fit_bcts(labels, logits)
    assert fit_bcts(labels, logits.astype(np.float32))[0] == pytest.approx(exact, rel=1e-4)
    logits[labels == 0, 2] = -np.inf
    found = fit(labels, logits, True, True)
    assert np.isfinite([found.temperature, *found.bias]).all()
    assert found.gap < 1e-5


def test_a_class_without_validation_images_has_no_bias():
    labels, logits = drawn_under(np.array([0.7, 0.3, 0.0]), 500, 2)
    temperature, bias = fit_bcts(labels, logits)
    assert bias[2] == 0
    assert np.isfinite([temperature, *bias]).all()
    assert np.isnan(fit_bcts(labels[:0], logits[:0])[0])


def test_what_is_asked_for():
    asked = parse_calibration("bcts", None)
    assert (asked, asked.method) == (Calibration(temperature=True, bias=True), "bcts")
    with pytest.raises(UserError, match="Did you mean bcts"):
        parse_calibration("bctss", None)
    assert parse_calibration(None, None) is None
    assert parse_calibration("temperature", None) == Calibration(temperature=True)
    assert parse_calibration(None, "uniform") == Calibration(prior="uniform")
    assert parse_calibration(None, "0.75,0.25").prior_text == "0.75,0.25"
    assert parse_calibration(None, {"a": 0.75, "b": 0.25}).prior_text == "a=0.75,b=0.25"
    with pytest.raises(UserError, match="unknown calibration 'isotonic'"):
        parse_calibration("isotonic", None)
