"""`lmdbench tune`: the whole search, through its entry point."""

import csv
import json

import pytest

from lmdbench.sweep.config.file import read_sweep


@pytest.fixture
def file(toy_folder, tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(
        f"""
        seeds = [0, 1]
        methods = ["focal", {{ name = "ce", set = {{ lr = 0.01, weight_decay = 0 }} }}]
        [settings.all]
        epochs = 1
        batch_size = 8
        [[datasets]]
        name = "folder"
        data_root = "{toy_folder}"
        backbone = "small"
        image_size = 24
        """
    )
    return path


@pytest.fixture
def tune(lmdbench, quick_workers, file, tmp_path):
    def call(*words):
        return lmdbench("tune", file, "--results", tmp_path / "results", *words)

    return call


def trials(folder):
    with (folder / "trials.csv").open() as table:
        return list(csv.DictReader(table))


def finished(results):
    return {path.parent: path.stat().st_mtime_ns for path in results.glob("*/*/*/seed*/done")}


def test_a_dry_run_shows_the_trials_and_makes_nothing(tune, tmp_path):
    outcome = tune("--trials", 3, "--dry-run")
    assert outcome.code == 0, outcome.err
    rows = [line.split() for line in outcome.out.splitlines()]
    assert [row[1] for row in rows if row[:1] == ["focal"]] == ["0", "1", "2"]
    assert [row[1] for row in rows if row[:1] == ["ce"]] == ["0"]  # nothing to search
    assert "gamma=2.0" in outcome.out
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rule", "bst"), "unknown rule 'bst'. Did you mean best?"),
        (("--trial-seeds", "x"), "--trial-seeds 'x'"),
        (("--trials", "0"), "0 is not in the range"),
    ],
)
def test_a_wrong_word_is_named(tune, words, message):
    outcome = tune(*words, "--dry-run")
    assert outcome.code == 2
    assert message in outcome.err


def test_a_search_from_trials_to_seeds(tune, tmp_path):
    results = tmp_path / "results"
    outcome = tune("--trials", 2, "--workers", 1)
    assert outcome.code == 0, outcome.err
    folder = results / "sweeps" / "toy" / "tune" / "best-trials2-seeds0-tune0"
    rows = trials(folder)
    assert [row["method"] for row in rows] == ["focal", "focal", "ce"]
    assert {row["state"] for row in rows} == {"done"}
    by_method = {m: [row for row in rows if row["method"] == m] for m in ("focal", "ce")}
    for tried in by_method.values():
        scores = [float(row["validation_balanced_accuracy"]) for row in tried]
        (used,) = (n for n, row in enumerate(tried) if row["chosen"] == "yes")
        assert used == scores.index(max(scores))

    (chosen,) = folder.glob("chosen-*.toml")
    sweep = read_sweep(str(chosen), None)
    assert sweep.seeds == (0, 1)
    done = finished(results)
    assert len(done) == 5  # 3 trials, then seed 1 of both methods
    assert "2 of 2 done" in outcome.out
    assert "nothing to search" in outcome.out

    # Again: all is there.
    repeated = tune("--trials", 2, "--workers", 1, "--json")
    assert repeated.code == 0, repeated.err
    record = json.loads(repeated.out)
    assert record["trial_runs"] == {"done": 3}
    assert record["chosen_runs"] == {"done": 4}
    assert finished(results) == done
    assert record["set_ups"][0]["chosen_file"] == str(chosen)
    methods = record["set_ups"][0]["methods"]
    assert [len(method["trials"]) for method in methods] == [2, 1]
    assert methods[0]["searched"].keys() == {"lr", "weight_decay", "gamma"}


def test_a_trial_that_diverges_is_spent(tune, file, tmp_path):
    text = file.read_text().replace("lr = 0.01", "lr = 1e30").replace('"focal", ', "")
    file.write_text(text)
    outcome = tune("--workers", 1)
    assert outcome.code == 1
    assert "every trial of ce failed: " in outcome.err
    assert "try a lower lr" in outcome.err
    folder = tmp_path / "results" / "sweeps" / "toy" / "tune" / "best-trials8-seeds0-tune0"
    assert [row["state"] for row in trials(folder)] == ["failed"]
    assert not list(folder.glob("chosen-*.toml"))
    again = tune("--workers", 1)  # it is not tried again, and nothing stays to be done
    assert (again.code, trials(folder)[0]["state"]) == (1, "failed")
