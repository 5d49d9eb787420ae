"""What lies below the folders of a user's own images: through links, and what is left out."""

from __future__ import annotations

import errno
import math
import os
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, some
from lmdbench.data.store.decoding import readable_endings

# Folders that operating systems and network drives make: @eaDir holds thumbnails of the images.
OF_SYSTEMS = frozenset(
    {"@eaDir", "#recycle", "#snapshot", "__MACOSX", "lost+found"}
    | {"$RECYCLE.BIN", "System Volume Information"}
)
# Endings of what lies beside images and is none: notes, tables, what file managers leave.
BESIDE = frozenset(
    {".csv", ".tsv", ".txt", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".md", ".log"}
    | {".db", ".ini", ".py", ".sh", ".md5", ".sha256"}
)
LEFT_BEHIND = frozenset({"Icon\r", "DICOMDIR", "README", "LICENSE", "LICENCE"})
NAMED = 12  # endings that a line names


@dataclass
class Found:
    """What lies below a folder: paths relative to it, sorted. Hidden files are not looked at.

    ``images``: by their endings. ``others``: files that may be images and are not read.
    ``broken``: links to nothing. ``circles``: links to a folder that holds them. ``repeats``:
    folder that is reached once more → what it was called before. ``folders``: real path → name.
    ``looked_at``: how many files were seen.
    """

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)
    repeats: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)
    looked_at: int = 0


def look_below(folder: Path, most: float = math.inf) -> Found:
    """All files below a folder, at any depth. Links to folders are followed, each folder is looked
    into once: first those that lie there, then those that are linked. After ``most`` files no
    further folder is looked into.

    Raises UserError for a folder that cannot be read.
    """
    found = Found()
    places = os.path.realpath(folder), os.path.realpath(folder.parent)
    near, linked = [("", places[0])], deque[tuple[str, str]]()
    while (near or linked) and found.looked_at < most:
        inside, real = near.pop() if near else linked.popleft()
        if real in found.folders:
            found.repeats[inside] = found.folders[real]
            continue
        found.folders[real] = inside
        inner = []
        for entry in scan(folder / inside):
            path = f"{inside}/{entry.name}" if inside else entry.name
            if entry.name.startswith("."):
                continue
            if not is_folder(entry):
                _file(found, path, entry)
            elif entry.name in OF_SYSTEMS:
                continue
            elif not entry.is_symlink():
                inner.append((path, os.path.join(real, entry.name)))
            elif leads_back(target := os.path.realpath(entry.path), real, *places):
                found.circles.append(path)
            else:
                linked.append((path, target))
        near += reversed(inner)  # the last is taken first
    for paths in (found.images, found.others, found.broken, found.circles):
        paths.sort()
    return found


def _file(found: Found, path: str, entry: os.DirEntry[str]) -> None:
    found.looked_at += 1
    if is_image(entry.name):
        found.images.append(path)
    elif is_broken(entry):
        found.broken.append(path)
    elif os.path.splitext(entry.name)[1].lower() not in BESIDE and entry.name not in LEFT_BEHIND:
        found.others.append(path)


def images_below(folder: Path) -> list[str]:
    """Image files below a folder, at any depth: sorted paths relative to it."""
    return look_below(folder).images


def folders_in(root: Path) -> list[str]:
    """Sub-folders by name, linked ones too, without hidden ones, what systems and archivers leave,
    and links that lead back to the folder. Raises UserError for a folder that cannot be read."""
    real, names = os.path.realpath(root), []
    for entry in scan(root):
        if entry.name.startswith((".", "__MACOSX")) or entry.name in OF_SYSTEMS:
            continue
        if is_folder(entry) and not (
            entry.is_symlink() and leads_back(os.path.realpath(entry.path), real)
        ):
            names.append(entry.name)
    return names


