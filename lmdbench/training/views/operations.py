"""The 22 operations of CUDA's augmentation, ten of which are DODA's: batched, each image with its
own.

Images are (B, 3, H, W) float of whole numbers from 0 to 255, before and after each operation.
``share`` (B,) is how far into its range a magnitude lies, from 0 to 1. The operations are the
Pillow library's, to a level of 255, but for these:

- What zooms, turns, shears or translates is bilinear; there nearest, and for the zoom Lanczos.
- The blur is a Gaussian, exact for shares up to .4, and where it is the one operation for all;
  there three boxes in its place.
- Translations are in shares of the image's side: there 100 px, on images of 32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import IntEnum, auto

import torch
import torch.nn.functional as F
from torch import Tensor

from lmdbench.training.views import blurs, warps
from lmdbench.training.views.augmentation import (
    FLIP_PROBABILITY,
    VIEWS,
    View,
    flip,
    normalise,
)
from lmdbench.training.views.blurs import is_kind

MOST = 10  # operations on an image
FINEST = 30  # levels in the range of a magnitude

ANGLE = math.radians(30)
SHEAR = 0.3
SHIFT = 100 / 32  # of the image's side
ZOOM = 0.5
BLUR_SIGMA = 2.0  # px
BLUR_RADIUS = 3  # px
WIDE_RADIUS = 6  # px, which the largest blur takes
BITS = 4
SOLARISE_FROM = 256
SUMMAND = 110
FACTOR_FROM, FACTOR_BY = 0.1, 1.8  # of colour, contrast, brightness and sharpness


class Operation(IntEnum):
    FLIP = 0
    MIRROR = auto()
    EDGE_ENHANCE = auto()
    DETAIL = auto()
    SMOOTH = auto()
    AUTOCONTRAST = auto()
    EQUALISE = auto()
    INVERT = auto()
    BLUR = auto()
    ZOOM = auto()
    ROTATE = auto()
    POSTERISE = auto()
    SOLARISE = auto()
    SOLARISE_ADD = auto()
    COLOUR = auto()
    CONTRAST = auto()
    BRIGHTNESS = auto()
    SHARPNESS = auto()
    SHEAR_X = auto()
    SHEAR_Y = auto()
    TRANSLATE_X = auto()
    TRANSLATE_Y = auto()


NONE = -1


# All operations ten times over: more to compile than there is to gain. torch.compiler.disable takes
# a second to import, also where nothing trains.
@torch._disable_dynamo
def operate(images: Tensor, operation: Tensor, share: Tensor, sign: Tensor) -> Tensor:
    """images with each one's operation (B,) int64 made, or none where that is ``NONE``. sign (B,),
    −1 or 1, is the direction of what turns, shears or translates."""
    for function, kinds in GROUPS.items():
        chosen = torch.stack([is_kind(operation, kind) for kind in kinds]).any(dim=0)
        images = blurs._apply_where(chosen, images, function, operation, share, sign)
    return images


def choose(operation: Tensor, images: Mapping[Operation, Tensor]) -> Tensor:
    """Each image by its own operation, which is among these."""
    first, *others = images.items()
    result = first[1]
    for kind, made in others:
        result = torch.where(is_kind(operation, kind)[:, None, None, None], made, result)
    return result


def mirror(images: Tensor, operation: Tensor, share: Tensor, sign: Tensor) -> Tensor:  # noqa: ARG001
    """images upside down, or as in a mirror."""
    return flip(images, is_kind(operation, Operation.MIRROR), is_kind(operation, Operation.FLIP))


def move(images: Tensor, operation: Tensor, share: Tensor, sign: Tensor) -> Tensor:
    """images zoomed, turned, sheared or translated, black where nothing was."""
    height, width = images.shape[-2:]
    signed = share * sign

    def of(kind: Operation, value: Tensor) -> Tensor:
        return value * is_kind(operation, kind)

    scale = 1 + of(Operation.ZOOM, ZOOM * share)
    shift_x, shift_y = (
        of(kind, -SHIFT * signed) for kind in (Operation.TRANSLATE_X, Operation.TRANSLATE_Y)
    )
    angle = of(Operation.ROTATE, -ANGLE * signed)
    matrix = warps.affine_matrix(
        torch.stack([shift_x, shift_y], 1), torch.stack([scale, scale], 1), angle, height, width
    )
    shear_x, shear_y = (
        of(kind, SHEAR * signed)[:, None, None] for kind in (Operation.SHEAR_X, Operation.SHEAR_Y)
    )
    columns = torch.arange(width, device=images.device)
    rows = torch.arange(height, device=images.device)[:, None]
    (xx, xy, x0), (yx, yy, y0) = (row[:, :, None, None].unbind(1) for row in matrix.unbind(1))
    # Half a pixel from the corner, which a shear leaves where it is, to the first centre
    x = xx * columns + xy * rows + x0 + shear_x * (rows + 0.5)
    y = yx * columns + yy * rows + y0 + shear_y * (columns + 0.5)
    places = torch.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], dim=-1)
    return F.grid_sample(images, places, align_corners=True).round()


def sharpen(images: Tensor, operation: Tensor, share: Tensor, sign: Tensor) -> Tensor:  # noqa: ARG001
    """images through a kernel, or between them and smooth ones."""
    smooth = kernel(images, 1, 1, 5)
    return choose(
        operation,
        {
            Operation.SMOOTH: smooth,
            Operation.DETAIL: kernel(images, 0, -1, 10),
            Operation.EDGE_ENHANCE: kernel(images, -1, -1, 10),
            Operation.SHARPNESS: blend(smooth, images, factor_of(share)),
        },
    )


def kernel(images: Tensor, corner: int, side: int, centre: int) -> Tensor:
    """images through a kernel of 3 × 3 px that keeps their brightness; their border stays."""
    height, width = images.shape[-2:]

    def inner(dy: int, dx: int) -> Tensor:
        return images[..., 1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]

    corners = inner(-1, -1) + inner(-1, 1) + inner(1, -1) + inner(1, 1)
    sides = inner(-1, 0) + inner(1, 0) + inner(0, -1) + inner(0, 1)
    total = corner * corners + side * sides + centre * inner(0, 0)
    result = images.clone()
    mean = total / (4 * corner + 4 * side + centre)
    result[..., 1:-1, 1:-1] = (mean + 0.5).floor().clamp(0, 255)
    return result


def blur(images: Tensor, operation: Tensor, share: Tensor, sign: Tensor) -> Tensor:  # noqa: ARG001
    """images blurred by Gaussians; their outermost pixels go on beyond the border."""
    return blurred(images, share, BLUR_RADIUS)


def blur_widely(images: Tensor, share: Tensor) -> Tensor:
    """The same as far as the largest of them reaches."""
    return blurred(images, share, WIDE_RADIUS)


def blurred(images: Tensor, share: Tensor, radius: int) -> Tensor:
    """images blurred by Gaussians that are cut off beyond a radius in px."""
    sigma = BLUR_SIGMA * share
    places = torch.arange(-radius, radius + 1, device=images.device)
    weights = (-0.5 * (places / sigma.clamp(min=1e-3)[:, None]).square()).exp()
    weights = weights / weights.sum(dim=1, keepdim=True)
    taps = weights[:, :, None, None, None].unbind(1)
    height, width = images.shape[-2:]
    wide = F.pad(images, (radius,) * 4, mode="replicate")
    wide = sum((w * wide[..., i : i + width] for i, w in enumerate(taps)), images.new_zeros(()))
    high = (w * wide[..., i : i + height, :] for i, w in enumerate(taps))
    return sum(high, images.new_zeros(())).round()


def blend(one: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """From ``one``, at a factor of 0, to ``other``, at 1, and beyond."""
    return (one + factor * (other - one)).clamp(0, 255).floor()


def factor_of(share: Tensor) -> Tensor:
    """Of what is blended, (B, 1, 1, 1)."""
    return FACTOR_FROM + FACTOR_BY * share[:, None, None, None]


def tone(images: Tensor, operation: Tensor, share: Tensor, sign: Tensor) -> Tensor:  # noqa: ARG001
    """Pixel by pixel."""
    factor, share = factor_of(share), share[:, None, None, None]
    grey = luminance(images)
    mean_grey = (grey.mean(dim=(1, 2, 3), keepdim=True) + 0.5).floor()
    step = 2 ** (8 - (BITS * share).floor().clamp(min=1))
    added = (images + SUMMAND * share).clamp(max=255).floor()
    return choose(
        operation,
        {
            Operation.INVERT: 255 - images,
            Operation.POSTERISE: (images / step).floor() * step,
            Operation.SOLARISE: torch.where(images < SOLARISE_FROM * share, images, 255 - images),
            Operation.SOLARISE_ADD: torch.where(added < 128, added, 255 - added),
            Operation.COLOUR: blend(grey, images, factor),
            Operation.CONTRAST: blend(mean_grey, images, factor),
            Operation.BRIGHTNESS: blend(torch.zeros_like(images), images, factor),
        },
    )


def luminance(images: Tensor) -> Tensor:
    """(B, 1, H, W), by ITU-R 601-2 in 16 bits."""
    red, green, blue = images.split(1, dim=1)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536).floor()


def spread(images: Tensor, operation: Tensor, share: Tensor, sign: Tensor) -> Tensor:  # noqa: ARG001
    """images whose channels are stretched or equalised."""
    made = {Operation.AUTOCONTRAST: autocontrast(images), Operation.EQUALISE: equalise(images)}
    return choose(operation, made)


def autocontrast(images: Tensor) -> Tensor:
    """images whose channels are each stretched from 0 to 255; those of one value stay."""
    least, most = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    stretched = ((images - least) * 255 / (most - least).clamp(min=1)).floor()
    return torch.where(most > least, stretched, images)


def equalise(images: Tensor) -> Tensor:
    """images of which each channel has all values about equally often."""
    values = images.flatten(2).long()
    counts = torch.zeros(*values.shape[:2], 256, device=images.device)
    counts = counts.scatter_add(2, values, torch.ones_like(images).flatten(2))
    last = counts.gather(2, values.amax(dim=2, keepdim=True))
    step = ((counts.sum(dim=2, keepdim=True) - last) / 255).floor()
    before = F.pad(counts.cumsum(dim=2)[..., :-1], (1, 0))
    divisor = step.clamp(min=1)
    mapped = ((before + (step / 2).floor()) / divisor).floor().clamp(max=255)
    return torch.where(step > 0, mapped.gather(2, values), values).unflatten(2, images.shape[2:])


# Function → the operations that it makes
GROUPS: dict[Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], tuple[Operation, ...]] = {
    mirror: (Operation.FLIP, Operation.MIRROR),
    move: (
        *(Operation.ZOOM, Operation.ROTATE, Operation.SHEAR_X, Operation.SHEAR_Y),
        *(Operation.TRANSLATE_X, Operation.TRANSLATE_Y),
    ),
    sharpen: (*(Operation.SMOOTH, Operation.DETAIL, Operation.EDGE_ENHANCE, Operation.SHARPNESS),),
    blur: (Operation.BLUR,),
    tone: (
        *(Operation.INVERT, Operation.POSTERISE, Operation.SOLARISE, Operation.SOLARISE_ADD),
        *(Operation.COLOUR, Operation.CONTRAST, Operation.BRIGHTNESS),
    ),
    spread: (Operation.AUTOCONTRAST, Operation.EQUALISE),
}


def draw(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers for flips (B, 2), those for the operations and their directions (B, 20), both
    uniform in [0, 1), and levels of 0 (B,) float, in whose place a method puts its own."""
    device = generator.device
    flips = torch.rand(batch, 2, generator=generator, device=device)
    numbers = torch.rand(batch, 2 * MOST, generator=generator, device=device)
    return flips, numbers, torch.zeros(batch, device=device)


