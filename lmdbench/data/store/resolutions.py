"""How large a data set's images are, from their headers alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmdbench.data.store.decoding import header, whole_images

MOST_READ = 2000  # images, spread evenly
SEED = 42  # of where the even spread begins

Sides = tuple[int, int]  # width and height in pixels


@dataclass(frozen=True)
class Resolutions:
    """Sizes of the ``read`` images, among ``of`` that are there; ordered by area."""

    read: int
    of: int
    unreadable: int
    smallest: Sides
    median: Sides
    largest: Sides
    different: int
    formats: Mapping[str, int]  # Pillow's name → images


def spread(total: int, wanted: int) -> list[int]:
    """``wanted`` positions below ``total``, or all, evenly spread, and always the same ones."""
    if wanted >= total:
        return list(range(total))
    begin = random.Random(SEED).random()
    return [int((i + begin) * total / wanted) for i in range(wanted)]


def measure(files: Sequence[Path], most: int = MOST_READ) -> Resolutions | None:
    """Sizes and formats of ``most`` of the files, spread evenly; None if none can be read."""
    chosen = [files[position] for position in spread(len(files), most)]
    sides: list[Sides] = []
    formats: Counter[str] = Counter()
    with whole_images():
        for file in chosen:
            try:
                size, kind = header(file)
            except Exception:  # Pillow's plug-ins raise errors of every kind
                continue
            sides.append(size)
            formats[kind] += 1
    if not sides:
        return None
    sides.sort(key=lambda size: (size[0] * size[1], size))
    return Resolutions(
        read=len(sides),
        of=len(files),
        unreadable=len(chosen) - len(sides),
        smallest=sides[0],
        median=sides[len(sides) // 2],
        largest=sides[-1],
        different=len(set(sides)),
        formats=dict(formats.most_common()),
    )
