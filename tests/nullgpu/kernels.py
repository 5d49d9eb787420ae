"""What cuDNN would give on the null GPU, and results whose shapes depend on values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

_registered: list[torch.library.Library] = []


def install() -> None:
    """Give torch these in the place of what a GPU would compute. Once in a process."""
    library = torch.library.Library("aten", "IMPL")
    for name, function in KERNELS.items():
        library.impl(name, function, "CUDA")
    _registered.append(library)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *_: Any,
) -> Tensor:
    if not x.device == weight.device == (x if bias is None else bias).device:
        raise RuntimeError("convolution: tensors on several devices")
    if x.dtype != weight.dtype:
        raise RuntimeError(f"convolution: {x.dtype} with weights of {weight.dtype}")
    sizes = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=False)
    shape = [(n + 2 * pad - dil * (k - 1) - 1) // step + 1 for n, k, step, pad, dil in sizes]
    kind = {"dtype": x.dtype, "device": x.device, "memory_format": _layout(x, weight)}
    return torch.empty(len(x), len(weight), *shape, **kind)


def convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, bias_sizes: Any, *rest: Any
) -> tuple[Tensor | None, ...]:
    mask, layout = rest[-1], _layout(x, weight)
    return (
        torch.empty_like(x, memory_format=layout) if mask[0] else None,
        torch.empty_like(weight, memory_format=layout) if mask[1] else None,
        gradient.new_empty(len(weight)) if mask[2] else None,
    )


def _layout(x: Tensor, weight: Tensor) -> torch.memory_format:
    """As cuDNN's convolutions choose it."""
    last = torch.channels_last in (suggest_memory_format(x), suggest_memory_format(weight))
    return torch.channels_last if x.dim() == 4 and last else torch.contiguous_format


def batch_norm(x: Tensor, weight: Tensor, bias: Any, mean: Any, var: Any, training: bool, *_: Any):
    saved = x.new_empty(x.shape[1] if training else 0, dtype=torch.float32)
    return torch.empty_like(x), saved, saved.clone(), x.new_empty(0, dtype=torch.uint8)


def batch_norm_backward(x: Tensor, gradient: Tensor, weight: Tensor, *_: Any):
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


def grid_sampler(x: Tensor, grid: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], *grid.shape[1:3])


def bincount(x: Tensor, weights: Any = None, minlength: int = 0) -> Tensor:
    """Of labels, which were copied and so are real; anything else is cut to a thousand."""
    return torch.bincount(x.cpu().clamp(0, 1000), minlength=minlength).to(x.device)


def cholesky(A: Tensor, *, upper: bool = False, check_errors: bool = False):
    return torch.empty_like(A), A.new_zeros(A.shape[:-2], dtype=torch.int32)


def eigh(A: Tensor, UPLO: str = "L", compute_v: bool = True):
    return A.new_empty(A.shape[:-1]), torch.empty_like(A)


def qr(A: Tensor, mode: str = "reduced"):
    """Of tall matrices."""
    return torch.empty_like(A), A.new_empty(*A.shape[:-2], A.shape[-1], A.shape[-1])


KERNELS = {
    "convolution": convolution,
    "cudnn_grid_sampler": grid_sampler,
    "convolution_backward": convolution_backward,
    "cudnn_batch_norm": batch_norm,
    "cudnn_batch_norm_backward": batch_norm_backward,
    "bincount": bincount,
    "nonzero": lambda x: x.cpu().nonzero().to(x.device),
    "linalg_cholesky_ex": cholesky,
    "_linalg_eigh": eigh,
    "linalg_qr": qr,
    "_linalg_check_errors": lambda info, *_, **__: info.cpu() and None if info.dim() == 0 else None,
}
