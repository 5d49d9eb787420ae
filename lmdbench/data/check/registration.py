"""Whether two small grey pictures show the same: one is laid over the other and compared.

Pictures are (B, S, S) float grey values, 0 to 255. A placement (B, 4) says where in the second
picture the first lies: y' = a·y + b and x' = c·x + d, in units that run from −1 to 1 over a side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = ((32, 6), (64, 4))  # Gauss-Newton steps at each side in pixels
SCALE_LIMITS, SHIFT_LIMIT = (0.7, 1.4), 0.35
STEP_LIMIT = 0.15
DETAIL, NEIGHBOURHOOD = 2.0, 4.0  # px at 64: what is finer is compared, by what is around it
BLACK, MARGIN = 14.0, 3  # grey level and px at 64: of frames, which do not count
LEAST_LIT = 0.2  # share of the picture that must be left without them
NOISE = 2.0  # grey levels, below which contrast is not amplified


def orient(pictures: Tensor, orientation: Tensor) -> Tensor:
    """Pictures mirrored and turned: bit 2 of the orientation (B,) transposes, bit 1 then flips rows
    and bit 0 columns. The eight of them are all turns by 90° and mirror images."""
    rows = orientation[:, None, None]
    pictures = torch.where((rows & 4) > 0, pictures.transpose(-1, -2), pictures)
    pictures = torch.where((rows & 2) > 0, pictures.flip(-2), pictures)
    return torch.where((rows & 1) > 0, pictures.flip(-1), pictures)


def register(first: Tensor, second: Tensor, placement: Tensor) -> Tensor:
    """The placement, improved from a first guess: Gauss-Newton on the correlation of the pictures
    without their coarse brightness (Evangelidis & Psarakis, PAMI 2008, with 4 parameters)."""
    side = first.shape[-1]
    for size, steps in STEPS:
        a, b = (F.adaptive_avg_pool2d(x, size) if size < side else x for x in (first, second))
        a, b = (x - blur(x, size / 10) for x in (a, b))
        for _ in range(steps):
            placement = _step(a, b, placement)
    return placement


def agreement(first: Tensor, second: Tensor, placement: Tensor) -> Tensor:
    """Correlation (B,) of the pictures' details where they overlap, −1 to 1.

    Details are what a blur takes away, divided by their own contrast around: neither the dark blob
    in the middle that most lesions are nor the black frame that pictures of an endoscope share
    counts.
    """
    moved, mask = _warp(_details(second), placement)
    mask = _lit(mask, first, _warp(second, placement)[0])
    a, size_a = _centred(_details(first), mask)
    b, size_b = _centred(moved, mask)
    return (a * b).sum((1, 2)) / (size_a * size_b)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``sigma`` pixels, borders repeated."""
    reach = int(3 * sigma + 0.5)
    x = torch.arange(-reach, reach + 1, dtype=pictures.dtype)
    kernel = (-0.5 * (x / sigma).square()).exp()
    kernel = kernel / kernel.sum()
    padded = F.pad(pictures[:, None], (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel[None, None, None])
    return F.conv2d(rows, kernel[None, None, :, None])[:, 0]


def _lit(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The mask without what is black in either picture, and a margin around it: an endoscope's
    frame and inlay. All of the mask where too little would be left."""
    black = ((first < BLACK) | (second < BLACK)).to(mask.dtype)
    near = F.max_pool2d(black[:, None], 2 * MARGIN + 1, stride=1, padding=MARGIN)[:, 0]
    lit = mask * (1 - near)
    enough = lit.mean((1, 2)) >= LEAST_LIT
    return torch.where(enough[:, None, None], lit, mask)


def _details(pictures: Tensor) -> Tensor:
    scale = pictures.shape[-1] / 64
    fine = pictures - blur(pictures, DETAIL * scale)
    contrast = blur(fine.square(), NEIGHBOURHOOD * scale).clamp_min(0).sqrt()
    return fine / (contrast + NOISE)


def _step(first: Tensor, second: Tensor, placement: Tensor) -> Tensor:
    size = first.shape[-1]
    axis = _axis(size)
    moved, mask = _warp(second, placement)
    a, size_a = _centred(first, mask)
    b, size_b = _centred(moved, mask)
    a, b = a / size_a[:, None, None], b / size_b[:, None, None]
    by_y = F.pad(moved[:, 2:] - moved[:, :-2], (0, 0, 1, 1)) * (size / 4)
    by_x = F.pad(moved[:, :, 2:] - moved[:, :, :-2], (1, 1)) * (size / 4)
    slopes = torch.stack([by_y * axis[:, None], by_y, by_x * axis, by_x], dim=1) * mask[:, None]
    inside = mask.sum((1, 2)).clamp_min(1)[:, None, None, None]
    slopes = slopes - slopes.sum((2, 3), keepdim=True) / inside * mask[:, None]
    slopes = slopes.flatten(2) / size_b[:, None, None]
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    slopes = slopes - (slopes @ flat_b[:, :, None]) * flat_b[:, None]
    rest = flat_a - flat_b * (flat_a * flat_b).sum(1, keepdim=True)
    normal = slopes @ slopes.transpose(1, 2)
    ridge = normal.diagonal(dim1=1, dim2=2).mean(1) * 1e-3 + 1e-8
    normal = normal + torch.eye(4) * ridge[:, None, None]
    change = torch.linalg.solve(normal, slopes @ rest[:, :, None])[:, :, 0]
    change = change.clamp(-STEP_LIMIT, STEP_LIMIT)
    scales = placement[:, [0, 2]]
    return torch.stack(
        [
            (scales[:, 0] * (1 + change[:, 0])).clamp(*SCALE_LIMITS),
            (placement[:, 1] + scales[:, 0] * change[:, 1]).clamp(-SHIFT_LIMIT, SHIFT_LIMIT),
            (scales[:, 1] * (1 + change[:, 2])).clamp(*SCALE_LIMITS),
            (placement[:, 3] + scales[:, 1] * change[:, 3]).clamp(-SHIFT_LIMIT, SHIFT_LIMIT),
        ],
        dim=1,
    )


def _axis(size: int) -> Tensor:
    """Where the pixels of a side lie, from −1 to 1."""
    return (torch.arange(size) + 0.5) / size * 2 - 1


def _warp(pictures: Tensor, placement: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures as the placement moves them, and a mask (B, S, S) of where they cover."""
    size = pictures.shape[-1]
    axis = _axis(size)
    y = placement[:, :1] * axis + placement[:, 1:2]
    x = placement[:, 2:3] * axis + placement[:, 3:]
    grid = torch.stack(
        [x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1
    )
    moved = F.grid_sample(pictures[:, None], grid, align_corners=False, padding_mode="border")
    limit = 1 - 1 / size
    covered = (y.abs() <= limit)[:, :, None] & (x.abs() <= limit)[:, None, :]
    return moved[:, 0], covered.to(pictures.dtype)


def _centred(pictures: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures inside the mask without their mean there, and their norms (B,)."""
    inside = mask.sum((1, 2), keepdim=True).clamp_min(1)
    centred = (pictures - (pictures * mask).sum((1, 2), keepdim=True) / inside) * mask
    return centred, centred.flatten(1).norm(dim=1).clamp_min(1e-6)
