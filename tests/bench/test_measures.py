"""What is measured is there, and the shares are those of the numbers shown."""

import pytest
import torch

from lmdbench.bench import bench, icc, peers
from lmdbench.bench.bench import measure_targets
from lmdbench.bench.icc import measure_round, watched
from lmdbench.bench.targets import NEEDS_A_GPU, TARGETS
from lmdbench.bench.training import PARTS, measure_step, measure_views
from lmdbench.bench.workload import Workload
from lmdbench.runs.train import train_epoch

SMALL = Workload(torch.device("cpu"), "plain", None, "small", 32, 4, 13, 3, 50, 0.0)


def test_views():
    found = measure_views(SMALL)
    assert set(found) == {"strong", "weak", "test"}
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


def test_every_part_of_a_round_is_seen():
    task = SMALL.task()
    method = SMALL.method("lmd", task)
    with icc.Spans(SMALL.device).of(watched(method)) as spans:
        train_epoch(method, task, icc.LATE)
    assert set(spans.seconds) == set(icc.PARTS)
    found = measure_round(SMALL)
    assert all(found[f"{part}_seconds"] > 0 for part in icc.PARTS)
    assert found["features_wide"] == 96


def test_targets_without_a_gpu(monkeypatch):
    started = {"until_first_step_seconds": 2.0, "preparing_seconds": 0.0}
    monkeypatch.setattr(bench, "measure_start", lambda _device: started)  # see test_startup
    monkeypatch.setattr(bench, "measure_peer", lambda: peers.measure_peer(SMALL))
    said = []
    found = measure_targets(None, SMALL, said.append)
    assert [row["key"] for row in found["targets"]] == list(TARGETS)
    rows = {row["key"]: row for row in found["targets"]}
    for key, target in TARGETS.items():
        needs = target.measured_on == "GPU"
        assert (rows[key]["verdict"] == NEEDS_A_GPU) is needs
        assert (rows[key]["measured"] is None) is needs
    assert rows["start"]["measured"] == 2.0
    assert rows["ce_cpu_share"]["measured"] == 100 * found["cpu"]["ce"]["share_of_bare_loop"]
    assert rows["icc_cpu_times"]["measured"] == found["cpu"]["icc_against_peer"]["times_as_fast"]
    assert all(text.startswith("measuring") for text in said)
