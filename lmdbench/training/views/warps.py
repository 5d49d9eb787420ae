"""Geometry of the strong view: where each pixel of the result is taken from.

Coordinates are in pixels, (0, 0) the centre of the top left one; beyond the border the image is
reflected about its outermost pixels ("reflect 101"). Maps run backwards, from a place in the result
to the place in the source. Lengths given for 224 px grow in proportion with the image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

REFERENCE_SIZE = 224  # the image side that lengths in pixels are given for

GRID_CELLS = 5  # a side, and a sixth, cut off, for the pixels left over

# px in x and y: the library counts the lens's centre from the corner of the source image, but from
# the centre of the corner pixel in the result.
OPTICAL_SHIFT = 0.5

ELASTIC_ALPHA = 3.0  # factor of the smoothed noise, which is uniform in ±1 a pixel
ELASTIC_SIGMA = 50.0  # px at 224
ELASTIC_LATTICE = 16  # cells a side


def grid_distortion_map(steps: Tensor, size: int) -> Tensor:
    """Source coordinates (B, size) of the columns, or rows, of an image distorted along a grid.

    Each of the five cells is stretched by its own factor, and they are laid end to end from 0; what
    is left over becomes a sixth cell that ends at the border. Within a cell the first pixel is at
    its start and the last one at its end, so that a factor of 1 is not quite the identity.
    steps: factors (B, 5).
    """
    cell = max(1, size // GRID_CELLS)
    rest = size - GRID_CELLS * cell
    lengths = [*(cell * steps).unbind(1), size - cell * steps.sum(1)]
    pixel = torch.arange(size, device=steps.device)
    source = torch.zeros((), device=steps.device)
    for i, length in enumerate(lengths):
        last = max(1, (cell if i < GRID_CELLS else rest) - 1)
        source = source + length[:, None] * ((pixel - i * cell) / last).clamp(0, 1)
    return source


def optical_distortion_offsets(k: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Offsets in x and y (B, H, W) of a lens with both radial coefficients k (B,) and focal lengths
    equal to the image's width and height. ``OPTICAL_SHIFT`` comes on top."""
    x = torch.arange(width, device=k.device) - (width - 1) / 2
    y = torch.arange(height, device=k.device) - (height - 1) / 2
    squared = (x / width).square()[None, :] + (y / height).square()[:, None]
    factor = k[:, None, None] * (squared + squared.square())
    return x * factor, y[:, None] * factor


