"""MedMNIST files: ``.npz`` archives of small images and labels, already divided in three."""

from __future__ import annotations

import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.core.words import count
from lmdbench.data.dataset import sha256_lines

PIECES = ("train", "val", "test")  # <piece>_images and <piece>_labels; val may be absent
ENDING = ".png"
SAY_SECONDS = 10.0  # between two lines on how far the writing is
# What zipfile and numpy raise for bytes that are not as they should be.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, RuntimeError)


@dataclass(frozen=True)
class MedMNIST:
    """What a file holds, without its pixels.

    ``labels``: piece → class of each image. ``identity``: SHA-256 over the checksums that the
    archive keeps of its arrays, so that it changes with any of their content.
    """

    path: Path
    labels: Mapping[str, Sequence[int]]
    identity: str

    def ids(self, piece: str) -> list[str]:
        """The names of a piece's images, in their order."""
        return [image_id(piece, number) for number in range(len(self.labels[piece]))]


@dataclass(frozen=True)
class _Array:
    shape: tuple[int, ...]
    column_major: bool
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"


def image_id(piece: str, number: int) -> str:
    """``train/000123``."""
    return f"{piece}/{number:06}"


def read_medmnist(path: Path) -> MedMNIST:
    """Labels and shapes of a file; its images are not read.

    Raises UserError, naming file and array, for a file that is damaged, lacks an array, or holds
    other than grey or RGB images in uint8 with one label each.
    """
    with _archive(path) as archive:
        there = {name.removesuffix(".npy") for name in archive.namelist()}
        pieces = [p for p in PIECES if p != "val" or {f"{p}_images", f"{p}_labels"} & there]
        names = [f"{piece}_{kind}" for piece in pieces for kind in ("images", "labels")]
        missing = [name for name in names if name not in there]
        if missing:
            raise UserError(
                f"{path}: no array {' and no '.join(missing)}; a MedMNIST file has "
                f"{', '.join(names)}, here is {', '.join(map(repr, sorted(there))) or 'nothing'}"
            )
        labels = {}
        for piece in pieces:
            with _member(archive, f"{piece}_images") as file:
                images = _header(archive, f"{piece}_images", file)
            _require_images(f"{path}: {piece}_images", images)
            with _member(archive, f"{piece}_labels") as file:
                described = _header(archive, f"{piece}_labels", file)
                _require_labels(f"{path}: {piece}_labels", described)
                labels[piece] = np.frombuffer(file.read(), described.dtype).tolist()
            if len(labels[piece]) != images.shape[0]:
                raise UserError(
                    f"{path}: {images.shape[0]:,} {piece}_images but {len(labels[piece]):,} "
                    f"{piece}_labels; each image needs one"
                )
        return MedMNIST(path, labels, _identity(archive, names))


def write_images(content: MedMNIST, folder: Path, say: Callable[[str], None]) -> None:
    """Write every image into a folder, losslessly, as ``<id>.png``.

    ``say`` is told how far it is every few seconds. Raises UserError for a file that turns out
    damaged, or is another than it was.
    """
    total, last = sum(map(len, content.labels.values())), time.monotonic()
    for piece in content.labels:
        (folder / piece).mkdir()
    for done, (image, pixels) in enumerate(_images(content)):
        if time.monotonic() - last > SAY_SECONDS:
            say(f"  {done:,} of {count(total, 'image')} written")
            last = time.monotonic()
        Image.fromarray(pixels).save(folder / f"{image}{ENDING}", compress_level=1)


def _images(content: MedMNIST) -> Iterator[tuple[str, np.ndarray]]:
    """Id and pixels, (H, W) or (H, W, 3) uint8, of every image; one at a time in memory."""
    path = content.path
    with _archive(path) as archive:
        names = [f"{piece}_{kind}" for piece in content.labels for kind in ("images", "labels")]
        if _identity(archive, names) != content.identity:
            raise UserError(f"{path}: changed while it was read; run the same command again")
        for piece in content.labels:
            with _member(archive, f"{piece}_images") as file:
                array = _header(archive, f"{piece}_images", file)
                for number, pixels in enumerate(_rows(file, array)):
                    yield image_id(piece, number), pixels


def _rows(file: IO[bytes], array: _Array) -> Iterator[np.ndarray]:
    if array.column_major:  # rows are scattered over the file
        yield from np.frombuffer(file.read(), np.uint8).reshape(array.shape[::-1]).T
        return
    for _ in range(array.shape[0]):
        content = file.read(prod(array.shape[1:]))
        yield np.frombuffer(content, np.uint8).reshape(array.shape[1:])


def _identity(archive: zipfile.ZipFile, names: Sequence[str]) -> str:
    infos = ((name, archive.getinfo(f"{name}.npy")) for name in names)
    return sha256_lines(f"{name} {info.CRC:08x} {info.file_size}" for name, info in infos)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(f"{name}.npy")


def _header(archive: zipfile.ZipFile, name: str, file: IO[bytes]) -> _Array:
    """What the array is; leaves the file at its first value. Raises ValueError."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        array = _Array(*np.lib.format.read_array_header_1_0(file))
    elif version == (2, 0):
        array = _Array(*np.lib.format.read_array_header_2_0(file))
    else:
        raise ValueError(f"{name} is in array format {version}")
    size = file.tell() + prod(array.shape) * array.dtype.itemsize
    if not array.dtype.hasobject and size != archive.getinfo(f"{name}.npy").file_size:
        raise ValueError(f"{name} is not as long as its shape {array.shape} says")
    return array


def _require_images(where: str, array: _Array) -> None:
    shape = array.shape
    grey, colour = len(shape) == 3, len(shape) == 4 and shape[3] == 3
    if array.dtype != np.uint8 or not (grey or colour) or 0 in shape[1:]:
        raise UserError(
            f"{where} is {array}, but wants (N, height, width) grey or (N, height, width, 3) RGB "
            "in uint8; volumes cannot be used"
        )


def _require_labels(where: str, array: _Array) -> None:
    if array.dtype.kind not in "iu" or array.shape[1:] not in ((), (1,)) or not array.shape:
        raise UserError(
            f"{where} is {array}, but wants one whole number an image, (N,) or (N, 1); "
            "several labels an image cannot be used"
        )


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The opened file; what is wrong with it becomes a UserError. No pickle is ever loaded."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged, or no .npz ({reason}); fetch it again") from error
