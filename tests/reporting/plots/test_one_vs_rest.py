"""Curves of a class against the rest: which class, which methods, how they are drawn."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics import softmax
from lmdbench.reporting.plots.decision_curve import draw_decision_curve
from lmdbench.reporting.plots.one_vs_rest import OneVsRest
from lmdbench.reporting.plots.operating_points import draw_operating_points
from lmdbench.reporting.plots.precision_recall import draw_precision_recall
from lmdbench.reporting.plots.roc import draw_roc
from lmdbench.reporting.plots.style import take_caption

CURVES = (draw_roc, draw_precision_recall, draw_decision_curve)
ALL = (*CURVES, draw_operating_points)
BCC = 2  # the class bcc_1, with 30 of 1,208 images


def line_of(figure, name):
    """A method's line (x, y), in percent."""
    (axes,) = figure.axes
    (line,) = [one for one in axes.lines if one.get_label().split(" (AUROC")[0] == name]
    return line.get_xdata(), line.get_ydata()


def of_run(block, number=0):
    """Labels (N,) and probabilities (N, C) of a row's first run."""
    there = np.load(block.rows[number].runs[0].directory / "predictions.npz")
    return there["test_labels"], softmax(there["test_logits"])


def test_the_roc_curve_of_one_run_is_that_of_scikit_learn(made_block, look):
    block = made_block({"ce": 1.5}, seeds=1)
    figure = draw_roc(OneVsRest(block, "bcc_1"))
    labels, probabilities = of_run(block)
    curve = roc_curve(labels == BCC, probabilities[:, BCC], drop_intermediate=False)[:2]
    x, y = line_of(figure, "ce")
    assert (x[0], y[0]) == (0, 0)
    np.testing.assert_allclose(y[1:], 100 * np.interp(x[1:] / 100, *curve), atol=1e-6)
    area = roc_auc_score(labels == BCC, probabilities[:, BCC])
    assert f"ce (AUROC {100 * area:.1f})" in look(figure)


def test_the_precision_of_one_run_is_that_of_scikit_learn(made_block):
    block = made_block({"ce": 1.5}, seeds=1)
    x, y = line_of(draw_precision_recall(OneVsRest(block, "bcc_1")), "ce")
    labels, probabilities = of_run(block)
    precision, recall, _ = precision_recall_curve(labels == BCC, probabilities[:, BCC])
    reached = {round(100 * one, 6): 100 * precision[recall == one].max() for one in recall}
    both = [(at, value) for at, value in zip(x, y, strict=True) if round(at, 6) in reached]
    assert len(both) == 10  # tenths, of 30 images at 40 places
    for at, value in both:
        assert value == pytest.approx(reached[round(at, 6)])


def test_the_mean_over_classes_is_that_of_their_curves(made_block, look):
    block = made_block({"ce": 1.5}, seeds=2)
    names = block.record.classes
    of_each = [line_of(draw_roc(OneVsRest(block, name)), "ce")[1] for name in names]
    figure = draw_roc(OneVsRest(block))
    np.testing.assert_allclose(line_of(figure, "ce")[1], np.mean(of_each, axis=0))
    texts = look(figure, apart=False)
    assert any("each class against the rest, mean of 4" in text for text in texts)


def test_net_benefit_is_true_positives_less_weighted_false_ones(made_block, look):
    block = made_block({"ce": 3.0, "lmd": 4.0}, seeds=1)
    figure = draw_decision_curve(OneVsRest(block, "bcc_1"))
    labels, probabilities = of_run(block)
    x, y = line_of(figure, block.rows[0].label)
    at = list(np.round(x)).index(25)
    positive = probabilities[:, BCC] >= 0.25
    true, false = (positive & (labels == BCC)).sum(), (positive & (labels != BCC)).sum()
    assert y[at] == pytest.approx(100 * (true - false / 3) / len(labels))
    every = line_of(figure, "treat all")[1]
    assert every[at] == pytest.approx(100 * (30 - (len(labels) - 30) / 3) / len(labels))
    assert y[0] == pytest.approx(every[0])
    words = " ".join(look(figure))
    assert "the class's share in training, 2.5 %" in words
    assert "the share in these images, 2.5 %" in words


def test_operating_points_are_those_of_the_table_and_of_scikit_learn(made_block, look):
    block = made_block({"ce": 1.5, "lmd": 2.5}, seeds=3)
    figure = draw_operating_points(OneVsRest(block, "bcc_1"))
    place = [row.label for row in block.rows].index("lmd")
    recall = block.rows[place].recalls["bcc_1"].estimate
    interval, point = figure.axes[0].lines[2 * place : 2 * place + 2]
    np.testing.assert_allclose(point.get_xdata(), [100 * recall.value])
    np.testing.assert_allclose(interval.get_xdata(), [100 * recall.low, 100 * recall.high])
    found = []
    for run in block.rows[place].runs:
        there = np.load(run.directory / "predictions.npz")
        own, scores = there["test_labels"] == BCC, softmax(there["test_logits"])[:, BCC]
        alarms, sensitivity, _ = roc_curve(own, scores, drop_intermediate=False)
        found.append(sensitivity[alarms <= 0.05 + 1e-12].max())
    (value,) = figure.axes[3].lines[2 * place + 1].get_xdata()
    assert value == pytest.approx(100 * np.mean(found))
    assert f"{value:.1f}" in look(figure)


