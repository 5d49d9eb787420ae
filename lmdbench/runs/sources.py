"""The source of plug-ins, kept in the directories of the runs that they made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lmdbench.core.files import disk_errors, read_bytes, remove_leftovers, write_bytes

PLUGINS = "plugins"  # in the run directory


def keep_sources(directory: Path, sources: Mapping[str, bytes], attempts: int) -> None:
    """Write source files, name → content, into a run's folder of them, each at once and whole.

    Where there are others from one of the ``attempts`` before, that folder is kept under another
    name. Raises UserError for a full disk. Only for who holds the run's claim.
    """
    folder = directory / PLUGINS
    with disk_errors(directory):
        for inner in (folder, *folder.rglob("*/")):
            remove_leftovers(inner)
        kept = {p.relative_to(folder).as_posix(): read_bytes(p) for p in folder.rglob("*.py")}
        if any(sources.get(name) != content for name, content in kept.items()):
            folder.rename(directory / f"{PLUGINS}-of-attempt-{attempts}")
        for name, content in sources.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / name, content)