def elastic_offsets(noise: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Offsets in x and y (B, H, W): noise uniform in ±1 a pixel, smoothed by a Gaussian, times α.

    A Gaussian of σ = 50 px averages thousands of pixels, so its input may as well be the means of
    the noise over cells of 14 × 14 px: normal, with a deviation of 1/√3/14. Smoothing and
    enlarging are then one small matrix a side. noise: standard normal (B, 2, 16, 16).
    """
    deviation = ELASTIC_ALPHA * ELASTIC_LATTICE / REFERENCE_SIZE / math.sqrt(3)
    noise_x = noise[:, 0] * (deviation * width / REFERENCE_SIZE)
    noise_y = noise[:, 1] * (deviation * height / REFERENCE_SIZE)
    rows = _gaussian_weights(height, noise.device)
    columns = _gaussian_weights(width, noise.device)
    x, y = (rows @ (torch.stack([noise_x, noise_y]) @ columns.T)).unbind(0)
    return x, y


def _gaussian_weights(size: int, device: torch.device) -> Tensor:
    """Weights (size, 16) with which the lattice's cells, reflected at the border, reach a pixel."""
    pixel = (torch.arange(size, device=device) + 0.5) * (REFERENCE_SIZE / size)
    cell = (torch.arange(ELASTIC_LATTICE, device=device) + 0.5) * (REFERENCE_SIZE / ELASTIC_LATTICE)
    period = 2 * REFERENCE_SIZE
    images = torch.stack([s * cell + n * period for s in (1, -1) for n in (-1, 0, 1)])
    weights = (-0.5 * ((pixel[:, None, None] - images) / ELASTIC_SIGMA).square()).exp().sum(1)
    return weights / weights.sum(1, keepdim=True)


def affine_matrix(shift: Tensor, scale: Tensor, angle: Tensor, height: int, width: int) -> Tensor:
    """Matrices (B, 2, 3) from a place (x, y, 1) in an image scaled, turned and shifted about its
    centre back to its source.

    shift (B, 2): of the image's width and height; scale (B, 2): in x and y; angle (B,): radians,
    clockwise as seen on the screen.
    """
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    from_x, from_y = centre_x + shift[:, 0] * width, centre_y + shift[:, 1] * height
    cos, sin = angle.cos(), angle.sin()
    xx, xy = cos / scale[:, 0], sin / scale[:, 0]
    yx, yy = -sin / scale[:, 1], cos / scale[:, 1]
    x = torch.stack([xx, xy, centre_x - xx * from_x - xy * from_y], dim=1)
    y = torch.stack([yx, yy, centre_y - yx * from_x - yy * from_y], dim=1)
    return torch.stack([x, y], dim=1)


def mirrored(matrix: Tensor, horizontal: Tensor, vertical: Tensor, size: tuple[int, int]) -> Tensor:
    """matrix (B, 2, 3) with its source mirrored where horizontal, vertical (B,) bool say so."""
    rows = []
    for row, flipped, length in zip(
        matrix.unbind(1), (horizontal, vertical), reversed(size), strict=True
    ):
        border = F.pad(row.new_full((1, 1), length - 1.0), (2, 0))
        rows.append(torch.where(flipped[:, None], border - row, row))
    return torch.stack(rows, dim=1)


def reflect(coordinate: Tensor, size: int) -> Tensor:
    """The coordinate folded into 0 … size − 1 by reflection about the outermost pixels."""
    period = 2 * (size - 1)
    return (coordinate - period * (coordinate / period).round()).abs()


def sample(images: Tensor, x: Tensor, y: Tensor, matrix: Tensor) -> Tensor:
    """images (B, C, H, W) at the places matrix · (x, y, 1): bilinear, reflected borders.

    x, y: pixels (B, H, W); matrix (B, 2, 3).
    """
    height, width = images.shape[-2:]
    in_one_pass = torch.compiler.is_compiling()
    places = []
    for size, row in ((width, matrix[:, 0]), (height, matrix[:, 1])):
        # grid_sample counts from −1 to 1 between the outermost pixels' centres.
        unit, origin = (1.0, 0.0) if in_one_pass else (2 / (size - 1), 1.0)
        by_x, by_y, constant = (row * unit)[:, :, None, None].unbind(1)
        places.append(torch.addcmul(torch.addcmul(constant - origin, y, by_y), x, by_x))
    if in_one_pass:
        return _sample_in_one_pass(images, reflect(places[0], width), reflect(places[1], height))
    return F.grid_sample(
        images,
        torch.stack(places, dim=-1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=True,
    )


def _sample_in_one_pass(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """images (B, C, H, W) at x, y (B, H, W), which lie within: bilinear; made to be compiled."""
    x, y = x[..., None], y[..., None]
    left, top = x.floor(), y.floor()
    share_x, share_y = x - left, y - top
    columns, rows = (
        (first.long(), (first.long() + 1).clamp(max=size - 1))
        for first, size in ((left, images.shape[3]), (top, images.shape[2]))
    )
    upper, lower = (
        torch.lerp(pixels_at(images, columns[0], row), pixels_at(images, columns[1], row), share_x)
        for row in rows
    )
    return torch.lerp(upper, lower, share_y).permute(0, 3, 1, 2)


def pixels_at(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """images (B, C, H, W) at the pixels x, y, int64 within them of shapes that broadcast to
    (B, H, W, 1); made to be compiled. The result (B, H, W, C) has a pixel's channels side by side,
    as whoever looks pixels up all over an image would like to find them."""
    image = torch.arange(images.shape[0], device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)
    # As images.permute(0, 2, 3, 1)[image, y, x, channel], but the GPU does not check each index.
    return torch.ops.aten._unsafe_index.Tensor(images.permute(0, 2, 3, 1), [image, y, x, channel])
