"""What runs take of a GPU's memory, by torch's own allocator."""

import pytest

GIB = 2**30
WORKLOADS = (
    "rrl:resnet50:224:128",
    "ce:efficientnet_v2_s:224:128",
    "rrl:resnet50:384:64",
    "bcl:resnet50:224:128",
    "bcl:resnet50:384:128",
)


@pytest.fixture(scope="module")
def peaks(null_gpu):
    return null_gpu("peaks.py", *WORKLOADS, memory=80 * GIB)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_compiled_execution_takes_little_more_than_plain(peaks, workload):
    plain, compiled = peaks[workload]["plain"], peaks[workload]["compiled"]
    assert compiled["told"] == []
    assert compiled["captured"]
    assert all(compiled["captured"])
    assert compiled["taken"] <= 1.1 * plain["taken"]


@pytest.mark.parametrize("mode", ["plain", "compiled"])
def test_evaluation_fits_into_what_training_left(peaks, mode):
    for row in peaks.values():
        assert row[mode]["taken"] <= 1.25 * row[mode]["allocated"]


def test_a_worker_does_not_grow_from_run_to_run(null_gpu, tmp_path):
    found = null_gpu("growth.py", str(tmp_path), "rrl", "0-9")
    assert found["code"] == 0
    assert len(found["held"]) == 10
    assert len(set(found["held"])) == 1
    assert found["held"][0] <= 64 * 2**20  # cuBLAS's memory for two streams


LARGE, MIDDLE, SMALL = (
    "ce:resnet50:384:128:25000",
    "ce:resnet50:224:128:25000",
    "ce:resnet18:224:128:4888",
)


@pytest.mark.parametrize(
    ("memory", "streamed"),
    [
        # At the start, and after each epoch: by then it is known what training leaves.
        (24, {LARGE: [True] * 3, MIDDLE: [True, False, False], SMALL: [False] * 3}),
        (80, {MIDDLE: [False] * 3}),
    ],
)
def test_images_lie_on_the_gpu_where_training_fits_beside_them(null_gpu, memory, streamed):
    found = null_gpu("resident.py", *streamed, memory=memory * GIB)
    assert found["told"] == []
    assert {name: row["streamed"] for name, row in found["found"].items()} == streamed
    assert all(row["captured"] == [True] for row in found["found"].values())
    assert found["host"] < 2.5 * GIB  # the largest images are 10.3 GiB
