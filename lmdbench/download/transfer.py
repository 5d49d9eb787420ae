"""One large or small file over HTTP, resumed until it is whole."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, move_over, read_text, sync, write_json
from lmdbench.core.progress import Progress
from lmdbench.core.words import no_secrets
from lmdbench.download.web import PAGES, Again, GaveUp, Web, content_type, host_of

CHUNK = 1 << 16  # bytes read at a time; what is less than one when a connection breaks is lost


Room = Callable[[int], None]


@dataclass(frozen=True)
class Version:
    """Which content of an address a part file holds the beginning of."""

    url: str
    total: int | None
    etag: str = ""
    last_modified: str = ""

    @property
    def validator(self) -> str:
        """For If-Range, which takes no weak ETag."""
        return self.last_modified if self.etag.startswith("W/") else self.etag or self.last_modified


class Transfer:
    """Downloads one file into ``part``, which stays when it is interrupted.

    ``room`` is told how many bytes are still to come, and raises UserError where that is too many.
    ``<part>.json`` holds the version. A part without it was put there by hand: it is gone on with,
    as whatever checks the file afterwards would notice.
    """

    def __init__(
        self, web: Web, part: Path, progress: Progress, room: Room = lambda _: None
    ) -> None:
        self.web = web
        self.part = part
        self.progress = progress
        self.room = room
        self._record = part.with_name(f"{part.name}.json")
        self._best = 0  # the most bytes the part ever had

    def fetch(self, url: str) -> None:
        """Fill ``part``. Raises UserError for a page instead of the file and for a full disk;
        Refused and GaveUp as ``Web`` does."""
        try:
            self.web.persist(
                host_of(url), lambda: self._attempt(url), lambda: self._best, say_why=True
            )
        finally:
            self.progress.end()

    def put(self, target: Path) -> None:
        """Move the part, which is whole, to its target."""
        move_over(self.part, target)
        self._record.unlink(missing_ok=True)

    def drop(self) -> None:
        """Forget what there is: the next try begins anew."""
        self.part.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)

    def _attempt(self, url: str) -> None:
        version, offset = self._there(url)
        if offset and version and version.total == offset:
            return
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if version and version.validator:
                headers["If-Range"] = version.validator
        with self.web.get(url, headers) as answer:
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise GaveUp("it comes compressed though asked not to, perhaps by a proxy")
            found = Version(
                url,
                _total(answer),
                answer.headers.get("ETag", ""),
                answer.headers.get("Last-Modified", ""),
            )
            if answer.status_code == 200:
                offset = 0
            elif not _same(version, found):
                self.drop()
                raise Again("the file changed there; starting over")
            elif answer.status_code == 416:
                if found.total != offset:
                    self.drop()
                    raise Again("it has no more to send, though the file is not whole")
                return
            elif _first_byte(answer) != offset:
                self.drop()
                raise Again("it sends another piece than asked for; starting over")
            self._receive(answer, found, offset)

    def _there(self, url: str) -> tuple[Version | None, int]:
        """The version and size of the part, if it is of this address."""
        if not self.part.exists():
            return None, 0
        if not self._record.exists():
            return None, self.part.stat().st_size
        try:
            version = Version(**json.loads(read_text(self._record)))
        except (ValueError, TypeError):
            version = None
        if version is None or version.url != url:
            self.drop()
            return None, 0
        return version, self.part.stat().st_size

    def _receive(self, answer: requests.Response, version: Version, offset: int) -> None:
        if version.total is not None:
            self.room(version.total - offset)
        self.progress.start(self.part.stem, version.total, "bytes", offset)
        chunks = answer.iter_content(CHUNK)
        size = offset
        if offset == 0:
            first = next(chunks, b"")
            chunks = itertools.chain([first], chunks)
            check_beginning(answer, first, self.part.stem)
            with disk_errors(self.part.parent):
                self.part.unlink(missing_ok=True)  # before its version is: never another's
                write_json(self._record, asdict(version))
        with disk_errors(self.part.parent), self.part.open("ab") as file:
            for chunk in chunks:
                file.write(chunk)
                file.flush()
                size += len(chunk)
                self._best = max(self._best, size)
                self.progress.update(size)
            sync(file.fileno(), self.part.parent)
        if version.total is not None and size != version.total:
            if size > version.total:
                self.drop()
            raise Again(f"it sent {size:,} of {version.total:,} bytes")


def _same(known: Version | None, found: Version) -> bool:
    """Whether an answer is of the content that a part holds, as far as both tell."""
    if known is None:
        return True
    pairs = (
        (known.total, found.total),
        (known.etag, found.etag),
        (known.last_modified, found.last_modified),
    )
    return all(not a or not b or a == b for a, b in pairs)


def _total(answer: requests.Response) -> int | None:
    """The size of the whole file, where the answer tells it."""
    if answer.status_code == 200:
        text = answer.headers.get("Content-Length", "")
    else:
        text = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdecimal() else None


def _first_byte(answer: requests.Response) -> int | None:
    match = re.match(r"bytes (\d+)-\d+/", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def check_beginning(answer: requests.Response, head: bytes, name: str) -> None:
    """Raise UserError if what begins with ``head`` is a web page or an error message."""
    if not head:
        raise Again("it sent nothing")
    kind = content_type(answer)
    if name.endswith(".zip"):
        wrong = not head.startswith(b"PK")
    else:
        wrong = kind in PAGES
        wrong |= head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] in (b"<", b"{")
    if wrong:
        begins = " ".join(head[:40].decode("utf-8", "replace").split())
        raise UserError(
            f"{no_secrets(answer.url)}: something else came instead of {name} "
            f"({kind or 'no Content-Type'}, beginning {begins!r}); nothing was kept. "
            "Is there a login page before the network, or a wrong --mirror?"
        )
