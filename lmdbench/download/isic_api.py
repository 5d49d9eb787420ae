"""Images from the ISIC Archive's public API, one by one and several at a time."""

from __future__ import annotations

import io
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, move_over, remove_leftovers, temporary_path
from lmdbench.core.progress import Progress
from lmdbench.data.sources import ApiImages, Home
from lmdbench.data.tables import read_table
from lmdbench.download.disk_space import require_room
from lmdbench.download.journal import Journal, Record, write_gone, write_metadata
from lmdbench.download.web import PAGES, Again, GaveUp, Refused, Stopped, Web, content_type, host_of

JOURNAL = "images.jsonl"
METADATA = "metadata.csv"
GONE_LIST = "gone.csv"
# So many gone in a row, with more than this share to fetch: something else than they is wrong.
SUSPICIOUS, SUSPICIOUS_SHARE = 50, 0.1
CHUNK = 1 << 16
JOIN_SECONDS = 3.0  # that threads get to come to an end
PAGE_INSTEAD = "a web page came instead: is there a login page before the network?"
POLL_SECONDS = 0.5  # between two looks for Ctrl-C


class Gone(Exception):
    """The image cannot be had any more; the text is the reason."""


@dataclass(frozen=True)
class Result:
    """What became of one image: a record where it is there, else why it is gone or failed."""

    image: str
    record: Record | None = None
    gone: str = ""
    failed: str = ""


def listed_images(source: ApiImages, home: Home) -> list[str]:
    """The ids in the tables, in their order. Raises UserError for what is no id."""
    images: dict[str, None] = {}
    for name in source.tables:
        table = read_table(home.place(name), [source.column])
        for row, image in enumerate(table.filled(source.column)):
            if not re.fullmatch(r"[\w-]+", image, re.ASCII):
                raise UserError(f"{table.line(row)}: {image!r} is no image id")
            images[image] = None
    return list(images)


def files_there(source: ApiImages, home: Home) -> dict[str, Path]:
    """Image id → its file, of all that are there and not empty."""
    there: dict[str, Path] = {}
    with suppress(FileNotFoundError), os.scandir(home.place(source.folder)) as entries:
        for entry in entries:
            image, dot, ending = entry.name.rpartition(".")
            if dot + ending in source.endings and entry.stat().st_size > 0:
                there[image] = Path(entry.path)
    return there


