"""A contact sheet of pairs of images, side by side, for people to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lmdbench.core.files import atomic, read_bytes
from lmdbench.core.words import count
from lmdbench.data.check.pictures import Pair
from lmdbench.data.store.decoding import open_rgb, whole_images
from lmdbench.data.store.scale import USUAL, Scale

MOST = 24  # pairs
COLUMNS = 3
INCHES = (4.2, 2.7)  # of a pair
PIXELS = 240  # of an image's longer side
LONGEST_ID = 26  # letters of an image's id that are shown


def draw_pairs(
    path: Path,
    pairs: Sequence[Pair],
    files: Mapping[str, Path],
    captions: Mapping[str, str],
    scale: Scale = USUAL,
) -> None:
    """Draw the first ``MOST`` pairs with ids, captions (such as part and class) and scores.

    The ending of ``path`` says the format (png, pdf, svg). Raises UserError for a full disk.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = pairs[:MOST]
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * INCHES[0], rows * INCHES[1] + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    some = f"{len(shown):,} of " if len(pairs) > MOST else ""
    figure.suptitle(f"{some}{count(len(pairs), 'pair')}, the most alike first", fontsize=11)
    axes = figure.subplots(rows, 2 * COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, pair in enumerate(shown):
        row, column = divmod(number, COLUMNS)
        score = "identical" if pair.identical else f"agreement {pair.agreement:.2f}"
        for side, image in enumerate((pair.first, pair.second)):
            axis = axes[row, 2 * column + side]
            axis.imshow(_small(files[image], scale))
            head = f"{number + 1}. {score}" if side == 0 else f"hash distance {pair.hash_distance}"
            axis.set_title(f"{head}\n{_short(image)}\n{captions[image]}", fontsize=7)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata={} if path.suffix == ".png" else None)


def _small(file: Path, scale: Scale) -> np.ndarray:
    with whole_images():
        image = open_rgb(read_bytes(file), scale)
    image.thumbnail((PIXELS, PIXELS), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _short(image: str) -> str:
    return image if len(image) <= LONGEST_ID else f"…{image[1 - LONGEST_ID :]}"
