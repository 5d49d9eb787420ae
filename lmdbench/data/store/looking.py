"""What is particular about image files, looked at once and remembered by their content.

A data set's bit depth follows from its pictures, and so does how some must be read; what a store
holds is therefore told by the SHA-256 of files and, where they are not read as most, by how.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lmdbench.core.files import patiently, read_bytes
from lmdbench.data.store import deep, dicom
from lmdbench.data.store.decoding import WITH_ALPHA, is_blank, opened, whole_images
from lmdbench.data.store.hashing import SAVE_SECONDS, in_parallel
from lmdbench.data.store.png import without_metadata
from lmdbench.data.store.remembered import remember, remembered
from lmdbench.data.store.scale import USUAL, Scale, Values, parse_scale

JPEG = b"\xff\xd8\xff"  # how a JPEG begins: eight bits, no alpha, one picture
BLANK, INVERTED = "opaque", "inverted"  # marks, see ``Look.mark``
SLOW_SECONDS = 2.0  # of looking, from which on its progress is told


@dataclass(frozen=True)
class Look:
    """``values``: of a picture of more than 8 bits that doesn't say their range. ``blank``: its
    alpha is 0 everywhere. ``inverted``: its low values are white. ``more``: other pictures follow
    in the file. ``dicom``: the window that the file gives, "none" for none; "" for no DICOM."""

    values: Values | None = None
    blank: bool = False
    inverted: bool = False
    more: bool = False
    dicom: str = ""

    def mark(self, scale: Scale) -> str:
        """How the file is read, where that is not as most are; it goes behind its SHA-256."""
        scaled = self.values is not None or (self.dicom and scale.clips)
        words = [
            scale.text if scaled and scale != USUAL else "",
            BLANK if self.blank else "",
            INVERTED if self.inverted and not self.dicom else "",
        ]
        return "".join(f"+{word}" for word in words if word)


USUAL_LOOK = Look()


def scale_in(marked: str) -> Scale:
    """The scale in a SHA-256 with marks behind."""
    scales = [word for word in marked.split("+")[1:] if ".." in word]
    return parse_scale(scales[0]) if scales else USUAL


def is_of(marked: str, content: bytes) -> bool:
    """Whether a SHA-256, with or without marks behind, is that of a file's content."""
    return marked.partition("+")[0] == hashlib.sha256(content).hexdigest()


def look(content: bytes) -> Look:
    """Look at an image file's content. Raises what ``decode`` does, for what can't be read."""
    if dicom.is_dicom(content):
        data = dicom.read(content)
        return Look(inverted=dicom.is_inverted(data), dicom=dicom.window(data) or "none")
    try:
        return _look(content)
    except Exception:
        bare = without_metadata(content)
        if bare is None:
            raise
    return _look(bare)


def _look(content: bytes) -> Look:
    image = opened(content)
    values, inverted = None, deep.is_inverted(image)
    more = image.format != "MPO" and bool(getattr(image, "is_animated", False))
    blank = image.mode in WITH_ALPHA or "transparency" in image.info
    if more and blank:  # its frames may have been loaded: from the beginning
        image = opened(content)
    if deep.is_deep_grey(image) or deep.is_deep_colour(image):
        values = deep.values_in(content, image)
        image = opened(content) if blank else image
    return Look(values, blank and is_blank(image.convert("RGBA")), inverted, more)


class KnownLooks:
    """Looks at files seen before, by SHA-256; kept in a CSV file, if at all. A help and never
    needed."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.looks: dict[str, Look] = {}
        if path is None:
            return
        with suppress(ValueError, TypeError, KeyError):
            self.looks = {sha256: _from_text(text) for sha256, text in remembered(path)}

    def add(self, looks: Mapping[str, Look]) -> None:
        if not looks:
            return
        self.looks = {**self.looks, **looks}
        if self.path is not None:
            remember(self.path, ((sha256, _to_text(one)) for sha256, one in self.looks.items()))


def _to_text(one: Look) -> str:
    usual = asdict(USUAL_LOOK)
    content = {key: value for key, value in asdict(one).items() if value != usual[key]}
    return json.dumps(content) if content else ""


def _from_text(text: str) -> Look:
    if not text:
        return USUAL_LOOK
    content: dict[str, Any] = json.loads(text)
    values = content.pop("values", None)
    return Look(values=values and Values(**values), **content)


def _begins_as_jpeg(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(len(JPEG)) == JPEG


def look_at(
    files: Sequence[Path],
    hashes: Sequence[str],
    known: KnownLooks,
    workers: int,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> list[Look]:
    """A look at each file, from ``known`` where its SHA-256 is there; what is new is added. A file
    that can't be read, or has no SHA-256, looks usual: why, decoding will say."""
    position = {sha256: p for p, sha256 in enumerate(hashes) if sha256}
    unknown = [p for sha256, p in position.items() if sha256 not in known.looks]
    unsaved: dict[str, Look] = {}
    done, saved, slow = 0, time.monotonic(), False

    def one(number: int) -> Look | None:
        try:
            if patiently(lambda: _begins_as_jpeg(files[number])):
                return USUAL_LOOK
            return look(read_bytes(files[number]))
        except Exception:  # Pillow's plug-ins raise errors of every kind
            return None

    def take(chunk: Mapping[int, Look | None]) -> None:
        nonlocal done, saved, slow
        unsaved.update({hashes[p]: seen for p, seen in chunk.items() if seen is not None})
        done += len(chunk)
        if done == len(unknown) or time.monotonic() - saved > SAVE_SECONDS:
            known.add(unsaved)
            unsaved.clear()
            saved = time.monotonic()
        if slow := slow or time.monotonic() - begun > SLOW_SECONDS:
            progress(done, len(unknown))

    begun = time.monotonic()
    with whole_images():
        in_parallel(one, unknown, workers, take)
    return [known.looks.get(sha256, USUAL_LOOK) for sha256 in hashes]
