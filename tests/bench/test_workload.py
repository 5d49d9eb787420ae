"""Random images in a long tail, and batches too large for the memory."""

from dataclasses import replace

import pytest
import torch

from lmdbench.bench import workload
from lmdbench.bench.workload import (
    Workload,
    available_bytes,
    long_tail,
    memory_errors,
    require_memory,
    step_bytes,
)
from lmdbench.core.errors import UserError

SMALL = Workload(torch.device("cpu"), "plain", None, "small", 32, 4, 13, 3, 50, 0.0)


@pytest.mark.parametrize(("images", "classes"), [(4888, 7), (4888, 23), (13, 3), (7, 7), (2, 2)])
def test_a_long_tail_has_all_images_and_no_empty_class(images, classes):
    counts = long_tail(images, classes)
    assert sum(counts) == images
    assert len(counts) == classes
    assert min(counts) >= 1
    assert counts == sorted(counts, reverse=True)


def test_a_task_has_what_was_asked_for():
    task = SMALL.task()
    assert task.class_counts.tolist() == long_tail(13, 3)
    assert len(task.validation) == 2  # 703 to 4,888
    batch = task.train.batch(torch.arange(4), ("test",), torch.Generator())
    assert batch.images.shape == (4, 3, 32, 32)
    assert SMALL.task().train is task.train  # the same images, not drawn again
    assert SMALL.method("rrl", task).settings.batch_size == 4
    assert SMALL.method("lmd", task).settings.virtual_per_class == 50


def test_memory_a_step_is_what_is_kept_for_each_image():
    # SmallNet at 32 px keeps the input, and of each layer the convolution's output and the ReLU's:
    # 3·32² + 2·(24·16² + 48·8² + 48·8² + 96·4²) numbers of 4 bytes; what batch norm adds is little.
    numbers = 3 * 32**2 + 2 * (24 * 16**2 + 48 * 8**2 * 2 + 96 * 4**2)
    assert step_bytes(SMALL) == pytest.approx(4 * numbers, rel=0.05)


def test_a_batch_too_large_is_refused_with_one_that_fits(monkeypatch):
    each = step_bytes(SMALL)
    monkeypatch.setattr(workload, "available_bytes", lambda: 100 * each)
    require_memory(replace(SMALL, batch_size=64))
    with pytest.raises(UserError, match=r"--batch-size 81: small at 32 px needs.*--batch-size 64"):
        require_memory(replace(SMALL, batch_size=81))


def test_free_memory_is_told():
    assert 0 < available_bytes() < 1 << 50


def test_a_failed_allocation_is_one_line():
    said = r"--batch-size 4: .*does not fit; try --batch-size 2"
    with pytest.raises(UserError, match=said), memory_errors(SMALL):
        torch.empty(1 << 60)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_errors(SMALL):
        raise RuntimeError("shapes differ")
