"""Pictures that are in two parts of a split: identical files, and near-duplicates.

Candidates come by perceptual hash and, where an encoder is given, by its features; each is
confirmed by laying one picture over the other (``registration``), so that what counts as the same
does not depend on the encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lmdbench.core.files import read_bytes
from lmdbench.data.check import fingerprints, registration
from lmdbench.data.store.decoding import open_rgb, reason, whole_images
from lmdbench.data.store.hashing import default_workers, in_parallel
from lmdbench.data.store.scale import USUAL, Scale
from lmdbench.training.views.augmentation import normalise

CANDIDATES = 4  # pictures of earlier parts that are looked at for each, by hash and by features
LIKELY = 0.6  # of the hash's likeness, below which no pair is looked at
SAME = 0.6  # agreement from which on two pictures are the same: see benchmarks/near_duplicates.py
BLOCK = 512  # pictures or pairs at a time

Progress = Callable[[str, int, int], None]  # what is done, so many, of how many


@dataclass(frozen=True)
class Pair:
    """Two images of different parts that show the same.

    ``agreement``: correlation of their details, 1 for identical files. ``hash_distance``: bits of
    64 in which their perceptual hashes differ, at the best turn. ``cosine``: of the encoder's
    features at the best turn; None without an encoder.
    """

    first: str
    second: str
    identical: bool
    agreement: float
    hash_distance: int
    cosine: float | None


@dataclass(frozen=True)
class SimilarPictures:
    """``pairs``: the identical first, then the most alike. ``unreadable``: image → why."""

    pairs: tuple[Pair, ...]
    unreadable: Mapping[str, str]
    contents: Mapping[str, str]  # image → SHA-256 of its file


def find_pairs(
    files: Mapping[str, Path],
    parts: Sequence[Sequence[str]],
    encoder: nn.Module | None = None,
    device: torch.device | None = None,
    progress: Progress = lambda *_: None,
    scale: Scale = USUAL,
) -> SimilarPictures:
    """Images of one part that show what an image of another part shows.

    ``parts``: the ids in each. ``scale``: of pictures of more than 8 bits.

    Found are copies that were compressed anew, resized, mirrored,
    turned by 90°, cut by up to a tenth a side or changed in brightness, contrast or colour.
    """
    ids = [image for part in parts for image in part]
    colours, contents, unreadable = read_pictures(ids, files, progress, scale)
    kept = [row for row, image in enumerate(ids) if image not in unreadable]
    if not kept:
        return SimilarPictures((), unreadable, contents)
    ids, colours = [ids[row] for row in kept], colours[kept]
    of_part = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[kept]
    grey = _grey(colours)
    prints = fingerprints.fingerprints(grey)
    features = None
    if encoder is not None and len(ids):
        features = _features(encoder, colours, of_part > 0, device, progress)

    identical = _identical(ids, of_part, contents)
    candidates = set(identical)
    for rows, earlier, likeness in _likenesses(of_part, prints, features, progress):
        candidates |= _nearest(rows, earlier, likeness)
    pairs = sorted(candidates)
    agreements = _agreements(grey, prints, pairs, progress)
    bits = fingerprints.turned_bits(grey)
    found = [
        Pair(
            ids[a],
            ids[b],
            identical=(a, b) in identical,
            agreement=1.0 if (a, b) in identical else round(agreement, 4),
            hash_distance=int((bits[0, a] != bits[:, b]).sum(axis=1).min()),
            cosine=None if features is None else round(features.cosine(a, b), 4),
        )
        for (a, b), agreement in zip(pairs, agreements, strict=True)
        if (a, b) in identical or agreement >= SAME
    ]
    found.sort(key=lambda pair: (not pair.identical, -pair.agreement, pair.first, pair.second))
    return SimilarPictures(tuple(found), unreadable, contents)


def read_pictures(
    ids: Sequence[str],
    files: Mapping[str, Path],
    progress: Progress,
    scale: Scale = USUAL,
) -> tuple[Tensor, dict[str, str], dict[str, str]]:
    """Small pictures (N, 3, 64, 64) uint8, image → SHA-256 of its file, and image → why it could
    not be read (its picture is black)."""
    size = fingerprints.SIDE

    def one(row: int) -> tuple[np.ndarray | None, str]:
        try:
            content = read_bytes(files[ids[row]])
            small = open_rgb(content, scale).resize((size, size), Image.Resampling.BOX)
        except Exception as error:  # Pillow's plug-ins raise errors of every kind
            return None, reason(error)
        return np.asarray(small).transpose(2, 0, 1), hashlib.sha256(content).hexdigest()

    pictures = np.zeros((len(ids), 3, size, size), dtype=np.uint8)
    contents: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    done = 0

    def take(chunk: Mapping[int, tuple[np.ndarray | None, str]]) -> None:
        nonlocal done
        for row, (picture, text) in chunk.items():
            if picture is None:
                unreadable[ids[row]] = text
            else:
                pictures[row], contents[ids[row]] = picture, text
        done += len(chunk)
        progress("reading pictures", done, len(ids))

    with whole_images():
        in_parallel(one, range(len(ids)), default_workers(), take)
    unreadable = {image: unreadable[image] for image in ids if image in unreadable}
    return torch.from_numpy(pictures), contents, unreadable


def _grey(colours: Tensor) -> Tensor:
    red, green, blue = colours.float().unbind(1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


@dataclass(frozen=True)
class _Features:
    """Unit vectors: ``plain`` (N, D) of every picture, ``turned`` (8, L, D) of those of later parts
    in their eight turns. ``place`` (N,): where in ``turned`` a picture is."""

    plain: Tensor
    turned: Tensor
    place: np.ndarray

    def cosines(self, later: np.ndarray, earlier: np.ndarray) -> Tensor:
        """The best cosine (L, E) over the turns of the later pictures."""
        untouched = self.plain[earlier].T
        rows = self.place[later]
        return reduce(torch.maximum, (turn[rows] @ untouched for turn in self.turned))

    def cosine(self, later: int, earlier: int) -> float:
        return float(self.cosines(np.array([later]), np.array([earlier])))


def _features(
    encoder: nn.Module,
    colours: Tensor,
    later: np.ndarray,
    device: torch.device | None,
    progress: Progress,
) -> _Features:
    """The encoder's features around their mean; ``later`` (N,) bool: which pictures are turned."""
    device = device or torch.device("cpu")
    encoder = encoder.to(device).eval()
    rows = torch.from_numpy(np.flatnonzero(later))
    work = [(0, torch.arange(len(colours)))]
    work += [(turn, rows) for turn in range(1, fingerprints.ORIENTATIONS)]
    total, done = sum(len(some) for _, some in work), 0
    found: list[Tensor] = []
    with torch.inference_mode():
        for turn, some in work:
            blocks = []
            for block in some.split(BLOCK):
                pictures = colours[block]
                one = torch.full((3 * len(block),), turn)
                pictures = registration.orient(pictures.flatten(0, 1), one).view_as(pictures)
                images = normalise(pictures.to(device, torch.float32) / 255)
                blocks.append(encoder(images).float().cpu())
                done += len(block)
                progress("computing features", done, total)
            found.append(torch.cat(blocks) if blocks else torch.empty(0))
    plain, *turns = found
    mean = plain.mean(dim=0)
    turned = torch.stack([plain[rows], *turns]) if len(rows) else plain[None, rows]
    return _Features(_unit(plain - mean), _unit(turned - mean), np.cumsum(later) - 1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def _identical(
    ids: Sequence[str], of_part: np.ndarray, contents: Mapping[str, str]
) -> set[tuple[int, int]]:
    """Rows of images of different parts whose files are the same, the later part's first."""
    alike: dict[str, list[int]] = {}
    for row, image in enumerate(ids):
        alike.setdefault(contents[image], []).append(row)
    return {
        (b, a)
        for rows in alike.values()
        for a, b in combinations(rows, 2)
        if of_part[a] != of_part[b]
    }


def _likenesses(
    of_part: np.ndarray, prints: Tensor, features: _Features | None, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
    """Blocks of rows, the rows of all earlier parts, and the likeness (B, E) of the one to the
    other by one kind of evidence; −1 where it is too small."""
    done, total = 0, int((of_part > 0).sum())
    for part in range(1, int(of_part.max(initial=0)) + 1):
        later, earlier = np.flatnonzero(of_part == part), np.flatnonzero(of_part < part)
        for start in range(0, len(later) if len(earlier) else 0, BLOCK):
            rows = later[start : start + BLOCK]
            by_hash = torch.cat(
                [
                    fingerprints.likeness(prints[rows], prints[earlier[begin : begin + 8 * BLOCK]])
                    for begin in range(0, len(earlier), 8 * BLOCK)
                ],
                dim=1,
            )
            yield rows, earlier, by_hash.where(by_hash >= LIKELY, -1.0)
            if features is not None:
                yield rows, earlier, features.cosines(rows, earlier)
            done += len(rows)
            progress("comparing pictures", done, total)


def _nearest(rows: np.ndarray, earlier: np.ndarray, likeness: Tensor) -> set[tuple[int, int]]:
    values, columns = likeness.topk(min(CANDIDATES, len(earlier)), dim=1)
    return {
        (int(rows[b]), int(earlier[columns[b, k]])) for b, k in (values > -1).nonzero().tolist()
    }


def _agreements(
    grey: Tensor, prints: Tensor, pairs: Sequence[tuple[int, int]], progress: Progress
) -> list[float]:
    found: list[float] = []
    for start in range(0, len(pairs), BLOCK):
        first, second = torch.tensor(pairs[start : start + BLOCK]).T
        orientation, placement = fingerprints.best_fit(prints[first], prints[second])
        one, other = grey[first], registration.orient(grey[second], orientation)
        placement = registration.register(one, other, placement)
        found += registration.agreement(one, other, placement).tolist()
        progress("confirming pairs", len(found), len(pairs))
    return found
