"""A run trained once more on training and validation images together."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.core.errors import Damaged
from lmdbench.data.dataset import Part, Split
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.evaluation.recalibration import fit_temperature
from lmdbench.runs.likeness import carried_over, reference_of
from lmdbench.runs.prediction import load_run
from lmdbench.runs.record import read_record
from lmdbench.runs.whole import validation_predictions
from lmdbench.training.method import METHODS


def only(folder, pattern):
    (done,) = folder.glob(f"{pattern}/done")
    return done.parent


@pytest.fixture
def refitted(toy_run, tmp_path):
    """Directories of a run of ce and of its refit."""
    assert toy_run("ce", "--set", "epochs=3", "--quiet").code == 0
    source = only(tmp_path / "results", "*/given/ce/seed*")
    outcome = refit(toy_run, "ce", source)
    assert outcome.code == 0, outcome.err
    return source, only(tmp_path / "results", "*/given-refit/ce/seed*")


def refit(toy_run, method, source, *words):
    """``toy_run`` without the options that a refit takes from the run."""
    return toy_run.plain(method, "--refit", source, *words)


@pytest.fixture
def toy_run(toy_run, lmdbench, toy_folder, tmp_path):
    def plain(method, *words):
        return lmdbench(
            *("run", "--method", method, "--dataset", "folder", "--data-root", toy_folder),
            *("--results", tmp_path / "results", "--quiet", *words),
        )

    toy_run.plain = plain
    return toy_run


def test_a_split_with_its_validation_images_among_those_for_training():
    parts = {
        "train": Part(np.array(["a", "b"]), np.array([0, 1])),
        "validation": Part(np.array(["c"]), np.array([1])),
        "test": Part(np.array(["d"]), np.array([0])),
    }
    split = Split("own", ("x", "y"), parts, {"head": ("y",)}, imbalance_factor=100)
    again = split.refitted()
    assert again.parts["train"].ids.tolist() == ["a", "b", "c"]
    assert again.counts("train").tolist() == [1, 2]
    assert len(again.parts["validation"]) == 0
    assert again.parts["test"] is parts["test"]
    assert (again.label, again.groups) == ("own-if100-refit", split.groups)
    assert again.fingerprint != split.fingerprint


def test_it_has_all_these_images_and_its_own_identity(refitted):
    source, again = refitted
    before, record = read_record(source), read_record(again)
    assert record.spec.refit == {"run": before.id, "epochs": 3}
    assert "refit" not in json.loads((source / "run.json").read_text())["spec"]
    counts = np.array(before.class_counts["train"]) + before.class_counts["validation"]
    assert record.class_counts["train"] == counts.tolist()
    assert sum(record.class_counts["validation"]) == 0
    assert record.groups == before.groups
    parts = load_predictions(again / "predictions.npz")
    assert len(parts["validation"]) == 0
    assert len(parts["test"]) == sum(before.class_counts["test"])


def test_its_validation_is_that_of_the_run_it_repeats(refitted, lmdbench, toy_folder):
    source, again = refitted
    own = load_predictions(source / "predictions.npz")["validation"]
    kept = validation_predictions(again, read_record(again))
    assert np.array_equal(kept.logits, own.logits)
    temperature = fit_temperature(own.labels, own.logits)
    words = ("--calibrate", "temperature", "--prior", "uniform", "--abstain", "share=0.5")
    outcome = lmdbench("predict", again, toy_folder / "round-0.png", *words)
    assert outcome.code == 0, outcome.err
    assert f"temperature {temperature:.3g}" in outcome.out
    assert f"is a refit of {read_record(source).id[:8]} on training and" in outcome.out
    assert "no validation scores of its own" in outcome.out
    kept_file = again / "validation-before-refit.npz"
    kept_file.write_bytes((source / "predictions.npz").read_bytes())
    with pytest.raises(Damaged, match="its SHA-256 is not the one"):
        validation_predictions(again, read_record(again))


def test_what_looks_unlike_goes_by_the_run_it_repeats(refitted, lmdbench, toy_folder, monkeypatch):
    source, again = refitted
    words = ("predict", again, toy_folder / "round-0.png")
    assert "not told, as it keeps no 20 validation images" in lmdbench(*words).out
    monkeypatch.setattr("lmdbench.runs.likeness.FEWEST", 8)
    hidden = source.rename(source.with_name("elsewhere"))
    run_id = read_record(hidden).id[:8]
    assert f"a refit goes by the run that it repeats, and {run_id} with" in lmdbench(*words).out
    hidden.rename(source)
    told = "of the validation images (of a refit: by how far those of the run that it repeats do)"
    assert told in lmdbench(*words).out
    run, before = (load_run(one, torch.device("cpu")) for one in (again, source))
    mine, theirs = (reference_of(one, source / "no-cache") for one in (run, before))
    assert len(mine.train) == len(theirs.train) + 8
    assert mine.threshold == pytest.approx(carried_over(theirs, mine.train), abs=0.01)
    hidden = source.rename(source.with_name("elsewhere"))
    assert told in lmdbench(*words).out  # what was found once is kept beside the refit


def test_it_stands_in_no_table_with_other_runs(refitted, tmp_path):
    found = compare(read_results(tmp_path / "results"))
    assert [table.title for table in found.tables] == [
        next(t.title for t in found.tables if "given-refit" not in t.title),
        next(t.title for t in found.tables if "given-refit" in t.title),
    ]
    assert all(len(table.rows) == 1 for table in found.tables)
    assert "together" in " ".join(found.tables[1].record.split_notes)


def test_it_stops_where_the_run_was_selected_and_repeats_its_stages(toy_run, tmp_path):
    words = ("--selection", "best", "--set", "epochs=3", "--set", "ce.epochs=2", "--quiet")
    assert toy_run("crt", *words).code == 0
    results = tmp_path / "results"
    source = only(results, "*/given/crt/seed*")
    outcome = refit(toy_run, "crt", source)
    assert outcome.code == 0, outcome.err
    for method in ("ce", "crt"):
        before = read_record(only(results, f"*/given/{method}/seed*"))
        again = only(results, f"*/given-refit/{method}/seed*")
        record = read_record(again)
        assert record.epochs == record.selected_epoch == before.selected_epoch
        rows = (again / "history.csv").read_text().splitlines()
        assert len(rows) == 1 + before.selected_epoch
    assert record.ancestor.id == read_record(only(results, "*/given-refit/ce/seed*")).id


def test_what_it_chose_on_validation_is_given_to_the_refit(toy_run, lmdbench, toy_folder, tmp_path):
    """Rows of seeds stay one, whatever each seed chose."""
    assert toy_run("tau-norm", "--seeds", "0-1", "--set", "ce.epochs=2", "--quiet").code == 0
    results = tmp_path / "results"
    sources = sorted(done.parent for done in results.glob("*/given/tau-norm/seed*/done"))
    ids = []
    for source in sources:
        outcome = toy_run.plain("tau-norm", "--refit", source)
        assert outcome.code == 0, outcome.err
        ids.append(read_record(source).id)
    again = {
        read_record(done.parent).spec.refit["run"]: done.parent
        for done in results.glob("*/given-refit/tau-norm/seed*/done")
    }
    for source, run_id in zip(sources, ids, strict=True):
        tau = load_file(source / "model.safetensors")["tau"]
        refit = read_record(again[run_id]).spec
        assert refit.chosen == {"tau": round(tau.item(), 6)}
        assert refit.settings["tau"] is None
        weights = load_file(again[run_id] / "model.safetensors")
        ce = read_record(again[run_id]).ancestor.directory
        head = load_file(f"{ce}/model.safetensors")["model.head.weight"]
        norms = head.norm(dim=1, keepdim=True) ** tau
        torch.testing.assert_close(weights["model.head.weight"], head / norms)
    (row,) = compare(read_results(results), methods=["tau-norm"]).tables[1].rows
    assert len(row.runs) == 2
    assert lmdbench("predict", again[ids[0]], toy_folder / "round-0.png").code == 0
    (sources[0] / "model.safetensors").unlink()
    outcome = toy_run.plain("tau-norm", "--refit", sources[0])
    assert (outcome.code, len(outcome.err.splitlines())) == (2, 1)
    assert "--refit: tau, chosen on validation images, can't be read" in outcome.err


def test_what_cannot_be_refitted_is_told_in_one_line(refitted, toy_run, monkeypatch):
    source, again = refitted
    for words, message in (
        (("ce", again), "the split of"),
        (("crt", source), "a run of ce, not of --method crt"),
        (("ce", source, "--set", "epochs=2"), "--set goes without --refit"),
        (("ce", source, "--seeds", "1"), "--seeds goes without --refit"),
        (("ce", source, "--weights", "none", "--split", "lesion"), "lesion"),
        (("ce", "0" * 8), "neither a run directory nor the id"),
    ):
        outcome = refit(toy_run, *words)
        assert outcome.code == 2, outcome.err
        assert len(outcome.err.splitlines()) == 1
        assert message in outcome.err
    monkeypatch.setattr(METHODS.get("ce"), "uses_validation", True)
    assert "looks at validation images while it trains" in refit(toy_run, "ce", source).err
    (source / "done").unlink()
    assert "interrupted, not finished: its length" in refit(toy_run, "ce", source).err
