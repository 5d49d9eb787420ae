"""Where a system lacks what Linux has: what Windows and macOS lack is taken away, or said to be."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest

from lmdbench.core import claim, system
from lmdbench.core.errors import UserError

# Imported by Python as it starts, where it is found on the path
POORER = """
import errno, os, signal, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name in {"resource", "pwd", "grp", "fcntl", "termios", "tty"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
for name in ("grp", "pwd", "fcntl"):
    sys.modules.pop(name, None)
LACKING = {
    errno: ("EREMOTEIO",),
    os: ("getuid", "killpg", "getpgid", "setsid", "sched_getaffinity"),
    signal: ("SIGKILL", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2", "SIGALRM", "pthread_sigmask"),
}
for module, names in LACKING.items():
    for name in names:
        delattr(module, name)
"""

EVERYTHING = """
import pkgutil, lmdbench
for module in pkgutil.walk_packages(lmdbench.__path__, "lmdbench."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
from lmdbench.core import system
system.check_workers.__globals__["WINDOWS"] = True
"""

LAUNCH = """
from lmdbench.cli.commands import cli, exit_code
import sys
sys.argv = ["lmdbench", "sweep", "launch", "demo", "--workers", "1", "--results", "results"]
sys.exit(exit_code())
"""


@pytest.fixture
def poorer(tmp_path):
    """Runs Python where much is lacking that Linux has."""
    (tmp_path / "sitecustomize.py").write_text(POORER)

    def run(*words):
        return subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    return run


def test_a_run_is_trained_and_compared_there(poorer, toy_folder, tmp_path):
    words = ("--dataset", "folder", "--data-root", toy_folder, "--backbone", "small")
    words += ("--image-size", 24, "--set", "epochs=1", "--device", "cpu")
    done = poorer("-m", "lmdbench", "run", "--method", "ce", *words)
    assert done.returncode == 0, done.stderr
    compared = poorer("-m", "lmdbench", "compare")
    assert (compared.returncode, compared.stderr) == (0, ""), compared.stderr
    (record,) = tmp_path.glob("results/*/*/ce/*/run.json")
    assert "peak_memory_mib" not in record.read_text()


def test_all_modules_are_imported_there_and_a_sweep_says_what_it_needs(poorer):
    done = poorer("-c", EVERYTHING + LAUNCH)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("lmdbench: sweeps and tuning need Linux or macOS")
    assert done.stderr.count("\n") == 1


def test_names_of_what_there_is():
    assert system.signals("SIGINT", "SIGNONE") == (signal.SIGINT,)
    assert system.error_numbers("EIO", "ENONE", "ENOENT") == (errno.EIO, errno.ENOENT)


def test_memory_is_counted_in_kibibytes_here_and_in_bytes_on_a_mac(monkeypatch):
    here = system.peak_resident_mib()
    assert here == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, rel=0.1)
    monkeypatch.setattr(system.os, "uname", lambda: os.uname_result(("Darwin",) * 5))
    assert system.peak_resident_mib() == pytest.approx(here / 1024, rel=0.1)


def test_workers_are_refused_on_windows(monkeypatch):
    system.check_workers()
    monkeypatch.setattr(system, "WINDOWS", True)
    with pytest.raises(UserError, match="use WSL, or `lmdbench run`"):
        system.check_workers()


def test_a_claim_on_windows_lives_by_its_heartbeat_alone(monkeypatch, tmp_path):
    """os.kill(pid, 0) would send Ctrl-C there: no process is ever asked."""
    monkeypatch.setattr(claim, "WINDOWS", True)
    monkeypatch.setattr(claim.os, "kill", None)
    held = claim.Claim(tmp_path / "running.json")
    assert held.acquire()
    other = claim.Claim(tmp_path / "running.json")
    assert not other.acquire()
    assert other.holder()["alive"]
    assert not other.holder()["here"]
    held._stop.set()  # its thread is gone, as with its process
    old = held.path.stat().st_mtime - claim.DEAD_AFTER_SECONDS - 5
    os.utime(held.path, (old, old))
    assert other.acquire()
    other.release()
