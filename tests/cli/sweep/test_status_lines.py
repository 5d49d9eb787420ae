"""Failures that are alike stand in one line; others do not."""

from types import SimpleNamespace

import pytest

from lmdbench.cli.sweep.status import _alike


def failures(*notes):
    def run(number):
        directory = SimpleNamespace(name=f"seed{number}-0a1b2c3d")
        return SimpleNamespace(
            key=f"k{number}", title=f"ce seed {number}", run=SimpleNamespace(directory=directory)
        )

    return [SimpleNamespace(node=run(number), note=note) for number, note in enumerate(notes)]


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("killed on n1 (SIGKILL)", "killed on n2 (SIGKILL)", True),
        ("ce seed 0 failed: bad", "ce seed 1 failed: bad", True),
        ("its launch (process 12 on a) was killed", "its launch (process 9 on b) was killed", True),
        ("cancelled at 2026-11-29T17:20:41", "cancelled at 2026-11-30T01:02:03", True),
        ("Tried to allocate 2.50 GiB", "Tried to allocate 310.00 MiB", True),
        ("died: see /r/s-cpu-0.log", "died: see /r/s-cpu-1.log", True),
        ("ended by signal 9", "ended by signal 11", False),
        ("exit code 127", "exit code 2", False),
        ("expected 3 channels", "expected 1 channels", False),
        ("", "", False),
    ],
)
def test_what_counts_as_alike(first, second, alike):
    assert len(_alike(failures(first, second))) == (1 if alike else 2)
