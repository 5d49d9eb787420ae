"""What loggers are told and what they may cost; and event files for TensorBoard say what
history.csv says, as TensorBoard itself reads them."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from lmdbench.core.errors import UserError
from lmdbench.training.loggers import (
    LOGGERS,
    Logger,
    Loggers,
    check_loggers,
    register_logger,
)
from lmdbench.training.loggers.tensorboard import TensorBoard

pytest.importorskip("tensorboard")
WITH = ("--log", "tensorboard")


def scalars(directory):
    """What TensorBoard makes of a run's event files: tag → [(step, value)]."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(directory / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    tags = read.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in tags}


def expected(directory):
    """The history by column, in the single precision that event files have."""
    history = pd.read_csv(directory / "history.csv").set_index("epoch")
    return {
        name: [(step, float(np.float32(value))) for step, value in column.dropna().items()]
        for name, column in history.items()
    }


def row(epoch, **values):
    return {"epoch": epoch, **values, "seconds": 2.0}


def tensorboard(directory):
    log = TensorBoard()
    log.begin({}, {}, directory)
    return log


def run_of(results, method="ce"):
    (directory,) = (path.parent for path in results.glob(f"*/*/{method}/seed*/run.json"))
    return directory


def test_every_column_of_the_history_is_a_scalar(toy_run, tmp_path):
    assert toy_run("crt", "--set", "epochs=3", "--set", "ce.epochs=2", *WITH).code == 0
    for method, epochs in (("ce", 2), ("crt", 3)):
        directory = run_of(tmp_path / "results", method)
        assert scalars(directory) == expected(directory)
        assert len(scalars(directory)["loss"]) == epochs


def test_nothing_is_written_or_imported_unless_asked(toy_run, tmp_path):
    sys.modules.pop("tensorboard.compat.proto.event_pb2", None)
    assert toy_run("ce", "--set", "epochs=1").code == 0
    assert not (run_of(tmp_path / "results") / "tensorboard").exists()
    assert "tensorboard.compat.proto.event_pb2" not in sys.modules


def test_it_is_no_part_of_a_run_s_identity(toy_run, tmp_path):
    toy_run("ce", "--set", "epochs=1")
    assert "finished" in toy_run("ce", "--set", "epochs=1", *WITH).err


def test_killed_and_resumed_has_neither_gaps_nor_doubles(toy_run, copies, toy_folder, tmp_path):
    """SIGKILL twice, the second time in an attempt that resumed; then to the end."""
    words = ("--set", "epochs=60", *WITH)
    results = tmp_path / "results"
    command = (
        *(sys.executable, "-m", "lmdbench", "run", "--method", "ce", "--dataset", "folder"),
        *("--data-root", toy_folder, "--backbone", "small", "--image-size", 24),
        *("--results", results, *words),
    )
    before = 0
    for _ in range(2):
        process = copies.popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            histories = [*results.glob("*/*/ce/seed*/history.csv")]
            if histories and len(histories[0].read_text().splitlines()) > before + 3:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL, "finished before it was killed"
        before = len(histories[0].read_text().splitlines())
    assert "resuming after epoch" in toy_run("ce", *words).err
    directory = run_of(results)
    assert len(scalars(directory)["loss"]) == 60
    assert scalars(directory) == expected(directory)
    sizes = sorted(path.stat().st_size for path in (directory / "tensorboard").iterdir())
    assert sizes[-1] > 0
    assert not any(sizes[:-1])


def test_an_attempt_that_is_logged_later_has_the_earlier_epochs(tmp_path):
    history = [row(1, loss=2.0), row(2, loss=1.0)]
    log = tensorboard(tmp_path)
    log.epoch(history)
    history.append(row(3, loss=0.5))
    log.epoch(history)
    log.end(None)
    assert scalars(tmp_path)["loss"] == [(1, 2.0), (2, 1.0), (3, 0.5)]


