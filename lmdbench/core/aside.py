"""What is in the way or damaged is moved aside, never removed."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from lmdbench.core.files import disk_errors

DAMAGED = ".damaged-"  # in the name of a file that was moved aside


def free_name(path: Path, mark: str) -> Path:
    """A name beside ``path`` that nothing has: its own, the mark and the time."""
    stem = f"{path.name}{mark}{datetime.now(UTC):%Y%m%d-%H%M%S}"
    found, number = path.with_name(stem), 1
    while os.path.lexists(found):
        found, number = path.with_name(f"{stem}-{number}"), number + 1
    return found


def set_aside(path: Path) -> Path:
    """Rename a damaged file, or what is in its place, and return its new name. Raises DiskError."""
    aside = free_name(path, DAMAGED)
    with disk_errors(path.parent):
        path.rename(aside)
    return aside


def clear(path: Path) -> None:
    """Remove a file of no further use; what is no file in its place is moved aside. Raises
    DiskError."""
    if path.is_dir() and not path.is_symlink():
        set_aside(path)
        return
    with disk_errors(path.parent):
        path.unlink(missing_ok=True)
