"""`lmdbench sweep` through its entry point, on this machine."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmdbench.core.claim import Claim
from lmdbench.sweep.launch_record import Launch, read_launches, write_launch


@pytest.fixture
def file(toy_folder, tmp_path):
    """Writes a sweep of the toy folder: the beginning of its file is given."""

    def write(text, name="toy.toml"):
        path = tmp_path / name
        run = f'[run]\nbackbone = "small"\nimage_size = 24\ndata_root = "{toy_folder}"\n'
        path.write_text(f'datasets = ["folder"]\n{text}\n{run}')
        return path

    return write


SHORT = "[settings.all]\nepochs = 2\nbatch_size = 8\n"
BROKEN = """
from lmdbench.training.method import Method, register_method
from pathlib import Path

@register_method("mine")
class Mine(Method):
    def loss(self, batch):
        if not Path({mended!r}).exists():
            raise ValueError("too hot")
        return self.model(batch.images).square().mean()

@register_method("after-mine")
class AfterMine(Mine):
    starts_from = "mine"
"""
SLOW = """
import time
from lmdbench.training.method import register_method
from lmdbench.methods.ce import CrossEntropy

@register_method("slow")
class Slow(CrossEntropy):
    def epoch(self, number):
        time.sleep(0.5)
        return super().epoch(number)
