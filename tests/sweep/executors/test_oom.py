"""Where the kernel says that memory ran out."""

import pytest

from lmdbench.sweep.executors import oom


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "proc/self/cgroup": "0::/job/task\n",
                "cg/job/task/memory.events": "oom 3\noom_kill 2\n",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,memory:/slurm/a:b\n0::/x\n",
                "cg/memory/slurm/a:b/memory.oom_control": "under_oom 0\noom_kill 4\n",
            },
            4,
        ),
        ({"proc/self/cgroup": "0::/x\n", "proc/vmstat": "pgfree 9\noom_kill 7\n"}, 7),
        ({"proc/self/cgroup": "odd"}, 0),
        ({}, 0),
    ],
)
def test_kills(tmp_path, monkeypatch, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(oom, "CGROUPS", tmp_path / "cg")
    monkeypatch.setattr(oom, "PROC", tmp_path / "proc")
    assert oom.kills() == expected
