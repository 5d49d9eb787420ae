"""SHA-256 of image files, remembered by path, size and time of change; and work in threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from lmdbench.core.cores import usable_cores
from lmdbench.core.files import patiently, sha256_of
from lmdbench.data.store.decoding import reason
from lmdbench.data.store.remembered import remember, remembered

MOST_WORKERS = 32  # threads; beyond, Python's lock is the limit
CHUNK = 16  # images a thread takes at a time
SECOND = 10**9  # ns
SETTLED = 2 * SECOND  # a file that changed less long ago could change again at the same time stamp
SETTLED_FINE = SECOND // 10  # where the stamp has parts of a millisecond
MOST_SKEW = 600 * SECOND  # what a file server's clock may be ahead; what lies further ahead was set
SAVE_SECONDS = 5.0  # of reading that a killed process may lose

Progress = Callable[[int, int], None]  # done, of how many
# Path, size in bytes, time of change in ns; and where that was set to lie ahead, the time in ns of
# the last change of anything, which only the file system sets: 0 elsewhere
Signature = tuple[str, int, int, int]
T = TypeVar("T")


class KnownHashes:
    """SHA-256 of files seen before, by path, size and time of change; kept in a CSV file.

    A help and never needed: where the file is absent, damaged or cannot be written, files are read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hashes: dict[Signature, str] = {}
        with suppress(ValueError):
            self.hashes = dict(map(_known, remembered(path)))

    def add(self, hashes: Mapping[Signature, str]) -> None:
        self._replace({key: value for key, value in hashes.items() if _is_settled(key)}, set())

    def forget(self, files: list[Path]) -> None:
        self._replace({}, {str(path) for path in files})

    def _replace(self, new: Mapping[Signature, str], forgotten: set[str]) -> None:
        old_paths = forgotten | {path for path, *_ in new}
        kept = {key: value for key, value in self.hashes.items() if key[0] not in old_paths}
        if len(kept) == len(self.hashes) and not new:
            return
        self.hashes = {**kept, **new}
        rows = (
            (*key, *([changed] if changed else []), sha)
            for (*key, changed), sha in self.hashes.items()
        )
        remember(self.path, rows)


def _known(row: Sequence[str]) -> tuple[Signature, str]:
    """A row of the CSV file: path, size, time, with a time ahead that of any change, SHA-256."""
    path, size, modified, *changed, sha = row
    return (path, int(size), int(modified), int("".join(changed) or 0)), sha


def signature_of(path: Path, status: os.stat_result) -> Signature:
    """What tells whether a file is still as it was."""
    modified = status.st_mtime_ns
    changed = status.st_ctime_ns if modified > time.time_ns() + MOST_SKEW else 0
    return str(path), status.st_size, modified, changed


def _is_settled(key: Signature) -> bool:
    """Whether any later change of a file would show, as it gives it another time stamp.

    A time that a camera or an archive set to lie ahead is not the clock's: the next change is
    stamped otherwise. Then the change of anything is looked at instead.
    """
    *_, modified, changed = key
    stamp = changed or modified
    fine = changed % (SECOND // 1000) != 0
    since = time.time_ns() - stamp
    return since >= (SETTLED_FINE if fine else SETTLED) or since < -MOST_SKEW


def hash_files(
    files: Sequence[Path],
    known: KnownHashes,
    workers: int,
    still_to_come: int = 0,
    progress: Progress = lambda *_: None,
) -> tuple[list[str], dict[int, str], int]:
    """SHA-256 of each file, position → reason of those unreadable, and how many had to be read.

    ``still_to_come`` is work after this one, for the progress. What is read is added to ``known``,
    every few seconds, so that a killed process loses little.
    """

    def signature(position: int) -> tuple[Signature | None, str]:
        try:
            status = patiently(files[position].stat)
        except OSError as error:
            return None, reason(error)
        return signature_of(files[position], status), ""

    def sha256(position: int) -> tuple[str, str]:
        try:
            return sha256_of(files[position]), ""
        except OSError as error:
            return "", reason(error)

    found = in_parallel(signature, range(len(files)), workers)
    signatures = {position: key for position, (key, _) in found.items() if key is not None}
    unknown = sorted(p for p, key in signatures.items() if key not in known.hashes)
    of_signature = dict(known.hashes)
    unsaved: dict[Signature, str] = {}
    done, saved = 0, time.monotonic()

    def take(chunk: Mapping[int, tuple[str, str]]) -> None:
        nonlocal done, saved
        unsaved.update({signatures[p]: sha for p, (sha, why) in chunk.items() if not why})
        done += len(chunk)
        if done == len(unknown) or time.monotonic() - saved > SAVE_SECONDS:
            known.add(unsaved)
            of_signature.update(unsaved)
            unsaved.clear()
            saved = time.monotonic()
        progress(done, len(unknown) + still_to_come)

    read = in_parallel(sha256, unknown, workers, take)
    unreadable = {position: why for position, (_, why) in (found | read).items() if why}
    hashes = [
        "" if position in unreadable else of_signature[signatures[position]]
        for position in range(len(files))
    ]
    return hashes, unreadable, len(unknown)


def in_parallel(
    function: Callable[[int], T],
    positions: Sequence[int],
    workers: int,
    take: Callable[[dict[int, T]], None] = lambda _: None,
) -> dict[int, T]:
    """position → the function's result, from threads: Pillow and hashing release Python's lock.

    ``take`` is given the results of some positions as they come, in the calling thread.
    """
    chunks = [positions[start : start + CHUNK] for start in range(0, len(positions), CHUNK)]
    results: dict[int, T] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        jobs = [pool.submit(lambda chunk: {p: function(p) for p in chunk}, c) for c in chunks]
        for job in as_completed(jobs):
            results.update(job.result())
            take(job.result())
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def default_workers() -> int:
    """As many threads as this process has processors, within reason."""
    return min(usable_cores(), MOST_WORKERS)
