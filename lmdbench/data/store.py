"""Images decoded and resized once, into one memory-mapped file.

A store is a folder in the cache, named after the data set, the image size and the content of its
images: ``images.npy`` (M, 3, S, S) uint8, ``index.csv`` (image id and SHA-256 of its file, a row
each) and ``store.json``, which is written last and without which nothing in the folder is trusted.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from lmdbench.data.dataset import Prepared
from lmdbench.errors import UserError
from lmdbench.files import (
    Claim,
    atomic,
    check_cache,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)

FORMAT = 1  # raise it when the same files would give other pixels or another layout
FORMATS = ("JPEG", "JPEG2000", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # names of Pillow
MOST_WORKERS = 32  # threads; beyond, Python's lock is the limit
CHUNK = 16  # images a thread takes at a time
NAMED_IN_ERROR = 20  # unreadable images that the error names; a file lists the rest
SETTLED_SECONDS = 2.0  # a file that changed less long ago could change again at the same time stamp
SPARE_BYTES = 16 << 20  # free space to leave beside a new store
WAIT_SECONDS = 0.2

Progress = Callable[[int, int], None]  # done, of how many
Signature = tuple[str, int, int]  # path, size in bytes, time of change in ns
T = TypeVar("T")


@dataclass(frozen=True)
class Store:
    """All images of a split. ``pixels``: (M, 3, S, S) uint8 over the memory map, not to be written.

    ``digest``: SHA-256 of image ids, contents of their files, image size and the way of resizing.
    """

    digest: str
    pixels: Tensor
    index: Mapping[str, int] = field(repr=False)  # image id → row of ``pixels``

    def rows(self, ids: Iterable[str]) -> Tensor:
        """Where images lie in ``pixels``, (N,) int64."""
        return torch.tensor([self.index[image] for image in ids], dtype=torch.int64)


def open_store(
    prepared: Prepared,
    size: int,
    cache: Path,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Store:
    """The images of a prepared split at size × size pixels; made on first use.

    Of files that are as they were (path, size, time of change) nothing is read. Others are read to
    see whether their content is new; only then is a store made, by one process while others wait.
    Raises UserError for a full disk, an unwritable cache, and images that cannot be read: for all
    of them at once.
    """
    workers = workers or min(_available_cpus(), MOST_WORKERS)
    progress = progress or (lambda *_: None)
    name = re.sub(r"[^\w.-]", "-", prepared.dataset.results_name)
    ids = sorted(prepared.files)
    files = [prepared.files[image] for image in ids]
    home = cache / "stores"
    known = _KnownHashes(home / f"{name}.files.csv")

    hashes, unreadable, hashed = _hash_files(files, known, workers, len(files), progress)
    digest = content_digest(ids, hashes, size)
    preparation = _Preparation(name, size, ids, files, hashes, digest, home, workers)
    if unreadable:
        preparation.report(unreadable | preparation.decode(None, set(unreadable), lambda *_: None))
    pixels = preparation.load()
    if pixels is None:
        total = hashed + len(files)
        try:
            pixels = preparation.run(lambda done: progress(hashed + done, total))
        except _FilesChanged as changed:
            known.forget(changed.files)
            raise UserError(
                f"{len(changed.files)} images of {name} changed while they were read, "
                f"such as {changed.files[0]}; run the same command again"
            ) from None
    elif hashed:
        progress(hashed + len(files), hashed + len(files))
    return Store(digest, pixels, {image: row for row, image in enumerate(ids)})


def content_digest(ids: Sequence[str], hashes: Sequence[str], size: int) -> str:
    """SHA-256 over the recipe, the size and each image's id and SHA-256, in the order given."""
    digest = hashlib.sha256(f"lmdbench store {FORMAT}, {size} px\n".encode())
    for image, sha256 in zip(ids, hashes, strict=True):
        digest.update(f"{sha256}\t{image}\n".encode())
    return digest.hexdigest()


def decode(content: bytes, size: int) -> np.ndarray:
    """An image file's content as (3, size, size) uint8 RGB.

    The orientation that the camera noted is applied, then a plain antialiased bilinear resize (the
    aspect ratio is not kept). Grey is repeated, 16 bits are scaled to 8, what is transparent is
    black. Raises ValueError with the reason, or what Pillow raises, for what cannot be read whole.
    """
    if not content:
        raise ValueError("empty file")
    Image.init()  # else only the commonest formats are known
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("not an image") from None
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"{image.width}×{image.height} pixels, more than {limit:,}")
    image.load()
    with suppress(Exception):  # a broken EXIF block says nothing about the pixels
        image = ImageOps.exif_transpose(image)
    rgb = to_rgb(image).resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def to_rgb(image: Image.Image) -> Image.Image:
    """Eight-bit RGB of an image in any mode."""
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"pixels in mode {image.mode}, of unknown range")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("RGB")


