"""Processors of this process: by affinity, by a container's quota, by SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmdbench.core.cores import cgroup_cores, usable_cores

LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
CORES = len(os.sched_getaffinity(0))

# As a command does it: the threads that torch then has.
THREADS = (
    "import torch; from lmdbench.cli.options import parse_device; parse_device('cpu'); "
    "print(torch.get_num_threads())"
)


def write(root: Path, **files: str) -> None:
    """``root/a/b/name`` for each ``a__b__name``; dots are written as ``DOT``."""
    for name, text in files.items():
        path = root.joinpath(*name.replace("DOT", ".").split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_version_2_the_group_and_those_above_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        own="0::/pod/box\n",
        root__pod__box__cpuDOTmax="max 100000\n",
        root__pod__cpuDOTmax="250000 100000\n",
        root__other__cpuDOTmax="10000 100000\n",
    )
    assert list(cgroup_cores(tmp_path / "root", tmp_path / "own")) == [2.5]


def test_version_2_in_a_container_that_sees_its_own_root(tmp_path: Path) -> None:
    write(tmp_path, own="0::/\n", root__cpuDOTmax="50000 100000\n")
    assert list(cgroup_cores(tmp_path / "root", tmp_path / "own")) == [0.5]


@pytest.mark.parametrize("path", ["/", "/docker/0123abc"])  # the latter is the host's name for it
def test_version_1_in_a_container(tmp_path: Path, path: str) -> None:
    (tmp_path / "root" / "cpu,cpuacct").mkdir(parents=True)
    folder = tmp_path / "root" / "cpu,cpuacct"
    write(
        tmp_path, own=f"12:pids:{path}\n5:cpu,cpuacct:{path}\n4:cpuset:{path}\n1:name=systemd:/x\n"
    )
    (folder / "cpu.cfs_quota_us").write_text("400000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert list(cgroup_cores(tmp_path / "root", tmp_path / "own")) == [4.0]
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert list(cgroup_cores(tmp_path / "root", tmp_path / "own")) == []


def test_no_control_groups_or_damaged_ones_are_no_limit(tmp_path: Path) -> None:
    assert list(cgroup_cores(tmp_path, tmp_path / "own")) == []
    write(tmp_path, own="nonsense\n", cpuDOTmax="1 1")
    assert list(cgroup_cores(tmp_path, tmp_path / "own")) == []
    write(tmp_path, own="0::/\n", cpuDOTmax="100 0\n")
    assert list(cgroup_cores(tmp_path, tmp_path / "own")) == []


def test_slurm_may_give_less_and_never_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    there = usable_cores()
    assert 1 <= there <= CORES
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", str(10 * CORES))
    assert usable_cores() == there
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert usable_cores() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "0")
    assert usable_cores() == 1


@pytest.mark.skipif(CORES < 2, reason="needs two processors")
@pytest.mark.parametrize(
    ("bound", "variables", "threads"),
    [
        (True, {}, 1),
        (False, {"SLURM_CPUS_PER_TASK": "1"}, 1),
        (False, {"SLURM_CPUS_PER_TASK": "1", "OMP_NUM_THREADS": "2"}, 2),  # the user's choice
    ],
)
def test_torch_gets_as_many_threads(bound: bool, variables: dict[str, str], threads: int) -> None:
    first = min(os.sched_getaffinity(0))
    clean = {name: value for name, value in os.environ.items() if name not in LIMITS}
    done = subprocess.run(
        [sys.executable, "-c", THREADS],
        env=clean | variables,
        preexec_fn=(lambda: os.sched_setaffinity(0, {first})) if bound else None,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == threads
