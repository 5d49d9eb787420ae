"""Thumbnails of single images as data URIs, of the very images that runs were trained on."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from lmdbench.comparison.leaks import needs_root, split_of
from lmdbench.comparison.results import Run
from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes
from lmdbench.core.words import size
from lmdbench.data.dataset import Dataset
from lmdbench.data.reading import read_records
from lmdbench.data.store.decoding import to_rgb
from lmdbench.data.store.files import (
    StoreFiles,
    content_digest,
    read_finished,
    store_folders,
    store_name,
)

EDGE = 96  # pixels of a thumbnail's longer side
QUALITY = 75  # of JPEG
LARGER = 640  # pixels of the longer side of a larger picture
MOST_BYTES = 20_000_000  # of the larger pictures of a table

OpenDataset = Callable[[str], Dataset]  # by name; raises UserError where its files are not known


@dataclass(frozen=True)
class Attention:
    """An image beside what in it spoke for an answer, as a data URI, and the class answered."""

    uri: str
    answer: str


@dataclass(frozen=True)
class Pictures:
    """``uris``: image id → data URI; ``larger`` and ``maps``: the same of larger pictures, and of
    what spoke for an answer, of some or none. ``note``: where they are from, or why there are none.

    ``advice``: the same for who makes the page, with folders and what to do; empty if there are
    pictures, or none were wanted.
    """

    note: str
    advice: str = ""
    uris: Mapping[str, str] = field(default_factory=dict, repr=False)
    larger: Mapping[str, str] = field(default_factory=dict, repr=False)
    maps: Mapping[str, Attention] = field(default_factory=dict, repr=False)

    def without_maps(self, why: str) -> Pictures:
        """The same where maps were asked for and there are none."""
        note = f"{self.note} There are no maps of what spoke for an answer."
        return replace(self, note=note).advised(why)

    def advised(self, line: str) -> Pictures:
        """The same with one more line for who makes the page."""
        return replace(self, advice="\n".join(filter(None, (self.advice, line))))


NOT_ASKED = Pictures("Images are left out of this file (--no-images); their ids stand alone.")
ALONE = "Images are shown by their ids alone"


def find_pictures(
    run: Run,
    setting: Mapping[str, Any],
    ids: Collection[str],
    cache: Path,
    open_dataset: OpenDataset,
    larger: bool = False,
) -> tuple[Pictures, StoreFiles | None]:
    """Thumbnails of images of a table's setting, from a finished store in the cache whose content
    is what the runs recorded; ``run``: one of them. Nothing is made or changed in the cache.
    ``larger``: with larger pictures of those whose original files are at hand. Beside them that
    store; None where there is none."""
    name = str(setting["results_name"])
    if setting.get("image_size") == 0:
        return Pictures(f"{ALONE}: the runs were trained on features, not on images."), None
    if setting.get("store") is None:
        return Pictures(
            f"{ALONE}: the runs do not record which files their predictions are of.",
            f"no images of {name}: its runs do not record which files they are of",
        ), None
    try:
        stored = _store(run, setting, ids, cache, open_dataset)
    except UserError as error:
        stored, why = None, f"the prepared images cannot be told to be those of the runs ({error})"
    else:
        why = f"no images in {cache / 'stores'} are those of the runs"
    if stored is None:
        return Pictures(
            f"{ALONE}: the images of these runs were not at hand when this page was made.",
            f"no images of {name}: {why}; `{_preparation(setting)}` prepares them again",
        ), None
    row = {image: n for n, image in enumerate(stored.hashes)}
    uris = {
        image: data_uri(Image.fromarray(stored.pixels[row[image]].transpose(1, 2, 0)))
        for image in sorted(set(ids))
    }
    found = Pictures(
        f"Thumbnails of the images as prepared at {setting['image_size']} px.", uris=uris
    )
    if larger:
        found = _with_larger(found, stored, str(setting["dataset"]), open_dataset)
    return found, stored


def _with_larger(
    pictures: Pictures, stored: StoreFiles, name: str, open_dataset: OpenDataset
) -> Pictures:
    """With larger pictures from the original files that are the very ones of the store, as far as
    ``MOST_BYTES`` go."""
    try:
        dataset = open_dataset(name)
        files = read_records(dataset)["file"].to_dict()
    except UserError as error:
        return replace(pictures, advice=f"no larger pictures of {name}: {error}")
    originals = (
        (image, _original(dataset.image_root / files[image], stored.hashes[image]))
        for image in pictures.uris
        if image in files
    )
    larger, most = fitting(originals), len(pictures.uris)
    told = f" A click shows {len(larger):,} of the {most:,} larger, from their original files."
    advice = ""
    if len(larger) < most:
        advice = (
            f"{most - len(larger):,} of {most:,} images of {name} have no larger picture: their "
            "files are not at hand, are others than those of the runs, or are more than "
            f"{size(MOST_BYTES)} together"
        )
    return replace(pictures, note=pictures.note + told, advice=advice, larger=larger)


def fitting(uris: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Of images with their data URIs as many as ``MOST_BYTES`` allow; none that are empty."""
    kept, left = {}, MOST_BYTES
    for image, uri in uris:
        if uri and len(uri) <= left:
            kept[image] = uri
            left -= len(uri)
    return kept


def _original(path: Path, sha256: str) -> str:
    """A larger picture of a file, upright; empty where it is not there, or is not the one with this
    SHA-256."""
    try:
        content = read_bytes(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            return ""
        with Image.open(io.BytesIO(content)) as image:
            return data_uri(to_rgb(ImageOps.exif_transpose(image)), LARGER)
    except (OSError, ValueError, Image.DecompressionBombError, UserError):
        return ""


def _store(
    run: Run,
    setting: Mapping[str, Any],
    ids: Collection[str],
    cache: Path,
    open_dataset: OpenDataset,
) -> StoreFiles | None:
    """The store with the digest that the runs recorded, else one that holds these very images among
    others: the files of the run's split have that digest by it.

    Raises UserError where only the data set could tell and it is not at hand.
    """
    digest, pixels = str(setting["store"]), int(setting["image_size"])
    folders = store_folders(cache / "stores", store_name(str(setting["results_name"])), pixels)
    holding = []
    for folder in sorted(folders, key=lambda f: not f.name.endswith(digest[:16])):
        found = read_finished(folder)
        if found is None or not all(image in found.hashes for image in ids):
            continue
        if found.digest == digest:
            return found
        holding.append(found)
    if not holding:
        return None
    split = split_of(run, open_dataset(str(setting["dataset"])))
    images = sorted(str(image) for part in split.parts.values() for image in part.ids)
    for found in holding:
        hashes = [found.hashes.get(image, "") for image in images]
        if content_digest(images, hashes, pixels) == digest:
            return found
    return None


def _preparation(setting: Mapping[str, Any]) -> str:
    """The call of ``data prepare`` for a setting's images."""
    name = str(setting["dataset"])
    words = ["lmdbench data prepare", name, f"--image-size {setting['image_size']}"]
    if needs_root(name):
        words.append("--data-root DIR")
    return " ".join(words)


def data_uri(image: Image.Image, edge: int = EDGE) -> str:
    """A small JPEG, without what the file said beside its pixels."""
    small = Image.frombytes(image.mode, image.size, image.tobytes())
    small.thumbnail((edge, edge))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