class _FilesChanged(Exception):
    def __init__(self, files: list[Path]) -> None:
        self.files = files


@dataclass(frozen=True)
class _Preparation:
    """One store, to be loaded or made."""

    name: str
    size: int
    ids: list[str]
    files: list[Path]
    hashes: list[str]  # SHA-256 of each file, empty where it could not be read
    digest: str
    home: Path  # of all stores
    workers: int

    @property
    def folder(self) -> Path:
        return self.home / f"{self.name}-{self.size}px-{self.digest[:16]}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self.ids), 3, self.size, self.size)

    @property
    def unreadable_list(self) -> Path:
        return self.home / f"{self.name}-{self.size}px.unreadable.txt"

    def load(self) -> Tensor | None:
        """The pixels, or None if there is no finished and undamaged store."""
        try:
            if read_json(self.folder / "store.json")["digest"] != self.digest:
                return None
            # Copy on write: torch warns about arrays that may only be read.
            pixels = np.load(self.folder / "images.npy", mmap_mode="c")
        except (UserError, OSError, ValueError, KeyError, TypeError):
            return None
        if pixels.shape != self.shape or pixels.dtype != np.uint8:
            return None
        if (self.folder / "images.npy").stat().st_size != pixels.offset + pixels.nbytes:
            return None
        return torch.from_numpy(pixels)

    def run(self, progress: Callable[[int], None]) -> Tensor:
        """Make the store, or wait for the process that does."""
        check_cache(self.home)
        claim = Claim(self.folder.with_name(f"{self.folder.name}.claim"))
        while True:
            if claim.acquire():
                try:
                    pixels = self.load()
                    if pixels is None:
                        self.sweep()
                        self.make(progress)
                        pixels = self.load()
                        assert pixels is not None
                    return pixels
                except FileNotFoundError:
                    if claim.is_mine():
                        raise
                    # Taken over as dead, and our temporary file removed: wait for the other.
                finally:
                    claim.release()
            progress(0)
            time.sleep(WAIT_SECONDS)
            pixels = self.load()
            if pixels is not None:
                return pixels

    def sweep(self) -> None:
        """Remove what dead processes left of this and other stores of the data set."""
        shutil.rmtree(self.folder, ignore_errors=True)
        claimed = {path.with_suffix("") for path in self.home.glob(f"{self.name}-*px-*.claim")}
        folders = {path for path in self.home.glob(f"{self.name}-*px-*") if path.is_dir()}
        unfinished = {path for path in folders if not (path / "store.json").exists()}
        for folder in (claimed | unfinished) - {self.folder}:
            claim = Claim(folder.with_name(f"{folder.name}.claim"))
            if claim.acquire():
                if not (folder / "store.json").exists():
                    shutil.rmtree(folder, ignore_errors=True)
                claim.release()

    def make(self, progress: Callable[[int], None]) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        )
        needed = len(header.getvalue()) + int(np.prod(self.shape)) + SPARE_BYTES
        free = shutil.disk_usage(self.home).free
        if free < needed:
            raise UserError(
                f"no space for the {len(self.ids)} images of {self.name} at {self.size} px in "
                f"{self.home}: {needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free; "
                "free some space or set LMDBENCH_CACHE to another folder"
            )
        self.folder.mkdir(exist_ok=True)
        remove_leftovers(self.folder)
        with atomic(self.folder / "images.npy") as temporary:
            # Written at offsets rather than through a map, where a full disk would be a signal.
            with temporary.open("wb") as file:
                file.write(header.getvalue())
                file.flush()
                unreadable = self.decode(file.fileno(), set(), progress)
            if unreadable:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.report(unreadable)
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows(
            [("id", "sha256"), *zip(self.ids, self.hashes, strict=True)]
        )
        write_text(self.folder / "index.csv", rows.getvalue())
        write_json(
            self.folder / "store.json",
            {
                "format": FORMAT,
                "digest": self.digest,
                "data_set": self.name,
                "images": len(self.ids),
                "size": self.size,
                "pillow": Image.__version__,
            },
        )
        with suppress(OSError):
            self.unreadable_list.unlink(missing_ok=True)

    def decode(
        self, descriptor: int | None, skip: set[int], progress: Callable[[int], None]
    ) -> dict[int, str]:
        """Decode every image and write it to an open file. Returns row → reason of those that fail.

        Without a file the images are only tried. Raises _FilesChanged.
        """
        Image.init()  # here, not in several threads at once
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        image_bytes = 3 * self.size * self.size
        offset = os.fstat(descriptor).st_size if descriptor is not None else 0

        def one(row: int) -> str | None:
            try:
                content = self.files[row].read_bytes()
                if hashlib.sha256(content).hexdigest() != self.hashes[row]:
                    return "changed"
                pixels = decode(content, self.size)
            except Exception as error:  # Pillow's plug-ins raise errors of every kind
                return reason(error)
            if descriptor is not None:
                _write_at(descriptor, pixels.tobytes(), offset + row * image_bytes)
            return None

        rows = [row for row in range(len(self.files)) if row not in skip]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            results = _in_parallel(one, rows, self.workers, progress)
        failed = {row: why for row, why in results.items() if why is not None}
        changed = [self.files[row] for row, why in failed.items() if why == "changed"]
        if changed:
            raise _FilesChanged(changed)
        return failed

    def report(self, unreadable: Mapping[int, str]) -> None:
        """Raise the error that names the images which cannot be read."""
        lines = [f"{self.files[row]} ({why})" for row, why in sorted(unreadable.items())]
        more = ""
        if len(lines) > NAMED_IN_ERROR:
            more = f" and {len(lines) - NAMED_IN_ERROR} more"
            with suppress(OSError, UserError):
                self.home.mkdir(parents=True, exist_ok=True)
                write_text(self.unreadable_list, "\n".join(lines) + "\n")
                more += f", all listed in {self.unreadable_list}"
        raise UserError(
            f"{len(lines)} of {len(self.files)} images of {self.name} cannot be read: "
            f"{', '.join(lines[:NAMED_IN_ERROR])}{more}; fetch them again or remove them"
        )


