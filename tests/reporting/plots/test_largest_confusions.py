"""Confusions of many classes: the largest by hand, and a picture that a person can read."""

import numpy as np
import pytest

from lmdbench.comparison.outcomes import Outcomes
from lmdbench.reporting.plots.confusion import draw_confusion
from lmdbench.reporting.plots.confusions import Confusions

NAMES = {f"{k:04} {'a-finding-of-a-long-name-' * 3}{k}": 4 + k for k in range(200)}


def seen(labels, predicted, classes):
    """Outcomes of seeds that predict (S, N)."""
    logits = np.eye(classes)[np.array(predicted)]
    ids = np.arange(len(labels)).astype(str)
    return Outcomes(tuple(range(len(logits))), ids, np.array(labels), logits, None)


def test_confusions_are_counted_by_pair_over_seeds():
    found = Confusions.of(seen([0, 0, 1, 1, 1, 3], [[0, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1]], 4), 4)
    by_pair = {
        (int(a), int(b)): (images, share)
        for a, b, images, share in zip(
            found.true, found.taken_for, found.images, found.shares, strict=True
        )
    }
    assert by_pair == {
        (0, 0): (1.5, 75),
        (0, 1): (0.5, 25),
        (1, 0): (2.5, pytest.approx(250 / 3)),
        (1, 1): (0.5, pytest.approx(50 / 3)),
        (3, 1): (1, 100),
    }
    pairs = [(int(found.true[k]), int(found.taken_for[k])) for k in found.largest(2)]
    assert pairs == [(1, 0), (3, 1)]
    assert found.all == 3
    np.testing.assert_allclose(found.recalls, [75, 50 / 3, np.nan, 0])


@pytest.mark.parametrize("width", [3.3, 7.0])
@pytest.mark.parametrize("methods", [1, 4])
def test_200_classes_with_long_names_are_readable(made_block, look, methods, width):
    names = dict.fromkeys(["ce", "crt", "lmd", "rrl"][:methods], 1.0)
    texts = look(draw_confusion(made_block(names, classes=NAMES, seeds=2), width))
    lines = 40 if methods == 1 else 30
    assert sum("→" in text for text in texts) == lines * methods + 1
    assert any(text.startswith(f"ce the {lines} largest of") for text in texts)
    assert "200 classes" in " ".join(texts)


def test_the_figure_does_not_grow_with_the_classes(made_block):
    many = {f"class {k}": 4 for k in range(1000)}
    figure = draw_confusion(made_block({"ce": 1.0}, classes=many, seeds=1))
    assert figure.get_figwidth() == 7.0
    assert figure.get_figheight() < 9


def test_without_a_mistake_there_is_nothing_to_draw_and_no_trouble(made_block, look):
    texts = look(draw_confusion(made_block({"ce": 60.0}, classes=NAMES, seeds=1)))
    assert any("the 0 confusions" in text for text in texts)


def test_what_is_missing_is_said(made_block, look):
    empty = tuple(NAMES)[:50]
    figure = draw_confusion(
        made_block({"ce": 1.0, "lmd": 1.0}, classes=NAMES, empty=empty, broken=("lmd",), seeds=1)
    )
    footer = " ".join(look(figure))
    assert "and 44 more." in footer
    assert "Logits that are not finite: lmd." in footer