def test_times_are_those_of_the_epochs(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = tensorboard(tmp_path)
    log.epoch([row(1, loss=2.0), row(2, loss=1.0), row(3, loss=1.0)])
    log.end(None)
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    first, second, third = (event.wall_time for event in read.Scalars("loss"))
    assert second - first == pytest.approx(2, abs=0.01)
    assert third == pytest.approx(time.time(), abs=60)


def test_what_is_no_number_is_left_out_as_in_the_table(tmp_path):
    log = tensorboard(tmp_path)
    log.epoch([row(1, loss=2.0, validation_balanced_accuracy=math.nan)])
    log.end(None)
    assert scalars(tmp_path).keys() == {"loss", "seconds"}


def test_a_run_without_epochs_has_no_files(tmp_path):
    log = tensorboard(tmp_path)
    log.epoch([])
    log.end(None)
    assert not (tmp_path / "tensorboard").exists()


def test_a_full_disk_costs_events_and_they_come_back(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("can't mount a small file system here")
    try:
        history = [row(1, loss=2.0)]
        log = tensorboard(disk)
        log.epoch(history)
        room = os.statvfs(disk)
        (disk / "ballast").write_bytes(b"0" * room.f_bavail * room.f_frsize)
        for epoch in range(2, 40):  # more than the page that the file has
            history.append(row(epoch, **{f"a_long_name_{n}": float(n) for n in range(20)}))
            log.epoch(history)
        (disk / "ballast").unlink()
        history.append(row(40, loss=1.0))
        log.epoch(history)
        log.end(None)
        found = scalars(disk)
        assert [step for step, _ in found["seconds"]] == list(range(1, 41))
        assert found["loss"] == [(1, 2.0), (40, 1.0)]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_in_the_way_never_costs_the_run(toy_run, tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    log = tensorboard(tmp_path)
    log.epoch([row(1, loss=1.0)])
    log.end(None)
    assert (tmp_path / "tensorboard").read_text() == "a file"


def test_a_missing_package_is_told_before_anything_is_trained(toy_run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    outcome = toy_run("ce", *WITH)
    assert outcome.code == 2
    assert 'pip install "lmdbench[tensorboard]"' in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "results").exists()
    with pytest.raises(UserError, match="needs the package tensorboard"):
        Loggers(["tensorboard"])
    check_loggers([])


class Broken(Logger):
    """Raises where it is told to, and notes what it hears."""

    heard: ClassVar[list] = []
    breaks = ""

    def _hear(self, what):
        self.heard.append(what)
        if what == self.breaks:
            raise RuntimeError("no\nnetwork")

    def begin(self, record, settings, directory):
        self._hear("begin")
        assert record["spec"]["settings"] == json.loads(json.dumps(settings))
        assert (directory / "run.json").exists()

    def epoch(self, history):
        with pytest.raises(TypeError):
            history[0]["loss"] = 0  # what others are told is not its to change
        self._hear("epoch")

    def end(self, scores):
        self._hear("end" if scores is None else "scores")

    def fail(self, reason):
        self._hear(reason)


@pytest.fixture
def broken(monkeypatch):
    """A logger ``broken`` that is registered for a test."""
    monkeypatch.setattr(LOGGERS, "_things", dict(LOGGERS.all()))
    register_logger("broken", title="Breaks")(Broken)
    monkeypatch.setattr(Broken, "heard", [])
    return Broken


@pytest.mark.parametrize(
    ("breaks", "heard"),
    [
        ("", ["begin", "epoch", "epoch", "scores"]),
        ("begin", ["begin"]),
        ("epoch", ["begin", "epoch"]),
        ("scores", ["begin", "epoch", "epoch", "scores"]),
    ],
)
def test_what_a_logger_raises_costs_a_line_and_never_the_run(
    toy_run, tmp_path, monkeypatch, broken, breaks, heard
):
    monkeypatch.setattr(broken, "breaks", breaks)
    outcome = toy_run("ce", "--set", "epochs=2", "--log", "broken", *WITH)
    assert outcome.code == 0, outcome.err
    assert broken.heard == heard
    directory = run_of(tmp_path / "results")
    lines = [line for line in (directory / "run.log").read_text().splitlines() if "broken" in line]
    told = "logger broken: RuntimeError: no; it is told nothing more of this attempt"
    assert [line.partition("WARNING ")[2] for line in lines] == [told] * bool(breaks)
    assert scalars(directory) == expected(directory)  # the other one hears on


def test_a_run_that_fails_says_why_and_has_no_scores(toy_run, broken, tmp_path):
    assert toy_run("ce", "--set", "epochs=2", "--set", "lr=1e30", "--log", "broken").code != 0
    assert broken.heard[0] == "begin"
    assert "not finite after epoch 1" in broken.heard[-1]
    assert not {"scores", "end"} & {*broken.heard}


def test_to_a_logger_that_knows_no_failures_one_is_an_end_without_scores(
    toy_run, broken, tmp_path, monkeypatch
):
    monkeypatch.delattr(Broken, "fail")
    assert toy_run("ce", "--set", "epochs=2", "--set", "lr=1e30", "--log", "broken").code != 0
    assert broken.heard[-1] == "end"
    told = {"begin": lambda *_: None, "epoch": lambda *_: None, "end": broken.end}
    alien = type("Alien", (), {**told, "_hear": Broken._hear, "heard": broken.heard, "breaks": ""})
    monkeypatch.setattr(LOGGERS, "_things", {**LOGGERS.all(), "alien": alien})
    loggers = Loggers(["alien"])
    loggers.begin({}, {}, tmp_path)
    loggers.fail("no room")
    assert broken.heard[-2:] == ["end", "end"]


def test_one_that_can_not_be_made_costs_a_line(toy_run, broken, tmp_path, monkeypatch):
    monkeypatch.setattr(broken, "__init__", lambda self: 1 / 0)
    assert toy_run("ce", "--set", "epochs=1", "--log", "broken").code == 0
    log = (run_of(tmp_path / "results") / "run.log").read_text()
    assert "logger broken: ZeroDivisionError" in log


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: register_logger("x", title="")(Broken), "title is '', but must be text"),
        (lambda: register_logger("x", title="X", needs=1)(Broken), "needs is 1, but must be"),
        (lambda: register_logger("x", title="X")(Broken()), "is a Broken, but must be a class"),
        (lambda: register_logger("x", title="X")(type("X", (), {})), "has no method begin(record"),
        (
            lambda: register_logger("x", title="X")(type("X", (Logger,), {"end": lambda s: s})),
            "it is called end(scores), but too many positional",
        ),
        (
            lambda: register_logger("x", title="X")(
                type("X", (Logger,), {"epochs": lambda self, history: None})
            ),
            "nothing reads its epochs. Did you mean epoch?",
        ),
        (
            lambda: register_logger("x", title="X")(type("X", (Logger,), {"epoch": 3})),
            "has no method epoch(history)",
        ),
        (
            lambda: register_logger("x", title="X")(
                type("X", (Logger,), {"__init__": lambda self, key: None})
            ),
            "made without arguments, but missing a required argument: 'key'",
        ),
    ],
)
def test_what_is_no_logger_is_refused_in_one_line(make, said):
    with pytest.raises(UserError) as told:
        make()
    assert str(told.value).startswith("logger 'x'")
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert "x" not in LOGGERS


