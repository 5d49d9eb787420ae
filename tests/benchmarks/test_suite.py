"""Every row of the targets, and everything of one workload, as the script prints them."""

import importlib.util
import json
from pathlib import Path

import peers
import pytest
import startup
import suite
import torch
from suite import measure_targets
from targets import NEEDS_A_GPU, NO_TIME, TARGETS

from lmdbench.bench.workload import Workload
from lmdbench.cli import bench

SPEED = Path(__file__).resolve().parents[2] / "benchmarks" / "speed"
SMALL = Workload(torch.device("cpu"), "plain", None, "small", 32, 4, 13, 3, 50, 0.0)


@pytest.fixture
def speed():
    spec = importlib.util.spec_from_file_location("speed", SPEED / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_targets_without_a_gpu(monkeypatch):
    started = {"until_first_step_seconds": 2.0, "preparing_seconds": 0.0}
    monkeypatch.setattr(suite, "measure_start", lambda *_: started)  # see test_startup
    monkeypatch.setattr(suite, "measure_peer", lambda _: peers.measure_peer(SMALL))
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


def test_what_there_is_no_time_for_is_left_out_and_said():
    found = measure_targets(None, SMALL, lambda _: None, seconds=30.0)
    rows = {row["key"]: row for row in found["targets"]}
    assert {key for key, row in rows.items() if row["verdict"] == NO_TIME} == {
        key for key, target in TARGETS.items() if target.measured_on == "CPU"
    }
    assert set(found["cpu"]) == {"environment", "workload"}


def test_everything_of_one_workload_as_json_and_as_tables(speed, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(startup, "STARTS", 1)
    monkeypatch.setattr(startup.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setitem(bench.ON_CPU, "virtual_per_class", 50)
    monkeypatch.setitem(bench.ON_CPU, "seconds", 0.0)
    sizes = "--backbone small --image-size 32 --batch-size 4 --images 13 --classes 3 --device cpu"
    speed.main([*sizes.split(), "--json"])
    found = json.loads(capsys.readouterr().out)
    ce = found["ce"]
    for name in ("bare_loop", "bare_loop_with_views"):
        assert ce[name]["images_per_second"] > 0
        assert ce[f"share_of_{name}"] > 0
    assert found["start"]["until_first_step_seconds"] > 0
    assert found["start"]["preparing_seconds"] == 0.0  # plain execution
    left = [path for path in tmp_path.iterdir() if not path.name.startswith("torchinductor")]
    assert left == []  # torch makes its own folder where nothing compiled before
    assert found["icc"]["round_seconds"] > 0
    assert found["rrl"]["checkpoint_seconds"] > 0
    monkeypatch.setattr(speed, "measured", lambda _options: found)
    speed.main([])
    shown = capsys.readouterr().out
    for words in ("rrl with the relation losses", "same views", "M-step", "start of a run"):
        assert words in shown


def test_seconds_are_of_the_targets_too(speed, monkeypatch):
    monkeypatch.setattr(speed, "measure_targets", lambda gpu, cpu, _: {"gpu": gpu, "cpu": cpu})
    monkeypatch.setattr(speed.json, "dumps", lambda found, **_: asked.update(found))
    asked = {}
    speed.main(["--device", "cpu", "--seconds", "0.25", "--json"])
    cpu = asked["cpu"]
    assert asked["gpu"] is None
    assert (cpu.seconds, cpu.images) == (0.25, speed.ON_CPU["images"])


def test_bad_input_gets_one_line(speed):
    with pytest.raises(SystemExit) as stop:
        speed.main(["--backbone", "resnet19"])
    assert str(stop.value).startswith("speed: unknown backbone 'resnet19'. Did you mean resnet18")
