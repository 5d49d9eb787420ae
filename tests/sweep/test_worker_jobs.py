"""`[slurm] workers`: jobs of a real SLURM that each take the next run that is ready."""

import json
import os
import signal
import subprocess

import pytest

from lmdbench.core.claim import Claim
from lmdbench.sweep.executors import slurm as on_slurm
from lmdbench.sweep.executors.offers import OFFERS
from lmdbench.sweep.launch_record import read_launches

PLUGIN = '''
import os
import time

from lmdbench.training.method import METHODS, register_method


@register_method("unhurried")
class Unhurried(METHODS.get("ce")):
    """Cross-entropy that takes its time, in jobs."""

    def epoch(self, number):
        if "SLURM_JOB_ID" in os.environ:
            time.sleep(0.5)
        return super().epoch(number)
'''
SWEEP = """
name = "crew"
methods = [
    "unhurried",
    {{name = "crt", starts_from = "unhurried"}},
    {{name = "lws", starts_from = "unhurried"}},
]
seeds = [0, 1]
datasets = ["folder"]
plugins = ["unhurried.py"]
[settings.all]
epochs = 6
batch_size = 8
[run]
backbone = "small"
image_size = 24
data_root = "{folder}"
[resources]
on = "slurm"
threads = 1
[slurm]
time = "10m"
workers = {workers}
"""


@pytest.fixture
def inside(slurm, monkeypatch):
    """Commands of this process and their children use the cluster of the tests."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.env[name])


@pytest.fixture
def file(toy_folder, tmp_path):
    (tmp_path / "unhurried.py").write_text(PLUGIN)

    def write(workers=3):
        path = tmp_path / "crew.toml"
        path.write_text(SWEEP.format(folder=toy_folder, workers=workers))
        return path

    return write


@pytest.fixture
def sweep(lmdbench, tmp_path):
    def call(command, path, *words):
        return lmdbench("sweep", command, path, "--results", tmp_path / "results", *words)

    return call


def holders(results):
    """Directory → the living holder of its claim."""
    found = {}
    for path in results.glob("*/*/*/*/running.json"):
        holder = Claim(path).holder() or {}
        if holder.get("alive"):
            found[path.parent] = holder
    return found


def epochs(directory):
    history = directory / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def logs(results):
    found = sorted((results / "sweeps" / "crew" / "submitit").glob("*log*"))
    return "\n".join(f"--- {path.name}\n{path.read_text()[-1500:]}" for path in found)


def test_workers_do_each_run_once_through_kills_cancels_and_requeues(
    sweep, file, inside, slurm, lmdbench, quick_workers, until, predictions, tmp_path
):
    results, path = tmp_path / "results", file()
    launched = sweep("launch", path)
    assert launched.code == 0, launched.err
    assert "6 runs are offered to 3 workers, 3 of them new" in launched.err
    again = sweep("launch", path)
    assert "nothing to start" in again.err
    assert len({job.job for job in on_slurm.queue()}) == 3

    def at_work(method, number):
        found = {d: h for d, h in holders(results).items() if f"/{method}/" in str(d)}
        return found if len(found) == number and all(map(epochs, found)) else None

    first, second = until(lambda: at_work("unhurried", 2)).items()
    told = json.loads(sweep("status", path, "--json").out)
    assert told["workers"] == 3
    assert told["states"] == {"running": 2, "queued": 4}
    assert "queued: 4 offered to 3 workers" in sweep("status", path).out
    subprocess.run(["scontrol", "requeue", first[1]["job"]], check=True)
    os.kill(second[1]["pid"], signal.SIGKILL)
    heads = until(lambda: {d: h for d, h in holders(results).items() if "unhurried" not in str(d)})
    on_slurm.cancel([next(iter(heads.values()))["job"]])
    slurm.wait_empty(200)

    status = sweep("status", path)
    assert status.code == 0, f"{status.out}\n{logs(results)}"
    assert "crew: 6 done" in status.out
    alone = tmp_path / "alone"
    done = lmdbench("sweep", "launch", path, "--on", "local", "--workers", 1, "--results", alone)
    assert done.code == 0, done.err
    for record in alone.glob("*/*/*/*/run.json"):
        key = record.parent.relative_to(alone)
        assert predictions(results / key) == predictions(alone / key), key
        attempts = json.loads((results / key / "run.json").read_text())["attempts"]
        assert attempts <= 3, key


def test_workers_are_cancelled_and_launched_anew_up_to_their_number(
    sweep, file, inside, slurm, until, tmp_path
):
    results, path = tmp_path / "results", file(workers=1)
    assert sweep("launch", path).code == 0
    until(lambda: holders(results))
    more = sweep("launch", file(workers=2))  # nothing new, but one worker more
    assert "0 runs are offered to 2 workers, 1 of them new" in more.err
    cancelled = sweep("cancel", path)
    assert cancelled.code == 0, cancelled.err
    slurm.wait_empty(60)
    assert all(launch.cancelled for _, launch in read_launches(results))
    assert not list((results / "sweeps" / "crew" / OFFERS).glob("*"))
    status = sweep("status", path)
    assert status.code in (1, 3)  # lost, where one had begun
    assert "workers: 0 of 2 alive; launch again for 6 runs" in status.out
    dry = sweep("launch", path, "--dry-run")
    assert "--array=0-1" in dry.out
    assert "would start 6 runs" in dry.out
