"""Whole confusion matrices as pictures: the dots are the cells."""

import numpy as np
import pytest

from lmdbench.comparison.outcomes import outcomes
from lmdbench.reporting.plots.confusion import mean_confusion
from lmdbench.reporting.plots.confusion_matrix import dotted, draw_confusion_matrix
from lmdbench.reporting.plots.confusions import Confusions

MANY = {f"class {k}": 1 + k for k in range(60)}


def test_dots_are_the_cells_of_the_mean_confusion(made_block):
    table = made_block({"ce": 1.0}, classes=MANY)
    seen = outcomes(table, table.rows[0])
    order = list(range(60))[::-1]
    expected = mean_confusion(seen.labels, seen.logits)[np.ix_(order, order)]
    np.testing.assert_allclose(dotted(Confusions.of(seen, 60), order, 60), expected, rtol=1e-6)


def test_where_cells_share_a_dot_it_is_the_largest_of_them(made_block):
    table = made_block({"ce": 1.0}, classes=MANY)
    seen = outcomes(table, table.rows[0])
    order = list(range(60))
    whole = mean_confusion(seen.labels, seen.logits)
    expected = whole.reshape(20, 3, 20, 3).max(axis=(1, 3))
    np.testing.assert_allclose(dotted(Confusions.of(seen, 60), order, 20), expected, rtol=1e-6)


@pytest.mark.parametrize("classes", [MANY, {"a": 40, "b": 4}])
def test_it_draws_few_classes_and_many(made_block, look, classes):
    figure = draw_confusion_matrix(made_block({"ce": 1.0, "lmd": 2.0}, classes=classes))
    texts = look(figure)
    assert {"ce", "lmd", "head"} <= set(texts)
    assert f"{len(classes)} classes by training images" in " ".join(texts)


def test_what_is_missing_is_said(made_block, look):
    table = made_block({"ce": 1.0, "lmd": 1.0}, classes=MANY, empty=("class 3",), broken=("lmd",))
    footer = " ".join(look(draw_confusion_matrix(table)))
    assert "No images of class 3." in footer
    assert "Logits that are not finite: lmd." in footer
