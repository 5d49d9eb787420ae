"""Memory of a GPU: what is free, and what lacked where it ran out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# What an error's class or text says, of torch, CUDA, cuBLAS or cuDNN
GPU_IS_FULL = (
    *("OutOfMemoryError", "CUDA out of memory", "CUDA error: out of memory"),
    "_STATUS_ALLOC_FAILED",
)
GIB = 2**30


def is_full(error: BaseException) -> bool:
    """Whether an error, or one that it came of, says that a GPU's memory ran out."""
    return any(
        words in f"{type(one).__name__}: {one}" for one in _origins(error) for words in GPU_IS_FULL
    )


def _origins(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def room(device: torch.device) -> int:
    """Bytes of a GPU that are free for tensors: also those that torch keeps for later."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def what_lacked(error: BaseException, device: torch.device) -> str:
    """What was asked for and what was there, of a GPU whose memory ran out just now."""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)
    asked = next(filter(None, map(_asked, _origins(error))), "more")
    others = total - free - held
    return (
        f"out of GPU memory: {asked} was needed beside {held / GIB:.2f} GiB that the run held, and "
        f"{free / GIB:.2f} of {total / GIB:.2f} GiB were free"
        + (f" ({others / GIB:.1f} GiB of other processes)" if others > GIB / 2 else "")
    )


def _asked(error: BaseException) -> str:
    found = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
    return found[1] if found else ""
