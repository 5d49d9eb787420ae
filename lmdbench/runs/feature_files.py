"""Files of features in the cache, and what the record beside each says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.files import read_json
from lmdbench.core.schema import fits

FOLDER = "features"  # in the cache
FILE = "features.npy"
RECORD = "features.json"


@dataclass(frozen=True)
class FeaturesRecord:
    """What a file of features is, as ``features.json`` beside it tells."""

    dataset: str
    image_size: int
    backbone: str
    weights: str
    drawn_views: int  # strong views of each image beside the test view
    images: int
    width: int
    precision: str
    made: str  # when
    sha256: str


@dataclass(frozen=True)
class KeptFeatures:
    """A folder of features in the cache."""

    folder: Path
    record: FeaturesRecord | None  # None: damaged, or of an earlier version
    bytes: int
    last_used: float  # seconds since 1970


def read_record(folder: Path) -> FeaturesRecord:
    """What features are, by the record beside them. Raises UserError where that is absent or
    unreadable, Damaged where it is damaged."""
    path = folder / RECORD
    content, hints = read_json(path), get_type_hints(FeaturesRecord)
    known = isinstance(content, dict) and all(
        fits(hint, content.get(key)) for key, hint in hints.items()
    )
    if not known:
        raise Damaged(f"{path}: damaged, it does not say what the features are; move it away")
    return FeaturesRecord(**{key: content[key] for key in hints})


def kept_features(cache: Path) -> Iterator[KeptFeatures]:
    """All features in a cache, by the names of their folders."""
    for path in sorted((cache / FOLDER).glob(f"[!.]*/{FILE}")):
        folder, stat = path.parent, path.stat()
        try:
            record, used = read_record(folder), (folder / RECORD).stat().st_mtime
        except UserError:
            record, used = None, stat.st_mtime
        yield KeptFeatures(folder, record, stat.st_size, used)
