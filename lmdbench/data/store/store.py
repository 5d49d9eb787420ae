"""Images decoded and resized once, into one memory-mapped file: found again, or made.

A store is a folder in the cache, named after the data set, the image size and the content of its
images; ``stored.py`` says what is in it. One of all images serves every split of them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lmdbench.core.claim import Claim
from lmdbench.core.errors import DiskError, UserError
from lmdbench.core.files import check_cache, disk_errors, read_bytes, remove_leftovers, write_text
from lmdbench.data.dataset import Prepared, Split
from lmdbench.data.store.decoding import decode, decoder, most_pixels, reason, whole_images
from lmdbench.data.store.files import (
    MARK,
    RECORD,
    StoreFiles,
    StoreWriter,
    TakenOver,
    content_digest,
    note_constant,
    pixels_bytes,
    pixels_header,
    read_finished,
    read_unfinished,
    store_folders,
    store_name,
)
from lmdbench.data.store.hashing import (
    CHUNK,
    Progress,
    default_workers,
    hash_files,
    in_parallel,
)
from lmdbench.data.store.looking import is_of, look_at
from lmdbench.data.store.scale import Scale
from lmdbench.data.store.survey import Memory, Survey, asked_scale, scale_of, table_files, why_of
from lmdbench.data.vectors import Vectors

NAMED_IN_ERROR = 3  # unreadable images that the error names; a file lists the rest
SPARE_BYTES = 16 << 20  # free space to leave beside a new store
KEPT_SECONDS = 7 * 86400.0  # how long an interrupted preparation is kept to go on from
WAIT_SECONDS = 0.2
CHANGED = "changed"


@dataclass(frozen=True)
class Store:
    """The images that were asked for. ``pixels``: (M, 3, S, S) uint8 over the memory map of
    ``folder``, not to be written; it may hold others beside them. Of a data set of vectors these,
    (M, D) float32, which lie in no folder.

    ``digest``: SHA-256 of image ids, contents of their files and how these are read, image size and
    the way of resizing, of the images asked for alone. ``made``: whether it was not there before.
    """

    digest: str
    pixels: Tensor
    index: Mapping[str, int] = field(repr=False)  # image id → row of ``pixels``
    folder: Path
    made: bool
    survey: Survey = field(repr=False)

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
    """The images of a prepared split at size × size pixels, see ``open_images``; of a data set of
    vectors these."""
    data = prepared.dataset
    if data.vectors is not None:
        return _of_vectors(prepared.split, data.vectors)
    return open_images(
        data.results_name,
        prepared.files,
        size,
        cache,
        progress,
        workers,
        asked=asked_scale(data),
        everything=lambda: table_files(data),
    )


def _of_vectors(split: Split, vectors: Vectors) -> Store:
    """The vectors of a split's images; nothing is made."""
    ids = [str(image) for part in split.parts.values() for image in part.ids]
    index = {image: vectors.place[image] for image in ids}
    rows = torch.from_numpy(vectors.rows)
    return Store(vectors.digest_of(ids), rows, index, Path(), False, Survey({}))


def open_images(
    data_set: str,
    files: Mapping[str, Path],
    size: int,
    cache: Path,
    progress: Progress | None = None,
    workers: int | None = None,
    *,
    asked: Scale | None = None,
    everything: Callable[[], Mapping[str, Path]] | None = None,
) -> Store:
    """The images in ``files`` (image id → file) at size × size pixels; made on first use.

    Pictures of more than 8 bits are read by the scale ``asked`` for, else by that of all files of
    the data set, ``everything``, where these are more.

    Any finished store of the data set and size serves that has each of them, made from the content
    that its file has now. Of files that are as they were (path, size, time of change) nothing is
    read. Others are read to see whether their content is new; only then is a store made, by one
    process while others wait. It goes on where a killed one stopped.

    Raises UserError for a full disk, an unwritable cache, and images that cannot be read: for all
    of them at once.
    """
    workers = workers or default_workers()
    most_pixels()  # a bound that is none is told before anything is read
    progress = progress or (lambda *_: None)
    name = store_name(data_set)
    ids = sorted(files)
    paths = [files[image] for image in ids]
    home = cache / "stores"
    memory = Memory.of(data_set, cache)
    known = memory.hashes

    hashes, unreadable, hashed = hash_files(paths, known, workers, len(ids), progress)
    looks = dict(zip(ids, look_at(paths, hashes, memory.looks, workers, progress), strict=True))
    scale = scale_of(looks, files, memory, workers, asked, everything)
    marked = {
        image: sha256 and sha256 + looks[image].mark(scale)
        for image, sha256 in zip(ids, hashes, strict=True)
    }
    preparation = _Preparation(name, size, paths, marked, scale, home)
    found = None if unreadable else preparation.find()
    made = found is None
    if found is None:
        total = hashed + len(ids)
        try:
            found = preparation.run(unreadable, workers, lambda n: progress(hashed + n, total))
        except _FilesChanged as changed:
            known.forget(changed.files)
            raise UserError(
                f"{len(changed.files)} images of {name} changed while they were read, "
                f"such as {changed.files[0]}; run the same command again"
            ) from None
    elif hashed:
        progress(hashed + len(ids), hashed + len(ids))
    row = {image: row for row, image in enumerate(found.hashes)}
    index = {image: row[image] for image in ids}
    found = note_constant(found)
    constant = [image for image in found.constant or () if image in index]
    survey = Survey(looks, scale, why_of(asked), constant, size)
    pixels = torch.from_numpy(found.pixels)
    return Store(preparation.digest, pixels, index, found.folder, made, survey)