def test_a_name_that_no_logger_has(toy_run, tmp_path):
    outcome = toy_run("ce", "--log", "tensorbord")
    assert outcome.code == 2
    assert "unknown logger 'tensorbord'. Did you mean tensorboard?" in outcome.err
    assert not (tmp_path / "results").exists()


# In sweeps


def sweep_file(tmp_path, toy_folder, log='log = "tensorboard"'):
    path = tmp_path / "logged.toml"
    path.write_text(
        f'datasets = ["folder"]\nmethods = ["ce"]\nseeds = 0\n'
        f'[run]\nbackbone = "small"\nimage_size = 24\ndata_root = "{toy_folder}"\n'
        f"[settings.all]\nepochs = 2\n[resources]\n{log}\n"
    )
    return path


@pytest.mark.usefixtures("quick_workers")
def test_a_sweep_hands_it_to_its_workers(lmdbench, toy_folder, tmp_path):
    file = sweep_file(tmp_path, toy_folder)
    results = tmp_path / "results"
    outcome = lmdbench("sweep", "launch", file, "--results", results, "--workers", 1)
    assert outcome.code == 0, outcome.err
    directory = run_of(results)
    assert scalars(directory) == expected(directory)
    assert len(scalars(directory)["loss"]) == 2


@pytest.mark.usefixtures("quick_workers")
def test_a_sweep_may_have_several(lmdbench, toy_folder, tmp_path):
    example = Path(__file__).resolve().parents[3] / "docs" / "examples" / "json_lines.py"
    file = sweep_file(tmp_path, toy_folder, 'log = ["tensorboard", "json-lines"]')
    file.write_text(f'plugins = ["{example}"]\n{file.read_text()}')
    results = tmp_path / "results"
    outcome = lmdbench("sweep", "launch", file, "--results", results, "--workers", 1)
    assert outcome.code == 0, outcome.err
    directory = run_of(results)
    assert scalars(directory) == expected(directory)
    assert len((directory / "events.jsonl").read_text().splitlines()) == 4


def test_a_sweep_without_the_package_starts_nothing(lmdbench, toy_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    file = sweep_file(tmp_path, toy_folder)
    outcome = lmdbench("sweep", "launch", file, "--results", tmp_path / "results")
    assert outcome.code == 2
    assert "lmdbench[tensorboard]" in outcome.err
    assert not (tmp_path / "results").exists()


def test_a_sweep_file_can_ask_for_nothing_else(lmdbench, toy_folder, tmp_path):
    file = sweep_file(tmp_path, toy_folder, 'log = "wanda"')
    outcome = lmdbench("sweep", "plan", file, "--results", tmp_path / "results")
    assert outcome.code == 2
    assert "logged.toml:11: unknown logger 'wanda'. Did you mean wandb? " in outcome.err


def test_a_slurm_job_writes_them_too(toy_folder, tmp_path):
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
    request = RunRequest(setup, "ce", 0, {"epochs": "2"})
    run = request.plan(Contexts(results, cache, files=False).of(setup))
    key = run.directory.relative_to(results).as_posix()
    run_job = RunJob(key, run.spec.id, combined(run.code), request, 0)
    resources = Resources(on="slurm", time_minutes=60, threads=1)
    content = job_content(
        [run_job], resources, Work(results, cache, run=replace(IN_SWEEPS, log=("tensorboard",)))
    )
    subprocess.run(
        [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)()"],
        input=pickle.dumps(SweepJob(content)),
        env={**os.environ, "SLURM_JOB_ID": "1"},
        check=True,
    )
    assert scalars(run.directory) == expected(run.directory)
