"""Forest plot: differences, intervals, p, and what there is to compare with."""

import re

import numpy as np
import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.core.errors import UserError
from lmdbench.reporting.plots.forest import draw_forest


def test_points_and_intervals_are_those_of_the_table(made_block, look):
    block = made_block({"ce": 0.5, "focal": 1.0, "lmd": 2.0}, reference="lmd")
    figure = draw_forest(block)
    texts = look(figure)
    assert {"ce", "focal"} <= set(texts)
    assert "lmd" not in texts
    cell = next(row for row in block.rows if row.label == "ce").cells["balanced_accuracy"]
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points[0].get_xdata(), [100 * cell.difference.value])
    drawn = [list(line.get_xdata()) for line in figure.axes[0].lines]
    assert [100 * cell.difference.low, 100 * cell.difference.high] in drawn
    ((words,),) = (
        [text for text in texts if text.startswith(f"−{-100 * cell.difference.value:.1f} [")],
    )
    assert words.endswith("p < .001" if cell.p_corrected < 0.001 else f"{cell.p_corrected:.3f}"[1:])


def test_another_metric_in_its_own_unit(made_block, look):
    block = made_block({"ce": 0.5, "lmd": 2.0}, reference="lmd", names=["nll"])
    texts = look(draw_forest(block))
    assert "NLL (test prior): above or below lmd" in texts
    assert "The smaller, the better." in " ".join(texts)
    assert "±1 point" not in " ".join(texts)


def test_without_the_reference_or_others_it_says_so(made_block):
    with pytest.raises(UserError, match="reference is not among"):
        draw_forest(made_block({"ce": 0.5}, reference="lmd"))


def test_the_reference_alone_has_nothing_to_compare(made_block):
    with pytest.raises(UserError, match="nothing to compare with lmd"):
        draw_forest(made_block({"lmd": 0.5}, reference="lmd"))


def test_one_seed_and_long_names(made_block, look):
    names = {f"a-method-with-a-very-long-name-{'x' * k}": 1.0 for k in range(30)}
    look(draw_forest(made_block(names | {"lmd": 2.0}, seeds=1, reference="lmd")))


def test_seeds_that_share_a_run_have_no_p(fake_run, tmp_path, look):
    start = fake_run("rrl")
    for seed in (0, 1, 2):
        fake_run("ce", seed, skill=0.5)
        fake_run("lmd", seed, skill=4.0, ancestor=start)
    (block,) = compare(read_results(tmp_path / "results"), methods=["ce", "lmd"]).tables
    texts = look(draw_forest(block))
    (footer,) = [text for text in texts if text.startswith("Paired differences")]
    assert "No p, as seeds share a run that they start from: ce." in " ".join(footer.split())
    assert not any(re.search(r"\bp [=<]", text) for text in texts)


def test_one_seed_is_said_and_has_no_p(made_block, look):
    texts = look(draw_forest(made_block({"ce": 0.5, "lmd": 2.0}, seeds=1, reference="lmd")))
    (footer,) = [text for text in texts if text.startswith("Paired differences")]
    assert "One seed: intervals for the test images only, and no p." in footer
    assert "Holm" not in footer
    assert "practically equal" not in footer
    assert not any(re.search(r"\bp [=<]", text) for text in texts)


def test_rows_left_out_are_named(fake_run, tmp_path, look):
    for method, seeds in {"lmd": (0, 1), "ce": (1, 2), "crt": (0, 1), "rrl": (5,)}.items():
        for seed in seeds:
            fake_run(method, seed, skill=len(method))
    (block,) = compare(read_results(tmp_path / "results")).tables
    texts = look(draw_forest(block))
    assert "rrl" not in texts
    (footer,) = [text for text in texts if text.startswith("Paired differences")]
    assert "One seed (ce): intervals" in footer
    assert "Left out, no seed in common with lmd: rrl." in footer


def test_rows_without_a_value_are_named(made_block, look):
    block = made_block({"ce": 0.5, "focal": 1.0, "lmd": 2.0}, broken=("focal",), reference="lmd")
    texts = look(draw_forest(block))
    assert any("Left out, without a difference: focal." in text for text in texts)


def test_in_a_narrow_column_the_numbers_stand_below_the_names(made_block, look):
    block = made_block({"ce": 0.5, "focal": 1.0, "lmd": 2.0}, reference="lmd")
    texts = look(draw_forest(block, 3.5))
    assert any(text.startswith("focal −") and " p = ." in text for text in texts)
