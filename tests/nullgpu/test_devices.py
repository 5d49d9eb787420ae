"""Which GPU works, and what a run on one tells of it."""

from pathlib import Path

PLUGIN = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parent)!r})

import run  # which gives the null GPU its kernels

from lmdbench.training.method import METHODS, register_method


@register_method("here")
class Here(METHODS.get("ce")):
    pass


@register_method("after-here")
class AfterHere(METHODS.get("crt")):
    starts_from = "here"
"""
SWEEP = """
name = "toy"
seeds = "0"
datasets = ["demo"]
methods = ["after-here"]
plugins = ["plugin.py"]
[settings.here]
epochs = 2
[settings.after-here]
epochs = 1
[resources]
gpus = [0]
execution = "plain"
"""


def test_the_second_gpu_does_all_the_work(null_gpu):
    found = null_gpu("second_device.py", NULLGPU_DEVICES="2")
    assert found["current"] == 1
    assert found["allocated"] == [False, True]
    assert found["came_to"] == {"training": "graphs", "evaluation": "plain"}
    assert found["told"] == []
    assert found["marked"] == ["epoch"]
    assert found["waits"] == ["method.py"]  # for the epoch's means, at its end


def test_a_run_tells_of_its_gpu(null_gpu, tmp_path):
    words = ("run", "--method", "ce", "--dataset", "demo", "--device", "cuda", "--set", "epochs=1")
    words += ("--deterministic", "--execution", "plain", "--quiet")
    found = null_gpu("run.py", str(tmp_path), *words)
    assert found["code"] == 0
    (record,) = found["records"]
    assert record["executed"] == {"training": "plain", "evaluation": "plain"}
    assert 0 < record["peak_memory_mib"] <= record["peak_reserved_mib"]
    gpu = record["gpu"]
    assert (gpu["memory_mib"], gpu["capability"]) == (24 * 1024, "9.0")
    assert gpu["deterministic"]
    assert gpu["cudnn_deterministic"]
    assert not gpu["tf32_convolutions"]


def test_a_gpu_without_bfloat16_works_in_float16(null_gpu, tmp_path):
    words = ("run", "--method", "rrl", "--dataset", "demo", "--device", "cuda", "--quiet")
    words += ("--set", "epochs=2", "--set", "relations_after=0.5")
    found = null_gpu("run.py", str(tmp_path), *words, NULLGPU_CAPABILITY="75")
    (record,) = found["records"]
    assert record["precision_used"] == "float16"
    assert record["executed"]["training"] == "graphs"
    (log,) = tmp_path.glob("*/*/rrl/*/run.log")
    assert "no bfloat16: mixed precision is float16 with a GradScaler" in log.read_text()


def test_a_gpu_that_breaks_costs_a_process_and_no_run(null_gpu, tmp_path):
    """Each process works for an epoch and a half; what starts from the run waits for it."""
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "toy.toml").write_text(SWEEP)
    words = ("sweep", "launch", str(tmp_path / "toy.toml"))
    broken = {"CUDA_VISIBLE_DEVICES": "0", "NULLGPU_FAILS_AFTER": "10000"}
    found = null_gpu("run.py", str(tmp_path / "results"), *words, **broken)
    assert found["code"] == 0
    records = {record["spec"]["method"]: record for record in found["records"]}
    assert all(record["finished"] for record in records.values())
    assert records["here"]["attempts"] == 2
    (journal,) = tmp_path.glob("results/*/*/here/*/attempts.jsonl")
    assert "can't use its GPU any more: CUDA error: an illegal memory access" in journal.read_text()
    assert not [*tmp_path.glob("results/*/*/*/*/failed.txt")]