def fetch_images(source: ApiImages, home: Home, web: Web, workers: int, progress: Progress) -> None:
    """Fetch every listed image that is not there.

    Tables of metadata and of gone images are written at the end, and when it is interrupted.
    Raises UserError where images could not be had, for reasons that may pass.
    """
    images = listed_images(source, home)
    folder = home.place(source.folder)
    with disk_errors(home.folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
    there = files_there(source, home)
    if set(images) <= there.keys() and not (home.work / JOURNAL).exists():
        progress.say(f"all {len(images):,} images are in {folder} already; taken as they are")
        return
    with Journal(home.work / JOURNAL) as journal:
        wanted = [image for image in images if not _is_whole(there.get(image), journal, image)]
        share = len(wanted) / len(images)
        require_room(folder, int(source.about * share), f"{len(wanted):,} images")
        run = _Run(source, folder, web, progress, journal, there, len(images))
        try:
            run.fetch(wanted, workers)
        finally:
            aside = write_metadata(home.place(METADATA), journal.records.values())
            if aside is not None:
                progress.say(f"{METADATA} was there, but no table by isic_id; it is {aside} now")
            write_gone(home.place(GONE_LIST), run.gone)
    if run.failed:
        (image, why), *_ = run.failed.items()
        raise UserError(
            f"{len(run.failed):,} of {len(images):,} images could not be fetched, such as {image} "
            f"({why}); the same command tries these again"
        )


def _is_whole(file: Path | None, journal: Journal, image: str) -> bool:
    if file is None or image not in journal.records:
        return False
    return file.stat().st_size == journal.records[image]["size"]


@dataclass
class _Run:
    """The images of one call: threads fetch, the calling thread keeps the books."""

    source: ApiImages
    folder: Path
    web: Web
    progress: Progress
    journal: Journal
    there: Mapping[str, Path]
    total: int
    gone: dict[str, str] = field(default_factory=dict)  # image → reason, as in ``failed``
    failed: dict[str, str] = field(default_factory=dict)

    def fetch(self, wanted: list[str], workers: int) -> None:
        done = self.total - len(wanted)
        self.progress.start("images", self.total, "images", done)
        try:
            with _in_threads(self._one, wanted, workers, self.web) as results:
                troubles = gone = 0  # in a row
                for result in results:
                    if result.record is not None:
                        self.journal.add(result.record)
                        troubles = gone = 0
                    elif result.gone:
                        self.gone[result.image] = result.gone
                        gone += 1
                    elif result.failed:
                        self.failed[result.image] = result.failed
                        troubles += 1
                    done += 1
                    self.progress.update(done)
                    if troubles and (not self.web.reached or troubles >= 2 * workers):
                        raise GaveUp(result.failed)
                    if gone >= min(SUSPICIOUS, self.total):
                        self._doubt_gone(gone, len(wanted))
        finally:
            self.progress.end()

    def _doubt_gone(self, in_a_row: int, wanted: int) -> None:
        """Raise UserError, unless the few that were left to ask for may well be gone."""
        if wanted <= SUSPICIOUS_SHARE * self.total:
            return
        image, why = self.gone.popitem()
        self.gone = {}
        raise UserError(
            f"{in_a_row} images in a row seem to be gone, such as "
            f"{self.web.shown(self.source.address(image))} ({why}): "
            "is the archive still at this address, or does the --mirror lack it?"
        )

    def _one(self, image: str) -> Result:
        """Fetch one image, in a thread."""
        try:
            record = self.web.persist(host_of(self.source.url), lambda: self._attempt(image))
        except Gone as gone:
            if image in self.there:  # brought by hand, or fetched before it was taken away
                return Result(image)
            return Result(image, gone=str(gone))
        except GaveUp as error:
            return Result(image, failed=str(error))
        return Result(image, record)

    def _attempt(self, image: str) -> Record:
        """Ask for the record and fetch the file, whose address may hold for minutes only."""
        record, url = self._ask(image)
        file = self.there.get(image)
        if file is not None and file.stat().st_size == record["size"]:
            return record
        content = self._content(url, record["size"])
        target = file or self.folder / f"{image}.jpg"
        with disk_errors(self.folder):
            temporary = temporary_path(target)
            try:
                temporary.write_bytes(content)
                move_over(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        return record

    def _ask(self, image: str) -> tuple[Record, str]:
        try:
            with self.web.get(self.source.address(image)) as answer:
                content = _json(answer)
        except Refused as refusal:
            # Without JSON, 401 and 403 are not the API's own: a proxy or a guard against too many.
            not_public = refusal.status in (401, 403) and refusal.json
            if refusal.status in (404, 410) or not_public:
                raise Gone(f"the archive answers {refusal.status}") from refusal
            raise Again(str(refusal)) from refusal
        try:
            full, metadata = content["files"]["full"], content.get("metadata") or {}
            record = {
                "isic_id": str(content["isic_id"]),
                "attribution": content.get("attribution") or "",
                "copyright_license": content.get("copyright_license") or "",
                "size": int(full["size"]),
                "acquisition": dict(metadata.get("acquisition") or {}),
                "clinical": dict(metadata.get("clinical") or {}),
            }
            url = str(full["url"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Again("the API's answer is not understood") from error
        if not url.startswith(("https://", "http://")):
            raise Again("the API's answer has no address of the file")
        if record["isic_id"] != image:
            raise Again(f"the API answers about {record['isic_id']} instead")
        return record, url

    def _content(self, url: str, size: int) -> bytes:
        """The image's file. Raises Again unless it has the size told and begins as an image."""
        content = bytearray()
        try:
            with self.web.get(url) as answer:
                page = content_type(answer) in PAGES
                for chunk in answer.iter_content(CHUNK):
                    content += chunk
                    if len(content) > size:
                        break
        except Refused as refusal:
            if refusal.status in (404, 410):
                raise Gone(f"its file answers {refusal.status}") from refusal
            raise Again(str(refusal)) from refusal
        if page and (len(content) != size or content.lstrip()[:1] == b"<"):
            raise GaveUp(PAGE_INSTEAD)
        if len(content) != size:
            more = "more" if len(content) > size else f"{len(content):,}"
            raise Again(f"its file has {more} bytes where the archive tells {size:,}")
        refuse_no_image(bytes(content))
        return bytes(content)


def _json(answer: requests.Response) -> Any:
    """What the API answers. Raises GaveUp for a web page."""
    try:
        return answer.json()
    except ValueError:
        if content_type(answer) in PAGES:
            raise GaveUp(PAGE_INSTEAD) from None
        raise


def refuse_no_image(content: bytes) -> None:
    """Raise Again unless the header of an image can be read."""
    from PIL import Image

    try:
        Image.open(io.BytesIO(content)).close()
    except Exception as error:  # Pillow's plug-ins raise errors of every kind
        raise Again("its file is no image") from error


@contextmanager
def _in_threads(
    function: Callable[[str], Result], images: list[str], workers: int, web: Web
) -> Iterator[Iterator[Result]]:
    """The results of a function that runs in several threads, as they come.

    An error in a thread is raised here. Leaving the context stops the threads; one that hangs in a
    connection is not waited for long, and ends with the process.
    """
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    results: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
    for image in images:
        tasks.put(image)

    def work() -> None:
        with suppress(queue.Empty, Stopped):
            while True:
                image = tasks.get_nowait()
                try:
                    results.put(function(image))
                except Stopped:
                    raise
                except BaseException as error:
                    results.put(error)
                    return

    def collect() -> Iterator[Result]:
        for _ in images:
            result = None
            while result is None:
                with suppress(queue.Empty):
                    result = results.get(timeout=POLL_SECONDS)
            if isinstance(result, BaseException):
                raise result
            yield result

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield collect()
    except BaseException:
        web.stop()
        raise
    finally:
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
