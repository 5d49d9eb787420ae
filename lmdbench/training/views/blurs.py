"""Blurs of the strong view: motion, median or box, each image with its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.training.views.warps import pixels_at

MOTION_SIZES = (3, 5, 7)  # of the kernel, in pixels
KERNEL_RADIUS = 3  # of the largest one
TAPS = 9  # pixels a linear blur adds up at most


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


def is_kind(chosen: Tensor, kind: IntEnum) -> Tensor:
    """Where chosen (B,) names this kind."""
    return chosen == kind.value  # torch.compile takes a comparison with the enum itself for False


@dataclass(frozen=True)
class Taps:
    """What a linear blur adds up for each of B images: 9 pixels at these offsets, so weighted."""

    x: Tensor  # (B, 9) int64
    y: Tensor  # (B, 9) int64
    weight: Tensor  # (B, 9) float, of sum 1

    def mirrored(self, horizontal: Tensor, vertical: Tensor) -> Taps:
        """Those of the images mirrored where horizontal, vertical (B,) bool say so."""
        return Taps(
            torch.where(horizontal[:, None], -self.x, self.x),
            torch.where(vertical[:, None], -self.y, self.y),
            self.weight,
        )


def taps_of(kind: Tensor, motion_line: Tensor) -> Taps:
    """The taps of motion blur, or of the 3 × 3 box where kind (B,) says so; else, the pixel alone.

    The line is Bresenham's, drawn from left to right, as OpenCV draws it.
    """
    number = torch.arange(TAPS, device=kind.device)
    x1, y1, x2, y2 = motion_line.unsqueeze(2).unbind(1)
    swap = x1 > x2
    x1, y1, x2, y2 = (torch.where(swap, b, a) for a, b in ((x1, x2), (y1, y2), (x2, x1), (y2, y1)))
    dx, dy, down = x2 - x1, (y2 - y1).abs(), (y2 - y1).sign()
    last = torch.maximum(dx, dy)
    step = torch.minimum(number, last)
    right = torch.where(dx >= dy, step, _rounded(dx * step, dy))
    below = torch.where(dx >= dy, _rounded(dy * step, dx), step)
    drawn = (number <= last) / (last + 1)
    motion, box = (is_kind(kind, wanted)[:, None] for wanted in (Blur.MOTION, Blur.BOX))

    def choose(of_motion: Tensor, of_box: Tensor | float, otherwise: Tensor | int) -> Tensor:
        return torch.where(motion, of_motion, torch.where(box, of_box, otherwise))

    return Taps(
        choose(x1 + right, number % 3 - 1, 0),
        choose(y1 + down * below, number // 3 - 1, 0),
        choose(drawn, 1 / TAPS, (number == 0).float()),
    )


def _rounded(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient of non-negative integers rounded to the nearest, halves down."""
    double = 2 * denominator.clamp(min=1)
    return -torch.div(denominator - 2 * numerator, double, rounding_mode="floor")


def blur(images: Tensor, kind: Tensor, taps: Taps) -> Tensor:
    """images (B, C, H, W) with the blur that kind (B,) names; taps: those of ``taps_of``."""
    if torch.compiler.is_compiling():
        return _blur_in_one_pass(images, kind, taps)
    linear = is_kind(kind, Blur.MOTION) | is_kind(kind, Blur.BOX)
    images = _apply_where(linear, images, convolve, kernels_of(taps))
    return _apply_where(is_kind(kind, Blur.MEDIAN), images, median)


def _blur_in_one_pass(images: Tensor, kind: Tensor, taps: Taps) -> Tensor:
    """``blur`` made to be compiled: every pixel looks its neighbours up, so that nothing but the
    result is written."""
    height, width = images.shape[-2:]
    row = torch.arange(height, device=images.device)[:, None, None]
    column = torch.arange(width, device=images.device)[:, None]
    total = torch.zeros((), device=images.device)
    for i in range(TAPS):
        x, y, weight = (t[:, i, None, None, None] for t in (taps.x, taps.y, taps.weight))
        there = pixels_at(images, _reflected(column + x, width), _reflected(row + y, height))
        total = total + weight * there
    rows, columns = (
        [(index + step).clamp(0, size - 1) for step in (-1, 0, 1)]
        for index, size in ((row, height), (column, width))
    )
    middle = _median([_sorted3(*(pixels_at(images, x, y) for x in columns)) for y in rows])
    blurred = torch.where(is_kind(kind, Blur.MEDIAN)[:, None, None, None], middle, total)
    return blurred.permute(0, 3, 1, 2)


def _reflected(index: Tensor, size: int) -> Tensor:
    """The index folded into 0 … size − 1."""
    index = index.abs()
    return torch.minimum(index, 2 * (size - 1) - index)


def kernels_of(taps: Taps) -> Tensor:
    """The taps as kernels (B, 7, 7)."""
    offset = torch.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1, device=taps.x.device)
    rows, columns = ((t[:, :, None] == offset).float() for t in (taps.y, taps.x))
    return (rows * taps.weight[:, :, None]).transpose(1, 2) @ columns


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """images (B, C, H, W), each filtered by its own kernel of kernels (B, 7, 7)."""
    batch, channels = images.shape[:2]
    padded = F.pad(images, (KERNEL_RADIUS,) * 4, mode="reflect")
    weights = kernels[:, None].expand(-1, channels, -1, -1).flatten(0, 1)[:, None]
    filtered = F.conv2d(padded.flatten(0, 1)[None], weights, groups=batch * channels)
    return filtered.view_as(images)


def median(images: Tensor) -> Tensor:
    """Medians of 3 × 3 pixels, the border repeated (not reflected), as in OpenCV."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    columns = _sorted3(*(padded[..., i : i + width] for i in range(3)))
    return _median([[each[..., i : i + height, :] for each in columns] for i in range(3)])


def _median(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """The median of three sorted rows of three: that of the largest of their minima, the median of
    their medians and the smallest of their maxima."""
    minima, medians, maxima = zip(*rows, strict=True)
    return _sorted3(_sorted3(*minima)[2], _sorted3(*medians)[1], _sorted3(*maxima)[0])[1]


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
