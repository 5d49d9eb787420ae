"""Room on disk, told before it runs out."""

from __future__ import annotations

import shutil
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.words import size

SPARE_BYTES = 64 << 20  # to leave free beside what is fetched


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise UserError unless the disk of ``folder`` has room for ``needed`` bytes more."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed and free < needed + SPARE_BYTES:
        raise UserError(
            f"not enough room for {what} in {folder}: about {size(needed + SPARE_BYTES)} needed, "
            f"{size(free)} free; free some space or choose another --data-root"
        )


def file_size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0
