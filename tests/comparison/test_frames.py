"""DataFrames of a comparison: a row a metric, and a row an image."""

import numpy as np
import pytest

from lmdbench.comparison.compare import compare
from lmdbench.comparison.results import read_results
from lmdbench.data.check.audit import Leaks
from lmdbench.evaluation.predictions import Predictions, load_predictions, save_predictions

LABELS = np.array([0, 1, 2, 3])
LOGITS = np.array([[3.0, 0, 0, 0], [0, 0, 0, 1.0], [0, 0, 2.0, 0], [0, 0, 0, 0.5]])


@pytest.fixture
def compared(tmp_path):
    return lambda **words: compare(read_results(tmp_path / "results"), **words)


def test_a_row_is_a_metric_of_a_method(fake_run, compared):
    for seed in (0, 1):
        fake_run("ce", seed)
        fake_run("lmd", seed, skill=2.0)
    comparison = compared(names=["balanced_accuracy", "tail"])
    frame = comparison.frame()
    assert frame["label"].tolist() == ["ce", "ce", "lmd", "lmd"]
    assert frame["metric"].tolist() == ["balanced_accuracy", "tail"] * 2
    cells = [cell for row in comparison.tables[0].rows for cell in row.cells.values()]
    assert frame["mean"].tolist() == [cell.mean for cell in cells]
    assert frame["n_images"].tolist() == [50, 2, 50, 2]
    ce = frame.set_index(["label", "metric"]).loc[("ce", "balanced_accuracy")]
    assert ce["low"] < ce["mean"] < ce["high"]
    assert ce["difference"] < 0
    assert ce["reference"] == "lmd"


def test_numbers_and_truth_values_stay_such_where_others_are_missing(fake_run, compared):
    for seed in (0, 1):
        fake_run("ce", seed)
        fake_run("lmd", seed)
    frame = compared(pairwise=True, names=["accuracy"]).frame()
    assert frame["kind"].tolist() == ["score", "score", "pair"]
    kinds = {name: str(frame[name].dtype) for name in ("image_size", "n_seeds", "best", "mean")}
    assert kinds == {
        "image_size": "int64",
        "n_seeds": "Int64",
        "best": "boolean",
        "mean": "float64",
    }


def test_ranks_are_no_scores(fake_run, compared):
    for name in ("skin", "bowel"):
        fake_run("ce", dataset=name)
        fake_run("lmd", dataset=name, skill=2.0)
    comparison = compared()
    assert comparison.ranks is not None
    assert set(comparison.frame()["kind"]) == {"score"}


def test_a_row_is_an_image_of_a_run(fake_run, compared):
    fake_run("ce", 3, test=(LABELS, LOGITS), images=list("dcba"))
    fake_run("crt", 0, test=(LABELS, np.full((4, 4), np.nan)), images=list("dcba"))
    frame = compared().images()
    assert len(frame) == 8
    ce = frame[frame["label"] == "ce"]
    assert ce["image"].tolist() == ["a", "b", "c", "d"]
    assert ce["truth"].tolist() == ["df", "bcc", "mel_a", "nv"]
    assert ce["predicted"].tolist() == ["df", "bcc", "df", "nv"]
    assert ce["p:nv"].iloc[3] == pytest.approx(np.exp(3) / (np.exp(3) + 3))
    assert ce.filter(like="p:").sum(axis=1).to_numpy() == pytest.approx(1)
    assert set(ce["seed"]) == {3}
    assert ce["unit"].isna().all()
    broken = frame[frame["label"] == "crt"]
    assert broken["predicted"].isna().all()
    assert broken["p:nv"].isna().all()
    assert "backbone" not in frame


def test_tables_are_told_apart_by_what_they_differ_in(fake_run, compared):
    fake_run("ce", backbone="resnet50")
    fake_run("ce", dataset="bowel")
    classes = ["nv", "polyp", "bcc", "df"]
    groups = {"head": classes, "medium": [], "tail": []}
    fake_run("ce", dataset="gut", record={"classes": classes, "groups": groups})
    frame = compared().images()
    assert set(zip(frame["results_name"], frame["backbone"], strict=True)) == {
        ("skin", "resnet50"),
        ("bowel", "resnet18"),
        ("gut", "resnet18"),
    }
    assert frame[frame["results_name"] == "gut"]["p:mel_a"].isna().all()
    assert frame["p:polyp"].notna().sum() == 50


def test_units_and_leaks(fake_run, compared):
    directory = fake_run("ce", test=(LABELS, LOGITS), images=list("abcd"))
    path = directory / "predictions.npz"
    units = np.array(["x", "x", "", "y"])
    test = Predictions(np.array(list("abcd")), LABELS, LOGITS, units)
    save_predictions(path, load_predictions(path) | {"test": test})
    frame = compared(leaked=lambda _: Leaks(frozenset("b"), ())).images()
    full, clean = (frame[frame["dropped"].isna()], frame[frame["dropped"] == 1])
    assert full["unit"].fillna("-").tolist() == ["x", "x", "-", "y"]
    assert clean["image"].tolist() == ["a", "c", "d"]
