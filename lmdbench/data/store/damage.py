"""Images that cannot be read: found while a data set is prepared, remembered by their content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lmdbench.core.files import read_bytes
from lmdbench.data.store.decoding import decoder, open_rgb, whole_images
from lmdbench.data.store.files import store_name
from lmdbench.data.store.hashing import KnownHashes, Progress, default_workers, hash_files
from lmdbench.data.store.looking import is_of
from lmdbench.data.store.remembered import remember, remembered
from lmdbench.data.store.scale import Refused, Scale
from lmdbench.data.store.store import UnreadableImages, open_images


class KnownDamage:
    """Contents that this decoder does not read: SHA-256 → reason; kept in a CSV file.

    A help and never needed: where the file is absent, damaged or cannot be written, images are
    tried again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = {(row[0], row[1]): row[2] for row in remembered(path) if len(row) == 3}

    def reason(self, sha256: str) -> str | None:
        return self._rows.get((decoder(), sha256))

    def add(self, reasons: Mapping[str, str]) -> None:
        if not reasons:
            return
        self._rows |= {(decoder(), sha256): why for sha256, why in reasons.items()}
        remember(self.path, ((*key, why) for key, why in self._rows.items()))


def damaged_images(
    data_set: str,
    files: Mapping[str, Path],
    size: int,
    cache: Path,
    progress: Progress | None = None,
    workers: int | None = None,
    asked: Scale | None = None,
    everything: Callable[[], Mapping[str, Path]] | None = None,
) -> dict[str, str]:
    """Image id → why its file cannot be read, of those in ``files`` (image id → file).

    The others are prepared at size × size pixels on the way, see ``open_images``: once that is
    done, nothing is read to find out again. Raises UserError as that does for anything else.
    """
    home, name = cache / "stores", store_name(data_set)
    known = KnownDamage(home / f"{name}.damaged.csv")
    hashes, unreadable, _ = hash_files(
        list(files.values()),
        KnownHashes(home / f"{name}.files.csv"),
        workers or default_workers(),
        len(files),
        progress or (lambda *_: None),
    )
    hash_of = dict(zip(files, hashes, strict=True))
    ids = list(files)
    damaged = {ids[position]: why for position, why in unreadable.items()}
    damaged |= {i: why for i, sha256 in hash_of.items() if (why := known.reason(sha256))}
    while rest := {image: file for image, file in files.items() if image not in damaged}:
        try:
            open_images(
                *(data_set, rest, size, cache, progress, workers),
                asked=asked,
                everything=everything,
            )
            break
        except UnreadableImages as error:
            new = error.reasons
        damaged |= new
        known.add({hash_of[i]: why for i, why in new.items() if _stays(files[i], hash_of[i])})
    return {image: damaged[image] for image in files if image in damaged}


def _stays(file: Path, sha256: str) -> bool:
    """Whether it is the content that cannot be read, and not the disk."""
    try:
        content = read_bytes(file)
    except OSError:
        return False
    if not is_of(sha256, content):
        return False
    try:
        with whole_images():
            open_rgb(content)
    except (MemoryError, Refused):
        return False
    except Exception:  # Pillow's plug-ins raise errors of every kind
        return True
    return False