class UnreadableImages(UserError):
    """Images that cannot be read: image id → reason."""

    def __init__(self, text: str, reasons: Mapping[str, str]) -> None:
        super().__init__(text)
        self.reasons = reasons


class _FilesChanged(Exception):
    def __init__(self, files: list[Path]) -> None:
        self.files = files


@dataclass(frozen=True)
class _Preparation:
    """One store, to be found or made."""

    name: str
    size: int
    files: list[Path]
    # Image id → SHA-256 of its file and how it is read, empty where it could not be
    hashes: Mapping[str, str]
    scale: Scale
    home: Path  # of all stores

    @cached_property
    def digest(self) -> str:
        return content_digest(list(self.hashes), list(self.hashes.values()), self.size)

    @property
    def folder(self) -> Path:
        return self.home / f"{self.name}-{self.size}px-{self.digest[:16]}"

    @property
    def unreadable_list(self) -> Path:
        return self.home / f"{self.name}-{self.size}px.unreadable.txt"

    def others(self) -> list[Path]:
        """The folders of other stores of the same images at the same size."""
        return [f for f in store_folders(self.home, self.name, self.size) if f != self.folder]

    def find(self) -> StoreFiles | None:
        """A finished store that has all images."""
        ids, hashes = list(self.hashes), list(self.hashes.values())
        for folder in (self.folder, *self.others()):
            found = read_finished(folder)
            if found is not None and found.holds(ids, hashes):
                return found
        return None

    def run(
        self, unreadable: Mapping[int, str], workers: int, progress: Callable[[int], None]
    ) -> StoreFiles:
        """Make the store, or wait for the process that does."""
        check_cache(self.home)
        claim = _claim(self.folder)
        while True:
            if claim.acquire():
                try:
                    found = read_finished(self.folder)
                    if found is None:
                        self.sweep()
                        self.make(claim, unreadable, workers, progress)
                        found = read_finished(self.folder)
                        if found is None:  # a mount that reads nothing of what it was given
                            raise DiskError(
                                f"{self.folder}: made, and cannot be read; check its permissions "
                                "or set LMDBENCH_CACHE to another folder"
                            )
                        self.sweep(superseded=set(self.hashes.values()))
                    return found
                except (UserError, TakenOver):
                    if claim.is_mine():
                        raise
                    # Taken over as dead: wait for the other.
                finally:
                    claim.release()
            progress(0)
            time.sleep(WAIT_SECONDS)
            found = read_finished(self.folder)
            if found is not None:
                return found

    def sweep(self, superseded: Set[str] = frozenset()) -> None:
        """Remove what dead processes left of the data set's other stores, unless it is worth going
        on from.

        ``superseded``: SHA-256 of files whose pixels at this size a finished store has.
        """
        for folder in store_folders(self.home, self.name):
            claim = _claim(folder)
            finished = (folder / MARK).exists()
            if folder == self.folder or (finished and not claim.path.exists()):
                continue
            if self.is_worth_keeping(folder, superseded) or not claim.acquire():
                continue
            if not (folder / MARK).exists():
                shutil.rmtree(folder, ignore_errors=True)
            claim.release()

    def is_worth_keeping(self, folder: Path, superseded: Set[str]) -> bool:
        """Whether a folder holds a preparation that is young and has rows nowhere finished."""
        left = read_unfinished(folder)
        if left is None:
            return False
        with suppress(OSError):
            if time.time() - (folder / RECORD).stat().st_mtime > KEPT_SECONDS:
                return False
        return left.size != self.size or not left.row_of_hash.keys() <= superseded

    def make(
        self,
        claim: Claim,
        unreadable: Mapping[int, str],
        workers: int,
        progress: Callable[[int], None],
    ) -> None:
        """``unreadable``: row → reason, of images that could not even be hashed. Raises UserError,
        naming them with those that cannot be decoded, if there are any."""
        left = read_unfinished(self.folder)
        if left is not None and (left.digest, left.decoder) != (self.digest, decoder()):
            left = None
        self.require_space(0 if left is None else int(left.done.sum()))
        with disk_errors(self.home):
            self.folder.mkdir(exist_ok=True)
            remove_leftovers(self.folder)
            failed = dict(unreadable)
            with StoreWriter(self.folder, self.hashes, self.size, claim, left) as growing:
                self.copy(growing, progress)
                failed |= self.decode(growing, set(unreadable), workers, progress)
                if not failed:
                    growing.finish(self.name)
        if failed:
            self.report(failed)
        with suppress(OSError):
            self.unreadable_list.unlink(missing_ok=True)

    def require_space(self, rows_there: int) -> None:
        images = len(self.hashes)
        needed = len(pixels_header(images, self.size)) + SPARE_BYTES
        needed += pixels_bytes(images - rows_there, self.size)
        free = shutil.disk_usage(self.home).free
        if free < needed:
            raise DiskError(
                f"no space for the {images} images of {self.name} at {self.size} px in "
                f"{self.home}: {needed / 1e6:,.0f} MB needed, {free / 1e6:,.0f} MB free; "
                "free some space or set LMDBENCH_CACHE to another folder"
            )

    def copy(self, growing: StoreWriter, progress: Callable[[int], None]) -> None:
        """Take over what the data set's other stores have of the same files."""
        for folder in self.others():
            other = read_finished(folder) or read_unfinished(folder)
            if other is None or other.decoder != decoder():
                continue
            there = other.row_of_hash
            for row, sha256 in enumerate(self.hashes.values()):
                if sha256 in there and not growing.written[row]:
                    growing.write(row, other.pixels[there[sha256]])
                    if row % CHUNK == 0:
                        growing.tick()
                        progress(int(growing.written.sum()))

    def decode(
        self,
        growing: StoreWriter,
        skip: Collection[int],
        workers: int,
        progress: Callable[[int], None],
    ) -> dict[int, str]:
        """Decode what is not written yet. Returns row → reason of those that fail.

        Raises _FilesChanged.
        """
        hashes = list(self.hashes.values())
        rows = [row for row, written in enumerate(growing.written) if not written]
        rows = [row for row in rows if row not in skip]
        done = len(hashes) - len(rows)

        def one(row: int) -> str:
            try:
                content = read_bytes(self.files[row])
                if not is_of(hashes[row], content):
                    return CHANGED
                pixels = decode(content, self.size, self.scale)
            except Exception as error:  # Pillow's plug-ins raise errors of every kind
                return reason(error)
            growing.write(row, pixels)
            return ""

        def take(chunk: Mapping[int, str]) -> None:
            nonlocal done
            done += len(chunk)
            growing.tick()
            progress(done)

        with whole_images():
            results = in_parallel(one, rows, workers, take)
        failed = {row: why for row, why in results.items() if why}
        changed = [self.files[row] for row, why in failed.items() if why == CHANGED]
        if changed:
            raise _FilesChanged(changed)
        return failed

    def report(self, unreadable: Mapping[int, str]) -> None:
        """Raise the error that names the images which cannot be read."""
        lines = [f"{self.files[row]} ({why})" for row, why in sorted(unreadable.items())]
        firsts = {why: row for row, why in sorted(unreadable.items(), reverse=True)}
        others = (row for row in sorted(unreadable) if row not in firsts.values())
        named = [*sorted(firsts.values()), *others][:NAMED_IN_ERROR]  # each reason, if it can be
        shown = ", ".join(f"{self.files[row]} ({unreadable[row]})" for row in named)
        more = ""
        if len(lines) > NAMED_IN_ERROR:
            more = f" and {len(lines) - NAMED_IN_ERROR} more"
            with suppress(OSError, UserError, UnicodeError):
                write_text(self.unreadable_list, "\n".join(lines) + "\n")
                more += f", all listed in {self.unreadable_list}"
        ids = list(self.hashes)
        raise UnreadableImages(
            f"{len(lines)} of {len(self.files)} images of {self.name} cannot be read: "
            f"{shown}{more}; mend or fetch them again, remove them, or pass --skip-damaged (in a "
            "sweep: skip_damaged = true) to go on without them",
            {ids[row]: why for row, why in sorted(unreadable.items())},
        )


def _claim(folder: Path) -> Claim:
    return Claim(folder.with_name(f"{folder.name}.claim"))
