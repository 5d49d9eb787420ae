"""Claims on folders that outlive no process: who has one may work there."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmdbench.core.errors import DiskError
from lmdbench.core.files import (
    FULL,
    HOST,
    REFUSED,
    disk_errors,
    file_system_time,
    patiently,
    read_text,
    temporary_path,
    unreadable,
)
from lmdbench.core.system import WINDOWS

HEARTBEAT_SECONDS = 10.0
DEAD_AFTER_SECONDS = 120.0  # without a heartbeat, where the process itself cannot be looked up
_ahead: dict[tuple[str, float], float] = {}  # token and time of claims → when they were first seen
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
    if WINDOWS:  # where os.kill is no question: it ends a process, or sends Ctrl-C
        return ""
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


def _is_here(record: Mapping[str, Any]) -> bool:
    """Whether a claim's process is one of this machine, which can tell of it."""
    return not WINDOWS and record.get("machine") == _machine()


def lives(pid: int) -> bool:
    """Whether there is a process of this number on this machine, whosever it is; taken for granted
    where the system does not tell."""
    return _process_start(pid) is not None


def slurm_job() -> str | None:
    """The SLURM job of this process, as squeue names it: 123, or 123_4 of a job array."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


@dataclass(frozen=True)
class _Link:
    """A claim as found on disk."""

    path: Path
    token: str
    record: dict[str, Any]  # empty where the file could not be understood
    modified: float
    text: str = ""


class Claim:
    """An exclusive claim on a folder, by a file in it, that ends with its process.

    While it is held a thread renews the file's time every ten seconds, by writing it anew where a
    file system lets nobody set times. A holder on this machine is dead once its process is gone (a
    process id used again is told apart by its start). One on another machine is dead once its
    heartbeat is 120 seconds old, by the file system's clock; one that lies ahead of that clock once
    it has stayed the same for as long.

    Exactly one of several takers gets a dead claim: a taker does not touch the dead claim's file
    but links its own as that token's successor, a name that can be taken once. The holder is always
    the last of the chain of successors; once it holds it puts its own file in place of the first.

    Limits. A holder elsewhere that is suspended or cut off for 120 seconds loses the claim, and
    finds out only when it asks ``is_mine``: ask right before each save. What it had begun to write
    by then can still land. Heartbeats seen through a network file system may be up to a minute
    late, for which the 120 seconds leave room. File systems whose links or renames are not atomic
    are not safe. A file that another node replaced or removed (a stale handle) counts as gone.
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
                    self._shorten(own)
            finally:
                with suppress(OSError):
                    own.unlink(missing_ok=True)
        self._stop = threading.Event()
        threading.Thread(target=self._beat, args=(self._stop,), daemon=True).start()
        return True

    def _shorten(self, own: Path) -> None:
        """Put the holder's file in place of the first one, where the file system can rename so."""
        try:
            own.replace(self.path)
        except OSError as error:
            if error.errno not in (*REFUSED, errno.EEXIST, errno.EISDIR):
                raise
        else:
            self._remove_remains()

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
            with suppress(OSError, DiskError):
                end = self._end()
                if end is not None and end.token == self.token:
                    for path in dict.fromkeys((self.path, end.path)):
                        with suppress(IsADirectoryError):
                            path.unlink(missing_ok=True)

    def holder(self) -> dict[str, Any] | None:
        """Who holds it: token, host, pid, started (seconds since 1970) and more, with ``alive``,
        and ``here``: whether its process is one of this machine.

        None where nobody does. A record that cannot be understood has only these two.
        """
        end = self._end()
        if end is None:
            return None
        return {**end.record, "alive": self._lives(end), "here": _is_here(end.record)}

    def heartbeat(self) -> tuple[str, int]:
        """What changes when the holder does anything with the claim."""
        holder = self.holder() or {}
        with suppress(FileNotFoundError):
            return str(holder.get("token")), self.path.stat().st_mtime_ns
        return "", 0

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
                if error.errno in (errno.EEXIST, errno.ENOENT, *FULL):
                    raise
                with target.open("x") as file:  # a file system without links
                    file.write(read_text(own))
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
        """Raises DiskError for a file that is there and cannot be read."""
        try:
            status, text = patiently(lambda: _content(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ESTALE:
                return None
            raise unreadable(path, error) from error
        record = _understood(text)
        if record is not None:
            return _Link(path, record["token"], record, status.st_mtime, text)
        token = f"damaged-{status.st_ino}-{status.st_mtime_ns}"
        return _Link(path, token, {}, status.st_mtime)

    def _lives(self, link: _Link) -> bool:
        if link.token in _given_up:
            return False
        if _is_here(link.record) and "pid" in link.record:
            start = _process_start(int(link.record["pid"]))
            return start is not None and start == link.record.get("process_start")
        age = file_system_time(self.path.parent) - link.modified
        if age < -DEAD_AFTER_SECONDS:  # a clock was set back since: does its time still change?
            first_seen = _ahead.setdefault((link.token, link.modified), time.monotonic())
            age = time.monotonic() - first_seen
        return age < DEAD_AFTER_SECONDS

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
            with suppress(OSError, DiskError):  # a network file system may be away for a while
                end = self._end()
                if end is None or end.token != self.token:
                    return
                try:
                    os.utime(end.path)
                except OSError:
                    _write_again(end)


def _understood(text: str) -> dict[str, Any] | None:
    """The record in a claim's file; None where it is cut short, or none."""
    try:
        record = json.loads(text)
        whole = (
            re.fullmatch(r"[\w-]{1,64}", record["token"])
            and isinstance(record.get("pid", 0), int)
            and isinstance(record.get("host", ""), str)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return record if whole else None


def _content(path: Path) -> tuple[os.stat_result, str]:
    try:
        with path.open(errors="replace") as file:
            return os.fstat(file.fileno()), file.read()
    except IsADirectoryError:  # nobody holds a claim by a folder
        return path.stat(), ""


def _write_again(link: _Link) -> None:
    """Renew a file's time by its own content: who reads meanwhile finds nothing else."""
    with link.path.open("r+") as file:
        file.write(link.text)
