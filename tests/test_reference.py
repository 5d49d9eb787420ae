"""The reference results of the repository: they are sound, and a cheap one comes out so again."""

import json
from pathlib import Path

import lmdbench as api

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
CHEAP = "demo-small"


def test_all_entries_are_sound(lmdbench):
    done = lmdbench("results", "check", REFERENCE)
    assert done.code == 0, done.out
    assert f"ok       {CHEAP}: " in done.out


def test_trained_again_it_is_within_its_interval(lmdbench, tmp_path):
    theirs = tmp_path / "theirs"
    archive = REFERENCE / CHEAP / "runs.zip"
    assert lmdbench("results", "import", archive, "--results", theirs).code == 0
    (path,) = theirs.glob("demo/*/balanced-softmax/seed0-*/run.json")
    spec = json.loads(path.read_text())["spec"]
    trained = lmdbench(
        *("run", "--method", "balanced-softmax", "--dataset", "demo", "--seeds", 0),
        *("--set", f"epochs={spec['settings']['epochs']}"),
        *("--results", tmp_path / "ours", "--json"),
    )
    assert trained.code == 0, trained.err
    (run,) = json.loads(trained.out)
    assert run["id"] == json.loads(path.read_text())["id"]  # the same run, of the same images
    frame = api.compare(results=theirs, reference="ce").frame()
    scores = frame[(frame["kind"] == "score") & (frame["method"] == "balanced-softmax")]
    (row,) = scores[scores["metric"] == "balanced_accuracy"].to_dict("records")
    ours = run["scores"]["test"]["balanced_accuracy"]
    assert row["low"] < ours < row["high"]
