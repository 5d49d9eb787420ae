"""Views of images: batched, with parameters drawn for each image, on the images' own device.

The strong view is that of LMD's released code, whose operations are the albumentations library's
(1.4.15). Where this differs from it:

- Values stay real numbers; the original rounds to uint8 after every operation. They are clipped to
  [0, 1] where the original's would be.
- Shift-scale-rotate and distortion are one interpolation with exact weights; the original makes two
  in steps of 1/32 px. Borders are reflected at both, as there.
- Elastic distortion smooths coarser noise of the same distribution. See ``warps.elastic_offsets``.
- Grid dropout has square units of 22 px with holes of 11 px (at 224 px), as its documentation says;
  the arithmetic of that version turns them into stripes 5 px wide over the whole height.
- Lengths in pixels are meant for 224 px. For other sizes those of elastic distortion and grid
  dropout grow in proportion, the latter rounded down; blur kernels keep their size.

A view draws its random numbers first and applies them after: the second part is deterministic, so
it can be compiled. Neither ever waits for a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate

import torch
from torch import Tensor

from lmdbench.core.errors import UserError
from lmdbench.core.registry import Registry, first_line, registrar
from lmdbench.training.views import blurs, warps

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

FLIP_PROBABILITY = 0.5  # in each direction
MOVE_PROBABILITY = 0.5  # of shift, scale and rotation together
SHIFT_LIMIT = 0.0625  # of the image's side
SCALE_LIMIT = 0.2  # of each axis on its own
ANGLE_LIMIT = math.radians(45)
GRID_DISTORTION_LIMIT = 0.3
OPTICAL_DISTORTION_LIMIT = 0.05
RGB_SHIFT_PROBABILITY = 0.5
RGB_SHIFT_LIMIT = 15 / 255
ADJUST_PROBABILITY = 0.5  # of brightness and contrast together
ADJUST_LIMIT = 0.2
GRID_DROPOUT_PROBABILITY = 0.2
GRID_DROPOUT_UNITS = 10  # across the image

STRONG_NUMBERS = 34  # uniform random numbers an image


class Distortion(IntEnum):
    NONE = 0
    GRID = 1
    ELASTIC = 2
    OPTICAL = 3


BLUR_PROBABILITIES = (0.5, 0.25, 0.125, 0.125)  # in the order of blurs.Blur
DISTORTION_PROBABILITIES = (0.3, 0.7 / 3, 0.7 / 3, 0.7 / 3)  # in the order of Distortion


@dataclass(frozen=True)
class StrongParameters:
    """What the strong view does to each of B images. Where an operation is not chosen its
    parameters are drawn all the same and ignored, but for those of colour, which are neutral."""

    flip_horizontal: Tensor  # (B,) bool
    flip_vertical: Tensor  # (B,) bool
    blur: Tensor  # (B,) int64, a blurs.Blur
    motion_line: Tensor  # (B, 4) int64: x1, y1, x2, y2 in pixels from the kernel's centre
    moved: Tensor  # (B,) bool: shifted, scaled and rotated
    shift: Tensor  # (B, 2) in x and y, of the image's side
    scale: Tensor  # (B, 2) in x and y
    angle: Tensor  # (B,) radians, clockwise
    distortion: Tensor  # (B,) int64, a Distortion
    grid_steps: Tensor  # (B, 2, 5): factors of the cells in x and y
    elastic_noise: Tensor  # (B, 2, 16, 16) standard normal: for the offsets in x and y
    optical_k: Tensor  # (B,): the lens's radial coefficient
    rgb_shift: Tensor  # (B, 3)
    contrast: Tensor  # (B,): factor
    brightness: Tensor  # (B,): summand
    grid_dropout: Tensor  # (B,) bool


def draw_strong(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random numbers for ``batch`` images, on the generator's device: uniform ones in [0, 1),
    (B, 34), and for elastic distortion standard normal ones, (B, 2, 16, 16)."""
    lattice = (batch, 2, warps.ELASTIC_LATTICE, warps.ELASTIC_LATTICE)
    return (
        torch.rand(batch, STRONG_NUMBERS, generator=generator, device=generator.device),
        torch.randn(lattice, generator=generator, device=generator.device),
    )


