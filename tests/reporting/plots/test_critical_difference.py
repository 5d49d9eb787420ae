"""The critical-difference diagram: which methods a bar joins."""

import re

import numpy as np
import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.core.errors import UserError
from lmdbench.evaluation.ranks import nemenyi_critical_difference
from lmdbench.reporting.plots.critical_difference import (
    cliques,
    draw_critical_difference,
    draw_diagram,
)


@pytest.mark.parametrize(
    ("ranks", "critical", "expected"),
    [
        ([1.0, 2.0, 3.0], 1.0, [(0, 1), (1, 2)]),
        ([1.0, 1.5, 2.0, 4.0], 1.0, [(0, 2)]),
        ([1.0, 3.0], 1.0, []),
        ([1.0, 1.2, 1.4], 5.0, [(0, 2)]),
    ],
)
def test_bars_join_the_longest_stretches(ranks, critical, expected):
    assert cliques(np.array(ranks), critical) == expected


def test_the_best_stands_at_the_left_top(look):
    figure = draw_diagram(["ce", "crt", "lmd"], np.array([3.0, 2.0, 1.0]), 1.5)
    texts = look(figure)
    assert {"lmd (1.00)", "crt (2.00)", "(3.00) ce", "critical difference 1.50"} <= set(texts)


def test_20_methods_are_readable(look):
    rng = np.random.default_rng(0)
    names = [f"method-{k} (epochs={k})" for k in range(20)]
    look(draw_diagram(names, np.sort(rng.uniform(1, 20, 20)), 4.0))


@pytest.mark.parametrize("settings", [7, 8])
def test_it_takes_eight_data_sets(fake_run, tmp_path, look, settings):
    for number in range(settings):
        for method, skill in (("ce", 0.1), ("crt", 1.0), ("lmd", 3.0)):
            fake_run(method, dataset=f"set{number}", skill=skill)
    comparison = compare(read_results(tmp_path / "results"))
    if settings < 8:
        with pytest.raises(UserError, match="takes 8 data sets and splits, here are 7") as caught:
            draw_critical_difference(comparison)
        assert "lmdbench compare" in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    texts = look(draw_critical_difference(comparison))
    assert f"critical difference {nemenyi_critical_difference(3, 8):.2f}" in texts
    assert {"lmd (1.00)", "(3.00) ce"} <= set(texts)
    assert any("8 data sets and splits" in text for text in texts)
    (footer,) = [text for text in texts if text.startswith("1 is best.")]
    assert "Friedman" in footer
    assert "share images" not in footer
    assert not re.search("[Ww]on|bootstrap|Mean ranks more than", footer)


def test_the_footer_says_where_tables_share_images(fake_run, tmp_path, look):
    for number in range(8):
        split = {"name": "plain", "seed": number, "fingerprint": str(number) * 64}
        for method, skill in (("ce", 0.1), ("lmd", 3.0)):
            fake_run(method, skill=skill, split=split, record={"split_label": f"plain{number}"})
    texts = look(draw_critical_difference(compare(read_results(tmp_path / "results"))))
    assert any("8 tables are of skin: tables of one data set share images" in t for t in texts)
