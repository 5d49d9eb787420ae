"""Telling from an error that a GPU's memory ran out."""

import pytest
import torch

from lmdbench.core.gpu_memory import is_full


def caused(error: Exception) -> Exception:
    try:
        try:
            raise error
        except Exception as first:
            raise RuntimeError("capture failed") from first
    except RuntimeError as second:
        return second


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (caused(torch.cuda.OutOfMemoryError("CUDA out of memory.")), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (MemoryError("Unable to allocate 3 GiB"), False),
    ],
)
def test_an_error_tells_that_memory_ran_out(error, full):
    assert is_full(error) is full
