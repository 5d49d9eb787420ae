"""What the strong view does, as pictures: python docs/picture_of_views.py OPERATIONS.png VIEWS.png.

The first shows each operation alone, chosen in every image; the second whole strong views, as they
are drawn in training. The images are those of the demo data set, 48 px, enlarged.
"""

import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lmdbench.datasets.demo import CLASSES, draw
from lmdbench.training.views.augmentation import (
    VIEWS,
    Distortion,
    StrongParameters,
    apply_strong,
    strong_parameters,
)
from lmdbench.training.views.blurs import Blur

IMAGES = [draw(f"view {name}", look) for name, look in CLASSES.items()]
VIEWS_AN_IMAGE = 9
ELASTIC_EXAGGERATION = 300  # as it is, it moves nothing by more than a few hundredths of a pixel
INCHES = 0.9  # an image
COLOURS = 128  # of a picture: a quarter of the file, and nobody sees it


def drawn(images: int, seed: int) -> StrongParameters:
    numbers = VIEWS["strong"].draw(images, torch.Generator().manual_seed(seed))
    return strong_parameters(*numbers)


def operations(images: int) -> dict[str, StrongParameters]:
    """Title of each operation → the parameters with which it alone is chosen for every image."""
    p = drawn(images, seed=4)
    yes, no = torch.ones(images, dtype=torch.bool), torch.zeros(images, dtype=torch.bool)
    # Alternately one end of the range and the other: drawn anew, most would hardly show.
    ends = torch.tensor([-1.0, 1.0]).repeat(images)[:images]
    neutral = replace(
        p,
        flip_horizontal=no,
        flip_vertical=no,
        blur=torch.full((images,), Blur.NONE),
        moved=no,
        distortion=torch.full((images,), Distortion.NONE),
        elastic_noise=p.elastic_noise * ELASTIC_EXAGGERATION,
        optical_k=0.05 * ends,
        rgb_shift=torch.zeros(images, 3),
        contrast=torch.ones(images),
        brightness=torch.zeros(images),
        grid_dropout=no,
    )

    def blur(kind: Blur) -> StrongParameters:
        return replace(neutral, blur=torch.full((images,), kind))

    def distortion(kind: Distortion) -> StrongParameters:
        return replace(neutral, distortion=torch.full((images,), kind))

    signs = torch.tensor([[1.0, -1, 0], [-1, 0, 1], [0, 1, -1], [1, 1, -1]]).repeat(images, 1)
    return {
        "none": neutral,
        "flips": replace(neutral, flip_horizontal=ends > 0, flip_vertical=ends.cumsum(0) < 0),
        "motion blur": blur(Blur.MOTION),
        "median blur": blur(Blur.MEDIAN),
        "box blur": blur(Blur.BOX),
        "shift, scale,\nrotation": replace(neutral, moved=yes),
        "grid distortion": distortion(Distortion.GRID),
        f"elastic distortion\n(× {ELASTIC_EXAGGERATION})": distortion(Distortion.ELASTIC),
        "optical distortion": distortion(Distortion.OPTICAL),
        "RGB shift": replace(neutral, rgb_shift=signs[:images] * 15 / 255),
        "brightness": replace(neutral, brightness=0.2 * ends),
        "contrast": replace(neutral, contrast=1 + 0.2 * ends),
        "grid dropout": replace(neutral, grid_dropout=yes),
    }


def picture(rows: dict[str, Tensor], file: Path) -> None:
    """Title → images (N, 3, H, W) float in [0, 1]: a row each."""
    columns = max(map(len, rows.values()))
    figure = Figure((columns * INCHES + 1.4, len(rows) * INCHES), dpi=100, layout="constrained")
    axes = figure.subplots(len(rows), columns)
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for place, image in zip(line, images, strict=True):
            place.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    buffer = BytesIO()
    figure.savefig(buffer)
    Image.open(buffer).convert("RGB").quantize(COLOURS).save(file, optimize=True)


def main(of_operations: Path, of_views: Path) -> None:
    images = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2) / 255
    picture(
        {title: apply_strong(images, p) for title, p in operations(len(images)).items()},
        of_operations,
    )
    views = {}
    for i, (name, image) in enumerate(zip(CLASSES, images, strict=True)):
        repeated = image.expand(VIEWS_AN_IMAGE, -1, -1, -1)
        strong = apply_strong(repeated, drawn(VIEWS_AN_IMAGE, seed=10 + i))
        views[name] = torch.cat([image[None], strong])
    picture(views, of_views)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
