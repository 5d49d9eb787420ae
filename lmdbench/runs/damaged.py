"""A split without the images that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lmdbench.core.words import count, some
from lmdbench.data.dataset import Prepared
from lmdbench.data.splits.availability import without_damaged
from lmdbench.data.store.damage import damaged_images
from lmdbench.data.store.hashing import Progress
from lmdbench.data.store.survey import asked_scale, table_files
from lmdbench.data.vectors import refuse_vectors

NAMED = 3  # damaged images that a line names


def skip_damaged(
    prepared: Prepared,
    size: int,
    cache: Path,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Prepared:
    """The split without the images that cannot be read, marked as partial; where there are none it
    is left as it is.

    Raises UserError as ``damaged_images``, and where too little is left to train on.
    """
    refuse_vectors(prepared.dataset.vectors, "--skip-damaged")
    name = prepared.dataset.results_name
    damaged = damaged_images(
        *(name, prepared.files, size, cache, progress),
        asked=asked_scale(prepared.dataset),
        everything=lambda: table_files(prepared.dataset),
    )
    if not damaged:
        return prepared
    say(f"left out: {in_words(damaged, prepared.files)}")
    return without_damaged(prepared, damaged)


def in_words(damaged: Mapping[str, str], files: Mapping[str, Path]) -> str:
    """How many images cannot be read, and why the first of them."""
    reasons = [f"{files[image]} ({why})" for image, why in damaged.items()]
    return f"{count(len(damaged), 'damaged image')}, {some(reasons, NAMED)}"