def reason(error: Exception) -> str:
    """Why a file could not be read, in a few words on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = re.sub(r"\s*<_io\.BytesIO[^>]*>", "", text or type(error).__name__)
    return " ".join(text.split())


class _KnownHashes:
    """SHA-256 of files seen before, by path, size and time of change; kept in a CSV file.

    A help and never needed: where the file is absent, damaged or cannot be written, files are read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hashes: dict[Signature, str] = {}
        with suppress(OSError, ValueError), path.open(newline="", encoding="utf-8") as file:
            self.hashes = {(p, int(s), int(t)): h for p, s, t, h in csv.reader(file)}

    def add(self, hashes: Mapping[Signature, str]) -> None:
        newest = time.time_ns() - int(SETTLED_SECONDS * 1e9)
        self._replace({key: value for key, value in hashes.items() if key[2] <= newest}, set())

    def forget(self, files: list[Path]) -> None:
        self._replace({}, {str(path) for path in files})

    def _replace(self, new: Mapping[Signature, str], forgotten: set[str]) -> None:
        old_paths = forgotten | {path for path, _, _ in new}
        kept = {key: value for key, value in self.hashes.items() if key[0] not in old_paths}
        if len(kept) == len(self.hashes) and not new:
            return
        self.hashes = {**kept, **new}
        rows = io.StringIO()
        csv.writer(rows, lineterminator="\n").writerows((*k, v) for k, v in self.hashes.items())
        with suppress(OSError, UserError, UnicodeError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, rows.getvalue())


def _hash_files(
    files: list[Path], known: _KnownHashes, workers: int, still_to_come: int, progress: Progress
) -> tuple[list[str], dict[int, str], int]:
    """SHA-256 of each file, position → reason of those unreadable, and how many had to be read."""

    def signature(position: int) -> tuple[Signature | None, str]:
        try:
            status = files[position].stat()
        except OSError as error:
            return None, reason(error)
        return (str(files[position]), status.st_size, status.st_mtime_ns), ""

    def sha256(position: int) -> tuple[str, str]:
        try:
            with files[position].open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest(), ""
        except OSError as error:
            return "", reason(error)

    found = _in_parallel(signature, range(len(files)), workers, lambda *_: None)
    signatures = {position: key for position, (key, _) in found.items() if key is not None}
    unknown = sorted(p for p, key in signatures.items() if key not in known.hashes)
    total = len(unknown) + still_to_come
    read = _in_parallel(sha256, unknown, workers, lambda done: progress(done, total))

    unreadable = {position: why for position, (_, why) in (found | read).items() if why}
    new = {signatures[position]: sha for position, (sha, why) in read.items() if not why}
    of_signature = known.hashes | new
    hashes = [
        "" if position in unreadable else of_signature[signatures[position]]
        for position in range(len(files))
    ]
    known.add(new)
    return hashes, unreadable, len(unknown)


def _in_parallel(
    function: Callable[[int], T],
    positions: Sequence[int],
    workers: int,
    progress: Callable[[int], None],
) -> dict[int, T]:
    """position → the function's result, from threads: Pillow and hashing release Python's lock.

    ``progress`` is called in the calling thread.
    """
    chunks = [positions[start : start + CHUNK] for start in range(0, len(positions), CHUNK)]
    results: dict[int, T] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        jobs = [pool.submit(lambda chunk: [(p, function(p)) for p in chunk], c) for c in chunks]
        for job in as_completed(jobs):
            results.update(job.result())
            progress(len(results))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _available_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
