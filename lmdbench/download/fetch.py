"""A data set's download from beginning to end: what is there already, what comes, what is said."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmdbench.core.claim import Claim
from lmdbench.core.errors import UserError
from lmdbench.core.files import (
    disk_errors,
    read_bytes,
    read_json,
    remove_leftovers,
    sha256_of,
    write_json,
)
from lmdbench.core.progress import Progress
from lmdbench.core.words import size
from lmdbench.data.sources import ApiImages, Archive, Downloads, File, Home, Source
from lmdbench.download.archives import Damaged, images_there, unpack
from lmdbench.download.disk_space import file_size, require_room
from lmdbench.download.isic_api import GONE_LIST, fetch_images, files_there, listed_images
from lmdbench.download.journal import read_gone
from lmdbench.download.transfer import Transfer
from lmdbench.download.web import GaveUp, Refused, Web

FORMAT = 1  # of the stamp
STAMP = "complete.json"
WHOLE_TRIES = 2  # of a file that came whole but wrong


@dataclass(frozen=True)
class Job:
    """The download of one data set into one folder."""

    name: str
    downloads: Downloads
    home: Home
    mirror: str | None = None
    workers: int = 8
    remove_archives: bool = False

    @property
    def images(self) -> int:
        """How many images its archives and tables name."""
        counts = [
            source.images if isinstance(source, Archive) else len(listed_images(source, self.home))
            for source in self.downloads.sources
            if not isinstance(source, File)
        ]
        return sum(counts)

    @property
    def archives(self) -> list[Path]:
        return [
            self.home.place(source.target)
            for source in self.downloads.sources
            if isinstance(source, Archive)
        ]


def run(job: Job, progress: Progress) -> None:
    """Download what is not there.

    Whatever stops it, the next call goes on from there and ends with the same files. Raises
    UserError, in one line, where something cannot be had.
    """
    with disk_errors(job.home.folder):
        job.home.work.mkdir(parents=True, exist_ok=True)
    claim = Claim(job.home.work / "claim")
    if not claim.acquire():
        holder = claim.holder() or {}
        raise UserError(
            f"data set {job.name} is being downloaded into {job.home.folder} by another process "
            f"({holder.get('pid', '?')} on {holder.get('host', '?')}); let it finish, or stop it"
        )
    try:
        _clean(job.home)
        _fetch_all(job, progress, claim)
        os.sync()  # the images themselves are not synced one by one; the stamp vouches for them
        write_json(job.home.work / STAMP, _stamp(job))
    finally:
        claim.release()


def is_complete(job: Job) -> bool:
    """Whether the stamp says so and a look at names and sizes does not contradict it.

    The stamp is of these sources, wherever they were fetched from. Contents are not read.
    """
    try:
        stamp = read_json(job.home.work / STAMP)
        return bool(stamp == _stamp(job)) and all(
            _is_there(source, job.home) for source in job.downloads.sources
        )
    except UserError:
        return False


def _stamp(job: Job) -> dict[str, Any]:
    sizes = {
        source.target: file_size(job.home.place(source.target))
        for source in job.downloads.sources
        if isinstance(source, File)
    }
    sources = [source.url for source in job.downloads.sources]
    return {"format": FORMAT, "data_set": job.name, "sources": sources, "files": sizes}


def _is_there(source: Source, home: Home) -> bool:
    """By names alone. Raises UserError for tables that cannot be read."""
    match source:
        case File():
            return file_size(home.place(source.target)) > 0
        case Archive():
            tables = all(file_size(home.place(table)) > 0 for table in source.tables)
            return tables and images_there(source, home) == source.images
        case ApiImages():
            found = files_there(source, home).keys() | read_gone(home.place(GONE_LIST))
            return set(listed_images(source, home)) <= found


def _fetch_all(job: Job, progress: Progress, claim: Claim) -> None:
    needed = sum(_still_needed(source, job.home) for source in job.downloads.sources)
    require_room(job.home.folder, needed, f"data set {job.name}")
    web = Web(job.mirror, progress.say)
    for source in job.downloads.sources:
        try:
            match source:
                case File():
                    _fetch_file(source, job, web, progress, claim)
                case Archive():
                    _fetch_archive(source, job, web, progress, claim)
                case ApiImages():
                    fetch_images(source, job.home, web, job.workers, progress)
        except (Refused, GaveUp) as error:
            raise UserError(
                f"data set {job.name}: {web.shown(source.url)}: {error}. "
                f"{_by_hand(source, job.home)}"
            ) from error


def _by_hand(source: Source, home: Home) -> str:
    """What to do on a machine that cannot fetch a source."""
    if isinstance(source, ApiImages):
        return (
            "Without internet, fetch the images elsewhere (for example with the tool `isic`), put "
            f"them as <isic_id>.jpg into {home.place(source.folder)}, and run this again"
        )
    unpacked = f" or its folder {source.top} beside it" if isinstance(source, Archive) else ""
    return (
        f"If you can get it another way, put it at {home.place(source.target)}{unpacked} and run "
        "this again"
    )


def _still_needed(source: Source, home: Home) -> int:
    """Bytes that a source will take yet, roughly."""
    match source:
        case File():
            return 0 if home.place(source.target).exists() else source.about
        case Archive():
            if _is_there(source, home):
                return 0
            there = file_size(home.place(source.target)) or file_size(_part(source, home))
            return max(0, source.about - there) + _still_to_unpack(source, home)
        case ApiImages():
            return 0  # its tables come first, and tell what is missing


def _still_to_unpack(source: Archive, home: Home) -> int:
    there = sum(file_size(path) for path in home.place(f"{source.top}/.").rglob("*"))
    return max(0, source.unpacked - there)


def _fetch_file(source: File, job: Job, web: Web, progress: Progress, claim: Claim) -> None:
    target = job.home.place(source.target)
    if not target.exists():
        _put(_download(source, job.home, web, progress, 0), target, claim)
    elif problem := _wrong(target, source):
        raise UserError(
            f"{target}: {problem}; move it away, and it is fetched from {web.shown(source.url)}"
        )


def _fetch_archive(source: Archive, job: Job, web: Web, progress: Progress, claim: Claim) -> None:
    target, part = job.home.place(source.target), _part(source, job.home)
    if not target.exists() and not part.exists() and _is_there(source, job.home):
        progress.say(
            f"{source.images:,} images are in {job.home.folder} already; taken as they are"
        )
        return
    problem = ""
    for _ in range(WHOLE_TRIES):
        if target.exists() and not zipfile.is_zipfile(target):
            progress.say(f"{target} is no whole zip file: going on as with a broken-off download")
            with disk_errors(job.home.folder):
                if file_size(target) > file_size(part):
                    Transfer(web, part, progress).drop()
                    target.replace(part)
                else:
                    target.unlink()
        if not target.exists():
            to_unpack = _still_to_unpack(source, job.home)
            _put(_download(source, job.home, web, progress, to_unpack), target, claim)
        try:
            unpack(target, source, job.home, progress)
            return
        except Damaged as damage:
            problem = str(damage)
            progress.say(f"{target.name} is damaged ({problem}); deleted, to be fetched once more")
            with disk_errors(job.home.folder):
                target.unlink()
    raise UserError(f"{web.shown(source.url)}: damaged each time: {problem}; nothing was kept")


def _download(
    source: File | Archive, home: Home, web: Web, progress: Progress, to_unpack: int
) -> Path:
    """Fetch a file into the work folder, where it may lie already. A wrong one is fetched again.

    ``to_unpack``: bytes that it will take besides.
    """
    part = _part(source, home)
    name, address = part.stem, web.shown(source.url)
    path = home.work / name

    def room(coming: int) -> None:
        require_room(home.folder, coming + to_unpack, name)

    problem = ""
    with disk_errors(home.work):
        if path.is_file() and not _wrong(path, source):
            return path
        for _ in range(WHOLE_TRIES):
            if problem:
                progress.say(f"{name}: {problem}; fetching it once more")
            transfer = Transfer(web, part, progress, room)
            transfer.fetch(source.url)
            transfer.put(path)
            problem = _wrong(path, source)
            if not problem:
                return path
            path.unlink()
    raise UserError(f"{address}: {problem}; twice, and nothing was kept")


def _wrong(path: Path, source: File | Archive) -> str:
    """What is wrong with a file, by what is known of it; empty where nothing is."""
    if isinstance(source, Archive):
        return ""
    if source.sha256:
        found = sha256_of(path)
        if found != source.sha256:
            return f"SHA-256 {source.sha256} expected, {found} found"
    if source.rows:
        rows = sum(1 for line in read_bytes(path).split(b"\n") if line.strip()) - 1
        if rows != source.rows:
            return f"{source.rows:,} rows expected, {max(rows, 0):,} found"
    return ""


def _part(source: File | Archive, home: Home) -> Path:
    return home.work / f"{source.target.replace('/', '-')}.part"


def _put(path: Path, target: Path, claim: Claim) -> None:
    """Move a finished file to its place."""
    if not claim.is_mine():
        raise UserError(f"{target}: another process took this download over; leave it to that")
    with disk_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def _clean(home: Home) -> None:
    """Remove what a killed process left half-written; parts to go on with stay."""
    remove_leftovers(home.folder)
    remove_leftovers(home.work)


def summary(job: Job) -> str:
    """How many images there are of how many, of a download that is complete."""
    named = job.images
    gone = 0
    for source in job.downloads.sources:
        if isinstance(source, ApiImages):
            listed = set(listed_images(source, job.home))
            gone += len(listed & read_gone(job.home.place(GONE_LIST)))
    if not gone:
        return f"{named:,} images in {job.home.folder}"
    return (
        f"{named - gone:,} of {named:,} images in {job.home.folder}; {gone:,} gone from the "
        f"archive, listed in {job.home.place(GONE_LIST)}: runs need --allow-missing"
    )


def tidy(job: Job) -> str:
    """Delete the archives, which are unpacked, or say how; empty where there are none."""
    there = [path for path in job.archives if path.exists()]
    names = " and ".join(f"{path} ({size(file_size(path))})" for path in there)
    if not there:
        return ""
    if not job.remove_archives:
        return f"not needed any more: {names}; --remove-archives deletes it"
    with disk_errors(job.home.folder):
        for path in there:
            path.unlink()
    return f"deleted: {names}"
