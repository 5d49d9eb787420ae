"""Repeats, marks and their arithmetic, on a clock of the test's own."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from lmdbench.bench import timing
from lmdbench.bench.timing import LEAST, MOST, PATIENCE, Marks, Timing, time_together

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A clock that only ``clock.pass_(seconds)`` moves."""
    held = SimpleNamespace(now=0.0)

    def pass_(seconds):
        held.now += seconds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: held.now)
    return SimpleNamespace(pass_=pass_, spent=lambda: held.now)


def test_median_and_spread():
    found = Timing((4.0, 1.0, 2.0, 3.0, 100.0))
    assert found.median == 3.0
    assert found.spread == (4.0 - 2.0) / 2 / 3.0  # the outlier does not count
    assert Timing((2.0,)).spread == 0.0


def test_works_are_timed_in_turn_and_the_first_call_is_not_counted(clock):
    calls, lengths = [], itertools.chain([100.0], itertools.repeat(1.0))

    def one():
        calls.append("one")
        clock.pass_(next(lengths))

    found = time_together(
        {"one": one, "two": lambda: (calls.append("two"), clock.pass_(3.0))}, CPU, 8.0
    )
    assert found["one"].seconds == (1.0,) * 4  # 4 rounds of 4 s make 8 s for each of the two
    assert found["two"].seconds == (3.0,) * 4
    assert calls == ["one", "two"] * 5


def test_repeats_have_bounds(clock):
    assert len(time_together({"": lambda: clock.pass_(1.0)}, CPU, 1.0)[""].seconds) == LEAST
    assert len(time_together({"": lambda: clock.pass_(0.001)}, CPU, 1.0)[""].seconds) == MOST


@pytest.mark.parametrize(("seconds", "repeats"), [(0.0, 1), (1.0, 1), (4.0, 2), (9.0, LEAST)])
def test_slow_work_takes_what_was_asked_for(clock, seconds, repeats):
    """A repeat more than PATIENCE times as long, at most, and the one that is not counted."""
    works = {"one": lambda: clock.pass_(9.0), "two": lambda: clock.pass_(3.0)}
    found = time_together(works, CPU, seconds)
    assert {len(timing.seconds) for timing in found.values()} == {repeats}
    assert clock.spent() <= 2 * (9 + 3) + PATIENCE * seconds * len(works)


def test_marks_add_up_by_name(clock):
    marks = Marks(CPU)
    for name, seconds in (("forward", 1.0), ("backward", 2.0), ("forward", 0.5)):
        clock.pass_(seconds)
        marks.mark(name)
    assert marks.milliseconds() == {"forward": 1500.0, "backward": 2000.0}
