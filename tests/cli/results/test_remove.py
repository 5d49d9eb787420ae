"""``lmdbench results remove`` as a user meets it."""

import io
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmdbench.comparison.results import read_results
from lmdbench.core.claim import Claim

FakeRun = Callable[..., Path]
Command = Callable[..., Any]


def left(results: Path) -> list[str]:
    return sorted(path.parent.name for path in results.glob("*/*/*/seed*"))


@pytest.fixture
def results(fake_run: FakeRun, tmp_path: Path) -> Path:
    ce = fake_run("ce")
    fake_run("crt", ancestor=ce)
    fake_run("lws", ancestor=ce, state=None)
    fake_run("focal", settings={"lr": 0.2})
    return tmp_path / "results"


def test_nothing_goes_without_yes_where_nobody_can_be_asked(
    results: Path, lmdbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    done = lmdbench("results", "remove", "--method", "ce", "--results", results)
    assert done.code == 2
    assert "nothing was removed: there is no terminal to ask on; --yes removes" in done.err
    assert "1 run to remove: " in done.out
    out = done.out.splitlines()
    usable = out.index(next(line for line in out if "usable as before" in line))
    assert out[usable].startswith("1 run started from what goes")
    assert "/crt/seed0-" in out[usable + 1]
    assert "not finished, and to go on that must be trained again" in out[usable + 2]
    assert "/lws/seed0-" in out[usable + 3]
    assert left(results) == ["ce", "crt", "focal", "lws"]


@pytest.mark.parametrize("by", ["id", "directory", "filter"])
def test_yes_removes_what_is_meant_and_nothing_else(
    results: Path, lmdbench: Command, by: str
) -> None:
    (directory,) = results.glob("*/*/focal/*")
    words = {
        "id": [directory.name.partition("-")[2]],
        "directory": [directory],
        "filter": ["--set", "lr=0.2"],
    }[by]
    done = lmdbench("results", "remove", *words, "--yes", "--results", results)
    assert done.code == 0, done.err
    assert "removed 1 of 1 run: " in done.out
    assert left(results) == ["ce", "crt", "lws"]
    assert list((results / "skin" / "plain-if100" / "focal").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say which runs"),
        (("--yes",), "say which runs"),
        (("01234567", "--method", "ce"), "say which runs"),
        (("01234567",), "01234567: no run that is here"),
        (("--method", "cee"), "Did you mean ce?"),
    ],
)
def test_what_is_not_said_or_not_there_is_one_line(
    results: Path, lmdbench: Command, words: tuple[str, ...], said: str
) -> None:
    done = lmdbench("results", "remove", *words, "--results", results)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert len(left(results)) == 4


def test_a_running_run_stays(results: Path, lmdbench: Command) -> None:
    (directory,) = results.glob("*/*/lws/*")
    claim = Claim(directory / "running.json")
    assert claim.acquire()
    try:
        words = ("results", "remove", "--yes", "--results", results)
        done = lmdbench(*words, directory)
        assert done.code == 2
        assert "nothing was removed: what was chosen is being trained" in done.err
        done = lmdbench(*words, "--split", "plain-if100")
        assert done.code == 0, done.err
        assert f"stays, as it is being trained: {directory}" in done.err
    finally:
        claim.release()
    assert left(results) == ["lws"]


@pytest.mark.parametrize(("answer", "stays"), [(b"n\n", True), (b"y\n", False)])
def test_on_a_terminal_it_asks(
    results: Path, read_terminal: Callable[[int], bytes], answer: bytes, stays: bool
) -> None:
    ours, theirs = pty.openpty()
    command = (sys.executable, "-m", "lmdbench", "results", "remove", "--method", "focal")
    process = subprocess.Popen(
        [*command, "--results", str(results)], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, answer)
    seen = read_terminal(ours).decode()
    code = process.wait()
    assert "Remove them for good? [y/N]" in seen
    assert ("focal" in left(results)) == stays
    assert (code, "nothing was removed" in seen) == ((2, True) if stays else (0, False))


def test_a_kill_in_the_middle_leaves_no_half_run(
    fake_run: FakeRun, tmp_path: Path, lmdbench: Command
) -> None:
    directory = fake_run("ce")
    for number in range(20_000):
        (directory / f"{number}.txt").touch()
    results = tmp_path / "results"
    before = len(list(directory.iterdir()))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "lmdbench", "results", "remove", "--method", "ce", "--yes"),
            *("--results", str(results)),
        ],
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "finished before it was killed: make it larger"
    (rest,) = directory.parent.iterdir()
    assert 0 < len(list(rest.iterdir())) <= before + 1
    assert left(results) == []
    assert read_results(results).runs == ()
    fake_run("focal")
    done = lmdbench("results", "prune", "--leftovers", "--yes", "--results", results)
    assert done.code == 0, done.err
    assert list(directory.parent.iterdir()) == []
    assert left(results) == ["focal"]
