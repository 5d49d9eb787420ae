"""Executors by name: what is refused as one is registered, and a plug-in's that does a sweep."""

import json
import time
from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.sweep.executors import EXECUTORS, CommandExecutor, JobExecutor, register_executor

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "one_by_one.py"
GOOD = {
    "submit": lambda self, job: "1",
    "alive": lambda self, ids: {},
    "cancel": lambda self, ids: None,
}


def test_what_is_there():
    assert {"local", "slurm"} <= set(EXECUTORS)
    assert issubclass(EXECUTORS["slurm"], JobExecutor)
    assert all(executor.title for executor in EXECUTORS.all().values())
    with pytest.raises(UserError, match=r"unknown executor 'slrum'. Did you mean slurm\?"):
        EXECUTORS.get("slrum")


@pytest.mark.parametrize(
    ("changes", "title", "problem"),
    [
        ({}, "", "title is '', but must be text"),
        ({"submit": None}, "Odd", r"no submit; write def submit\(self, job\)"),
        ({"alive": None}, "Odd", r"no alive; write def alive\(self, ids\)"),
        ({"cancel": None}, "Odd", r"no cancel; write def cancel\(self, ids\)"),
        ({"submit": lambda self: "1"}, "Odd", r"submit can't be called; write def submit\(self, j"),
        ({"alive": lambda self, ids, users: {}}, "Odd", r"alive can't be called; write def alive"),
        ({"__init__": lambda self, host: None}, "Odd", "must be made without arguments"),
    ],
)
def test_ways_to_be_wrong(changes, title, problem):
    words = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(UserError, match=f"^executor 'odd': .*{problem}") as refused:
        register_executor("odd", title=title)(type("Odd", (CommandExecutor,), words))
    assert "\n" not in str(refused.value)
    assert "odd" not in EXECUTORS


@pytest.mark.parametrize("thing", [dict, lambda: None, object()])
def test_what_is_no_executor(thing):
    with pytest.raises(UserError, match="must be a class made from CommandExecutor"):
        register_executor("odd", title="Odd")(thing)


@pytest.fixture
def sweep(tmp_path, toy_folder, lmdbench):
    """``sweep(command, plugin, on)``: a command on a sweep of ce and crt that a plug-in does."""

    def call(command, plugin=EXAMPLE, on="one-by-one", *words):
        path = tmp_path / "toy.toml"
        path.write_text(
            f'methods = ["ce", "crt"]\nplugins = ["{plugin}"]\n[run]\nbackbone = "small"\n'
            "image_size = 24\n[settings.all]\nepochs = 1\n[settings.crt]\nepochs = 1\n"
            f'[resources]\non = "{on}"\nthreads = 1\n'
            f'[[datasets]]\nname = "folder"\ndata_root = "{toy_folder}"\n'
        )
        return lmdbench("sweep", command, path, "--results", tmp_path / "results", *words)

    return call


def settled(sweep, *states):
    """The states of all runs, once they are among these; waits for two minutes at most."""
    for _ in range(240):
        found = json.loads(sweep("status", EXAMPLE, "one-by-one", "--json").out)
        seen = {run["state"] for run in found["runs"]}
        if seen <= set(states):
            break
        time.sleep(0.5)
    return seen


def test_the_example_does_a_sweep(sweep, tmp_path):
    shown = sweep("launch", EXAMPLE, "one-by-one", "--dry-run")
    assert shown.code == 0, shown.err
    assert "lmdbench.sweep.executors.job_file" in shown.out
    assert not (tmp_path / "results" / "sweeps" / "toy" / "jobs").exists()
    launched = sweep("launch")
    assert launched.code == 0, launched.err
    assert "submitted job" in launched.err
    assert settled(sweep, "done") == {"done"}
    logs = list(tmp_path.glob("results/sweeps/toy/jobs/*.log"))
    assert len(logs) == 2  # a job for each run
    assert any("epoch 1/1" in log.read_text() for log in logs)
    assert "nothing to start" in sweep("launch").err


def test_its_jobs_are_cancelled_and_started_again(sweep, tmp_path):
    path = tmp_path / "slow_executor.py"
    path.write_text(
        EXAMPLE.read_text()
        .replace('"one-by-one"', '"slow"')
        .replace('["flock", lock, *job.command]', '["sh", "-c", "sleep 600; : lmdbench.sweep"]')
    )
    launched = sweep("launch", path, "slow")
    assert launched.code == 0, launched.err
    states = json.loads(sweep("status", path, "slow", "--json").out)["runs"]
    assert {run["state"] for run in states} == {"queued"}
    assert "nothing to start" in sweep("launch", path, "slow").err
    cancelled = sweep("cancel", path, "slow")
    assert (cancelled.code, "cancelled 2 jobs" in cancelled.err + cancelled.out) == (0, True)
    time.sleep(0.2)
    states = json.loads(sweep("status", path, "slow", "--json").out)["runs"]
    assert {run["state"] for run in states} == {"missing"}