"""


@pytest.fixture
def sweep(lmdbench, quick_workers, tmp_path):
    def call(command, file, *words):
        return lmdbench("sweep", command, file, "--results", tmp_path / "results", *words)

    return call


def test_a_sweep_from_plan_to_table(sweep, lmdbench, file, tmp_path):
    path = file(f'methods = ["ce", "crt"]\nseeds = [0, 1]\n{SHORT}')
    plan = sweep("plan", path)
    assert plan.code == 0, plan.err
    rows = [line.split() for line in plan.out.partition("\n\n")[0].splitlines()[1:]]
    assert {row[-1] for row in rows} == {"missing"}
    assert [row[1] for row in rows] == ["ce", "crt", "ce", "crt"]
    assert "shared: 2 runs trained once" in plan.out
    assert "--calibrate measures it" in plan.out
    assert not (tmp_path / "results").exists()

    launch = sweep("launch", path, "--workers", 2)
    assert launch.code == 0, launch.err
    assert "toy: 4 done" in launch.out
    status = sweep("status", path)
    assert status.code == 0
    assert "toy: 4 done" in status.out

    again = sweep("launch", path, "--workers", 1)
    assert again.code == 0
    assert "nothing to start" in again.err
    assert len(read_launches(tmp_path / "results")) == 1

    more = file(f'methods = ["ce", "crt"]\nseeds = [0, 1, 2]\n{SHORT}')
    plan = json.loads(sweep("plan", more, "--json").out)
    assert plan["states"] == {"done": 4, "missing": 2}
    guesses = [run["estimate"] for run in plan["runs"] if run["state"] == "missing"]
    assert [guess["source"] for guess in guesses] == [
        "2 finished runs of ce",
        "2 finished runs of crt",
    ]
    table = lmdbench("compare", "--results", tmp_path / "results", "--sweep", more, "--json")
    assert table.code == 0, table.err
    rows = json.loads(table.out)["blocks"][0]["rows"]
    assert [row["label"] for row in rows] == ["ce", "crt"]  # as in the file, without settings


def test_calibration_gives_an_estimate_and_is_kept(sweep, file):
    path = file(f'methods = ["ce"]\n{SHORT}')
    outcome = sweep("plan", path, "--calibrate", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "a measurement of ce" in outcome.out
    assert "a measurement of ce" in sweep("plan", path, "--summary").out


def test_a_failed_run_its_dependants_and_their_retry(sweep, file, tmp_path):
    mended = tmp_path / "mended"
    (tmp_path / "broken.py").write_text(BROKEN.format(mended=str(mended)))
    path = file(f'methods = ["after-mine", "ce"]\nplugins = ["broken.py"]\n{SHORT}')
    outcome = sweep("launch", path, "--workers", 1)
    assert outcome.code == 1
    assert "2 runs of toy failed, were lost or are damaged" in outcome.err
    assert f"lmdbench sweep retry {path}" in outcome.err
    status = sweep("status", path)
    assert status.code == 1
    assert "ValueError: too hot" in status.out
    assert "which failed" in status.out
    assert "toy: 1 done · 2 failed" in status.out

    launched = sweep("launch", path, "--workers", 1)
    assert launched.code == 1
    assert "left alone: 2 runs that failed" in launched.err
    mended.touch()
    outcome = sweep("retry", path, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert "toy: 3 done" in outcome.out


@pytest.fixture
def pool_at_work(copies, file, tmp_path):
    """Launches slow runs in a process of its own, until one has done an epoch: file, process."""
    started = []

    def start(epochs, seeds):
        (tmp_path / "slow.py").write_text(SLOW)
        path = file(f'methods = ["slow"]\nplugins = ["slow.py"]\nseeds = {seeds}\n'
                    f"[settings.all]\nepochs = {epochs}\nbatch_size = 8\n")  # fmt: skip
        words = ["sweep", "launch", str(path), "--results", str(tmp_path / "results")]
        process = copies.popen(
            [sys.executable, "-m", "lmdbench", *words, "--workers", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(process)
        deadline = time.monotonic() + 120
        while not list((tmp_path / "results").glob("*/*/slow/seed*/history.csv")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        return path, process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_killed_launch_leaves_lost_runs_and_the_next_goes_on(sweep, pool_at_work, tmp_path):
    path, process = pool_at_work(epochs=6, seeds=[0, 1])
    found = json.loads(sweep("status", path, "--json").out)
    assert found["states"] == {"running": 1, "queued": 1}
    (running,) = (run for run in found["runs"] if run["state"] == "running")
    assert running["epoch"] >= 1
    assert running["epochs"] == 6
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 120
    while (states := json.loads(sweep("status", path, "--json").out)["states"]) != {
        "lost": 1,
        "missing": 1,
    }:
        assert time.monotonic() < deadline, states
        time.sleep(0.2)
    outcome = sweep("launch", path, "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert "toy: 2 done" in outcome.out
    records = (tmp_path / "results").glob("*/*/slow/seed*/run.json")
    assert sorted(json.loads(record.read_text())["attempts"] for record in records) == [1, 2]


def test_cancel_stops_a_pool(sweep, pool_at_work):
    path, process = pool_at_work(epochs=600, seeds=[0])
    outcome = sweep("cancel", path)
    assert outcome.code == 0, outcome.err
    assert f"stopped the pool of workers (process {process.pid})" in outcome.err
    assert "toy: 1 lost" in outcome.out
    assert process.wait(timeout=30) == 130
    assert "nothing of it is under way" in sweep("cancel", path).err


def test_other_code_is_redone_only_when_asked(sweep, file, tmp_path):
    plugin = tmp_path / "slow.py"
    plugin.write_text(SLOW)
    path = file(f'methods = ["slow"]\nplugins = ["slow.py"]\n{SHORT}')
    assert sweep("launch", path, "--workers", 1).code == 0
    # A new process, as the plug-in is loaded once in each.
    plugin.write_text(SLOW.replace("0.5", "0.1"))
    outcome = sweep("launch", path, "--workers", 1)
    assert outcome.code == 3  # as status says: there is work left
    assert "left alone: 1 run that changed" in outcome.err
    assert "toy: 1 changed" in outcome.out
    outcome = sweep("launch", path, "--workers", 1, "--redo-changed")
    assert outcome.code == 0, outcome.err
    assert "toy: 1 done" in outcome.out
    assert len(list((tmp_path / "results").glob("*/*/slow/seed*.old-*"))) == 1


def test_a_pool_on_another_machine_is_not_called_cancelled(sweep, file, tmp_path):
    path = file(f'methods = ["ce"]\n{SHORT}')
    folder = tmp_path / "results" / "sweeps" / "toy"
    (key,) = (run["directory"] for run in json.loads(sweep("plan", path, "--json").out)["runs"])
    key = str(Path(key).relative_to(tmp_path / "results"))
    write_launch(folder, Launch("far", "local", ((key,),), sweeps=("toy",)))
    record = {"token": "t", "host": "elsewhere", "pid": 1, "machine": "elsewhere"}
    (folder / "launches" / "far.claim").write_text(json.dumps(record))
    for _ in range(2):
        outcome = sweep("cancel", path)
        assert outcome.code == 1
        assert "the pool of workers runs on elsewhere (process 1): cancel it there" in outcome.err
        assert "toy: 1 queued" in outcome.out


def test_what_to_do_next_repeats_the_folders(sweep, file, tmp_path):
    outcome = sweep("status", file(f'methods = ["ce"]\n{SHORT}'))
    assert f"lmdbench sweep launch {tmp_path}/toy.toml --results {tmp_path}/results" in outcome.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--on", "slurm", "--workers", 2), "--workers is for this machine"),
        (("--workers", 2, "--gpus", "0"), "--workers is for the CPU, --gpus for GPUs"),
        (("--accept-changed", "--redo-changed"), "give one of them"),
    ],
)
def test_options_that_do_not_go_together(sweep, file, words, complaint):
    outcome = sweep("launch", file(f'methods = ["ce"]\n{SHORT}'), *words)
    assert outcome.code == 2
    assert complaint in outcome.err


@pytest.mark.parametrize("command", ["plan", "launch", "status", "retry", "cancel"])
@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("nowhere.toml", "nowhere.toml: no such file; presets are ablation, demo, foundation"),
        ("papr", "unknown sweep file or preset 'papr'. Did you mean paper?"),
    ],
)
def test_a_wrong_name_is_one_line(sweep, command, source, complaint):
    outcome = sweep(command, source)
    assert outcome.code == 2
    assert complaint in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_slurm_needs_a_time_limit_and_a_cluster(sweep, file, monkeypatch):
    path = file(f'methods = ["ce"]\n{SHORT}')
    outcome = sweep("launch", path, "--on", "slurm")
    assert outcome.code == 2
    assert "needs the time limit of a job" in outcome.err
    path = file(f'methods = ["ce", "crt"]\n{SHORT}[slurm]\ntime = "8h"\npartition = "gpu"\n')
    monkeypatch.setenv("PATH", "/nowhere")
    outcome = sweep("launch", path, "--on", "slurm", "--dry-run")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("#SBATCH --partition=gpu") == 2
    assert "--dependency" in outcome.out
    outcome = sweep("launch", path, "--on", "slurm")
    assert outcome.code == 2
    assert "PATH" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not read_launches(path.parent / "results")


def test_a_dry_run_of_a_pool_names_the_runs_in_order(sweep, file, tmp_path):
    outcome = sweep("launch", file(f'methods = ["crt", "ce"]\n{SHORT}'), "--dry-run")
    assert outcome.code == 0
    first, second = (line for line in outcome.out.splitlines() if line.startswith("  "))
    assert "ce seed 0" in first
    assert ", after ce seed 0" in second
    assert not (tmp_path / "results").exists()


def test_watch_ends_when_nothing_is_under_way(sweep, file):
    outcome = sweep("status", file(f'methods = ["ce"]\n{SHORT}'), "--watch")
    assert outcome.code == 3
    assert "toy: 1 missing" in outcome.out


def test_cancel_names_a_run_that_it_did_not_start(sweep, file, tmp_path):
    path = file(f'methods = ["ce"]\n{SHORT}')
    (run,) = json.loads(sweep("status", path, "--json").out)["runs"]
    directory = Path(run["directory"])
    directory.mkdir(parents=True)
    claim = Claim(directory / "running.json")
    assert claim.acquire()
    try:
        outcome = sweep("cancel", path)
    finally:
        claim.release()
    assert (outcome.code, outcome.out.strip()) == (0, "toy: 1 running")
    assert "1 run at work otherwise, such as ce seed 0 on " in outcome.err
    assert f"(process {os.getpid()} on {platform.node()}), must be ended there" in outcome.err


def test_another_sweep_of_the_same_name_is_not_cancelled(sweep, file, tmp_path):
    folder = tmp_path / "results" / "sweeps" / "toy"
    other = "folder-toy0/given/ce/seed9-00000000"
    write_launch(folder, Launch("far", "local", ((other,),), sweeps=("toy",)))
    record = {"token": "t", "host": "elsewhere", "pid": 1, "machine": "elsewhere"}
    (folder / "launches" / "far.claim").write_text(json.dumps(record))
    outcome = sweep("cancel", file(f'methods = ["ce"]\n{SHORT}'))
    assert outcome.code == 0
    assert "nothing of it is under way" in outcome.err


def test_set_ups_are_told_apart_in_80_columns(sweep, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / "wide.toml"
    path.write_text(
        'methods = ["ce"]\n[[datasets]]\nname = "demo"\n'
        "imbalance_factor = [100, 101, 102, 103, 104, 105, 106, 107]\n"
    )
    outcome = sweep("status", path)
    assert outcome.code == 3
    assert "…" not in outcome.out
