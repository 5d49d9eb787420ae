"""A round of ICC, and what its parts take; spans on a clock of the test's own."""

from types import SimpleNamespace

import icc_round
import pytest
import torch
from icc_round import Spans, measure_round, watched

from lmdbench.bench import timing
from lmdbench.bench.workload import Workload
from lmdbench.runs.model import train_epoch

CPU = torch.device("cpu")
SMALL = Workload(CPU, "plain", None, "small", 32, 4, 13, 3, 50, 0.0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only ``clock.pass_(seconds)`` moves."""
    held = SimpleNamespace(now=0.0)

    def pass_(seconds):
        held.now += seconds

    monkeypatch.setattr(timing.time, "perf_counter", lambda: held.now)
    return SimpleNamespace(pass_=pass_)


def test_every_part_of_a_round_is_seen():
    task = SMALL.task()
    method = SMALL.method("lmd", task)
    with Spans(SMALL.device).of(watched(method)) as spans:
        train_epoch(method, task, icc_round.LATE)
    assert set(spans.seconds) == set(icc_round.PARTS)
    found = measure_round(SMALL)
    assert all(found[f"{part}_seconds"] > 0 for part in icc_round.PARTS)
    assert found["features_wide"] == 96


def test_a_span_within_another_counts_once_and_functions_are_put_back(clock):
    class Worker:
        def inner(self):
            clock.pass_(2.0)
            return "inner"

        def outer(self):
            clock.pass_(1.0)
            return self.inner() + module.helper()

    def helper():
        clock.pass_(4.0)
        return "helper"

    module, worker = SimpleNamespace(helper=helper), Worker()
    watched = [(worker, "inner", "a"), (worker, "outer", "b"), (module, "helper", "a")]
    with Spans(CPU).of(watched) as spans:
        assert worker.outer() == "innerhelper"
        worker.inner()
    assert spans.seconds == {"a": 2.0 + 4.0 + 2.0, "b": 1.0}
    assert "outer" not in vars(worker)
    assert module.helper is helper


def test_functions_are_put_back_after_an_error(clock):
    def broken():
        raise ValueError

    module = SimpleNamespace(broken=broken)
    with pytest.raises(ValueError), Spans(CPU).of([(module, "broken", "a")]):  # noqa: PT011
        module.broken()
    assert module.broken is broken