@pytest.mark.parametrize("draw", CURVES)
def test_bands_hold_their_lines(made_block, draw):
    figure = draw(OneVsRest(made_block({"ce": 2.0, "lmd": 3.0}), "bcc_1"))
    (axes,) = figure.axes
    bands = [band.get_paths()[0] for band in axes.collections]
    assert len(bands) == 2
    for name, path in zip(("ce", "lmd"), bands, strict=True):
        x, y = line_of(figure, name)
        limits = path.vertices
        for at, value in list(zip(x, y, strict=True))[2:-2:6]:
            there = limits[np.isclose(limits[:, 0], at), 1]
            assert there.min() <= value <= there.max()


@pytest.mark.parametrize("draw", ALL)
@pytest.mark.parametrize("width", [3.4, 7.0])
def test_many_methods_of_long_names_are_readable_in_any_width(made_block, look, draw, width):
    methods = {f"a-method-of-a-rather-long-name-with-lr=0.{k}": 1 + k / 9 for k in range(10)}
    block = made_block({"ce": 1.0} | methods, seeds=2)
    texts = look(draw(OneVsRest(block, "bcc_1"), width))
    assert any("lr=0.9" in text for text in texts)
    if draw in CURVES:
        assert "3 more methods are not drawn" in " ".join(texts)


@pytest.mark.parametrize("draw", ALL)
def test_without_its_caption_only_axes_and_legend_have_words(made_block, look, draw):
    figure = draw(OneVsRest(made_block({"ce": 2.0, "lmd": 3.0}), "bcc_1"))
    caption = take_caption(figure)
    assert "bcc_1 against the rest" in caption
    figure.draw_without_rendering()
    own = []
    for axes in figure.axes:
        own += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        own += [one.get_text() for one in axes.get_xticklabels() + axes.get_yticklabels()]
        own += [one.get_text() for one in axes.texts]  # numbers at the points
        legend = axes.get_legend()
        own += [one.get_text() for one in legend.get_texts()] if legend else []
    assert set(look(figure)) <= {" ".join(text.split()) for text in own}


def test_a_class_of_few_images_has_a_precision_but_no_band(made_block, look):
    block = made_block({"ce": 2.0})
    figure = draw_precision_recall(OneVsRest(block, "df"))
    assert not figure.axes[0].collections
    assert "No bands: a class has fewer than 20 images." in " ".join(look(figure))
    assert len(draw_roc(OneVsRest(block, "df")).axes[0].collections) == 1


def test_bands_of_one_seed_say_that_they_hold_test_images_only(made_block, look):
    block = made_block({"ce": 2.0}, seeds=1)
    for draw in (draw_roc, draw_operating_points):
        assert "over test images only, as there is one seed." in " ".join(
            look(draw(OneVsRest(block, "bcc_1")))
        )


def test_what_has_no_curve_is_told(made_block):
    block = made_block({"ce": 2.0}, empty=("df",))
    with pytest.raises(UserError, match=r"there are no test images of df; choose another --class"):
        draw_roc(OneVsRest(block, "df"))
    with pytest.raises(UserError, match=r"^unknown class 'bcc'\. Did you mean bcc_1\?"):
        draw_roc(OneVsRest(block, "bcc"))
    with pytest.raises(
        UserError, match=r"^a decision curve is of one class; name it by --class: nv, "
    ):
        draw_decision_curve(OneVsRest(block))
    assert OneVsRest(block).classes == [0, 1, 2]


def test_methods_whose_logits_are_not_finite_are_left_out_and_named(made_block, look):
    block = made_block({"ce": 1.0, "lmd": 3.0}, broken=("lmd",))
    figure = draw_roc(OneVsRest(block, "bcc_1"))
    assert "Left out, logits not finite: lmd." in " ".join(look(figure))


def test_where_no_method_has_finite_logits_there_is_no_curve(made_block):
    block = made_block({"ce": 1.0}, broken=("ce",))
    with pytest.raises(UserError, match="no method has finite logits in all its seeds"):
        draw_roc(OneVsRest(block, "bcc_1"))


def test_methods_far_below_the_axis_of_net_benefit_are_named(made_block, look):
    figure = draw_decision_curve(OneVsRest(made_block({"ce": 0.0, "lmd": 6.0}), "df"))
    words = " ".join(look(figure))
    assert "Below what is shown but for a threshold of 0: ce." in words
