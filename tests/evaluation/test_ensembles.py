"""Mean, agreement and spread of several models, against values by hand."""

import numpy as np
import pytest

from lmdbench.evaluation.ensembles import agreement, mean_logits, spread

# Probabilities of three models (down) for two images of two classes
CHANCES = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.6, 0.4], [0.4, 0.6]], [[0.3, 0.7], [0.9, 0.1]]])


def test_the_mean_is_of_probabilities_and_not_of_logits():
    logits = np.log(CHANCES) + np.array([3.0, -5.0, 0.0])[:, None, None]  # softmax takes that out
    assert np.exp(mean_logits(logits)) == pytest.approx(
        np.array([[0.6, 0.4], [17 / 30, 13 / 30]]), abs=1e-12
    )


def test_agreement_is_the_share_of_models_with_the_answer_of_the_mean():
    """Of the second image two of three models say the other class."""
    assert agreement(np.log(CHANCES)) == pytest.approx([2 / 3, 1 / 3])


def test_spread_is_the_standard_deviation_of_the_answer_s_probability():
    """0.9, 0.6, 0.3 and 0.4, 0.4, 0.9 around their means."""
    assert spread(np.log(CHANCES)) == pytest.approx([0.3, np.sqrt(1 / 12)])


def test_one_who_rules_a_class_out_and_images_that_cannot_be_read():
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([[[1.0, 0.0]], [[0.5, 0.5]]]))
    assert np.exp(mean_logits(logits)) == pytest.approx(np.array([[0.75, 0.25]]))
    unread = np.full((2, 1, 2), np.nan)
    assert np.isnan(agreement(unread)).all()
    assert np.isnan(spread(unread)).all()
