"""Checkpoints of some epochs only: ``--checkpoint-every`` and ``checkpoint_every`` in a sweep."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from lmdbench.core.errors import UserError
from lmdbench.runs.options import IN_SWEEPS, RunOptions
from lmdbench.runs.train import Training
from lmdbench.sweep.config.file import read_sweep


def finished(results: Path, method: str) -> Path:
    (directory,) = (path.parent for path in results.glob(f"*/*/{method}/seed*/done"))
    return directory


@pytest.fixture
def saved(monkeypatch) -> list[int]:
    """The epochs after which a checkpoint was written."""
    epochs = []
    save = Training._save

    def noted(self, method):
        save(self, method)
        epochs.append(self.state.epoch)

    monkeypatch.setattr(Training, "_save", noted)
    return epochs


@pytest.mark.parametrize(
    ("every", "after"), [("1", [1, 2, 3, 4, 5]), ("2", [2, 4, 5]), ("9", [5]), ("10m", [5])]
)
def test_each_nth_epoch_and_the_last_are_saved(toy_run, tmp_path, saved, every, after):
    outcome = toy_run("ce", "--set", "epochs=5", "--checkpoint-every", every)
    assert outcome.code == 0, outcome.err
    assert saved == after
    directory = finished(tmp_path / "results", "ce")
    assert pd.read_csv(directory / "history.csv")["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert not (directory / "checkpoint.pt").exists()


def test_minutes_are_counted_from_the_last_checkpoint():
    options = RunOptions(checkpoint_every="10m")
    assert not options.checkpoint_due(400, 599)
    assert options.checkpoint_due(1, 600)
    assert RunOptions(checkpoint_every=3).checkpoint_due(3, 0)
    assert not RunOptions(checkpoint_every=3).checkpoint_due(2, 9999)


def test_checkpoints_that_take_long_take_a_tenth_of_the_time():
    """A round of .6 s whose checkpoint takes 2.8 s: one in 28 s, and each while it takes little."""
    options = RunOptions()
    assert options.checkpoint_due(1, 0.6)
    assert options.checkpoint_due(1, 0.6, writing=0.2)
    assert not options.checkpoint_due(46, 27.6, writing=2.8)
    assert options.checkpoint_due(47, 28.2, writing=2.8)
    assert RunOptions(checkpoint_every=1).checkpoint_due(1, 0.6, writing=2.8)


def test_one_that_takes_long_is_followed_by_none_for_long(toy_run, tmp_path, saved, monkeypatch):
    monkeypatch.setattr("lmdbench.runs.options.QUICK_SECONDS", 0.0)
    monkeypatch.setattr("lmdbench.runs.options.WRITING_SHARE", 1e-6)
    assert toy_run("ce", "--set", "epochs=4").code == 0
    assert saved == [1, 4]
    directory = finished(tmp_path / "results", "ce")
    assert pd.read_csv(directory / "history.csv")["epoch"].tolist() == [1, 2, 3, 4]


KILLED = """
import os, signal, sys
from lmdbench.runs.train import Training
epoch = Training._epoch
def killed(self, method, task, number):
    epoch(self, method, task, number)
    if self.run.spec.method == {method!r} and number + 1 == {last}:
        os.kill(os.getpid(), signal.SIGKILL)
Training._epoch = killed
from lmdbench.cli.main import main
sys.exit(main())
"""


def test_killed_after_epochs_without_a_checkpoint_equals_uninterrupted(
    toy_run, toy_folder, tmp_path
):
    method = "rrl"
    words = ("--set", "epochs=6", "--selection", "best", "--checkpoint-every", "3")
    assert toy_run(method, *words[:-2]).code == 0
    whole = finished(tmp_path / "results", method)
    results = tmp_path / "killed"
    process = subprocess.run(
        [
            *(sys.executable, "-c", KILLED.format(method=method, last=5)),
            *("run", "--method", method, "--dataset", "folder", "--data-root", str(toy_folder)),
            *("--backbone", "small", "--image-size", "24", "--results", str(results), *words),
        ],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    (directory,) = (path.parent for path in results.glob(f"*/*/{method}/seed*/checkpoint.pt"))
    assert pd.read_csv(directory / "history.csv")["epoch"].tolist() == [1, 2, 3]
    again = toy_run(method, *words, "--results", results)
    assert "resuming after epoch 3" in again.err
    assert directory.name == whole.name  # the same science
    for name in ("predictions.npz", "model.safetensors"):
        assert (directory / name).read_bytes() == (whole / name).read_bytes()
    columns = ["epoch", "validation_balanced_accuracy"]
    first, second = (pd.read_csv(one / "history.csv")[columns] for one in (whole, directory))
    pd.testing.assert_frame_equal(first, second)
    assert json.loads((directory / "run.json").read_text())["attempts"] == 2


@pytest.mark.parametrize("wrong", ["0", "", "-1", "1.5", "10 min", "m", "0m", "5h", "²"])
def test_other_intervals_are_refused_in_a_line(toy_run, tmp_path, wrong):
    outcome = toy_run("ce", "--checkpoint-every", wrong)
    assert outcome.code == 2
    assert "--checkpoint-every" in outcome.err
    assert '"10m"' in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("wrong", [0, True, 1.5, None, "5h"])
def test_other_intervals_are_refused_from_python(wrong):
    with pytest.raises(UserError, match="checkpoint_every is"):
        RunOptions(checkpoint_every=wrong)


def sweep(tmp_path, every: str):
    path = tmp_path / "some.toml"
    top = 'datasets = ["demo"]\nmethods = ["ce"]\n'
    path.write_text(f"{top}[resources]\ncheckpoint_every = {every}")
    return read_sweep(str(path), None)


def test_a_sweep_names_it(tmp_path):
    run = sweep(tmp_path, '"10m"').resources.run
    assert run.checkpoint_every == "10m"
    assert RunOptions.from_json({**vars(run), "log": []}) == run
    assert sweep(tmp_path, "4").resources.run.checkpoint_every == 4
    with pytest.raises(UserError, match=r'some.toml:4: checkpoint_every is "5h"; give epochs'):
        sweep(tmp_path, '"5h"')
    assert IN_SWEEPS.checkpoint_every == sweep(tmp_path, '"auto"').resources.run.checkpoint_every