def strong_parameters(numbers: Tensor, lattice: Tensor) -> StrongParameters:
    """What the numbers of ``draw_strong`` mean."""
    taken = 0

    def uniform(count: int) -> Tensor:
        nonlocal taken
        taken += count
        return numbers[:, taken - count : taken]

    def one() -> Tensor:
        return uniform(1).squeeze(1)

    def within(limit: float, number: Tensor) -> Tensor:
        return (2 * number - 1) * limit

    def choose(probabilities: Sequence[float]) -> Tensor:
        number = one()
        thresholds = list(accumulate(probabilities))[:-1]
        return torch.stack([number >= threshold for threshold in thresholds]).sum(0)

    shifted, adjusted = one() < RGB_SHIFT_PROBABILITY, one() < ADJUST_PROBABILITY
    return StrongParameters(
        flip_horizontal=one() < FLIP_PROBABILITY,
        flip_vertical=one() < FLIP_PROBABILITY,
        blur=choose(BLUR_PROBABILITIES),
        motion_line=blurs.motion_line_of(uniform(5)),
        moved=one() < MOVE_PROBABILITY,
        shift=within(SHIFT_LIMIT, uniform(2)),
        scale=1 + within(SCALE_LIMIT, uniform(2)),
        angle=within(ANGLE_LIMIT, one()),
        distortion=choose(DISTORTION_PROBABILITIES),
        grid_steps=1
        + within(GRID_DISTORTION_LIMIT, uniform(2 * warps.GRID_CELLS)).unflatten(1, (2, -1)),
        elastic_noise=lattice,
        optical_k=within(OPTICAL_DISTORTION_LIMIT, one()),
        rgb_shift=within(RGB_SHIFT_LIMIT, uniform(3)) * shifted[:, None],
        contrast=1 + within(ADJUST_LIMIT, one()) * adjusted,
        brightness=within(ADJUST_LIMIT, one()) * adjusted,
        grid_dropout=one() < GRID_DROPOUT_PROBABILITY,
    )


def apply_strong(images: Tensor, parameters: StrongParameters) -> Tensor:
    """The strong view of images (B, 3, H, W) float in [0, 1], of the same shape and range."""
    p = parameters
    # The flips come first in order, but are made by the warp's one sampling: blurs are mirrored.
    taps = blurs.taps_of(p.blur, p.motion_line).mirrored(p.flip_horizontal, p.flip_vertical)
    images = warp(blurs.blur(images, p.blur, taps), p)
    images = images.add_(p.rgb_shift[:, :, None, None]).clamp_(0, 1)
    images = adjust(images, p.contrast, p.brightness)
    return drop_grid(images, p.grid_dropout)


def flip(images: Tensor, horizontal: Tensor, vertical: Tensor) -> Tensor:
    """images (B, C, H, W) of any type, mirrored where horizontal, vertical (B,) bool say so."""
    images = torch.where(horizontal[:, None, None, None], images.flip(3), images)
    return torch.where(vertical[:, None, None, None], images.flip(2), images)


def warp(images: Tensor, parameters: StrongParameters) -> Tensor:
    """images (B, C, H, W) flipped, shifted, scaled and rotated, then distorted; sampled once."""
    p = parameters
    height, width = images.shape[-2:]
    grid, elastic, optical = (
        blurs.is_kind(p.distortion, kind)
        for kind in (Distortion.GRID, Distortion.ELASTIC, Distortion.OPTICAL)
    )
    columns, rows = (
        torch.where(
            grid[:, None],
            warps.grid_distortion_map(p.grid_steps[:, axis], size),
            torch.arange(size, device=images.device) + warps.OPTICAL_SHIFT * optical[:, None],
        )
        for axis, size in enumerate((width, height))
    )
    elastic_x, elastic_y = warps.elastic_offsets(
        p.elastic_noise * elastic[:, None, None, None], height, width
    )
    optical_x, optical_y = warps.optical_distortion_offsets(p.optical_k * optical, height, width)
    x = warps.reflect(columns[:, None, :] + elastic_x + optical_x, width)
    y = warps.reflect(rows[:, :, None] + elastic_y + optical_y, height)
    matrix = warps.affine_matrix(
        p.shift * p.moved[:, None],
        torch.where(p.moved[:, None], p.scale, 1.0),
        p.angle * p.moved,
        height,
        width,
    )
    matrix = warps.mirrored(matrix, p.flip_horizontal, p.flip_vertical, (height, width))
    return warps.sample(images, x, y, matrix)


