"""Files that are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import logging
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from lmdbench.core.errors import Damaged, DiskError, UserError
from lmdbench.core.system import error_numbers

logger = logging.getLogger("lmdbench")

FULL = (errno.ENOSPC, errno.EDQUOT)
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
# How file systems say that they lack a call: FUSE, SMB shares, object stores.
REFUSED = error_numbers(
    *("EPERM", "EACCES", "EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EROFS", "ENODEV", "ENOTTY")
)
# What network file systems answer for a moment, when a file was replaced or a server is away.
PASSING = error_numbers(
    *("ESTALE", "EIO", "EINTR", "EAGAIN", "ETIMEDOUT", "EBUSY"),
    *("EREMOTEIO", "ECONNRESET", "ECONNABORTED", "EHOSTDOWN"),
)
NO_FILE = (errno.EISDIR, errno.ELOOP)  # what is in its place can't be read by anybody
PAUSES = (0.02, 0.1, 0.3, 0.6)  # seconds before a reading is tried again
VAIN = 5  # readings in a row that failed to the end, after which none is waited for: a disk is gone
NEARLY_NOTHING = 1 << 20  # bytes free below which a failed write is put down to a full disk

HOST = re.sub(r"[^\w.-]", "-", socket.gethostname()) or "unknown"
ASIDE = "~before"  # ends the hidden name of a file that is being replaced in two steps
TEMPORARY = re.compile(r"^\..*~(?P<host>[\w.-]+)~(?P<pid>\d+)~\d+(\.[^~]*)?$")
_numbers = itertools.count()
_umask = os.umask(0)  # can only be read by setting it
os.umask(_umask)
_in_vain = 0
_unsynced: set[Path] = set()  # folders of which the log says that they are not synced

T = TypeVar("T")


def patiently(read: Callable[[], T]) -> T:
    """What ``read`` returns, tried again a few times where it raises an OSError that may pass.

    ``read`` begins anew each time: it opens its file itself.
    """
    global _in_vain
    for pause in PAUSES if _in_vain < VAIN else ():
        try:
            return read()
        except OSError as error:
            if error.errno not in PASSING:
                raise
        time.sleep(pause)
    try:
        content = read()
    except OSError as error:
        _in_vain += error.errno in PASSING
        raise
    _in_vain = 0
    return content


def read_file(path: Path, read: Callable[[Path], T]) -> T:
    """What ``read`` makes of a file, which it opens itself; see ``patiently``.

    Raises DiskError, naming the file, where the system refuses to read it, and Damaged where it is
    no file. That it is absent or damaged is left to what ``read`` raises.
    """
    try:
        return patiently(lambda: read(path))
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno is None:  # a library's own, about the content
            raise
        raise unreadable(path, error) from error


def read_bytes(path: Path) -> bytes:
    """A file's content. See ``patiently``."""
    return patiently(path.read_bytes)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits. See ``patiently``."""

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return patiently(digest)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A text file's content. See ``patiently``."""
    return patiently(lambda: path.read_text(encoding=encoding))


def unreadable(path: Path, error: OSError) -> UserError:
    """What to say of a file that is there and cannot be read: a DiskError, or Damaged for what is
    no file."""
    if error.errno in NO_FILE:
        return Damaged(f"{path}: damaged, no file ({error.strerror}); move it away")
    advice = "check its permissions"
    if error.errno in PASSING:
        advice = "its disk or server does not answer; run the same command again once it does"
    return DiskError(f"{path}: cannot be read ({error.strerror}); {advice}")


def temporary_path(path: Path) -> Path:
    """A name beside ``path`` that is hidden, tells host and process, and keeps the suffix."""
    return path.with_name(f".{path.stem}~{HOST}~{os.getpid()}~{next(_numbers)}{path.suffix}")


def check_new_file(path: Path) -> None:
    """Raise DiskError where no file of this name can be made, before it is worked for."""
    with disk_errors(path.parent):
        probe = temporary_path(path)
        probe.touch()
        probe.unlink()


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that other processes left in a folder.

    Only for who holds the folder's claim: then those processes are dead, or lost the claim.
    """
    for path in folder.glob(".*~*~*"):
        named = TEMPORARY.match(path.name)
        if named and (named["host"], int(named["pid"])) != (HOST, os.getpid()):
            with suppress(OSError):
                path.unlink()
    for aside in folder.glob(f".*{ASIDE}"):
        path = aside.with_name(aside.name[1:].removesuffix(ASIDE))
        with suppress(OSError):
            aside.unlink() if path.exists() else aside.rename(path)


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < NEARLY_NOTHING
    except OSError:
        return False


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
                sync(file.fileno(), path.parent)
            # Some libraries make files that nobody else can read, whatever the umask says.
            with suppress(OSError):  # shares and FUSE mounts that have no such modes
                temporary.chmod(0o666 & ~_umask)
            move_over(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def sync(descriptor: int, folder: Path) -> None:
    """Make a file in ``folder`` safe on its disk. Raises OSError if the disk fails or is full.

    Where the file system has no such call the file is whole all the same, though a power failure
    may take it: that is said once a folder, in the log of the run at work.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        if folder not in _unsynced and logger.hasHandlers():
            _unsynced.add(folder)
            logger.info(
                "%s: its file system has no fsync (%s): what is written there may not survive a "
                "power failure",
                folder,
                error.strerror,
            )


def move_over(temporary: Path, path: Path) -> None:
    """Rename a file to ``path``, over what is there; in two steps where a file system renames
    nothing over another file."""
    try:
        temporary.replace(path)
    except OSError as error:
        if error.errno not in (*REFUSED, errno.EEXIST) or not path.is_file():
            raise
        aside = path.with_name(f".{path.name}{ASIDE}")
        with suppress(OSError):
            aside.unlink()
        path.rename(aside)
        try:
            temporary.rename(path)
        except BaseException:
            aside.rename(path)
            raise
        with suppress(OSError):
            aside.unlink()


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
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically. See ``atomic``."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically. See ``atomic``."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError, naming the file, if it is absent or unreadable, and Damaged if it is no
    JSON."""
    try:
        return json.loads(read_text(path))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: damaged, not JSON ({error}); move it away") from error


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
