"""The files of a store: finished ones, and one that is still growing.

A finished store is a folder with ``images.npy`` (M, 3, S, S) uint8, ``index.csv`` (image id and
SHA-256 of its file, a row each) and ``store.json``, which is written last and without which nothing
in the folder is called a store. While it is made the pixels grow in a hidden file, beside a hidden
record of the rows that are safe on disk: a later process goes on from there.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.core.files import (
    REFUSED,
    move_over,
    patiently,
    read_json,
    read_text,
    sync,
    write_json,
    write_text,
)
from lmdbench.data.store.contrast import nearly_constant
from lmdbench.data.store.decoding import decoder

FORMAT = 1  # raise it when the same files would give other pixels or another layout
PIXELS, INDEX, MARK = "images.npy", "index.csv", "store.json"
RECORD = ".progress.json"
CONSTANT = "nearly_constant"  # of the mark
RECORD_SECONDS = 1.0  # of work that a killed process may lose
DAMAGE = (
    *(UserError, OSError, EOFError, csv.Error, ValueError, KeyError, TypeError),
    *(AttributeError, StopIteration),
)


@dataclass(frozen=True)
class StoreFiles:
    """Images in a store's folder. ``hashes``: image id → SHA-256 of its file, in order of the rows;
    behind it how the file is read where that is not as most are, see ``looking.Look.mark``.

    ``pixels``: (M, 3, S, S) uint8, the memory map of ``file``. ``done``: (M,) bool, the rows to be
    trusted: all of a finished store, the recorded ones of an unfinished one. ``constant``: the
    images that are nearly constant; None: not looked at.
    """

    folder: Path
    file: Path
    digest: str
    size: int
    decoder: str
    hashes: Mapping[str, str] = field(repr=False)
    pixels: np.ndarray = field(repr=False)
    done: np.ndarray = field(repr=False)
    constant: Sequence[str] | None = None

    def holds(self, ids: Sequence[str], hashes: Sequence[str]) -> bool:
        """Whether every image is here, made from a file with that SHA-256."""
        return all(self.hashes.get(i) == sha for i, sha in zip(ids, hashes, strict=True))

    @property
    def row_of_hash(self) -> dict[str, int]:
        """SHA-256 of a file → a row with its pixels, of the rows to be trusted."""
        return {sha: row for row, sha in enumerate(self.hashes.values()) if self.done[row]}


def store_name(data_set: str) -> str:
    """A data set's name as stores carry it."""
    return re.sub(r"[^\w.-]", "-", data_set)


def store_folders(home: Path, name: str, size: int | None = None) -> list[Path]:
    """The folders of a data set's stores, finished or not, of one image size or of all.

    One that is only claimed is among them and need not be there.
    """
    pattern = re.compile(rf"{re.escape(name)}-{size or '[0-9]+'}px-[0-9a-f]{{16}}")
    try:
        names = {path.name.removesuffix(".claim") for path in home.iterdir()}
    except OSError:
        return []
    return sorted(home / name for name in names if pattern.fullmatch(name))


def content_digest(ids: Sequence[str], hashes: Sequence[str], size: int) -> str:
    """SHA-256 over the recipe, the size and each image's id and SHA-256, in the order given."""
    digest = hashlib.sha256(f"lmdbench store {FORMAT}, {size} px\n".encode())
    for image, sha256 in zip(ids, hashes, strict=True):
        digest.update(f"{sha256}\t{image}\n".encode())
    return digest.hexdigest()


def read_finished(folder: Path) -> StoreFiles | None:
    """The finished store in a folder; None if there is none, or one that is damaged."""
    try:
        return _read(folder, folder / PIXELS, read_json(folder / MARK))
    except DAMAGE:
        return None


def read_unfinished(folder: Path) -> StoreFiles | None:
    """What a preparation recorded as safe in a folder that is no finished store, if anything."""
    try:
        if (folder / MARK).exists():
            return None
        record = read_json(folder / RECORD)
        # The pixels take their final name just before the store is marked as finished.
        names = (record["file"], PIXELS)
        return _read(folder, next(folder / n for n in names if (folder / n).is_file()), record)
    except DAMAGE:
        return None


def note_constant(stored: StoreFiles) -> StoreFiles:
    """A finished store that knows its nearly constant images: they are looked for once, and noted
    where the store can be written."""
    if stored.constant is not None:
        return stored
    ids = list(stored.hashes)
    constant = [ids[row] for row in nearly_constant(stored.pixels, range(len(ids)))]
    mark = stored.folder / MARK
    with suppress(OSError, UserError):
        write_json(mark, {**read_json(mark), CONSTANT: constant})
    return replace(stored, constant=constant)


