"""Epochs without a validation score: ``--validate-every`` and ``validate_every`` in a sweep."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCORE = "validation_balanced_accuracy"


def run_of(results: Path, method: str = "ce") -> Path:
    (directory,) = (path.parent for path in results.glob(f"*/*/{method}/seed*/done"))
    return directory


def scored(directory: Path) -> list[int]:
    """The epochs of a run's history that have a score."""
    history = pd.read_csv(directory / "history.csv")
    return history["epoch"][history[SCORE].notna()].tolist()


def sweep_file(tmp_path: Path, toy_folder: Path, selection: str = "last") -> Path:
    path = tmp_path / "rarely.toml"
    path.write_text(
        'datasets = ["folder"]\nmethods = ["ce"]\nseeds = 0\n'
        f'[run]\nbackbone = "small"\nimage_size = 24\ndata_root = "{toy_folder}"\n'
        f'selection = "{selection}"\n[settings.all]\nepochs = 5\n'
        "[resources]\nvalidate_every = 2\n"
    )
    return path


@pytest.mark.parametrize(("every", "epochs"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_each_nth_epoch_and_the_last_are_scored(toy_run, tmp_path, every, epochs) -> None:
    outcome = toy_run("ce", "--set", "epochs=5", "--validate-every", every)
    assert outcome.code == 0, outcome.err
    assert "nan" not in outcome.err
    directory = run_of(tmp_path / "results")
    assert scored(directory) == epochs
    assert json.loads((directory / "run.json").read_text())["validate_every"] == every
    assert "nan" not in (directory / "run.log").read_text()


def test_it_changes_nothing_else(toy_run, tmp_path) -> None:
    found = {}
    for every in (1, 3):
        results = tmp_path / f"every{every}"
        words = ("--set", "epochs=4", "--results", results, "--validate-every", every)
        assert toy_run("ce", *words).code == 0
        directory = run_of(results)
        found[every] = directory, pd.read_csv(directory / "history.csv").set_index("epoch")
    (often, all_rows), (rarely, rows) = found[1], found[3]
    assert often.name == rarely.name  # the same science
    assert (often / "model.safetensors").read_bytes() == (rarely / "model.safetensors").read_bytes()
    with np.load(often / "predictions.npz") as one, np.load(rarely / "predictions.npz") as other:
        np.testing.assert_array_equal(one["test_logits"], other["test_logits"])
    there = rows[SCORE].dropna()
    assert there.index.tolist() == [3, 4]
    pd.testing.assert_series_equal(there, all_rows[SCORE].loc[[3, 4]])


def test_the_best_epoch_needs_every_score(toy_run, tmp_path) -> None:
    outcome = toy_run("ce", "--selection", "best", "--validate-every", 2)
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "--validate-every 2" in outcome.err
    assert not (tmp_path / "results").exists()
    assert toy_run("ce", "--validate-every", 0).code == 2


def test_curves_are_drawn_through_the_epochs_that_are_scored(toy_run, lmdbench, tmp_path) -> None:
    from lmdbench.reporting.plots.curves import History, read_history

    assert toy_run("ce", "--set", "epochs=5", "--validate-every", 2).code == 0
    rows = read_history(run_of(tmp_path / "results"))
    assert list(History((("ce", rows),), True).line(SCORE)) == [2.0, 4.0, 5.0]
    picture = tmp_path / "curves.pdf"
    outcome = lmdbench("plot", "curves", "--results", tmp_path / "results", "--output", picture)
    assert outcome.code == 0, outcome.err
    assert picture.stat().st_size > 0


@pytest.mark.usefixtures("quick_workers")
def test_a_sweep_hands_it_to_its_workers(lmdbench, toy_folder, tmp_path) -> None:
    results = tmp_path / "results"
    file = sweep_file(tmp_path, toy_folder)
    outcome = lmdbench("sweep", "launch", file, "--results", results, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert scored(run_of(results)) == [2, 4, 5]


def test_a_sweep_of_best_epochs_is_refused(lmdbench, toy_folder, tmp_path) -> None:
    file = sweep_file(tmp_path, toy_folder, "best")
    outcome = lmdbench("sweep", "plan", file, "--results", tmp_path / "results")
    assert outcome.code == 2
    assert "rarely.toml:12" in outcome.err


def test_a_slurm_job_has_it_too(toy_folder, tmp_path) -> None:
    """What a job pickles, carried out in a process of its own as on a node."""
    from lmdbench.runs.code_digest import combined
    from lmdbench.runs.options import IN_SWEEPS
    from lmdbench.runs.request import Contexts, RunContext, RunRequest
    from lmdbench.sweep.config.resources import Resources
    from lmdbench.sweep.executors.batches import Work, job_content
    from lmdbench.sweep.executors.jobs import RunJob
    from lmdbench.sweep.executors.slurm_job import SweepJob

    results, cache = tmp_path / "results", Path(os.environ["LMDBENCH_CACHE"])
    setup = RunContext("folder", toy_folder, backbone="small", image_size=24)
    request = RunRequest(setup, "ce", 0, {"epochs": "3"})
    run = request.plan(Contexts(results, cache, files=False).of(setup))
    key = run.directory.relative_to(results).as_posix()
    run_job = RunJob(key, run.spec.id, combined(run.code), request, 0)
    resources = Resources(on="slurm", time_minutes=60, threads=1)
    content = job_content(
        [run_job], resources, Work(results, cache, run=replace(IN_SWEEPS, validate_every=2))
    )
    done = subprocess.run(
        [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)()"],
        input=pickle.dumps(SweepJob(content)),
        env={**os.environ, "SLURM_JOB_ID": "1"},
        check=True,
        stdout=subprocess.PIPE,
    )
    assert scored(run.directory) == [2, 3]
    assert b"nan" not in done.stdout
