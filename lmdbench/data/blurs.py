"""Blurs of the strong view: motion, median or box, each image with its own."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

MOTION_SIZES = (3, 5, 7)  # of the kernel, in pixels
KERNEL_RADIUS = 3  # of the largest one


class Blur(IntEnum):
    NONE = 0
    MOTION = 1
    MEDIAN = 2
    BOX = 3


def motion_line_of(numbers: Tensor) -> Tensor:
    """Two different points of a kernel of random size, (B, 4), from numbers (B, 5) in [0, 1).

    Their columns are drawn first; their rows are independent too, unless the columns are equal.
    """
    smallest, step = MOTION_SIZES[0], MOTION_SIZES[1] - MOTION_SIZES[0]
    size = (numbers[:, 0] * len(MOTION_SIZES)).long() * step + smallest
    x1, x2, y1, y2 = (numbers[:, 1:] * size[:, None]).long().unbind(1)
    other = (y1 + 1 + (numbers[:, 4] * (size - 1)).long()) % size
    y2 = torch.where(x1 == x2, other, y2)
    return torch.stack([x1, y1, x2, y2], dim=1) - (size // 2)[:, None]


def blur(images: Tensor, kind: Tensor, motion_line: Tensor) -> Tensor:
    """images (B, C, H, W) with the blur that kind (B,) names; motion_line as in the parameters."""
    linear = (kind == Blur.MOTION) | (kind == Blur.BOX)
    kernels = blur_kernels(kind, motion_line)
    images = _apply_where(linear, images, convolve, kernels)
    return _apply_where(kind == Blur.MEDIAN, images, median)


def blur_kernels(kind: Tensor, motion_line: Tensor) -> Tensor:
    """Kernels (B, 7, 7) of motion blur, or of the 3 × 3 box where kind (B,) says so.

    The line is Bresenham's, drawn from left to right, as OpenCV draws it.
    """
    offset = torch.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, device=kind.device)
    v, u = offset[:, None], offset[None, :]  # rows and columns
    x1, y1, x2, y2 = motion_line[:, :, None, None].unbind(1)
    swap = x1 > x2
    x1, y1, x2, y2 = (torch.where(swap, b, a) for a, b in ((x1, x2), (y1, y2), (x2, x1), (y2, y1)))
    dx, dy, down = x2 - x1, (y2 - y1).abs(), (y2 - y1).sign()
    right, below = u - x1, (v - y1) * down  # steps from the first point
    flat = (right >= 0) & (right <= dx) & (v - y1 == down * _rounded(dy * right, dx))
    steep = (below >= 0) & (below <= dy) & (right == _rounded(dx * below, dy))
    line = torch.where(dx >= dy, flat, steep)
    box = (u.abs() <= 1) & (v.abs() <= 1)
    drawn = torch.where((kind == Blur.BOX)[:, None, None], box, line).float()
    return drawn / drawn.sum((1, 2), keepdim=True)


def _rounded(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient of non-negative integers rounded to the nearest, halves down."""
    double = 2 * denominator.clamp(min=1)
    return -torch.div(denominator - 2 * numerator, double, rounding_mode="floor")


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """images (B, C, H, W), each filtered by its own kernel of kernels (B, 7, 7)."""
    batch, channels = images.shape[:2]
    padded = F.pad(images, (KERNEL_RADIUS,) * 4, mode="reflect")
    weights = kernels[:, None].expand(-1, channels, -1, -1).flatten(0, 1)[:, None]
    filtered = F.conv2d(padded.flatten(0, 1)[None], weights, groups=batch * channels)
    return filtered.view_as(images)


def median(images: Tensor) -> Tensor:
    """Medians of 3 × 3 pixels, the border repeated (not reflected), as in OpenCV.

    The median of nine is that of: the largest of the rows' minima, the median of their medians, the
    smallest of their maxima; rows first, so that each is sorted only once.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    low, middle, high = _sorted3(*(padded[..., i : i + width] for i in range(3)))

    def shifted(rows: Tensor) -> list[Tensor]:
        return [rows[..., i : i + height, :] for i in range(3)]

    return _sorted3(
        _sorted3(*shifted(low))[2], _sorted3(*shifted(middle))[1], _sorted3(*shifted(high))[0]
    )[1]


def _sorted3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    return torch.minimum(a, b), torch.maximum(a, b), c


def _apply_where(
    chosen: Tensor, images: Tensor, operation: Callable[..., Tensor], *arguments: Tensor
) -> Tensor:
    """``operation`` on the images that chosen (B,) bool names; the others as they are.

    On a CPU only those are computed. On a GPU all are: to pick them it would have to be waited for.
    """
    if images.device.type != "cpu":
        return torch.where(chosen[:, None, None, None], operation(images, *arguments), images)
    rows = chosen.nonzero().flatten()
    if len(rows) == 0:
        return images
    done = operation(images[rows], *(argument[rows] for argument in arguments))
    return images.index_copy(0, rows, done)
