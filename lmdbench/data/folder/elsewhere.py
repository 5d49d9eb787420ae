"""Images of a table that are not where it says, looked for once below its folder."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, some
from lmdbench.data.dataset import Elsewhere
from lmdbench.data.folder.description import DESCRIPTION, Description
from lmdbench.data.folder.walk import look_below
from lmdbench.data.image_names import Matches, match
from lmdbench.data.splits.availability import missing_images

MOST = 300_000  # files that are looked at
MOST_FOLDERS = 8  # that an advice names
NAMED = 2
# Differences of which each by itself leaves no doubt which image is meant, and those that leave
# none if all missing images are found by them: a file that is not there yet could be meant instead.
ALONE = frozenset({"spelling", "ending"})
TOGETHER = ALONE | {"folder"}
# What most names differ in → what to do
ADVICE = {
    "zeros": "write the names as the files are called (in Excel as text, in pandas by dtype=str)",
    "case": "write the names as the files are called",
    "format": "write the names as the files are called",
    "path": "write paths relative to the table, or to the image_folder of a dataset.toml",
}


def look_for(
    missing: Collection[str], listed: Collection[str], described: Description
) -> Elsewhere:
    """The missing images (names as the table has them) among the files that it does not list.

    Their ids stay as the table writes them, so that splits are the same wherever the files lie.
    Found are those whose names differ in slashes, blanks, accents or the ending, and, if that finds
    all of them, in the sub-folder. What could be another image (zeros, capitals, other folders) is
    only told.
    """
    try:
        files = _files(described)
    except UserError as error:
        return Elsewhere(told=f"looking for them elsewhere failed: {error}")
    free = [name for name in files if name not in set(listed)] if files else []
    matches = match(missing, free)
    all_found = matches.found.keys() == set(missing) and all(
        TOGETHER.issuperset(kinds) for kinds in matches.kinds.values()
    )
    sure = TOGETHER if all_found else ALONE
    found = {n: f for n, f in matches.found.items() if sure.issuperset(matches.kinds[n])}
    paths = {name: Path(os.path.normpath(described.folder / file)) for name, file in found.items()}
    left = _without(matches, found)
    stay = len(listed) > len(missing)
    told = [_remark(matches, found, described, stay), _hint(left, described, stay)]
    if not left.found and len(found) < len(missing):
        told.append(_listed_too([name for name in missing if name not in found], listed))
    return Elsewhere(paths, "; ".join(filter(None, told)))


def in_folders(images: Sequence[str], folders: Sequence[Path], where: Path) -> list[Path]:
    """The file of each image, in that of the folders that has it; in the first where none does.

    Raises UserError, naming both, for an image that two of them have.
    """
    homes: dict[str, Path] = {}
    for folder in folders:
        files = {image: folder / image for image in images}
        missing = missing_images(files)
        there = {image: file for image, file in files.items() if image not in missing}
        twice = [image for image in there if image in homes]
        if twice:
            raise UserError(
                f"{where}: {some(twice, NAMED)} {'is' if len(twice) == 1 else 'are'} in two of the "
                f"image_folder: {homes[twice[0]]} and {there[twice[0]]}; leave one of the folders "
                "out, or take one of the files away"
            )
        homes |= there
    return [homes.get(image, folders[0] / image) for image in images]


def _files(described: Description) -> list[str]:
    """Image files below the table's folder, or the images' where that is another place, relative to
    the latter."""
    home, folder = described.holder.parent, described.folder
    top = folder if folder.is_dir() and not folder.is_relative_to(home) else home
    inner = os.path.relpath(top, folder)
    found = look_below(top, MOST).images
    return [posixpath.normpath(f"{inner}/{file}") for file in found] if inner != "." else found


def _without(matches: Matches, found: Mapping[str, str]) -> Matches:
    """The matches of the other images."""
    rest = {name: file for name, file in matches.found.items() if name not in found}
    kinds = {name: matches.kinds[name] for name in rest}
    return replace(matches, found=rest, kinds=kinds)


def _remark(matches: Matches, found: Mapping[str, str], described: Description, stay: bool) -> str:
    if not found:
        return ""
    own = replace(matches, found=found, kinds={name: matches.kinds[name] for name in found})
    text = f"found {count(len(found), 'image')} though names differ in {own.told(NAMED)}"
    line = _line_of_folders(found, described, stay)
    return f"{text}; {line} would say so" if line else text


def _hint(left: Matches, described: Description, stay: bool) -> str:
    """What the images that were not found could be, and what to do."""
    told = []
    if left.found:
        advice = [text for kind, text in ADVICE.items() if kind in left.usual]
        line = _line_of_folders(left.found, described, stay)
        told.append(f"files there differ in {left.told(NAMED)}")
        told += advice[:1] or [f"say {line}"] * bool(line)
    if left.unclear:
        name, meant = next(iter(left.unclear.items()))
        several = f"{count(len(left.unclear), 'name')} could be several files, such as {name}: "
        told.append(several + " or ".join(meant[:3]))
        line = _line_of_folders({name: meant[0]}, described, stay)
        told += [f"take the others away, or say which, as by {line}"] * bool(line)
    return "; ".join(told)


def _listed_too(missing: Iterable[str], listed: Collection[str]) -> str:
    """Which missing image is one that is listed under another name."""
    lost = set(missing)
    twice = match(lost, [name for name in listed if name not in lost]).found
    if not twice:
        return ""
    name, other = min(twice.items())
    return f"is {name} the image {other}, which is listed, too? Take one out"


def _line_of_folders(found: Mapping[str, str], described: Description, stay: bool) -> str:
    """The line of a description that says in which folders images lie; empty where none would.
    ``stay``: other images lie in the folders that were said."""
    heads = {posixpath.dirname(file) for file in found.values()}
    inner = {posixpath.dirname(name.replace("\\", "/")) for name in found}
    if inner != {""} or heads == {""} or len(heads) > MOST_FOLDERS:
        return ""
    described_by = described.path.name if described.path.suffix.lower() == ".toml" else ""
    home = described.path.parent if described_by else described.holder.parent
    places = {described.folder / head for head in heads}
    places |= set(described.folders or (described.folder,)) if stay else set()
    folders = sorted(Path(os.path.relpath(place, home)).as_posix() for place in places)
    written = ", ".join(f'"{folder}"' for folder in folders)
    line = f"image_folder = {written if len(folders) == 1 else f'[{written}]'}"
    table = f'a {DESCRIPTION} with table = "{described.holder.name}"'
    return f"{line} in {described_by or table}"
