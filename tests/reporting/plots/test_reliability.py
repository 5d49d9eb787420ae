"""Reliability diagrams: bins, ECE, and what is said of the prior."""

import numpy as np
from sklearn.calibration import calibration_curve

from lmdbench.evaluation import metrics
from lmdbench.reporting.plots.reliability import draw_reliability, reliability_bins


def test_bins_are_those_of_scikit_learn_where_they_divide_evenly():
    rng = np.random.default_rng(0)
    confidence = rng.random(150)
    correct = rng.random(150) < confidence
    expected = calibration_curve(correct, confidence, n_bins=15, strategy="quantile")
    x, y = reliability_bins(confidence, correct)
    np.testing.assert_allclose(y, expected[0])
    np.testing.assert_allclose(x, expected[1])


def test_bins_by_hand_and_ties_share_one():
    x, y = reliability_bins(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]))
    np.testing.assert_allclose(x, [0.5, 0.9])
    np.testing.assert_allclose(y, [0.5, 1.0])


def test_each_method_has_a_panel_its_ece_and_the_prior_stands_below(made_block, look):
    block = made_block({"ce": 1.0, "lmd": 3.0}, seeds=1)
    figure = draw_reliability(block)
    texts = look(figure)
    predictions = np.load(block.rows[0].runs[0].directory / "predictions.npz")
    ece = metrics.score("ece", predictions["test_labels"], predictions["test_logits"])
    assert f"ECE {100 * ece:.1f}" in texts
    footer = " ".join(texts)
    assert "under the class shares of these 1,208 test images" in footer
    assert "(head 83 %, medium 14 %, tail 3 %)" in footer


def test_the_histogram_adds_up_to_all_images(made_block):
    _, lower = draw_reliability(made_block({"ce": 1.0})).axes
    np.testing.assert_allclose(sum(bar.get_height() for bar in lower.patches), 100)


def test_logits_that_are_not_finite_are_said(made_block, look):
    figure = draw_reliability(made_block({"ce": 1.0, "lmd": 3.0}, broken=("lmd",)))
    assert "logits not finite" in look(figure)


def test_many_methods_are_readable(made_block, look):
    look(
        draw_reliability(made_block({f"method-of-a-long-name-{k}": 1.0 for k in range(9)}, seeds=1))
    )
