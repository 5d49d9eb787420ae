"""What runs get at the next launch after they died, or ran out of memory or time."""

import pytest

from lmdbench.runs import attempts
from lmdbench.sweep import learned as module
from lmdbench.sweep.config.resources import Resources
from lmdbench.sweep.config.retry import Retry
from lmdbench.sweep.executors.batches import Ask
from lmdbench.sweep.learned import learned, with_more

TWICE = Retry(mem=2.0, time=2.0)


def resources(retry=TWICE, **sbatch):
    return Resources(on="slurm", time_minutes=60, retry=retry, sbatch=sbatch)


@pytest.mark.parametrize(
    ("retry", "memory", "time", "expected"),
    [
        (TWICE, 0, 0, Ask()),
        (TWICE, 1, 0, Ask((("mem", "64000M"),))),
        (TWICE, 2, 0, Ask((("mem", "128000M"),))),
        (TWICE, 0, 1, Ask(minutes=120, alone=True)),
        (TWICE, 0, 2, Ask(minutes=240, alone=True)),
        (Retry(mem=2.0, mem_most=100_000), 3, 1, Ask((("mem", "100000M"),))),
        (Retry(mem=2.0, mem_most=10), 3, 1, Ask((("mem", "32000M"),))),  # never less
        (Retry(time=1.5, time_most=100), 3, 3, Ask(minutes=100, alone=True)),
        (Retry(), 3, 3, Ask()),
    ],
)
def test_what_grows(retry, memory, time, expected):
    assert with_more(Ask(), resources(retry, mem="32000M"), memory, time) == expected


def test_it_grows_from_what_the_method_has_and_by_the_option_that_is_there():
    ask = Ask((("mem-per-cpu", "2G"), ("partition", "big")), minutes=30)
    grown = Ask((("mem-per-cpu", "4096M"), ("partition", "big")), minutes=60, alone=True)
    assert with_more(ask, resources(), 1, 1) == grown
    assert with_more(Ask(), resources(), 1, 0) == Ask()  # nothing said: the cluster's own


class Plan:
    def __init__(self, resources):
        self.sweep = self
        self.resources = resources


class Node:
    def __init__(self, directory):
        self.key = self.title = directory.name
        self.run = self
        self.directory = directory
        directory.mkdir()


def test_a_launch_learns_from_the_journals(tmp_path, monkeypatch):
    fresh, dead, full, late = (Node(tmp_path / name) for name in ("a", "b", "c", "d"))
    monkeypatch.setattr(attempts, "slurm_job", lambda: "7_1")
    for node, cause in ((dead, "signal"), (full, "memory"), (full, "memory"), (late, "time")):
        attempts.end_of(node.directory, 1, "died", cause, "so it was")
    attempts.forget(full.directory)  # tried again by will: it still ran out
    plan = Plan(resources(mem="1G"))
    found, lines = learned(plan, [fresh, dead, full, late], {"a": Ask(minutes=5)})
    assert found == {
        "a": Ask(minutes=5),
        "b": Ask(alone=True),
        "c": Ask((("mem", "2048M"),)),  # two tries in one job
        "d": Ask(minutes=120, alone=True),
    }
    assert lines == [
        "2 runs get more than before, such as: c gets mem 2048M, as it ran out of it before"
    ]
    assert module.learned(plan, [full], {})[1] == ["c gets mem 2048M, as it ran out of it before"]
