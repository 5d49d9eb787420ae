"""Folders of images that a data set makes itself, once for all processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from lmdbench.core.claim import Claim
from lmdbench.core.files import disk_errors, temporary_path

WAIT_SECONDS = 0.1


def make_once(folder: Path, complete: Callable[[], bool], make: Callable[[Path], None]) -> None:
    """Make a folder, unless it is complete: one process does, others wait for it.

    ``make`` fills a folder of another name, which takes the old one's place at the end; so what a
    killed process leaves is never taken for whole. Raises UserError for a full disk.
    """
    claim = Claim(folder.with_name(f"{folder.name}.claim"))
    while not complete():
        if not claim.acquire():
            time.sleep(WAIT_SECONDS)
            continue
        try:
            if not complete():
                with disk_errors(folder.parent):
                    _make(folder, make)
        finally:
            claim.release()


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    """For who holds the claim alone: what others began is removed."""
    leftovers = folder.parent.glob(f".{folder.stem}~*{folder.suffix}")
    for leftover in [*leftovers, folder]:
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = temporary_path(folder)
    try:
        temporary.mkdir()
        make(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
