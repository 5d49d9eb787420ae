"""The plot of a ranking's stability: dots, crosses and lines are what was sampled."""

import numpy as np
import pytest

from lmdbench.comparison.stability import rank_stability
from lmdbench.core.errors import UserError
from lmdbench.reporting.plots.rank_stability import draw_rank_stability


def test_areas_are_shares(made_block, look):
    table = made_block({"ce": 0.5, "crt": 1.5, "lws": 1.52, "lmd": 4.0})
    figure = draw_rank_stability(table)
    found = rank_stability(table)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        spread.label for spread in found.rows
    ]
    for place, (dots, spread) in enumerate(zip(axes.collections, found.rows, strict=True)):
        shares = np.array(spread.shares)
        ranks, places = dots.get_offsets().T
        assert ranks.tolist() == (np.flatnonzero(shares) + 1).tolist()
        assert set(places) == {place}
        np.testing.assert_allclose(dots.get_sizes() / dots.get_sizes().sum(), shares[shares > 0])
    *lines, crosses = axes.lines
    assert [list(line.get_xdata()) for line in lines] == [[s.low, s.high] for s in found.rows]
    assert list(crosses.get_xdata()) == [spread.median for spread in found.rows]
    texts = look(figure)
    assert any("no confidence intervals" in text for text in texts)
    assert any("Kendall's τ" in text for text in texts)


@pytest.mark.parametrize("width", [3.3, 7.0])
def test_20_methods_are_readable(made_block, look, width):
    look(draw_rank_stability(made_block({f"method-{k}": k / 10 for k in range(20)}), width))


def test_one_method_has_no_ranking(made_block):
    with pytest.raises(UserError, match="a ranking is of two or more"):
        draw_rank_stability(made_block({"lmd": 1.0}))
