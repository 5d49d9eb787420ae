"""What is measured is there, and the shares are those of the numbers shown."""

import pytest
import torch

from lmdbench.bench.training import PARTS, measure_ce, measure_step, measure_views
from lmdbench.bench.workload import Workload

SMALL = Workload(torch.device("cpu"), "plain", None, "small", 32, 4, 13, 3, 50, 0.0)


def test_views():
    found = measure_views(SMALL)
    assert set(found) == {"strong", "weak", "test", "levels", "operation"}
    for view in found.values():
        assert view["eager"] == view["executed"]  # plain execution: one and the same
        assert view["eager"]["images_per_second"] > 0


@pytest.mark.parametrize("name", ["ce", "rrl"])
def test_the_parts_of_a_step_make_up_the_step(name):
    found = measure_step(SMALL, name, {})
    parts = [found[f"{part}_milliseconds"] for part in PARTS]
    assert all(part > 0 for part in parts)
    assert found["plain_step_milliseconds"] == sum(parts)


def test_an_epoch_of_one_odd_batch_has_a_step_too():
    found = measure_step(Workload(SMALL.device, "plain", None, "small", 32, 4, 5, 3), "ce", {})
    assert found["forward_milliseconds"] > 0


def test_other_loops_are_timed_beside():
    calls = []
    found = measure_ce(SMALL, {"nothing": lambda: calls.append(1)})
    assert len(calls) > found["nothing"]["repeats"] > 0  # one call of each is not counted
    rates = (found[name]["images_per_second"] for name in ("training", "nothing"))
    training, nothing = rates
    assert found["share_of_nothing"] == training / nothing
