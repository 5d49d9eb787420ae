"""Predictions of a row: one order of images and classes for all, whatever the files have."""

import os
from dataclasses import replace

import numpy as np
import pytest

import lmdbench.comparison.outcomes as module
from lmdbench.comparison.compare import compare
from lmdbench.comparison.outcomes import outcomes, paired, predictions_of
from lmdbench.comparison.results import Run, read_results
from lmdbench.core.errors import UserError
from lmdbench.data.check.audit import Leaks
from lmdbench.evaluation.predictions import Predictions, load_predictions, save_predictions
from lmdbench.runs.record import read_record

LABELS = np.array([0, 1, 2, 3])
IDS = np.array([f"image{n}" for n in range(4)])
WRONG = np.eye(4)[::-1].astype(np.float32)


def row_of(tmp_path, method="ce"):
    (block,) = compare(read_results(tmp_path / "results")).tables
    return block, next(scored for scored in block.rows if scored.method == method)


def test_images_of_all_seeds_stand_in_one_order(fake_run, tmp_path):
    logits = 5 * np.eye(4)
    logits[0] = logits[1]  # the first image is taken for the second's class
    fake_run("ce", 0, test=(LABELS, logits), images=["d", "c", "b", "a"])
    shuffled = [2, 0, 3, 1]
    images = [["d", "c", "b", "a"][place] for place in shuffled]
    fake_run("ce", 1, test=(LABELS[shuffled], logits[shuffled]), images=images)
    block, scored = row_of(tmp_path)
    found = outcomes(block, scored)
    assert found.ids.tolist() == ["a", "b", "c", "d"]
    assert found.labels.tolist() == [3, 2, 1, 0]
    np.testing.assert_array_equal(found.correct, [[1, 1, 1, 0], [1, 1, 1, 0]])


def test_a_seed_whose_logits_are_not_finite_is_right_about_nothing(fake_run, tmp_path):
    fake_run("ce", 0, test=(LABELS, np.eye(4)))
    fake_run("ce", 1, test=(LABELS, np.full((4, 4), np.nan)))
    correct = outcomes(*row_of(tmp_path)).correct
    assert correct[0].tolist() == [1, 1, 1, 1]
    assert np.isnan(correct[1]).all()


def test_other_images_in_a_seed_are_refused(fake_run, tmp_path):
    fake_run("ce", 0, test=(LABELS, np.eye(4)), images=list("abcd"))
    fake_run("ce", 1, test=(LABELS, np.eye(4)), images=list("abce"))
    (block,) = compare(read_results(tmp_path / "results"), part="validation").tables
    block = replace(block, part="test")  # a test table of them is refused as a whole
    with pytest.raises(UserError, match="not of the same images and labels"):
        outcomes(block, block.rows[0])


def test_pairs_are_of_common_seeds(fake_run, tmp_path):
    for seed in (0, 1, 2):
        fake_run("ce", seed)
    for seed in (2, 1, 5):
        fake_run("lmd", seed)
    block, ce = row_of(tmp_path)
    _, lmd = row_of(tmp_path, "lmd")
    pair = paired(outcomes(block, ce), outcomes(block, lmd))
    assert [one.seeds for one in pair] == [(1, 2), (1, 2)]
    assert pair[0].logits.shape == (2, 50, 4)
    assert paired(pair[0].of_seeds([1]), pair[1].of_seeds([2])) is None


def test_images_that_leak_are_left_out_of_the_table_without_them(fake_run, tmp_path):
    fake_run("ce", 0, test=(LABELS, np.eye(4)), images=list("dcba"))
    leaks = Leaks(frozenset("ad"), ())
    full, clean = compare(read_results(tmp_path / "results"), leaked=lambda _: leaks).tables
    assert outcomes(full, full.rows[0]).ids.tolist() == ["a", "b", "c", "d"]
    found = outcomes(clean, clean.rows[0])
    assert found.ids.tolist() == ["b", "c"]
    np.testing.assert_array_equal(found.logits, [[np.eye(4)[2], np.eye(4)[1]]])


@pytest.fixture
def read(monkeypatch):
    """The directories whose predictions are read from disk, in order."""
    directories = []

    def load(path, parts=None, sha256=None):
        directories.append(path.parent)
        return load_predictions(path, parts, sha256)

    monkeypatch.setattr(module, "load_predictions", load)
    return directories


def test_a_file_is_read_once_until_it_changes(fake_run, tmp_path, read):
    first = fake_run("ce", 0, test=(LABELS, np.eye(4)))
    second = fake_run("ce", 1, test=(LABELS, np.eye(4)))
    block, ce = row_of(tmp_path)
    outcomes(block, ce)
    row_of(tmp_path)
    assert read == [first, second]
    path = first / "predictions.npz"
    save_predictions(path, load_predictions(path) | {"test": Predictions(IDS, LABELS, WRONG)})
    os.utime(path, (0, 0))
    assert outcomes(*row_of(tmp_path)).correct.tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]
    assert read == [first, second, first]


def test_no_more_is_kept_than_there_is_room_for(fake_run, tmp_path, read, monkeypatch):
    runs = [fake_run("ce", seed, test=(LABELS, np.eye(4))) for seed in range(3)]
    monkeypatch.setattr(module, "KEPT", 2 * (LABELS.nbytes + WRONG.nbytes))
    row_of(tmp_path)
    assert read == runs
    predictions_of(Run(runs[2], read_record(runs[2])), "test")
    assert read == runs
    predictions_of(Run(runs[0], read_record(runs[0])), "test")
    assert read == [*runs, runs[0]]
