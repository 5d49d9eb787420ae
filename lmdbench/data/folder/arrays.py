"""Images and labels in memory as a folder that the data set ``folder`` reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, read_text, write_text
from lmdbench.core.words import count
from lmdbench.data.dataset import PARTS
from lmdbench.data.folder.description import DESCRIPTION
from lmdbench.data.folder.image_index import LABELS
from lmdbench.data.folder.spelling import alike
from lmdbench.data.lesions import is_no_word
from lmdbench.data.store.build_once import make_once

Part = tuple[Any, ...]  # images and labels, and groups where they are known


@dataclass(frozen=True)
class Row:
    part: str
    image: np.ndarray  # (H, W) or (H, W, 3) uint8
    label: str
    group: str


def write_arrays(
    parts: Mapping[str, Part], folder: Path, name: str, classes: Sequence[str] | None = None
) -> Path:
    """Write images losslessly as PNG files with a table and a description, unless they are there.

    ``parts``: train, validation and test → (images, labels) or (images, labels, groups); with
    ``train`` alone the images are not divided. Images: an array or tensor (N, H, W), (N, H, W, 3)
    or (N, 3, H, W), or a sequence of such images of any size; uint8. Labels (N,): class indices, or
    names. Groups (N,): lesions or patients, "", None or NaN where unknown. ``classes``: the classes
    in their order; by default the names sorted, or the indices. Returns the folder, named ``name``,
    in one named after the content, so that other images never take its place.

    Raises UserError for what are no images or labels.
    """
    if not re.fullmatch(r"[\w.-]+", name):
        raise UserError(f"name {name!r}: a name has letters, digits, - . and _ only")
    if "train" not in parts:
        raise UserError(f"no training images: {', '.join(parts) or 'nothing'} is given")
    classes = None if classes is None else [label.strip() for label in classes]
    rows = [row for part, content in parts.items() for row in _rows(part, content, classes)]
    order = list(classes) if classes is not None else sorted({row.label for row in rows})
    if classes is None:
        _refuse_spellings(row.label for row in rows)
    digest = hashlib.sha256(json.dumps(order).encode())
    for row in rows:
        facts = (row.part, row.label, row.group, row.image.shape)
        digest.update(f"{facts}\n".encode() + row.image.tobytes())
    content = digest.hexdigest()[:16]
    root = folder / content / name
    described = _description(order, {row.group for row in rows})

    def write(new: Path) -> None:
        table = pd.DataFrame(
            {
                # Named after the content, so that other images make another split, and other runs.
                "image": [f"{content[:8]}/{number:06}.png" for number in range(len(rows))],
                "label": [row.label for row in rows],
                "group": [row.group for row in rows],
                "split": [row.part for row in rows],
            }
        )
        (new / content[:8]).mkdir()
        for file, row in zip(table["image"], rows, strict=True):
            Image.fromarray(row.image).save(new / file, compress_level=1)
        lacking = [] if len(parts) > 1 else ["split"]
        lacking += [] if any(table["group"]) else ["group"]
        table.drop(columns=lacking).to_csv(new / LABELS, index=False)
        (new / DESCRIPTION).write_text(described, encoding="utf-8")

    with disk_errors(folder):
        root.parent.mkdir(parents=True, exist_ok=True)
    make_once(root, (root / DESCRIPTION).is_file, write)
    if read_text(root / DESCRIPTION) != described:  # of an earlier version
        write_text(root / DESCRIPTION, described)
    return root


def _description(order: Sequence[str], groups: Collection[str]) -> str:
    """Groups are taken as they are, 0 included, but for words that stand for nothing."""
    words = sorted({group.strip() for group in groups if group.strip() and is_no_word(group)})
    content = {
        "table": LABELS,
        "class_order": order,
        "merge_spellings": False,
        **({"no_group": words} if any(groups) else {}),
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in content.items()]
    return "".join(lines)


def _refuse_spellings(labels: Iterable[str]) -> None:
    sizes = Counter(labels)
    if several := alike(sizes):
        told = " and ".join(f"{name!r} ({count(sizes[name], 'image')})" for name in several[0])
        raise UserError(
            f"labels that differ in spelling only: {told}; make them one, or give classes to keep "
            "them apart"
        )


def _rows(part: str, content: Part, classes: Sequence[str] | None) -> Iterator[Row]:
    if part not in PARTS:
        raise UserError(f"part {part!r}: there are {', '.join(PARTS)}")
    if not (isinstance(content, tuple) and len(content) in (2, 3)):
        raise UserError(f"{part}: give (images, labels), or (images, labels, groups)")
    images, labels, *more = content
    for what, value in zip(("images", "labels", "groups"), content, strict=False):
        if not (hasattr(value, "__len__") and hasattr(value, "__iter__")):
            raise UserError(f"{part}: {what} must be an array or a sequence, not {value!r}")
    names = [_class_name(part, label, classes) for label in _list(labels)]
    groups = [str(group) for group in _list(more[0])] if more else [""] * len(names)
    for what, found in (("labels", names), ("groups", groups)):
        if len(found) != len(images):
            raise UserError(
                f"{part}: {len(images):,} images but {len(found):,} {what}; each image needs one"
            )
    for number, image in enumerate(images):
        array = image_array(image, f"{part} image {number}")
        yield Row(part, array, names[number], groups[number])


def _list(labels: Any) -> Iterable[Any]:
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if any(isinstance(value, list) for value in values):
        raise UserError("labels: give one an image, (N,); of one-hot rows their argmax")
    return values


def _class_name(part: str, label: Any, classes: Sequence[str] | None) -> str:
    if isinstance(label, str):
        label = label.strip()  # as in a table
        if not label or (classes is not None and label not in classes):
            raise UserError(f"{part}: the label {label!r} is none of the classes")
        return label
    if isinstance(label, bool) or not isinstance(label, int):
        raise UserError(f"{part}: the label {label!r} is neither a class index nor a name")
    if label < 0 or (classes is not None and label >= len(classes)):
        raise UserError(f"{part}: the label {label} is not the index of a class")
    return f"{label:03}" if classes is None else classes[label]


def side_of(images: Any) -> int | None:
    """The side of square images that are all of one size, in pixels; None for others."""
    some = images[:1] if hasattr(images, "shape") else images  # in an array all are of one size
    shapes = {image_array(image, "image").shape[:2] for image in some}
    height, width = next(iter(shapes)) if len(shapes) == 1 else (0, 1)
    return height if height == width else None


def image_array(image: Any, which: str) -> np.ndarray:
    """An image as (H, W) or (H, W, 3) uint8, from an array, a tensor, or a picture of Pillow's.

    Raises UserError, naming it by ``which``, for other shapes and numbers."""
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise UserError(
            f"{which}: its numbers are {array.dtype}, not uint8; of numbers from 0 to 1: "
            "(images * 255).round().astype('uint8')"
        )
    if array.ndim == 3 and array.shape[2] not in (1, 3) and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or not array.size:
        raise UserError(
            f"{which}: its shape is {np.shape(image)}; give (H, W), (H, W, 3) or (3, H, W)"
        )
    return np.ascontiguousarray(array)