def class_folders(root: Path) -> list[str]:
    """``folders_in``. Raises UserError for a link to nothing, too, that may have been a folder: a
    class must not vanish because a disk is not there."""
    for entry in scan(root):
        hidden = entry.name.startswith(".")
        if not hidden and is_broken(entry) and not os.path.splitext(entry.name)[1]:
            raise UserError(
                f"{entry.path}: a link to nothing ({shown(os.readlink(entry.path))}): is a disk "
                "missing? Mend the link or remove it"
            )
    return folders_in(root)


def images_in(root: Path) -> list[str]:
    """Image files right in a folder, by name."""
    return [e.name for e in scan(root) if is_image(e.name) and not e.name.startswith(".")]


def is_image(name: str) -> bool:
    """Whether a file's ending says that it is an image that can be read."""
    return Path(name).suffix.lower() in readable_endings()


def ending(name: str) -> str:
    """What a file's name ends in, such as ".heic"; empty for none and for numbers, as in DICOM."""
    last = [part.lower() for part in Path(name).suffixes[-2:]]
    if last and last[-1] in (".gz", ".bz2", ".xz"):
        return "".join(last)
    return last[-1] if last and not last[-1][1:].isdigit() else ""


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one. Raises UserError where that can't be found out."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # links that lead to each other
            return False
        unreadable(error)
        raise


def is_broken(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to nothing."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def leads_back(target: str, *places: str) -> bool:
    """Whether a folder is one of the places, or holds one. All are real paths."""
    return any(f"{place}/".startswith(f"{target.rstrip('/')}/") for place in places)


def scan(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, by name. Raises UserError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        unreadable(error)
        raise


def unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error


# What is told of it


def remarks(found: Mapping[str, Found], where: str = "class folders") -> tuple[str, ...]:
    """What was left out or taken twice below folders (name → what was found), a line each."""
    broken, circles = _all(found, "broken"), _all(found, "circles")
    lines = [not_read(_all(found, "others"), where)]
    if broken:
        links = count(len(broken), "link")
        lines.append(f"not there: {links} to nothing, such as {shown(min(broken))}")
    if circles:
        links = count(len(circles), "link")
        lines.append(f"not followed: {links} back to where it lies, such as {shown(min(circles))}")
    repeats = [
        f"{shown(_join(top, again))} (the same folder as {shown(_join(top, first))})"
        for top, below in found.items()
        for again, first in below.repeats.items()
    ]
    if repeats:
        lines.append(f"taken once: {some(repeats, 2)}")
    if twice := list(_shared(found)):
        lines.append(f"taken twice, by links: {some(twice, 2)}; remove one, they are the same")
    return tuple(filter(None, lines))


def not_read(files: Collection[str], where: str) -> str:
    """How many files of which endings are not read; empty for none."""
    if not files:
        return ""
    return (
        f"not read: {count(len(files), 'file')} in {where}: {endings(files)}, such as "
        f"{shown(min(files))}; convert or rename those that are images"
    )


def endings(files: Iterable[str]) -> str:
    """Files by their endings, the commonest first: "10 .heic, 4 without ending"."""
    numbers = Counter(ending(file) for file in files)
    order = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    return some([f"{n:,} {shown(end) or 'without ending'}" for end, n in order], NAMED)


def shown(name: str) -> str:
    """A name that can be printed, whatever its bytes are."""
    text = name.encode(errors="surrogateescape").decode(errors="replace")
    return repr(text) if text != text.strip() or not text.isprintable() else text


def _all(found: Mapping[str, Found], kind: str) -> list[str]:
    return [_join(top, path) for top, below in found.items() for path in getattr(below, kind)]


def _shared(found: Mapping[str, Found]) -> Iterator[str]:
    """Folders that lie below two of the folders, without those inside of such."""
    first: dict[str, str] = {}
    for top, below in found.items():
        again = {real for real in below.folders if real in first}
        for real in sorted(again):
            if os.path.dirname(real) not in again:
                yield f"{shown(_join(top, below.folders[real]))} is {shown(first[real])}"
        for real, path in below.folders.items():
            first.setdefault(real, _join(top, path))


def _join(top: str, path: str) -> str:
    return "/".join(filter(None, (top, path)))
