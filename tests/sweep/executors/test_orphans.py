"""A worker whose pool was killed ends, also while a library holds Python's lock."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = """
import signal, time
from lmdbench.sweep.executors.orphans import end_with_parent
end_with_parent(signal.SIGHUP)  # so after 1 s
print("armed", flush=True)
{work}
print("over", flush=True)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells of a parent's death")
def test_a_child_that_holds_the_lock_ends_soon_after_its_parent_was_killed():
    command = [sys.executable, "-c", PARENT, CHILD.format(work="sum(range(10**12))")]
    # ``sum`` lets no other thread and no handler of Python's run.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "armed\n"
        assert _lives(child)
        parent.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while _lives(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _lives(child)
        assert parent.stdout.read() == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells of a parent's death")
def test_a_child_whose_parent_lives_goes_on():
    command = [sys.executable, "-c", CHILD.format(work="time.sleep(1.3)")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "armed\nover\n")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
