"""The journal of attempts: what is noted, what damage costs, which deaths count."""

import json
import os
import signal
import subprocess
import sys

import pytest

from lmdbench.core.files import HOST
from lmdbench.runs import attempts
from lmdbench.runs.attempts import ATTEMPTS, cause_of, deaths, died

BEGIN_AND_DIE = """
import os, sys
from pathlib import Path
from lmdbench.core.claim import Claim
from lmdbench.runs import attempts
claim = Claim(Path(sys.argv[1]) / "running.json")
assert claim.acquire()
attempts.begin(Path(sys.argv[1]), claim.token)
print("begun", flush=True)
sys.stdin.read()
"""

LEAVING = """
import sys
from lmdbench.method import Method, register_method

@register_method("leaving")
class Leaving(Method):
    "Leaves."
    title = "leaves"
    source = "nowhere"

    def loss(self, batch):
        sys.exit(0)
"""


def history(directory, epochs):
    rows = "".join(f"{n + 1},0.5\n" for n in range(epochs))
    (directory / "history.csv").write_text("epoch,loss\n" + rows)


def dies(directory, cause="signal"):
    """An attempt of another process, seen to die by its parent."""
    token = os.urandom(4).hex()
    attempts.begin(directory, token)
    attempts.end(directory, token, "died", cause, "its worker was ended by SIGKILL")


def test_what_is_noted_is_read(tmp_path):
    attempts.begin(tmp_path, "a")
    attempts.end(tmp_path, "a", "stopped", "cancelled", "Ctrl-C\n at once")
    history(tmp_path, 2)
    attempts.begin(tmp_path, "b")
    first, second = attempts.attempts(tmp_path)
    assert (first.how, first.cause, first.reason) == ("stopped", "cancelled", "Ctrl-C at once")
    assert first.process == second.process == (HOST, os.getpid())
    assert (first.epoch, second.epoch, second.how) == (0, 2, "")
    assert first.began <= first.ended <= second.began


def test_damage_costs_the_damaged_lines_only(tmp_path):
    attempts.begin(tmp_path, "a")
    path = tmp_path / ATTEMPTS
    path.write_bytes(path.read_bytes() + b'\xff\xfe\x00{"what": "end"')  # broke off
    attempts.begin(tmp_path, "b")
    with path.open("a") as file:
        begun = '{"what": "begin", "token": "z", "time": 1, "host": "h", "pid": 1, "epoch": 1e999}'
        odd_ones = ("", "[]", "7", '{"what": "begin"}', '{"what": ["end"]}', '{"token": {}}')
        for odd in (*odd_ones, begun, "[" * 100_000):
            file.write(odd + "\n")
        file.write(json.dumps({"what": "end", "token": "b", "time": "x", "host": 1, "pid": None}))
    attempts.end(tmp_path, "b", "failed", "nonsense", "broke")
    first, second = attempts.attempts(tmp_path)
    assert (first.token, first.how) == ("a", "")
    assert (second.token, second.how, second.cause, second.reason) == ("b", "failed", "", "broke")
    path.unlink()
    path.mkdir()
    attempts.begin(tmp_path, "c")  # no error
    assert attempts.attempts(tmp_path) == []
    assert deaths(tmp_path) == 0


def test_deaths_count_until_an_epoch_is_done_or_they_are_forgotten(tmp_path):
    dies(tmp_path)
    dies(tmp_path, "memory")
    assert [one.cause for one in died(tmp_path)] == ["signal", "memory"]
    dies(tmp_path, "node")  # the run can't be blamed
    dies(tmp_path, "cancelled")
    assert deaths(tmp_path) == 2
    history(tmp_path, 1)  # the last one came as far
    assert deaths(tmp_path) == 0
    dies(tmp_path)
    dies(tmp_path)
    attempts.begin(tmp_path, "stopped")
    attempts.end(tmp_path, "stopped", "stopped", "cancelled")
    dies(tmp_path)
    assert deaths(tmp_path) == 3
    attempts.forget(tmp_path)
    assert deaths(tmp_path) == 0
    assert len(attempts.attempts(tmp_path)) == 8
    dies(tmp_path)
    assert deaths(tmp_path) == 1


def test_the_last_death_counts_though_that_attempt_came_far(tmp_path):
    """Else a run that always dies in its third epoch would have a try more."""
    attempts.begin(tmp_path, "a")
    history(tmp_path, 2)
    attempts.end(tmp_path, "a", "died", "signal")
    assert deaths(tmp_path) == 1


@pytest.mark.parametrize("seen", [True, False])
def test_a_process_that_is_killed_is_a_death_once_it_is_gone(tmp_path, seen):
    child = subprocess.Popen(
        [sys.executable, "-c", BEGIN_AND_DIE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    assert deaths(tmp_path) == 0  # it lives
    child.send_signal(signal.SIGKILL)
    child.communicate()
    if seen:
        attempts.end_of(tmp_path, child.pid, "died", "memory", "ended by SIGKILL")
    (attempt,) = died(tmp_path)
    assert (attempt.how, attempt.cause) == (("died", "memory") if seen else ("", ""))


def test_a_worker_may_die_before_its_run_began(tmp_path):
    directory = tmp_path / "not" / "there"
    for _ in range(2):
        attempts.end_of(directory, 123, "died", "signal", "ended by SIGKILL")
    assert deaths(directory) == 2


def test_a_process_that_began_again_had_not_died(tmp_path):
    attempts.begin(tmp_path, "a")  # its end found no place on a full disk
    attempts.begin(tmp_path, "b")
    attempts.end(tmp_path, "b", "stopped")
    assert deaths(tmp_path) == 0


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "memory"),
        (OSError(12, "Cannot allocate memory"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …"), "memory"),
        (RuntimeError("CUDA error: out of memory"), "gpu-memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "gpu-memory"),
        (ValueError("bad luck"), "crash"),
    ],
)
def test_the_cause_of_an_exception(error, cause):
    assert cause_of(error) == cause


def test_a_run_that_breaks_notes_why(toy_run, tmp_path):
    done = toy_run("ce", "--set", "lr=1e30")
    assert done.code != 0
    (directory,) = (tmp_path / "results").glob("*/*/ce/*")
    (attempt,) = attempts.attempts(directory)
    assert (attempt.how, attempt.cause) == ("failed", "crash")
    assert "try a lower lr" in attempt.reason
    assert deaths(directory) == 0


def test_a_method_that_ends_its_process_fails(toy_run, tmp_path):
    plugin = tmp_path / "leaving.py"
    plugin.write_text(LEAVING)
    done = toy_run("leaving", "--plugin", str(plugin))
    assert done.code == 1
    (directory,) = (tmp_path / "results").glob("*/*/leaving/*")
    (attempt,) = attempts.attempts(directory)
    assert (attempt.how, attempt.reason) == ("failed", "SystemExit: 0")
    assert (directory / "failed.txt").read_text().startswith("SystemExit: 0\n")


def test_a_finished_run_notes_it(trained_run):
    (attempt,) = attempts.attempts(trained_run)
    assert attempt.how == "done"
    assert attempt.process[0] == HOST
