"""Files that are whole or absent, and claims on folders that outlive no process."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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


# Claims

HEARTBEAT_SECONDS = 10.0
DEAD_AFTER_SECONDS = 120.0  # without a heartbeat, where the process itself cannot be looked up
_given_up: set[str] = set()  # tokens of claims that this process released


def _read_or_empty(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, ValueError):
        return ""


def _machine() -> str:
    """Where process ids mean the same: a boot of a kernel and a process namespace of it."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return f"{HOST} {_read_or_empty('/proc/sys/kernel/random/boot_id').strip()} {namespace}"


def _process_start(pid: int) -> str | None:
    """When a process started, as the kernel counts; empty where it does not tell, None if dead."""
    stat = _read_or_empty(f"/proc/{pid}/stat")
    if stat:
        state, *fields = stat.rpartition(")")[2].split()
        threads, start = int(fields[16]), fields[18]
        # A killed process is a zombie at once, but while other threads of it end they still write.
        return None if state in "Xx" or (state == "Z" and threads <= 1) else start
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass  # it lives and is someone else's
    return ""


def lives(pid: int) -> bool:
    """Whether there is a process of this number on this machine, whosever it is."""
    return _process_start(pid) is not None


def slurm_job() -> str | None:
    """The SLURM job of this process, as squeue names it: 123, or 123_4 of a job array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


@dataclass(frozen=True)
class _Link:
    """A claim as found on disk."""

    token: str
    record: dict[str, Any]  # empty where the file could not be understood
    modified: float


class Claim:
    """An exclusive claim on a folder, by a file in it, that ends with its process.

    While it is held a thread renews the file's time every ten seconds. A holder on this machine is
    dead once its process is gone (a process id used again is told apart by its start). One on
    another machine is dead once its heartbeat is 120 seconds old, by the file system's clock.

    Exactly one of several takers gets a dead claim: a taker does not touch the dead claim's file
    but links its own as that token's successor, a name that can be taken once. The holder is always
    the last of the chain of successors; once it holds it puts its own file in place of the first.

    Limits. A holder elsewhere that is suspended or cut off for 120 seconds loses the claim, and
    finds out only when it asks ``is_mine``: ask right before each save. What it had begun to write
    by then can still land. Heartbeats seen through a network file system may be up to a minute
    late, for which the 120 seconds leave room. File systems whose links or renames are not atomic
    are not safe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = ""
        self._stop: threading.Event | None = None

    def acquire(self) -> bool:
        """Take the claim if nobody living holds it. Raises UserError where it cannot write."""
        if self._stop is not None and self.is_mine():
            return True
        self.token = uuid.uuid4().hex  # never used twice, or an old successor could mislead
        own = temporary_path(self.path)
        with disk_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                own.write_text(json.dumps(self._record()))
                if not self._link(own):
                    return False
                # Where another process removed the temporary file as a leftover, the chain stays as
                # it is, and works as well.
                with suppress(FileNotFoundError):
                    own.replace(self.path)
                    self._remove_remains()
            finally:
                with suppress(OSError):
                    own.unlink(missing_ok=True)
        self._stop = threading.Event()
        threading.Thread(target=self._beat, args=(self._stop,), daemon=True).start()
        return True

    def is_mine(self) -> bool:
        """Whether this object holds the claim now, read anew from disk."""
        end = self._end()
        return end is not None and end.token == self.token

    def release(self) -> None:
        """Give the claim up, if it is still held. Does nothing otherwise.

        Where its file can't be removed (read-only, away) this process may take it again at once,
        others once this process has ended or, elsewhere, when there was no heartbeat long enough.
        """
        if self._stop is not None:
            self._stop.set()
            self._stop = None
            _given_up.add(self.token)
            with suppress(OSError):
                if self.is_mine():
                    self.path.unlink(missing_ok=True)

    def holder(self) -> dict[str, Any] | None:
        """Who holds it: token, host, pid, started (seconds since 1970) and more, with ``alive``,
        and ``here``: whether its process is one of this machine.

        None where nobody does. A record that cannot be understood has only these two.
        """
        end = self._end()
        if end is None:
            return None
        here = end.record.get("machine") == _machine()
        return {**end.record, "alive": self._lives(end), "here": here}

    def _record(self) -> dict[str, Any]:
        return {
            "token": self.token,
            "host": HOST,
            "pid": os.getpid(),
            "process_start": _process_start(os.getpid()),
            "machine": _machine(),
            "job": slurm_job(),
            "started": time.time(),
        }

    def _successor(self, token: str) -> Path:
        return self.path.with_name(f".{self.path.name}.after-{token}")

    def _link(self, own: Path) -> bool:
        """Try to become the end of the chain; the chain, read again, says who did."""
        end = self._end()
        if end is not None and self._lives(end):
            return False
        target = self.path if end is None else self._successor(end.token)
        with suppress(FileExistsError, FileNotFoundError):
            try:
                os.link(own, target)
            except OSError as error:
                if error.errno in (errno.EEXIST, errno.ENOENT, errno.EACCES, *FULL):
                    raise
                with target.open("x") as file:  # a file system without links
                    file.write(own.read_text())
        if self.is_mine():
            return True
        # The chain moved on between reading and linking: a successor linked here leads nowhere.
        found = self._read(target)
        if target != self.path and found is not None and found.token == self.token:
            with suppress(OSError):
                target.unlink()
        return False

    def _end(self) -> _Link | None:
        """The last of the chain: the holder, alive or not."""
        first = self._read(self.path)
        while True:
            end, following = first, first
            while following is not None:
                end, following = following, self._read(self._successor(following.token))
            again = self._read(self.path)
            if (again and again.token) == (first and first.token):
                return end
            first = again  # a taker shortened the chain meanwhile

    def _read(self, path: Path) -> _Link | None:
        try:
            with path.open() as file:
                status, text = os.fstat(file.fileno()), file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            record = json.loads(text)
            return _Link(str(record["token"]), record, status.st_mtime)
        except (ValueError, KeyError, TypeError):
            token = f"damaged-{status.st_ino}-{status.st_mtime_ns}"
            return _Link(token, {}, status.st_mtime)

    def _lives(self, link: _Link) -> bool:
        if link.token in _given_up:
            return False
        if link.record.get("machine") == _machine():
            start = _process_start(int(link.record["pid"]))
            return start is not None and start == link.record["process_start"]
        return file_system_time(self.path.parent) - link.modified < DEAD_AFTER_SECONDS

    def _remove_remains(self) -> None:
        """What takers that lost or died left behind. Only for the holder: else it breaks chains."""
        keep = self._successor(self.token)
        remains = set(self.path.parent.glob(f".{self.path.name}.after-*")) - {keep}
        for path in self.path.parent.glob(f".{self.path.stem}~*~*{self.path.suffix}"):
            if f"~{HOST}~{os.getpid()}~" not in path.name:
                remains.add(path)
        for path in remains:
            with suppress(OSError):
                path.unlink()

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):  # a network file system may be away for a while
                if not self.is_mine():
                    return
                os.utime(self.path)