def test_a_plug_in_that_is_gone_stops_a_launch_rather_than_doing_runs_twice(sweep, tmp_path):
    path = tmp_path / "gone_executor.py"
    path.write_text(
        EXAMPLE.read_text()
        .replace('"one-by-one"', '"gone"')
        .replace('["flock", lock, *job.command]', '["true"]')
        .replace("self._is_ours(pid)}", "True}")
    )
    assert sweep("launch", path, "gone").code == 0
    EXECUTORS._things.pop("gone")
    told = sweep("launch", EXAMPLE, "one-by-one")
    assert told.code == 2
    assert "nothing is started, as it could be done twice: unknown executor 'gone'" in told.err


def test_what_goes_wrong_in_one_is_told_in_a_line(sweep, tmp_path):
    for number, (line, message) in enumerate(
        (
            ("raise OSError('no such queue')", "submit fails with OSError: no such queue"),
            ("return None", "submit gives None, no id of the job that it started"),
        )
    ):
        path = tmp_path / f"broken_executor{number}.py"
        path.write_text(
            EXAMPLE.read_text()
            .replace('"one-by-one"', f'"broken{number}"')
            .replace('lock = job.log.parent / "one-by-one.lock"', line)
        )
        told = sweep("launch", path, f"broken{number}")
        assert (told.code, message in told.err) == (2, True), told.err
        assert "Traceback" not in told.err


@pytest.fixture
def deaf(sweep, tmp_path):
    """The sweep's runs handed over to an executor whose jobs end before they do anything, and whose
    ids are whole numbers. Returns its file and its class."""
    path = tmp_path / "deaf_executor.py"
    path.write_text(
        EXAMPLE.read_text()
        .replace('"one-by-one"', '"deaf"')
        .replace('["flock", lock, *job.command]', '["true"]')
        .replace("str(process.pid)", "process.pid")
    )
    launched = sweep("launch", path, "deaf")
    assert launched.code == 0, launched.err
    return path, EXECUTORS["deaf"]


def broken(*_):
    raise KeyError("x")


def test_jobs_with_whole_numbers_as_ids(sweep, deaf, monkeypatch):
    path, executor = deaf
    words = lambda self, ids: {int(ids[0]): 1, "of another": "running"}  # noqa: E731
    monkeypatch.setattr(executor, "alive", words)
    runs = json.loads(sweep("status", path, "deaf", "--json").out)["runs"]
    assert sorted(run["state"] for run in runs) == ["lost", "queued"]


@pytest.mark.parametrize(
    ("alive", "message"),
    [
        (lambda self, ids: list(ids), "deaf: alive gives list, but must give a table"),
        (broken, "deaf: broken fails with KeyError: 'x'"),
    ],
)
def test_what_alive_gives_wrong_is_told_in_a_line(sweep, deaf, monkeypatch, alive, message):
    path, executor = deaf
    monkeypatch.setattr(executor, "alive", alive)
    shown = sweep("status", path, "deaf")
    assert (shown.code, message in shown.out) == (3, True), shown
    for command in ("launch", "cancel"):
        told = sweep(command, path, "deaf")
        assert (told.code, message in told.err) == (2, True), told
        assert "Traceback" not in told.err


def test_a_cancel_that_fails_is_told_in_a_line(sweep, deaf, monkeypatch):
    path, executor = deaf
    monkeypatch.setattr(executor, "alive", lambda self, ids: dict.fromkeys(ids, "running"))
    monkeypatch.setattr(executor, "cancel", broken)
    told = sweep("cancel", path, "deaf")
    assert (told.code, "deaf: broken fails with KeyError: 'x'" in told.err) == (2, True), told
    assert "Traceback" not in told.err


def test_another_name_is_told_with_its_line(sweep):
    told = sweep("plan", EXAMPLE, "one-by-onne")
    assert told.code == 2
    assert "toy.toml:11: unknown executor 'one-by-onne'. Did you mean one-by-one?" in told.err
    told = sweep("launch", EXAMPLE, "one-by-one", "--on", "slrum")
    assert "--on: unknown executor 'slrum'. Did you mean slurm?" in told.err
    told = sweep("launch", EXAMPLE, "one-by-one", "--on", "one-by-one", "--workers", "2")
    assert "--workers is for this machine; leave it out, or --on one-by-one" in told.err