def adjust(images: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """images (B, C, H, W) times contrast (B,) plus brightness (B,), clipped."""
    contrast, brightness = contrast[:, None, None, None], brightness[:, None, None, None]
    return torch.addcmul(brightness, images, contrast).clamp_(0, 1)


def drop_grid(images: Tensor, chosen: Tensor) -> Tensor:
    """images (B, C, H, W) with a fixed grid of black holes where chosen (B,) bool says so."""
    height, width = images.shape[-2:]
    rows, columns = _in_hole(height, images.device), _in_hole(width, images.device)
    kept = ~(chosen[:, None, None, None] & rows[:, None] & columns)
    return images * kept.to(images.dtype)


def _in_hole(size: int, device: torch.device) -> Tensor:
    """Which of a side's pixels lie in holes, (size,) bool: the first half of each unit."""
    unit = max(2, size // GRID_DROPOUT_UNITS)
    return torch.arange(size, device=device) % unit < unit // 2


def normalise(images: Tensor) -> Tensor:
    """images (B, 3, H, W) float in [0, 1] with ImageNet's mean and standard deviation taken out."""
    mean, std = (
        # Filled in where they are needed: a tensor of a list would have to be copied to the GPU.
        torch.cat([images.new_full((1, 1, 1, 1), value) for value in values], dim=1)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (images - mean) / std


def _to_unit(pixels: Tensor) -> Tensor:
    return pixels.to(torch.float32) * (1 / 255)


def _strong(pixels: Tensor, numbers: Tensor, lattice: Tensor) -> Tensor:
    """Every operation of the strong view, each with its own probability."""
    images = apply_strong(_to_unit(pixels), strong_parameters(numbers, lattice))
    return _channels_last(normalise(images))


def _weak(pixels: Tensor, numbers: Tensor) -> Tensor:
    """Flips."""
    horizontal, vertical = (numbers < FLIP_PROBABILITY).unbind(1)
    return _channels_last(normalise(_to_unit(flip(pixels, horizontal, vertical))))


def _plain(pixels: Tensor) -> Tensor:
    """The images as they are."""
    return _channels_last(normalise(_to_unit(pixels)))


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _draw_flips(batch: int, generator: torch.Generator) -> tuple[Tensor]:
    return (torch.rand(batch, 2, generator=generator, device=generator.device),)


def _draw_nothing(batch: int, generator: torch.Generator) -> tuple[()]:  # noqa: ARG001
    return ()


@dataclass(frozen=True)
class View:
    """``draw``: random numbers for n images, on the generator's device. ``apply``: pixels
    (B, 3, H, W) uint8 and these numbers to images (B, 3, H, W) float32, ImageNet-normalised, in
    channels-last memory; deterministic, to be compiled."""

    draw: Callable[[int, torch.Generator], tuple[Tensor, ...]]
    apply: Callable[..., Tensor]

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """The view of pixels on the generator's device."""
        return self.apply(pixels, *self.draw(len(pixels), generator))


# Names a method can put in its ``views`` attribute → the view.
VIEWS: Registry[View] = Registry(
    "view", __name__, group="lmdbench.views", title=lambda view: first_line(view.apply)
)


@registrar
def register_view(
    name: str, draw: Callable[[int, torch.Generator], tuple[Tensor, ...]]
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorator of a view's ``apply``; see ``View``.

    It is tried on two images. Raises UserError where that does not give images of their size, and
    for a taken name.
    """

    def decorate(apply: Callable[..., Tensor]) -> Callable[..., Tensor]:
        view = View(draw, apply)
        check_view(name, view)
        VIEWS.add(name, view, apply)
        return apply

    return decorate


def check_view(name: str, view: View) -> None:
    """Raise UserError for a view that does not make float32 images of uint8 ones."""
    pixels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    drawn: object = ()
    try:
        drawn = view.draw(len(pixels), torch.Generator().manual_seed(0))
        images = view.apply(pixels, *drawn) if isinstance(drawn, tuple) else pixels
    except Exception as error:
        raise UserError(
            f"view {name!r} can't be made of images: {type(error).__name__}: {error}; its draw "
            "takes n and a generator, its apply pixels (B, 3, H, W) uint8 and what draw returned"
        ) from error
    if not isinstance(drawn, tuple):
        raise UserError(
            f"view {name!r}: its draw returned {type(drawn).__name__}; return a tuple of tensors, "
            "as in (numbers,)"
        )
    if not isinstance(images, Tensor):
        raise UserError(f"view {name!r} returned no tensor but {type(images).__name__}")
    if images.shape != pixels.shape or images.dtype != torch.float32:
        raise UserError(
            f"view {name!r} made {images.dtype} {tuple(images.shape)} of images "
            f"{tuple(pixels.shape)}; it must return float32 of the same shape"
        )


VIEWS.add("strong", View(draw_strong, _strong), _strong)
VIEWS.add("weak", View(_draw_flips, _weak), _weak)
VIEWS.add("test", View(_draw_nothing, _plain), _plain)
