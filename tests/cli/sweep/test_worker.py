"""`lmdbench sweep worker`: real workers side by side, one of them killed."""

import json
import subprocess
import sys

import numpy as np
import pytest

SWEEP = """
name = "pull"
methods = ["ce", "crt", "lws"]
seeds = [0]
datasets = ["folder"]
[settings.ce]
epochs = 6
[settings.all]
epochs = 2
batch_size = 8
[run]
backbone = "small"
image_size = 24
data_root = "{folder}"
[resources]
threads = 1
"""


@pytest.fixture
def file(toy_folder, tmp_path):
    path = tmp_path / "pull.toml"
    path.write_text(SWEEP.format(folder=toy_folder))
    return path


@pytest.fixture
def sweep(lmdbench, quick_workers, file, tmp_path):
    def call(command, *words):
        return lmdbench("sweep", command, file, "--results", tmp_path / "results", *words)

    return call


def records(results):
    return {
        path.parent.relative_to(results): json.loads(path.read_text())
        for path in results.glob("*/*/*/*/run.json")
    }


def logits(directory):
    with np.load(directory / "predictions.npz") as arrays:
        return {name: array.tobytes() for name, array in arrays.items()}


def test_workers_side_by_side_do_each_run_once(sweep, lmdbench, copies, file, tmp_path):
    """One is killed with its pool: another takes its run, and all end as one pool would."""
    results = tmp_path / "results"
    words = ["sweep", "worker", str(file), "--results", str(results), "--workers", "1"]
    one, two = (
        copies.popen([sys.executable, "-m", "lmdbench", *words], stderr=subprocess.PIPE)
        for _ in range(2)
    )
    for line in one.stderr:
        if b"epoch" in line or b"starting" in line:
            break
    one.kill()
    one.stderr.close()
    one.wait()
    err = two.communicate(timeout=120)[1].decode()
    assert two.returncode in (0, 1), err
    last = sweep("worker", "--workers", 1)
    assert last.code == 0, last.err
    assert "pull: 3 done" in last.out
    found = records(results)
    assert len(found) == 3
    assert sorted(record["attempts"] for record in found.values())[:2] == [1, 1]
    again = sweep("worker", "--workers", 1)
    assert again.code == 0
    assert "no run is left to take" in again.err
    alone = tmp_path / "alone"
    done = lmdbench("sweep", "launch", file, "--results", alone, "--workers", 1)
    assert done.code == 0, done.err
    assert {key: logits(results / key) for key in found} == {
        key: logits(alone / key) for key in found
    }


def test_a_worker_stops_when_its_time_is_up(sweep, file, tmp_path):
    file.write_text(file.read_text().replace("epochs = 6", "epochs = 5000"))  # of ce, the first one
    stopped = sweep("worker", "--workers", 1, "--for", "1s")
    begun = "1 lost" in stopped.out  # where a worker starts in less than a second
    assert stopped.code == (1 if begun else 3)  # as status says
    assert "3 runs left undone: its time is up" in stopped.err
    assert not list((tmp_path / "results").glob("*/*/*/*/running.json"))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--for", "soon"), "'soon' is no time such as 30s, 90m or 8h"),
        (("--idle", "2"), "'2' is no time"),
        (("--workers", 2, "--gpus", "0"), "--workers is for the CPU, --gpus for GPUs"),
    ],
)
def test_options_that_make_no_sense(sweep, words, complaint):
    outcome = sweep("worker", *words)
    assert outcome.code == 2
    assert complaint in outcome.err
