"""Images shared out among parts by class counts, images of one lesion or patient together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

ATTEMPTS = 20  # divisions tried, of which the first that is as wanted is taken, else the nearest
TOLERANCE = 0.02  # of a class's images in a part, or…
TOLERATED_IMAGES = 2


def allot(
    ids: Sequence[str] | np.ndarray,
    codes: np.ndarray,
    groups: Sequence[str],
    wanted: np.ndarray,
    key: str,
    needed: Sequence[int] = (),
) -> np.ndarray:
    """The part of each image, (N,) int64: as near as possible to the wanted images of each class.

    ``codes`` (N,): classes 0 … C−1. ``groups``: an image's lesion or patient, whose images all go
    to one part; empty for an image on its own. ``wanted`` (P, C): images of each class in each
    part, columns adding up to the classes' images. Rare classes come first, and within a class
    large groups: each is drawn to a part in proportion to what the part still lacks, among those
    that lack as many. So parts get alike shares of large groups, and single images make the counts
    exact.

    Several draws are tried until one has every class in all ``needed`` parts and is within 2 % or
    2 images of every wanted count; else the nearest is taken, of those that have every class in the
    needed parts if there are any. Depends on ``key``, ids, classes and groups, not on the order of
    the images.
    """
    units, of_image = _units(ids, groups)
    held = np.zeros((len(units), wanted.shape[1]), dtype=np.int64)
    np.add.at(held, (of_image, codes), 1)
    allowed = np.maximum(TOLERANCE * wanted, TOLERATED_IMAGES)
    tried: list[tuple[bool, float, np.ndarray]] = []
    for attempt in range(ATTEMPTS):
        home = _draw(units, held, wanted, needed, f"{key}/{attempt}")
        got = np.stack([held[home == part].sum(axis=0) for part in range(len(wanted))])
        lacks, off = not got[list(needed)].all(), np.abs(got - wanted)
        if not lacks and (off <= allowed).all():
            return home[of_image]
        tried.append((lacks, float((off / allowed).sum()), home))
    best = min(range(ATTEMPTS), key=lambda attempt: tried[attempt][:2])
    return tried[best][2][of_image]


def even_counts(counts: np.ndarray, parts: int) -> np.ndarray:
    """Counts (C,) divided among equal parts, (parts, C) int64: within one image of each other, the
    images left over spread so that the parts' totals are, too."""
    shares = np.tile(counts // parts, (parts, 1))
    turn = 0
    for c, rest in enumerate(counts % parts):
        for _ in range(rest):
            shares[turn % parts, c] += 1
            turn += 1
    return shares


def shuffled(
    positions: Sequence[int] | np.ndarray, ids: Sequence[str] | np.ndarray, key: str
) -> list[int]:
    """Positions in an order that depends on key and ids alone: no generator's stream to change."""
    return sorted(positions, key=lambda position: _number(f"{key}/{ids[position]}"))


def _units(ids: Sequence[str] | np.ndarray, groups: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names of the groups, sorted, and the row of each image's own, (N,)."""
    # A name of its own for an image without group cannot meet a real group's.
    names = [f"group/{g}" if g else f"image/{i}" for g, i in zip(groups, ids, strict=True)]
    units, of_image = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    return units.tolist(), of_image


def _draw(
    units: Sequence[str], held: np.ndarray, wanted: np.ndarray, needed: Sequence[int], key: str
) -> np.ndarray:
    """The part of each unit, (U,), from its images of each class ``held`` (U, C)."""
    numbers = [_number(f"{key}/{unit}") for unit in units]
    sizes = held.sum(axis=1)
    order = sorted(range(len(units)), key=lambda unit: (-sizes[unit], numbers[unit]))
    lacking = wanted.astype(np.int64)
    home = np.full(len(units), -1)
    of_class = [[unit for unit in order if held[unit, c]] for c in range(held.shape[1])]
    for c in sorted(range(held.shape[1]), key=lambda c: len(of_class[c])):
        homes = set(home[of_class[c]].tolist())
        free = [unit for unit in of_class[c] if home[unit] < 0]
        for place, unit in enumerate(free):
            lack = lacking[:, c]
            empty = [part for part in needed if part not in homes]
            if len(empty) >= len(free) - place:  # the last chance to have the class there
                lack = np.where(np.isin(np.arange(len(lack)), empty), lack, lack.min() - 1)
            weights = np.where(lack >= held[unit, c], lack, 0).clip(0)
            if not weights.any():  # it fits nowhere: to where it overshoots least
                weights = (lack == lack.max()).astype(np.int64)
            # One number of its own orders it, another draws its part.
            point = _number(f"{key}/part/{units[unit]}") / 2**64 * weights.sum()
            part = int(np.searchsorted(weights.cumsum(), point, side="right"))
            home[unit] = part
            homes.add(part)
            lacking[part] -= held[unit]
    return home


def _number(text: str) -> int:
    """A 64-bit number that looks random and depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
