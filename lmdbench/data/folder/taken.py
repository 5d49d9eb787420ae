"""Which of several things in a folder its images are listed by, where it holds more than one."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, some
from lmdbench.data.folder.description import DESCRIPTION, Description
from lmdbench.data.folder.walk import folders_in, look_below, scan, shown

LISTS = (".csv", ".tsv", ".npz")  # endings of files that list or hold images
LOOKED_AT = 100_000  # files below a folder, looked at for what no row lists
NAMED = 3


def lists_in(root: Path) -> list[str]:
    """Tables and ``.npz`` right in a folder, by name."""
    return [
        entry.name
        for entry in scan(root)
        if os.path.splitext(entry.name)[1].lower() in LISTS and not entry.name.startswith(".")
    ]


def taken(root: Path, described: Description, files: Iterable[Path]) -> tuple[str, ...]:
    """What the images of the folder ``root`` are listed by, where something else might be: a line,
    or none. ``files``: those of the listed images."""
    if not os.path.isdir(root):
        return ()
    holder = described.holder.name
    by = f"{holder}, as {DESCRIPTION} says" if described.path.name == DESCRIPTION else holder
    others = [name for name in lists_in(root) if name != holder]
    if described.kind == "images":
        if not others or described.path.name == DESCRIPTION:
            return ()
        return (
            f"taken: the sub-folders, not {some(others, NAMED, shown)} beside them; to take a "
            f"table, give it: --data-root {shown(str(root / others[0]))}",
        )
    if described.kind != "table":
        return ()
    stray, more = _unlisted(root, files)
    if not stray:
        return ()
    images = f"{'at least ' * more}{count(len(stray), 'image')}"
    return (f"taken: {by}; {images} in sub-folders in no row of it, such as {shown(stray[0])}",)


def _unlisted(root: Path, files: Iterable[Path]) -> tuple[list[str], bool]:
    """Images in sub-folders that are not among the files, and whether there may be more."""
    known, stray, left = {os.path.abspath(file) for file in files}, list[str](), LOOKED_AT
    for folder in folders_in(root):
        try:
            found = look_below(root / folder, left)
        except UserError:  # a folder that may not be read is no matter of the table
            continue
        paths = (f"{folder}/{image}" for image in found.images)
        stray += [path for path in paths if os.path.abspath(root / path) not in known]
        left -= found.looked_at
        if left <= 0:
            return stray, True
    return stray, False
