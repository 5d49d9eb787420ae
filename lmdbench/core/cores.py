"""How many processors this process may use, which in a container or a job are not the machine's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The processors that this process may run on, or fewer where its container's quota or its
    SLURM job has less; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    limits = [cores, slurm_cores(), *cgroup_cores()]
    return max(1, int(min(limit for limit in limits if limit is not None)))


def slurm_cores() -> int | None:
    """What SLURM gave this task; None outside of jobs."""
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        with suppress(KeyError, ValueError):
            return int(os.environ[name])
    return None


def cgroup_cores(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> Iterator[float]:
    """The processor time that the kernel lets this process have, in processors: the quota of its
    control group and of each above it, of version 1 or 2. ``root``: where they are mounted."""
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                mount, read = root, _quota_2
            elif "cpu" in controllers.split(","):
                mount, read = root / controllers, _quota_1
            else:
                continue
            # In a container the path may be the host's, and its own group lies at the mount.
            inner = mount / path.lstrip("/")
            for group in (inner, *inner.parents):
                with suppress(OSError, ValueError, ZeroDivisionError):
                    yield read(group)
                if group == mount:
                    break


def _quota_2(group: Path) -> float:
    """Raises ValueError where it is "max"."""
    quota, period = (group / "cpu.max").read_text().split()
    return int(quota) / int(period)


def _quota_1(group: Path) -> float:
    """Raises ValueError where there is none, written as -1."""
    quota = int((group / "cpu.cfs_quota_us").read_text())
    if quota <= 0:
        raise ValueError("no quota")
    return quota / int((group / "cpu.cfs_period_us").read_text())
