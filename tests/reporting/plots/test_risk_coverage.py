"""Error against the share answered: curves and areas of the runs, against a direct computation."""

import numpy as np
import pytest
from scipy.special import softmax

from lmdbench.core.errors import UserError
from lmdbench.reporting.plots.risk_coverage import draw_risk_coverage, run_curves


def direct(labels, logits):
    """Errors of the k surest images over k, without equal ones."""
    chances = softmax(logits.astype(float), axis=1)
    wrong = (chances.argmax(axis=1) != labels)[np.argsort(-chances.max(axis=1))]
    return np.cumsum(wrong) / np.arange(1, len(wrong) + 1)


def test_lines_and_areas_are_those_of_the_runs(made_block, look):
    block = made_block({"ce": 1.0, "lmd": 3.0}, seeds=2)
    figure = draw_risk_coverage(block)
    texts = look(figure)
    (axes,) = figure.axes
    for row in block.rows:
        files = [np.load(run.directory / "predictions.npz") for run in row.runs]
        curves = [direct(file["test_labels"], file["test_logits"]) for file in files]
        (line,) = [one for one in axes.lines if one.get_label().startswith(f"{row.label}, ")]
        np.testing.assert_allclose(line.get_ydata(), 100 * np.mean(curves, axis=0))
        assert f"{row.label}, AURC {100 * np.mean(curves):.1f}" in texts
        each = ", ".join(f"{100 * curve.mean():.1f}" for curve in curves)
        assert f"{row.label} {each}" in " ".join(" ".join(texts).split())
    assert len(axes.lines) == 6  # a thin line for each run, a thick one for each method


def test_runs_without_finite_logits_are_left_out(made_block, look):
    figure = draw_risk_coverage(made_block({"ce": 1.0, "lmd": 3.0}, broken=("lmd",)))
    assert "Logits not finite: lmd." in " ".join(look(figure))


def test_no_finite_logits_at_all_are_told(made_block):
    with pytest.raises(UserError, match="no row has finite logits"):
        draw_risk_coverage(made_block({"ce": 1.0}, broken=("ce",)))


def test_curves_end_with_the_error_of_all_images():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 50), rng.normal(size=(2, 50, 3))
    found = run_curves(labels, logits)
    np.testing.assert_allclose(found[:, -1], (logits.argmax(axis=2) != labels).mean(axis=1))


def test_many_methods_are_readable(made_block, look):
    look(draw_risk_coverage(made_block({f"a-method-of-a-name-{k}": 1.0 for k in range(10)})))
