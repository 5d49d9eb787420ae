"""Recall by class: where the classes stand, and what is drawn of them."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lmdbench.reporting.plots.per_class import draw_per_class, neighbours, spread


def test_places_are_proportional_where_all_fit():
    np.testing.assert_allclose(spread(np.array([3.0, 2.0, 1.5, 0.0]), 0.1), [0, 1 / 3, 0.5, 1])


def test_neighbours_that_are_too_close_are_moved_apart_evenly():
    # Two classes in the middle at one place: each gives way by half of the gap.
    np.testing.assert_allclose(spread(np.array([2.0, 1.0, 1.0, 0.0]), 0.2), [0, 0.4, 0.6, 1])


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=40), st.floats(0.001, 0.5))
def test_places_rise_within_the_axis_with_the_gap_or_evenly(counts, gap):
    places = spread(np.log10(np.sort(counts)[::-1]), gap)
    assert places[0] == 0
    if len(counts) > 1:
        assert places[-1] == pytest.approx(1)
        assert np.diff(places).min() > 0.49 * min(gap, 1 / (len(counts) - 1))


def test_each_class_has_its_images_and_each_method_its_gain(made_block, look):
    figure = draw_per_class(made_block({"ce": 0.5, "lmd": 50.0}))
    texts = look(figure)
    assert {"nv (4,000 / 1,000)", "mel $x^2$ (700 / 175)", "df (12 / 3)"} <= set(texts)
    assert {"head", "medium", "tail", "ce", "lmd"} <= set(texts)
    top, bottom = figure.axes
    recalls = {line.get_label(): line for line in top.containers}
    np.testing.assert_allclose(recalls["lmd"].lines[0].get_ydata(), 100)
    ce = recalls["ce"].lines[0].get_ydata()
    gains = {line.get_label(): line for line in bottom.containers}
    assert list(gains) == ["lmd"]
    np.testing.assert_allclose(gains["lmd"].lines[0].get_ydata(), 100 - ce)


def test_without_ce_there_is_no_gain_and_a_word_on_it(made_block, look):
    figure = draw_per_class(made_block({"lmd": 2.0}, seeds=1))
    assert len(figure.axes) == 1
    assert "No gain over ce" in " ".join(look(figure))


def test_a_class_without_images_has_no_point(made_block, look):
    figure = draw_per_class(made_block({"ce": 1.0, "lmd": 2.0}, empty=("bcc_1",)))
    assert "bcc_1 (120 / 0)" in look(figure)
    assert np.isnan(figure.axes[0].containers[0].lines[0].get_ydata()).tolist() == [0, 0, 1, 0]


def test_a_method_whose_logits_are_not_finite_has_no_points(made_block, look):
    figure = draw_per_class(made_block({"ce": 1.0, "lmd": 2.0}, broken=("lmd",)))
    look(figure)
    drawn = {line.get_label(): line.lines[0].get_ydata() for line in figure.axes[0].containers}
    assert np.isnan(drawn["lmd"]).all()
    assert np.isfinite(drawn["ce"]).all()


def test_of_many_methods_ce_and_the_best_are_drawn(made_block, look, long_tail):
    skills = {"ce": 0.5} | {f"method{k}": 0.3 + 0.3 * k for k in range(12)}
    figure = draw_per_class(made_block(skills, classes=long_tail))
    texts = look(figure)
    assert {"ce", "method11", "method5"} <= set(texts)
    assert "method0" not in texts
    assert "5 more methods are not drawn" in " ".join(texts)


def test_many_classes_are_drawn_in_bins_that_keep_to_their_group(made_block, look):
    classes = {f"{k} {'a-long-name-' * 6}": 4 + k for k in range(300)}
    texts = look(draw_per_class(made_block({"ce": 1.0, "lmd": 1.5}, classes=classes, seeds=2)))
    assert any("Mean recall of 300 classes in 21 bins" in text for text in texts)
    assert {"head", "medium", "tail"} <= set(texts)
    bins = [text for text in texts if " / " in text and text[0].isdigit()]
    assert len(bins) == 21
    assert bins[0].startswith("1–15 (303–289 / ")


def test_bins_hold_every_class_once_whatever_the_groups():
    order = list(range(1000))[::-1]
    for sizes in ([333, 333, 334], [1] * 1000, [999, 1]):
        bins = neighbours(order, sizes)
        assert [c for members in bins for c in members] == order
        assert len(bins) <= 23
    assert neighbours([2, 0, 1], [3]) == [[2], [0], [1]]
