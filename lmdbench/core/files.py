"""Files that are whole or absent."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lmdbench.core.errors import DiskError, UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
NEARLY_NOTHING = 1 << 20  # bytes free below which a failed write is put down to a full disk

HOST = re.sub(r"[^\w.-]", "-", socket.gethostname()) or "unknown"
TEMPORARY = re.compile(r"^\..*~(?P<host>[\w.-]+)~(?P<pid>\d+)~\d+(\.[^~]*)?$")
_numbers = itertools.count()
_umask = os.umask(0)  # can only be read by setting it
os.umask(_umask)


def temporary_path(path: Path) -> Path:
    """A name beside ``path`` that is hidden, tells host and process, and keeps the suffix."""
    return path.with_name(f".{path.stem}~{HOST}~{os.getpid()}~{next(_numbers)}{path.suffix}")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that other processes left in a folder.

    Only for who holds the folder's claim: then those processes are dead, or lost the claim.
    """
    for path in folder.glob(".*~*~*"):
        named = TEMPORARY.match(path.name)
        if named and (named["host"], int(named["pid"])) != (HOST, os.getpid()):
            with suppress(OSError):
                path.unlink()


def _is_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < NEARLY_NOTHING


def _trouble(folder: Path) -> str:
    """Why no file can be made in a folder; empty if one can."""
    probe = temporary_path(folder / "probe")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk and a lack of permission in ``folder`` into a DiskError."""
    no_space = (
        f"no space left on {folder}: nothing was overwritten; "
        "free some space and run the same command again"
    )
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskError(no_space) from error
        if error.errno in UNUSABLE:
            raise DiskError(
                f"cannot write in {folder}: {error.strerror}; "
                "make it writable or choose another folder"
            ) from error
        if error.errno is not None:  # a mount that is gone, a disk that fails
            raise DiskError(f"cannot write in {folder}: {error.strerror}") from error
        raise
    except Exception as error:
        # Libraries that write from C++ report a disk's trouble as an error of their own.
        if not isinstance(error, UserError):
            if _is_full(folder):
                raise DiskError(no_space) from error
            if trouble := _trouble(folder):
                raise DiskError(f"cannot write in {folder}: {trouble}") from error
        raise


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """``with atomic(path) as temporary:`` write ``temporary``, which then replaces ``path``.

    ``path`` holds its old content or all of the new, whatever happens in between, a power failure
    included; after an exception no temporary file stays. Raises UserError for a full disk or a
    folder that is not writable.
    """
    temporary = temporary_path(path)
    try:
        with disk_errors(path.parent):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            # Some libraries make files that nobody else can read, whatever the umask says.
            temporary.chmod(0o666 & ~_umask)
            temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems cannot; the rename itself has happened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(results: Path) -> None:
    """Raise UserError for a results folder that can't be made or written to."""
    with disk_errors(results):
        try:
            results.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"--results {results}: a file is in the way") from None


def check_cache(folder: Path) -> None:
    """Make a folder of the cache if need be. Raises UserError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = temporary_path(folder / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DiskError(
            f"cannot write in the cache {folder}: {error.strerror}; "
            "make it writable or set LMDBENCH_CACHE to another folder"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. See ``atomic``."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. See ``atomic``."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically. See ``atomic``."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError, naming the file, if it is absent, unreadable or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged, not JSON ({error}); move it away") from error


def file_system_time(folder: Path) -> float:
    """Now, in seconds since 1970, by the clock that stamps files in a folder."""
    probe = temporary_path(folder / "time")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # a folder that may only be read
        return time.time()
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
