"""Zip archives: looked through before anything is unpacked, and unpacked so that it can go on."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, move_over, remove_leftovers, temporary_path
from lmdbench.core.progress import Progress
from lmdbench.core.words import size
from lmdbench.data.sources import Archive, Home
from lmdbench.download.disk_space import file_size, require_room

LARGEST = 3  # times the declared size: what claims to unpack to more is no archive of images
CHUNK = 1 << 20
ENCRYPTED = 0x1  # of a member's flags
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Damaged(Exception):
    """The archive is not whole: to be fetched again."""


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise Damaged(f"{path.name}: {error}") from error


def needed_members(path: Path, archive: Archive) -> list[zipfile.ZipInfo]:
    """The images and tables to unpack, after every member was looked at.

    Raises Damaged for what is no whole zip file. Raises UserError for one that holds a member which
    is unsafe or cannot be read, unpacks to far more than declared, or has another number of images.
    """
    with disk_errors(path.parent), _damage(path), zipfile.ZipFile(path) as file:
        members = file.infolist()
    seen = set()
    for member in members:
        problem = unsafe(member)
        if member.filename.casefold() in seen:
            problem = "is there twice"
        if problem:
            raise UserError(
                f"{path}: its member {member.orig_filename!r} {problem}; nothing was unpacked. "
                f"This is not the archive from {archive.url}: delete it and fetch it again"
            )
        seen.add(member.filename.casefold())
    images = [m for m in members if not m.is_dir() and archive.is_image(m.filename)]
    tables = [m for m in members if m.filename in archive.tables]
    if len(images) != archive.images or len(tables) != len(archive.tables):
        raise UserError(
            f"{path}: holds {len(images):,} images and {len(tables)} tables in {archive.top} "
            f"where {archive.images:,} and {len(archive.tables)} are expected; nothing was "
            f"unpacked. Delete it and fetch it again from {archive.url}"
        )
    needed = sorted([*tables, *images], key=lambda member: member.header_offset)
    total = sum(member.file_size for member in needed)
    if total > LARGEST * archive.unpacked:
        raise UserError(
            f"{path}: would unpack to {size(total)} where about {size(archive.unpacked)} are "
            f"expected, such as {max(needed, key=lambda m: m.file_size).filename!r}; nothing was "
            f"unpacked. This is not the archive from {archive.url}: delete it and fetch it again"
        )
    return needed


def unsafe(member: zipfile.ZipInfo) -> str:
    """Why a member may not be unpacked, empty if it may."""
    name = member.orig_filename
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or "\\" in name or "\0" in name:
        return "has a path that is not relative"
    if ".." in PurePosixPath(name).parts:
        return "leads out of the folder"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if member.flag_bits & ENCRYPTED:
        return "is encrypted"
    if member.compress_type not in METHODS:
        return f"is compressed by a method ({member.compress_type}) that is not read here"
    return ""


def unpack(path: Path, archive: Archive, home: Home, progress: Progress) -> None:
    """Unpack the needed members. Those that are there, with the right size and CRC, are kept.

    Each file appears under its name only when it is whole. Raises as ``needed_members`` does, and
    Damaged for a member whose content is not what the archive says.
    """
    members = needed_members(path, archive)
    missing = [m for m in members if file_size(home.place(m.filename)) != m.file_size]
    require_room(home.folder, sum(m.file_size for m in missing), f"unpacking {path.name}")
    folders = {home.place(member.filename).parent for member in members}
    with disk_errors(home.folder):
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder)
    progress.start(f"unpacking {path.name}", len(members), "images")
    try:
        with disk_errors(home.folder), _damage(path), zipfile.ZipFile(path) as file:
            for done, member in enumerate(members, start=1):
                _extract(file, member, home.place(member.filename))
                progress.update(done)
    finally:
        progress.end()


def _extract(file: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    if target.is_file() and file_size(target) == member.file_size and _crc(target) == member.CRC:
        return
    temporary = temporary_path(target)
    try:
        with file.open(member) as content, temporary.open("wb") as copy:
            left = member.file_size
            # ZipExtFile compares the CRC when it comes to the end.
            while chunk := content.read(CHUNK):
                left -= copy.write(chunk)
        if left:
            raise Damaged(f"{member.filename} is {left:,} bytes short")
        move_over(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def images_there(archive: Archive, home: Home) -> int:
    """How many of the archive's images are unpacked, by the names of files that are not empty."""
    top = home.place(f"{archive.top}/.")
    names = (path for path in top.rglob("*") if not path.name.startswith("."))
    return sum(path.suffix.lower() in archive.endings and file_size(path) > 0 for path in names)
