"""``lmdbench results list`` as a user meets it."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from lmdbench.core.claim import Claim

FakeRun = Callable[..., Path]
Command = Callable[..., Any]


@pytest.fixture
def results(fake_run: FakeRun, tmp_path: Path) -> Path:
    """ce of two rates in two seeds, crt that failed, and one run of another data set."""
    for lr, skill in ((0.1, 3.0), (0.2, 1.0)):
        for seed in (0, 1):
            ce = fake_run("ce", seed, settings={"epochs": 20, "lr": lr}, skill=skill)
            (ce / "model.safetensors").write_bytes(b"x" * 1000)
            os.utime(ce / "model.safetensors", (1, 1))  # not looked into
    crt = fake_run("crt", ancestor=ce, state="failed.txt")
    (crt / "failed.txt").write_text("loss is nan in epoch 3: try a lower lr\n\nTraceback\n")
    fake_run("lws", ancestor=ce, state=None, dataset="other")
    return tmp_path / "results"


def test_a_line_a_run_under_its_data_set_with_scores_and_what_went_wrong(
    results: Path, lmdbench: Command
) -> None:
    done = lmdbench("results", "list", "--results", results)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    heads = [k for k, line in enumerate(lines) if line.startswith(("other ", "skin "))]
    assert [lines[k] for k in heads] == ["other plain-if100", "skin plain-if100"]
    assert lines[0].split() == [
        *("run", "method", "state", "BAcc", "head", "medium", "tail", "size", "age")
    ]
    assert len(lines) == 1 + 1 + 2 + 6
    (failed,) = [line for line in lines if " failed " in line]
    assert failed.endswith("loss is nan in epoch 3: try a lower lr")
    assert "crt ← ce (epochs=20, lr=0.2)" in failed
    assert "6 runs under" in done.err
    assert "4 finished, 1 interrupted, 1 failed" in done.err


@pytest.mark.parametrize("width", [30, 60, 80, 120, 200])
@pytest.mark.parametrize("sort", ["name", "date"])
def test_no_line_is_wider_than_the_terminal(
    results: Path, lmdbench: Command, monkeypatch: pytest.MonkeyPatch, width: int, sort: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = lmdbench("results", "list", "--results", results, "--sort", sort)
    assert done.code == 0, done.err
    assert max(cell_len(line) for line in done.out.splitlines()) <= width
    if width >= 60:
        names = [path.name for path in results.glob("*/*/*/seed*")]
        assert all(name in done.out for name in names)
        assert "BAcc" in done.out
        assert "age" in done.out or sort != "date"


def test_the_best_comes_first_where_scores_are_asked_for(results: Path, lmdbench: Command) -> None:
    done = lmdbench("results", "list", "--results", results, "--sort", "score", "--json")
    scores = [run["scores"].get("balanced_accuracy") for run in json.loads(done.out)]
    assert scores[:4] == sorted(scores[:4], reverse=True)
    assert scores[4:] == [None, None]
    done = lmdbench("results", "list", "--results", results, "--sort", "size", "--json")
    sizes = [run["size"] for run in json.loads(done.out)]
    assert sizes == sorted(sizes, reverse=True)


def test_json_and_csv_have_everything(results: Path, lmdbench: Command) -> None:
    words = ("results", "list", "--results", results, "--method", "ce", "--set", "lr=0.1")
    listed = json.loads(lmdbench(*words, "--json").out)
    assert [run["seed"] for run in listed] == [0, 1]
    first = listed[0]
    record = json.loads((Path(first["directory"]) / "run.json").read_text())
    assert first["settings"] == record["spec"]["settings"]
    assert first["changed_settings"] == {"epochs": 20, "lr": 0.1}
    assert (first["id"], first["state"], first["weights"]) == (record["id"], "finished", True)
    assert set(first["scores"]) == {"balanced_accuracy", "head", "medium", "tail"}
    rows = list(csv.DictReader(io.StringIO(lmdbench(*words, "--csv").out)))
    assert [row["id"] for row in rows] == [run["id"] for run in listed]
    assert float(rows[0]["tail"]) == first["scores"]["tail"]
    assert json.loads(rows[0]["settings"]) == first["settings"]


def test_filters_and_near_matches(results: Path, lmdbench: Command) -> None:
    words = ("results", "list", "--results", results)
    assert len(json.loads(lmdbench(*words, "--unfinished", "--json").out)) == 2
    assert len(json.loads(lmdbench(*words, "--failed", "--json").out)) == 1
    assert len(json.loads(lmdbench(*words, "--seed", "0-1", "--json").out)) == 6
    done = lmdbench(*words, "--method", "crtt")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "Did you mean crt?" in done.err
    done = lmdbench(*words, "--set", "lr")
    assert (done.code, "key=value" in done.err) == (2, True)
    done = lmdbench(*words, "--json", "--csv")
    assert (done.code, "contradict" in done.err) == (2, True)


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_folder_says_what_to_do(tmp_path: Path, lmdbench: Command, there: bool) -> None:
    if there:
        (tmp_path / "empty").mkdir()
    done = lmdbench("results", "list", "--results", tmp_path / "empty")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert "make some with `lmdbench run`" in done.err


def test_a_running_run_tells_how_far_it_is(fake_run: FakeRun, lmdbench: Command) -> None:
    directory = fake_run("ce", state=None)
    (directory / "history.csv").write_text("epoch,loss\n1,0.5\n2,0.4\n")
    claim = Claim(directory / "running.json")
    assert claim.acquire()
    try:
        done = lmdbench("results", "list", "--results", directory.parents[3])
    finally:
        claim.release()
    assert " running " in done.out
    assert "after epoch 2 of 100" in done.out


def test_real_runs_and_those_of_other_code(
    toy_run: Command, tmp_path: Path, lmdbench: Command, rewrite_record: Command
) -> None:
    assert toy_run("ce", "--set", "epochs=1", "--seeds", "0-1").code == 0
    results = tmp_path / "results"
    changed = next(results.glob("*/*/ce/seed1-*"))
    rewrite_record(changed, lambda record: record["digests"].update(method="0" * 64))
    words = ("results", "list", "--results", results)
    out = lmdbench(*words).out
    assert out.count("ce (epochs=1)") == 2
    assert (
        "small, weights none, 24 px" in out.splitlines()[1]
    )  # all of the data set's runs, so said once
    done = lmdbench(*words, "--changed")
    assert done.code == 0, done.err
    assert done.out.count("ce (epochs=1)") == 1
    assert "seed1-" in done.out
    assert "the code of ce has changed since" in done.out
    done = lmdbench(*words, "--changed", "--seed", "0")
    assert (done.code, "leave something out" in done.err) == (2, True)
