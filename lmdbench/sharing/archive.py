"""A zip file or a folder of named files: written always alike, read with distrust."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.files import (
    atomic,
    check_new_file,
    disk_errors,
    patiently,
    temporary_path,
    write_bytes,
)

MANIFEST = "manifest.json"
MOST_OF_A_FILE = 512 << 20  # bytes: logits of 500,000 images in 250 classes
MOST_IN_ALL = 16 << 30  # bytes
MOST_FILES = 100_000
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can say
OTHER_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")

Add = Callable[[str, bytes], None]  # a file's name with its folders, and its content


# Writing


def check_output(path: Path) -> None:
    """Raises UserError where an archive would overwrite something or has no place to go."""
    if path.suffix.lower() in OTHER_ARCHIVES:
        raise UserError(f"--output {path}: give a name that ends in .zip, or one of a new folder")
    if os.path.lexists(path):
        raise UserError(f"--output {path} is there already; give another name, or move it away")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}; make it first")
    check_new_file(path)


@contextmanager
def new_archive(path: Path) -> Iterator[Add]:
    """A function that adds files to a zip file, or to a folder where the name has another ending.

    The archive is there once all went well, and before that not at all. The same files in the same
    order make the same bytes. Raises UserError as ``check_output`` does, and for a full disk.
    """
    check_output(path)
    if path.suffix.lower() == ".zip":
        with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
            yield lambda name, content: _add(file, name, content)
    else:
        with new_folder(path) as folder:
            yield lambda name, content: _write(folder / name, content)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill under a temporary name, which then becomes ``path``: all of it, or nothing.

    Raises UserError where ``path`` holds something by then, and for a full disk.
    """
    temporary = temporary_path(path)
    try:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _add(file: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system = 3  # Unix, also where it is not, so that the bytes are the same
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    file.writestr(info, content, zipfile.ZIP_DEFLATED, compresslevel=1)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)


# Reading


@dataclass(frozen=True)
class Archive:
    """What lies in an archive: ``sizes``, a file's name → its bytes as the archive says."""

    path: Path
    sizes: Mapping[str, int]
    top: str  # a folder that all of it lies in, with its slash; else empty
    _read: Callable[[str, int], bytes]

    def read(self, name: str) -> bytes:
        """Raises UserError for a file that is not there, damaged, or not as long as was said."""
        if name not in self.sizes:
            raise UserError(f"{self.path}: lacks {name}, which its manifest lists; get it anew")
        size = self.sizes[name]
        try:
            content = self._read(self.top + name, size + 1)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(
                f"{self.path}: {name} is damaged or cut short ({type(error).__name__}); get it anew"
            ) from error
        if len(content) != size:
            raise UserError(f"{self.path}: {name} is not as long as it says; get it anew")
        return content


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The archive in a zip file or a folder.

    Nothing is unpacked. Raises UserError for what is no archive of runs, and for one that no export
    makes: names that lead out of it, links, files that are encrypted, listed twice or enormous.
    """
    if path.is_dir():
        if not any((*path.glob(MANIFEST), *path.glob(f"*/{MANIFEST}"))):
            raise _no_manifest(path)  # and don't look through all that may be there
        yield _found(path, _files(path), lambda name, size: _content(path / name, size))
        return
    try:
        file = patiently(lambda: zipfile.ZipFile(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file or folder") from None
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{path}: no zip file, or cut short; give what `lmdbench results export` made"
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error

    def read(name: str, size: int) -> bytes:
        def content() -> bytes:
            with file.open(name) as member:
                return member.read(size)

        return patiently(content)

    with file:
        yield _found(path, _members(path, file), read)


def _found(path: Path, sizes: Mapping[str, int], read: Callable[[str, int], bytes]) -> Archive:
    if len(sizes) > MOST_FILES:
        raise UserError(f"{path}: more than {MOST_FILES:,} files; export fewer runs at a time")
    for name, size in sizes.items():
        if size > MOST_OF_A_FILE:
            raise UserError(
                f"{path}: {name!r} would have {size >> 20:,} MiB; no export has a file of more "
                f"than {MOST_OF_A_FILE >> 20}"
            )
    if sum(sizes.values()) > MOST_IN_ALL:
        raise UserError(
            f"{path}: would have {sum(sizes.values()) >> 30:,} GiB; {MOST_IN_ALL >> 30} are read "
            "at most: export fewer runs at a time"
        )
    tops = {name.partition("/")[0] for name in sizes}
    top = f"{next(iter(tops))}/" if len(tops) == 1 and MANIFEST not in sizes else ""
    sizes = {name.removeprefix(top): size for name, size in sizes.items()}
    if MANIFEST not in sizes:
        raise _no_manifest(path)
    return Archive(path, sizes, top, read)


def _no_manifest(path: Path) -> UserError:
    return UserError(f"{path}: has no {MANIFEST}; give what `lmdbench results export` made, whole")


def _members(path: Path, file: zipfile.ZipFile) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for info in file.infolist():
        name = info.filename
        _refuse_unsafe(path, name.removesuffix("/"))
        if info.is_dir():
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise UserError(f"{path}: {name!r} is a link or no plain file; no export has such")
        if info.flag_bits & 1:
            raise UserError(f"{path}: {name!r} is encrypted; no export is")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{path}: {name!r} is packed in a way that no export has")
        if name in sizes:
            raise UserError(f"{path}: {name!r} is there twice; no export has that")
        sizes[name] = info.file_size
    return sizes


def _files(path: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for folder, folders, files in os.walk(path, onerror=refuse):
        for entry in (*folders, *files):
            place = Path(folder) / entry
            name = place.relative_to(path).as_posix()
            _refuse_unsafe(path, name)
            status = place.lstat()
            if stat.S_ISREG(status.st_mode):
                sizes[name] = status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                raise UserError(f"{path}: {name!r} is a link or no plain file; no export has such")
        if len(sizes) > MOST_FILES:  # perhaps a folder of something else altogether
            break
    return sizes


def _content(path: Path, size: int) -> bytes:
    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(size)

    return patiently(read)


def _refuse_unsafe(path: Path, name: str) -> None:
    steps = name.split("/")
    if "\\" in name or not name.isprintable() or any(step in ("", ".", "..") for step in steps):
        raise UserError(f"{path}: the name {name!r} leads out of it, or is none; no export has it")
