"""Which GPU works, and what a run on one tells of it."""

import pytest


def test_the_second_gpu_does_all_the_work(null_gpu):
    found = null_gpu("second_device.py", NULLGPU_DEVICES="2")
    assert found["current"] == 1
    assert found["allocated"] == [False, True]
    assert found["came_to"] == {"training": "graphs", "evaluation": "plain"}
    assert found["told"] == []
    assert found["marked"] == ["epoch"]
    assert found["waits"] == ["method.py"]  # for the epoch's means, at its end


@pytest.mark.parametrize("words", [(), ("--deterministic", "--execution", "plain")])
def test_a_run_tells_of_its_gpu(null_gpu, tmp_path, words):
    asked = ("--method", "ce", "--dataset", "demo", "--device", "cuda", "--set", "epochs=1")
    found = null_gpu("run.py", str(tmp_path), *asked, "--quiet", *words)
    (record,) = found["records"]
    assert found["code"] == 0
    training = "plain" if words else "graphs"
    assert record["executed"] == {"training": training, "evaluation": "plain"}
    assert 0 < record["peak_memory_mib"] <= record["peak_reserved_mib"]
    gpu = record["gpu"]
    assert (gpu["memory_mib"], gpu["capability"]) == (24 * 1024, "9.0")
    assert gpu["deterministic"] == gpu["cudnn_deterministic"] == bool(words)
    assert gpu["tf32_convolutions"] == (not words)
