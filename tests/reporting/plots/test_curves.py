"""Training curves: which epochs stand where, and what is missing."""

import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.core.errors import UserError
from lmdbench.reporting.plots.curves import draw_curves, read_history
from lmdbench.runs.record import read_record

STAGE_1 = "epoch,loss,validation_balanced_accuracy,seconds\n1,2.0,0.1,1\n2,1.0,0.3,1\n"
STAGE_2 = (
    "epoch,m_step_loss,label_loss,feature_norm,validation_balanced_accuracy,seconds\n"
    "1,0.9,0.8,7,0.5,1\n2,0.7,0.6,7,0.6,1\n3,0.5,0.4,7,0.7,1\n"
)


@pytest.fixture
def chain(fake_run, tmp_path):
    """The block of two lmd runs, with histories; the rrl runs they start from are not in it."""

    def make(stage_1=STAGE_1, stage_2=STAGE_2):
        for seed in (0, 1):
            first = fake_run("rrl", seed)
            second = fake_run("lmd", seed, ancestor=first)
            for directory, text in ((first, stage_1), (second, stage_2)):
                if text:
                    (directory / "history.csv").write_text(text)
        (block,) = compare(read_results(tmp_path / "results"), methods=["lmd"]).tables
        return block

    return make


def thick(axes):
    return [line for line in axes.lines if line.get_linewidth() == 1.6]


def test_the_rounds_follow_the_epochs_of_stage_1(chain, look):
    figure = draw_curves(chain())
    texts = look(figure)
    losses, score = figure.axes
    (line,) = thick(score)
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 2.5, 3, 4, 5])
    np.testing.assert_allclose(line.get_ydata(), [10, 30, np.nan, 50, 60, 70])
    assert [line.get_label() for line in thick(losses)] == ["loss", "m step loss", "label loss"]
    assert {"rrl", "lmd"} <= set(texts)
    boundary = [line for line in score.lines if line.get_linestyle() == "--"]
    assert [list(line.get_xdata()) for line in boundary] == [[2.5, 2.5]]


def test_a_stage_of_one_round_is_seen(chain):
    one = "".join(STAGE_2.splitlines(keepends=True)[:2])
    _, score = draw_curves(chain(stage_2=one)).axes
    (marked,) = [line for line in score.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(marked.get_xdata(), [3])
    np.testing.assert_allclose(marked.get_ydata(), [50])


def test_each_seed_is_thin_and_the_mean_is_theirs(made_block):
    losses, _ = draw_curves(made_block({"ce": 1.0}, seeds=3, history=True)).axes
    thin = [line.get_ydata() for line in losses.lines if line.get_linewidth() == 0.5]
    assert len(thin) == 3
    (mean,) = thick(losses)
    np.testing.assert_allclose(mean.get_ydata(), np.mean(thin, axis=0))


def test_a_stage_that_is_gone_is_said(chain, look):
    figure = draw_curves(chain(stage_1=None))
    assert "What it starts from has no history here: lmd ← rrl." in " ".join(look(figure))
    (line,) = thick(figure.axes[1])
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])


def test_results_that_were_moved_keep_their_first_stage(chain, tmp_path):
    chain()
    (tmp_path / "results").rename(tmp_path / "moved")
    (block,) = compare(read_results(tmp_path / "moved"), methods=["lmd"]).tables
    (line,) = thick(draw_curves(block).axes[1])
    assert len(line.get_xdata()) == 6


def test_runs_without_history_are_named_or_refused(made_block, fake_run, tmp_path, look):
    made_block({"ce": 1.0}, history=True)
    for directory in (tmp_path / "results").glob("*/*/ce/seed0-*"):
        record = json.loads((directory / "run.json").read_text())
        shape = {key: record[key] for key in ("classes", "groups", "class_counts")}
        imported = fake_run("imported", 0, record=shape)
        arrays = (directory / "predictions.npz").read_bytes()
        (imported / "predictions.npz").write_bytes(arrays)
        os.utime(imported / "predictions.npz", (0, 0))  # as if it had been done with these
    (block,) = compare(read_results(tmp_path / "results")).tables
    assert "No history: imported." in " ".join(look(draw_curves(block)))
    (block,) = compare(read_results(tmp_path / "results"), methods=["imported"]).tables
    with pytest.raises(UserError, match="no run has a history"):
        draw_curves(block)


def test_without_validation_images_the_lower_panel_says_so(chain, look):
    figure = draw_curves(chain(None, "epoch,loss,validation_balanced_accuracy\n1,2.0,\n2,1.0,\n"))
    assert "no validation images" in look(figure)


def test_a_damaged_history_is_named(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,abc\n")
    with pytest.raises(UserError, match=r"history\.csv: damaged"):
        read_history(tmp_path)


def test_the_history_of_another_run_is_refused(chain, tmp_path):
    chain()
    (run,) = (tmp_path / "results").glob("*/*/lmd/seed0-*")
    record, content = read_record(run), (run / "history.csv").read_bytes()
    digests = {"history": hashlib.sha256(content).hexdigest()}
    replace(record, digests=digests).write(run)
    (block,) = compare(read_results(tmp_path / "results"), methods=["lmd"]).tables
    draw_curves(block)
    (run / "history.csv").write_bytes(content.replace(b"\n1,", b"\n1,1"))
    with pytest.raises(UserError, match=r"lmd/.*/history\.csv: damaged, its SHA-256"):
        draw_curves(block)


def test_many_methods_are_readable(made_block, look):
    names = {f"method-of-a-long-name-{k}": 1.0 for k in range(9)}
    look(draw_curves(made_block(names, seeds=1, history=True)))
