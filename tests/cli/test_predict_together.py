"""``lmdbench predict`` with several runs: their mean, how far they agree, and what is refused."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from lmdbench.evaluation.predictions import load_predictions
from lmdbench.evaluation.recalibration import fit_temperature

CLASSES = ["dotted", "rare", "round", "striped"]


@pytest.fixture(scope="module")
def seeds(copies, toy_folder, tmp_path_factory) -> list[Path]:
    """Directories of three runs of ce on the toy folder that differ in the seed alone, not to be
    changed."""
    results = tmp_path_factory.mktemp("seeds") / "results"
    process = copies.popen(
        [
            *(sys.executable, "-m", "lmdbench", "run", "--method", "ce", "--dataset", "folder"),
            *("--data-root", toy_folder, "--backbone", "small", "--image-size", "24"),
            *("--set", "epochs=3", "--seeds", "0-2", "--results", results, "--quiet"),
        ]
    )
    assert process.wait() == 0
    return sorted(done.parent for done in results.glob("*/*/ce/seed*/done"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Files without a folder land here."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("calibrate", [False, True])
def test_the_mean_of_probabilities_and_how_far_runs_agree(lmdbench, seeds, toy_folder, calibrate):
    """Of their own test images, from what each run saved; each with its own temperature."""
    chances = []
    for run in seeds:
        parts = load_predictions(run / "predictions.npz")
        own, logits = parts["validation"], parts["test"].logits.astype(float)
        scale = fit_temperature(own.labels, own.logits) if calibrate else 1.0
        chances.append(softmax(logits / scale, axis=1))
    mean = np.mean(chances, axis=0)
    best = mean.argmax(axis=1)
    rows = np.arange(len(best))
    words = ["--calibrate", "temperature"] if calibrate else []
    outcome = lmdbench("predict", *seeds, *words, "--output", "m.csv", "--", toy_folder)
    assert outcome.code == 0, outcome.err
    assert "the mean of 3 runs' probabilities:\n  ce seeds 0, 1, 2, trained on" in outcome.out
    for seed in range(3):
        told = f"ce seed {seed}, given: probabilities: temperature-scaled"
        assert (told in outcome.out) == calibrate
    test = parts["test"]
    table = pd.read_csv("m.csv", index_col="image").loc[list(test.ids)]
    np.testing.assert_allclose(table[CLASSES], mean, atol=1e-5)
    assert table["predicted"].tolist() == [CLASSES[k] for k in best]
    agreed = np.mean([each.argmax(axis=1) == best for each in chances], axis=0)
    np.testing.assert_allclose(table["agreement"], agreed, atol=1e-6)
    expected = np.std([each[rows, best] for each in chances], axis=0, ddof=1)
    np.testing.assert_allclose(table["spread"], expected, atol=1e-5)


def test_a_row_of_a_table_answers_and_its_own_test_score_stands_beside(lmdbench, seeds, toy_folder):
    results = seeds[0].parents[3]
    words = ("folder", "--data-root", toy_folder, "--results", results, "--json", "--quiet")
    outcome = lmdbench("predict", "--method", "ce", *words)
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    assert [run["seed"] for run in told["runs"]] == [0, 1, 2]
    for one in told["scores"].values():
        assert one["value"] == pytest.approx(one["own_test"])
    image = told["predictions"][0]
    assert {"agreement", "spread"} <= image.keys()


def test_few_images_are_shown_with_their_agreement(lmdbench, seeds, toy_folder):
    out = lmdbench("predict", *seeds[:2], "--", toy_folder / "round-0.png").out
    header, row = out.split("\n\n")[1].splitlines()
    assert header.split()[-2:] == ["agreement", "spread"]
    assert "of 2" in row
    assert "all runs give the same answer for" in out


def test_what_does_not_go_together_is_refused_in_one_line(
    lmdbench, seeds, toy_folder, tmp_path, rewrite_record
):
    other = shutil.copytree(seeds[1], tmp_path / "folder-toy" / "other")
    rewrite_record(other, lambda record: record["classes"].reverse())
    results = seeds[0].parents[3]
    ids = [run.name.partition("-")[2] for run in seeds[:2]]
    for words, message in (
        ((seeds[0], seeds[0], "--", toy_folder), "is given twice"),
        ((seeds[0], other, "--", toy_folder), "the same classes in another order"),
        (("--", toy_folder), "Missing argument 'RUN'"),
        ((seeds[0], "--"), "Missing argument"),
        ((seeds[0], "--", "--quiet"), "Missing argument"),
        ((*seeds[:2], toy_folder), f"{seeds[1]} is a run: name all runs before a --, and"),
        ((*ids, toy_folder, "--results", results), f"{ids[1]} is a run: name all runs before"),
        ((ids[0], "--", toy_folder, "--abstan"), "No such option '--abstan'"),
        ((seeds[0], "--method", "ce", "--", toy_folder), "runs are named by themselves, or by"),
        (("--method", "crt", toy_folder, "--results", results), "unknown method 'crt'"),
    ):
        outcome = lmdbench("predict", *words)
        assert (outcome.code, len(outcome.err.splitlines())) == (2, 1), outcome.err
        assert message in outcome.err
    rewrite_record(other, lambda record: record.update(classes=["dotted", "rare", "round", "x"]))
    assert "has other classes (" in lmdbench("predict", seeds[0], other, "--", toy_folder).err


def test_several_rows_are_refused_by_name(lmdbench, seeds, toy_run, toy_folder, tmp_path):
    shutil.copytree(seeds[0].parents[3], tmp_path / "results")
    assert toy_run("ce", "--set", "epochs=3", "--selection", "best", "--quiet").code == 0
    outcome = lmdbench("predict", "--method", "ce", toy_folder)
    assert outcome.code == 2
    assert (
        "these are 2 rows of tables, and one row answers: ce (epochs=3) on folder-" in outcome.err
    )
    assert " given, selection best; ce (epochs=3) on " in outcome.err
    assert " given, selection last; choose by --dataset" in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("runs", [1, 2])
def test_flags_and_withheld_answers(lmdbench, seeds, toy_folder, runs):
    """By thresholds that are chosen on the validation images, here against a direct count."""
    chances, labels = [], None
    for run in seeds[:runs]:
        own = load_predictions(run / "predictions.npz")["validation"]
        chances.append(softmax(own.logits.astype(float), axis=1))
        labels = own.labels
    mean = np.mean(chances, axis=0)
    threshold = mean[labels == 2, 2].min()  # for all of the class
    outcome = lmdbench(
        *("predict", *seeds[:runs], "--operate", "round:sensitivity=0.99", "--", toy_folder),
        *("--abstain", "share=0.5", "--output", "d.csv"),
    )
    assert outcome.code == 0, outcome.err
    table = pd.read_csv("d.csv", index_col="image")
    away = (table["round"] - threshold).abs() > 1e-5
    assert ((table["flag round"] == 1) == (table["round"] >= threshold))[away].all()
    bound = np.sort(mean.max(axis=1))[-4]
    away = (table["probability"] - bound).abs() > 1e-5
    assert ((table["answered"] == 1) == (table["probability"] >= bound))[away].all()
    flagged = int(table["flag round"].sum())
    assert f"here: {flagged} of {len(table)} images are flagged; sensitivity " in outcome.out
    assert "thresholds: chosen on 8 validation images; measured on the same" in outcome.out
    assert "for research: no medical device" in outcome.out
    told = json.loads(
        lmdbench(
            *("predict", *seeds[:runs], "--operate", "round:sensitivity=0.99", "--json"),
            *("--", toy_folder),
        ).out
    )
    (point,) = told["operating_points"]
    assert point["threshold"] == pytest.approx(threshold, abs=1e-6)
    assert point["validation"]["sensitivity"]["value"] == 1
    assert point["flagged"] == flagged
    positive = table["label"] == "round"
    share = (table["flag round"] == 1)[positive].mean()
    assert point["here"]["sensitivity"]["value"] == pytest.approx(share)
