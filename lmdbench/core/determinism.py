"""The same bits from a GPU each time: what torch, cuDNN, cuBLAS and the compiler are asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# What cuBLAS and the compiler read once, as they begin; a user's own word stays
READ_ONCE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "TORCHINDUCTOR_DETERMINISTIC": "1"}


@contextmanager
def deterministic(device: torch.device, asked: bool = True) -> Iterator[None]:
    """Within it the same work on the same GPU gives the same bits, with the same driver and
    versions; a kernel that can't raises RuntimeError. What is float32 is no TF32 there.

    On the CPU nothing changes: there the same work gives the same bits in any case. In a process
    that multiplied matrices on the GPU before, torch may refuse to do so within.
    """
    if not asked or device.type != "cuda":
        yield
        return
    for name, value in READ_ONCE.items():
        os.environ.setdefault(name, value)
    enabled = torch.are_deterministic_algorithms_enabled()
    settings = _settings()
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    try:
        torch.use_deterministic_algorithms(True)
        for owner, name, value in settings:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        torch.use_deterministic_algorithms(enabled)


def gpu_settings() -> dict[str, Any]:
    """Of what kinds a GPU's numbers are now: whether float32 is TF32 in convolutions and in other
    products, and how cuDNN chooses among its algorithms. None: set where it can't be told."""
    cudnn, matrices = torch.backends.cudnn, torch.backends.cuda.matmul
    return {
        "tf32_convolutions": _told(cudnn, "allow_tf32"),
        "tf32_products": _told(matrices, "allow_tf32"),
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _settings() -> list[tuple[Any, str, Any]]:
    """What is changed: owner, attribute and value."""
    compiler = sys.modules.get("torch._inductor.config")  # imported later, it reads READ_ONCE
    return [
        (torch.backends.cudnn, "deterministic", True),
        (torch.backends.cudnn, "benchmark", False),
        (torch.backends.cudnn, "allow_tf32", False),
        (torch.backends.cuda.matmul, "allow_tf32", False),
        # memory that torch takes is filled before it is written, which costs a kernel each time
        (torch.utils.deterministic, "fill_uninitialized_memory", False),
        *([(compiler, "deterministic", True)] if hasattr(compiler, "deterministic") else []),
    ]


def _told(owner: Any, name: str) -> bool | None:
    """None where it was set by torch's newer names, beside which these can't be read."""
    try:
        return bool(getattr(owner, name))
    except RuntimeError:
        return None