def apply(pixels: Tensor, flips: Tensor, numbers: Tensor, levels: Tensor) -> Tensor:
    """Flips, then as many operations as an image's level says, up to 10, of that strength."""
    images = flip(pixels, *(flips < FLIP_PROBABILITY).unbind(1)).to(torch.float32)
    chosen, directions = numbers.split(MOST, dim=1)
    operations = (chosen * len(Operation)).long()
    signs = directions.round() * 2 - 1
    for stage in range(MOST):
        operation = torch.where(stage < levels, operations[:, stage], NONE)
        images = operate(images, operation, levels / FINEST, signs[:, stage])
    return normalise(images * (1 / 255)).contiguous(memory_format=torch.channels_last)


VIEWS.add("levels", View(draw, apply), apply)


def draw_one(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers for flips (B, 2), those for a magnitude and its direction (B, 2), both uniform in
    [0, 1), and no operation (B,) int64, in whose place a method puts its own."""
    device = generator.device
    flips = torch.rand(batch, 2, generator=generator, device=device)
    numbers = torch.rand(batch, 2, generator=generator, device=device)
    return flips, numbers, torch.full((batch,), NONE, device=device)


def apply_one(pixels: Tensor, flips: Tensor, numbers: Tensor, operation: Tensor) -> Tensor:
    """Flips, then an image's one operation, anywhere in the range of its magnitude."""
    images = flip(pixels, *(flips < FLIP_PROBABILITY).unbind(1)).to(torch.float32)
    share, direction = numbers.unbind(1)
    smeared = is_kind(operation, Operation.BLUR)
    others = torch.where(smeared, NONE, operation)
    images = operate(images, others, share, direction.round() * 2 - 1)
    images = blurs._apply_where(smeared, images, blur_widely, share)
    return normalise(images * (1 / 255)).contiguous(memory_format=torch.channels_last)


VIEWS.add("operation", View(draw_one, apply_one), apply_one)
