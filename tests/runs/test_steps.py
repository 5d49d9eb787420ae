"""When a run makes no steps any more: told from its directory, whatever its heartbeat says."""

import os
import signal
import subprocess
import sys
import time

import pytest

from lmdbench.core.claim import Claim
from lmdbench.runs import steps
from lmdbench.runs.steps import STEPS, Pause, Steps, patience, pause

HOLD = """
import sys
from pathlib import Path
from lmdbench.core.claim import Claim
from lmdbench.runs.steps import Steps
claim = Claim(Path(sys.argv[1]) / "running.json")
assert claim.acquire()
Steps(Path(sys.argv[1]), claim.token).epoch(1.0)
print("made", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    claim = Claim(tmp_path / "running.json")
    assert claim.acquire()
    yield claim
    claim.release()


def aged(directory, seconds, name=STEPS):
    then = time.time() - seconds
    os.utime(directory / name, (then, then))


def test_a_pause_is_told_long_before_it_counts_as_hanging(tmp_path, held):
    made = Steps(tmp_path, held.token)
    made.epoch(1.0)
    for age, told, hangs in ((2, False, False), (61, True, False), (700, True, True)):
        aged(tmp_path, age)
        found = pause(tmp_path, held.holder(), 600.0)
        assert (found.is_told, found.hangs) == (told, hangs)
    aged(tmp_path, 61)
    found = pause(tmp_path, held.holder(), 600.0)
    assert found.text == "61 s since its last step (usual: 1 s an epoch)"
    assert not pause(tmp_path, held.holder(), None).hangs
    made.made()  # nothing is written so soon again
    assert pause(tmp_path, held.holder(), 600.0).is_told
    made.written -= steps.WRITE_SECONDS
    made.made()
    assert not pause(tmp_path, held.holder(), 600.0).is_told
    made.over()
    assert pause(tmp_path, held.holder(), 600.0) is None


def test_an_epoch_that_takes_long_is_waited_for():
    assert not Pause(1000.0, usual=900.0, hangs=False).is_told
    assert Pause(5000.0, usual=900.0, hangs=False).text.startswith("83 min since")
    assert patience(600, 2, begun=True) == 600
    assert patience(600, 300, begun=True) == 3000
    assert patience(600, 0, begun=False) == 3600


def test_before_the_first_epoch_it_has_longer(tmp_path, held):
    Steps(tmp_path, held.token).made()
    aged(tmp_path, 700)
    found = pause(tmp_path, held.holder(), 600.0)
    assert found.is_told
    assert not found.hangs
    assert "usual" not in found.text
    aged(tmp_path, 3700)
    assert pause(tmp_path, held.holder(), 600.0).hangs


@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": 3}', "\x00\x01"])
def test_what_is_damaged_or_of_another_attempt_says_nothing(tmp_path, held, content):
    (tmp_path / STEPS).write_text(content)
    assert pause(tmp_path, held.holder(), 600.0) is None
    Steps(tmp_path, "another").epoch(1.0)
    aged(tmp_path, 5000)
    assert pause(tmp_path, held.holder(), 600.0) is None


def test_a_suspended_process_does_not_hang(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        child.stdout.readline()
        aged(tmp_path, 5000)
        holder = Claim(tmp_path / "running.json").holder()
        assert pause(tmp_path, holder, 600.0).hangs
        aged(tmp_path, 4990, "running.json")  # nor does its heartbeat's thread beat: held GIL
        assert pause(tmp_path, holder, 600.0).hangs
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert pause(tmp_path, holder, 600.0) is None
        elsewhere = {**holder, "here": False}  # where no process can be seen: as old as its beats
        assert pause(tmp_path, elsewhere, 600.0).seconds == pytest.approx(10, abs=1)
    finally:
        child.kill()
        child.wait()


def test_a_clock_that_is_set_back_makes_no_pause(tmp_path, held):
    Steps(tmp_path, held.token).epoch(1.0)
    aged(tmp_path, -5000)
    assert pause(tmp_path, held.holder(), 600.0).seconds == 0
