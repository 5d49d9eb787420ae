"""Bars of head, medium and tail: heights, intervals, images."""

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.reporting.plots.groups import draw_groups


def test_bars_and_intervals_are_those_of_the_table(made_block, look):
    block = made_block({"ce": 0.5, "lmd": 2.0})
    figure = draw_groups(block)
    texts = look(figure)
    assert "Tail 2 classes, n = 33" in texts
    assert "Balanced accuracy 4 classes, n = 1,208" in texts
    (axes,) = figure.axes
    lmd = next(bars for bars in axes.containers if bars.get_label() == "lmd")
    cells = next(row for row in block.rows if row.label == "lmd").cells
    names = ["balanced_accuracy", "head", "medium", "tail"]
    np.testing.assert_allclose(
        [bar.get_height() for bar in lmd], [100 * cells[name].mean for name in names]
    )
    intervals = {tuple(line.get_ydata()) for line in axes.lines}
    tail = cells["tail"].estimate
    assert (100 * tail.low, 100 * tail.high) in intervals


def test_a_group_without_images_is_missing_not_zero(made_block, look):
    figure = draw_groups(made_block({"ce": 1.0}, empty=("bcc_1", "df")))
    texts = look(figure)
    assert "–" in texts
    assert "–: no value." in " ".join(texts)


def test_no_groups_is_an_error_that_says_what_to_do(made_block):
    block = made_block({"ce": 1.0}, record={"groups": {}})
    with pytest.raises(UserError, match="no groups; give some with --groups"):
        draw_groups(block)


def test_groups_that_were_not_asked_for_are_an_error(made_block):
    with pytest.raises(UserError, match="leave --metric out"):
        draw_groups(made_block({"ce": 1.0}, names=["accuracy"]))


def test_10_methods_are_told_apart(made_block, look):
    figure = draw_groups(made_block({f"method{k}": 1.0 for k in range(10)}, seeds=1))
    look(figure)
    looks = {
        (bars[0].get_facecolor(), bars[0].get_hatch(), bars[0].get_edgecolor())
        for bars in figure.axes[0].containers
    }
    assert len(looks) == 10


def test_many_methods_have_a_line_each_in_a_panel_for_each_group(made_block, look):
    block = made_block({f"method{k}": k / 10 for k in range(25)}, seeds=2)
    figure = draw_groups(block)
    texts = look(figure)
    assert "Tail 2 classes, n = 33" in texts
    assert "method24" in texts
    assert len(figure.axes) == 4
    names = ["balanced_accuracy", "head", "medium", "tail"]
    for axes, name in zip(figure.axes, names, strict=True):
        cells = [row.cells[name] for row in block.rows]
        intervals, means = axes.lines[0::2], axes.lines[1::2]
        np.testing.assert_allclose(
            [line.get_xdata()[0] for line in means], [100 * cell.mean for cell in cells]
        )
        np.testing.assert_allclose(
            [line.get_xdata() for line in intervals],
            [(100 * cell.estimate.low, 100 * cell.estimate.high) for cell in cells],
        )


def test_many_methods_without_images_of_a_group_are_missing_not_zero(made_block, look):
    methods = {f"method{k}": 1.0 for k in range(12)}
    texts = look(draw_groups(made_block(methods, empty=("bcc_1", "df"))))
    assert texts.count("–") == 12
