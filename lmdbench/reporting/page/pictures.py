"""Thumbnails of single images as data URIs, of what runs were trained on or of the files."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lmdbench.data.dataset import Dataset
from lmdbench.data.decoding import open_rgb, whole_images
from lmdbench.data.stored import Stored, read_finished, store_folders, store_name
from lmdbench.errors import UserError

EDGE = 96  # pixels of a thumbnail's longer side
QUALITY = 75  # of JPEG

OpenDataset = Callable[[str], Dataset]  # by name; raises UserError where its files are not known


@dataclass(frozen=True)
class Pictures:
    """``uris``: image id → data URI of those found. ``note``: where they are from, or why not."""

    note: str
    uris: Mapping[str, str] = field(default_factory=dict, repr=False)


NOT_ASKED = Pictures("Images are left out of this file (--no-images); their ids stand alone.")


def find_pictures(
    setting: Mapping[str, Any], ids: Collection[str], cache: Path, open_dataset: OpenDataset
) -> Pictures:
    """Thumbnails of images of a block's setting: from a finished store in the cache, else from the
    data set's files. Nothing is made, drawn or decoded anew in the cache."""
    wanted = sorted(set(ids))
    if stored := _store(setting, wanted, cache):
        row = {image: n for n, image in enumerate(stored.hashes)}
        uris = {
            image: _uri(Image.fromarray(stored.pixels[row[image]].transpose(1, 2, 0)))
            for image in wanted
        }
        exact = stored.digest == setting.get("store")
        beside = "" if exact else " (prepared for another choice of this data set's images)"
        size = setting["image_size"]
        return Pictures(f"Thumbnails of the images as prepared at {size} px{beside}.", uris)
    return _from_files(setting, wanted, open_dataset)


def _store(setting: Mapping[str, Any], ids: Collection[str], cache: Path) -> Stored | None:
    """The store that the runs recorded, else another of the data set and size with the images."""
    name, size = store_name(str(setting["results_name"])), setting.get("image_size")
    if not isinstance(size, int):
        return None
    folders = store_folders(cache / "stores", name, size)
    recorded = str(setting.get("store"))[:16]
    for folder in sorted(folders, key=lambda f: not f.name.endswith(recorded)):
        found = read_finished(folder)
        if found is not None and all(image in found.hashes for image in ids):
            return found
    return None


def _from_files(
    setting: Mapping[str, Any], ids: Collection[str], open_dataset: OpenDataset
) -> Pictures:
    try:
        dataset = open_dataset(str(setting["dataset"]))
        if dataset.results_name != setting["results_name"]:
            raise UserError(f"the files given are those of {dataset.results_name}")
        files = dataset.records()["file"]
        root = dataset.image_root
    except UserError as error:
        return Pictures(f"Images are shown by their ids alone: {error}.")
    uris = {}
    with whole_images():
        for image in ids:
            if image in files.index and (path := root / str(files[image])).is_file():
                try:
                    uris[image] = _uri(open_rgb(path.read_bytes()))
                except Exception:  # Pillow's plug-ins raise errors of every kind
                    continue
    if not uris:
        return Pictures(f"Images are shown by their ids alone: none of them is in {root.name}.")
    missing = len(ids) - len(uris)
    lacking = f"; {missing:,} of them are not there or cannot be read" if missing else ""
    return Pictures(f"Thumbnails of the data set's files{lacking}.", uris)


def _uri(image: Image.Image) -> str:
    """A small JPEG, without what the file said beside its pixels."""
    small = image.copy()
    small.thumbnail((EDGE, EDGE))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