def _read(folder: Path, file: Path, record: Mapping[str, Any]) -> StoreFiles | None:
    """Raises one of DAMAGE, or returns None, for what is not whole."""
    index = io.StringIO(read_text(folder / INDEX), newline="")
    hashes = {row["id"]: row["sha256"] for row in csv.DictReader(index)}
    size = int(record["size"])
    pixels = patiently(lambda: _open_pixels(file))
    bits = np.packbits(np.ones(len(hashes), dtype=bool))
    if "done" in record:
        bits = np.frombuffer(bytes.fromhex(str(record["done"])), dtype=np.uint8)
    whole = (
        len(bits) == -(-len(hashes) // 8)
        and record["digest"] == content_digest(list(hashes), list(hashes.values()), size)
        and pixels.shape == (len(hashes), 3, size, size)
        and pixels.dtype == np.uint8
        and file.stat().st_size == len(pixels_header(len(hashes), size)) + pixels.nbytes
    )
    if not whole:
        return None
    done = np.unpackbits(bits, count=len(hashes)).astype(bool)
    digest, by = str(record["digest"]), str(record.get("decoder", ""))
    constant = record.get(CONSTANT)
    return StoreFiles(folder, file, digest, size, by, hashes, pixels, done, constant)


def _open_pixels(file: Path) -> np.ndarray:
    """A map of them, copied on write as torch warns of arrays only to be read. On a mount that maps
    no files they are read into memory."""
    try:
        return np.load(file, mmap_mode="c")
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        return np.load(file)


class TakenOver(Exception):
    """Another process took the claim, because this one seemed dead."""


class StoreWriter:
    """The pixels of a store in the making: rows are written in any order, from any thread.

    Begins with the rows of ``left``, which must be of the same images, size and decoder. Only for
    who holds the folder's claim; raises TakenOver when it finds that it does not any more.
    ``written`` (M,) bool: the rows that need no more work. ``recorded``: whether any work of it, or
    of an earlier process, would outlive this process.
    """

    def __init__(
        self,
        folder: Path,
        hashes: Mapping[str, str],
        size: int,
        claim: Claim,
        left: StoreFiles | None,
    ) -> None:
        self.folder, self.hashes, self.size, self.claim = folder, hashes, size, claim
        self._identity = {
            "digest": content_digest(list(hashes), list(hashes.values()), size),
            "size": size,
            "decoder": decoder(),
        }
        self.recorded = left is not None
        self._last_record = time.monotonic()
        if left is None:
            for name in (MARK, RECORD, PIXELS):
                (folder / name).unlink(missing_ok=True)
            # A name of its own, so that a record can never speak of another process's file.
            self.path = folder / f".images-{uuid.uuid4().hex}.npy"
            self.written = np.zeros(len(hashes), dtype=bool)
        else:
            self.path, self.written = left.file, left.done.copy()
        for other in set(folder.glob(".images-*.npy")) - {self.path}:
            other.unlink()
        # Written at offsets rather than through a map, where a full disk would be a signal.
        self._file = self.path.open("xb" if left is None else "r+b")
        header = pixels_header(len(hashes), size)
        self._start = len(header)
        if left is None:
            self._file.write(header)
            self._file.flush()
            self._reserve(len(header) + pixels_bytes(len(hashes), size))

    def _reserve(self, length: int) -> None:
        """Give the file its length, by a last byte where a file system stretches none."""
        try:
            self._file.truncate(length)
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            os.pwrite(self._file.fileno(), b"\0", length - 1)

    def write(self, row: int, pixels: np.ndarray) -> None:
        """Write one image, (3, S, S) uint8."""
        view, offset = memoryview(pixels.tobytes()), self._start + row * pixels_bytes(1, self.size)
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written
        self.written[row] = True

    def tick(self) -> None:
        """Record what is written, if the last time is a while ago."""
        if time.monotonic() - self._last_record > RECORD_SECONDS:
            self.record()

    def record(self) -> None:
        """Make what is written safe on the disk, and then say so beside it."""
        safe = self.written.copy()
        sync(self._file.fileno(), self.folder)
        self._check()
        if not self.recorded:
            self._write_index()
        self.recorded = True  # set first: a Ctrl-C right after the writing must not throw it away
        content = {"file": self.path.name, "done": np.packbits(safe).tobytes().hex()}
        write_json(self.folder / RECORD, {**self._identity, **content})
        self._last_record = time.monotonic()

    def finish(self, data_set: str) -> None:
        """Turn the folder into a finished store."""
        sync(self._file.fileno(), self.folder)
        self._check()
        if self.path.name != PIXELS:
            move_over(self.path, self.folder / PIXELS)
        self._write_index()
        about = {"format": FORMAT, "data_set": data_set, "images": len(self.hashes)}
        write_json(self.folder / MARK, {**about, **self._identity, "pillow": Image.__version__})
        (self.folder / RECORD).unlink(missing_ok=True)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Keep what is written, if it was worth recording. A full disk needs the space instead."""
        keep = self.recorded and not (kind and issubclass(kind, (OSError, UserError)))
        finished = (self.folder / MARK).exists()
        try:
            if keep and not finished:
                self.record()
        finally:
            self._file.close()
            if not keep and not finished and self.claim.is_mine():
                shutil.rmtree(self.folder, ignore_errors=True)

    def _check(self) -> None:
        if not self.claim.is_mine():
            raise TakenOver

    def _write_index(self) -> None:
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows([("id", "sha256"), *self.hashes.items()])
        write_text(self.folder / INDEX, rows.getvalue())


def pixels_header(images: int, size: int) -> bytes:
    """What ``images.npy`` begins with."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (images, 3, size, size)}
    )
    return header.getvalue()


def pixels_bytes(images: int, size: int) -> int:
    """The room that the pixels of so many images take."""
    return images * 3 * size * size
