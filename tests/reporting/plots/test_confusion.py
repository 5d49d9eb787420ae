"""Confusion matrices: the numbers, and that a person can read them."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from lmdbench.reporting.plots.confusion import draw_confusion, mean_confusion


def test_the_mean_of_the_normalised_matrices_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    logits = rng.normal(size=(3, 200, 4))
    expected = np.mean(
        [confusion_matrix(labels, one.argmax(axis=1), normalize="true") for one in logits], axis=0
    )
    np.testing.assert_allclose(mean_confusion(labels, logits), 100 * expected)


def test_a_class_without_images_has_no_row_and_a_broken_seed_no_matrix():
    labels = np.array([0, 0, 2])
    logits = np.eye(3)[[0, 1, 2]][None]
    matrix = mean_confusion(labels, logits)
    np.testing.assert_array_equal(matrix[[0, 2]], [[50, 50, 0], [0, 0, 100]])
    assert np.isnan(matrix[1]).all()
    assert np.isnan(mean_confusion(labels, np.stack([logits[0], logits[0] * np.nan]))).all()


def test_classes_stand_by_training_images_with_their_test_images(made_block, look):
    classes = {"rare": 4, "common": 400, "between": 40}
    texts = look(draw_confusion(made_block({"ce": 50.0}, classes=classes)))
    rows = [text for text in texts if "(n " in text]
    assert rows == ["common (n 100) 1", "between (n 10) 2", "rare (n 1) 3"]
    assert texts.count("100") == 3  # a skill of 50 makes no mistake


@pytest.mark.parametrize("methods", [1, 5])
def test_23_classes_with_long_names_are_readable(made_block, look, long_tail, methods):
    names = dict.fromkeys(["ce", "crt", "lmd", "rrl", "focal"][:methods], 2.0)
    figure = draw_confusion(made_block(names, classes=long_tail))
    assert set(names) <= set(look(figure))
    assert figure.get_figwidth() == 7.0


def test_long_names_of_methods_stay_over_their_own_panel(made_block, look):
    names = [f"my-own-loss-with-a-rather-long-name-{k}" for k in range(5)]
    texts = look(draw_confusion(made_block(dict.fromkeys(names, 2.0))))
    assert sum(text.replace(" ", "") in names for text in texts) == 5


def test_what_is_missing_is_said(made_block, look):
    figure = draw_confusion(made_block({"ce": 1.0, "lmd": 1.0}, empty=("df",), broken=("lmd",)))
    footer = " ".join(look(figure))
    assert "No images of df." in footer
    assert "Logits that are not finite: lmd." in footer
