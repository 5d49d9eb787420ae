"""The images of a user's own data set, listed: from a table, from folders or from a ``.npz``."""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, some
from lmdbench.data.dataset import PARTS, GivenFolds
from lmdbench.data.folder.description import (
    DEPTHS,
    DESCRIPTION,
    Description,
    Kind,
    read_description,
)
from lmdbench.data.folder.medmnist import ENDING, MedMNIST
from lmdbench.data.folder.taken import lists_in
from lmdbench.data.folder.walk import (
    Found,
    class_folders,
    endings,
    folders_in,
    images_below,
    images_in,
    look_below,
    remarks,
    scan,
    shown,
)
from lmdbench.data.splits.divide import NEEDED, PART_NAMES

LABELS = "labels.csv"
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".parquet", ".json")  # instead of a CSV
LONGEST_HEADER = 2**20  # bytes of a table that are looked at for its columns
NAMED = 10  # classes that an error names


@dataclass(frozen=True)
class ImageIndex:
    """Every image: its id, which is its path, its class, its group (lesion or patient, empty where
    unknown) and, where given, its part; and the classes in their order."""

    images: Sequence[str]
    labels: Sequence[str]
    groups: Sequence[str]
    parts: Sequence[str] | None
    classes: tuple[str, ...]
    ending: str = ""  # of the files, where the ids lack it
    folds: GivenFolds | None = None  # of a k-fold split
    remarks: tuple[str, ...] = ()  # what was understood or left out, a line each


def describe(root: Path) -> Description:
    """What a file or folder holds: as its ``dataset.toml`` says, or as it looks.

    Raises UserError for a mistake in a description and a folder of several ``.npz``.
    """
    root = Path(os.path.abspath(root))  # not resolved: paths in a linked CSV are the link's
    if os.path.isfile(root):
        if root.suffix.lower() == ".toml":
            return _of_vectors(read_description(root))
        name = root.parent.name if root.name == LABELS else root.stem
        kind: Kind = "npz" if root.suffix.lower() == ".npz" else "table"
        return _of_vectors(Description(root, name, kind, root, root.parent))
    for name in (DESCRIPTION, LABELS):
        if os.path.isfile(root / name):
            return describe(root / name)
    only = _only_npz(root)
    return describe(only) if only else Description(root, root.name, "images", root, root)


def _of_vectors(described: Description) -> Description:
    """The same, of a feature file where its holder is one. Raises UserError for what a description
    says of images, or of columns, then."""
    if described.kind == "images" or not _holds_vectors(described.holder):
        return described
    about = {
        "[columns]": described.columns or described.label_columns,
        "image_folder": described.folders or described.folder != described.holder.parent,
        "image_suffix": described.suffix,
        **{key: key in described.attributes for key in (*DEPTHS, "image_size", "weights")},
    }
    said = [key for key, value in about.items() if value]
    if said:
        raise UserError(
            f"{described.path}: {said[0]} is about images, and {described.holder.name} holds "
            "features of them; leave it out"
        )
    return replace(described, kind="vectors")


def _holds_vectors(file: Path) -> bool:
    """Whether it is a feature file: an ``.npz`` with an array of features, a table with the columns
    id and v0 (or f0) and none of images, or a Parquet file, which nothing else may be."""
    if file.suffix.lower() == ".parquet":
        return True
    try:
        if file.suffix.lower() == ".npz":
            with zipfile.ZipFile(file) as archive:
                return "features.npy" in archive.namelist()
        with file.open("rb") as opened:
            header = opened.readline(LONGEST_HEADER).decode("utf-8-sig", errors="replace")
    except (OSError, zipfile.BadZipFile):
        return False  # told by who reads it
    columns = {cell.strip(' "\r\n').lower() for cell in re.split("[,;\t|]", header)}
    return "id" in columns and "image" not in columns and bool(columns & {"v0", "f0"})


def list_folder(root: Path) -> ImageIndex:
    """The images in the sub-folders of a folder: one a class, or train, test and, if there is one,
    val, each with one a class. Raises UserError for other folders."""
    folders = class_folders(root)
    named = {name: PART_NAMES[name.lower()] for name in folders if name.lower() in PART_NAMES}
    lacking = [part for part in NEEDED if part not in named.values()]
    if lacking and len(named) == len(folders) > 0:
        raise UserError(f"{root}: has {', '.join(named)} but no folder {' and no '.join(lacking)}")
    if lacking:
        return _list_classes(root, folders)
    twice = [part for part, n in Counter(named.values()).items() if n > 1]
    if twice:
        raise UserError(f"{root}: more than one folder for {twice[0]}: {', '.join(sorted(named))}")
    others = [folder for folder in folders if folder not in named and images_below(root / folder)]
    if others:
        raise UserError(
            f"{root}: beside the parts {', '.join(named)} the folder {others[0]!r} holds images, "
            f"too; move it elsewhere, or describe the images in a {LABELS}"
        )
    inner = [(folder, label) for folder in named for label in class_folders(root / folder)]
    found = {f"{folder}/{label}": look_below(root / folder / label) for folder, label in inner}
    rows = [
        (f"{folder}/{label}/{image}", label, "", named[folder])
        for folder, label in inner
        for image in found[f"{folder}/{label}"].images
    ]
    if not rows:
        raise UserError(
            f"{root}: no images in the class folders of {', '.join(named)}{_only_others(found)}"
        )
    images, labels, groups, parts = zip(*rows, strict=True)
    told = _remarks(root, found, ["", *named])
    return ImageIndex(images, labels, groups, parts, tuple(sorted(set(labels))), remarks=told)


def list_medmnist(content: MedMNIST) -> ImageIndex:
    """The images of a MedMNIST file; its classes, named by their numbers, in the order of these."""
    images = [image for piece in content.labels for image in content.ids(piece)]
    numbers = [number for labels in content.labels.values() for number in labels]
    parts = [PART_NAMES[piece] for piece, labels in content.labels.items() for _ in labels]
    classes = tuple(map(str, sorted(set(numbers))))
    return ImageIndex(images, list(map(str, numbers)), [""] * len(images), parts, classes, ENDING)


def refuse_leaks(where: Path, listing: ImageIndex) -> None:
    """Raises UserError for a lesion or patient in two parts: it makes test scores too good."""
    if listing.parts is None:
        return
    homes: dict[str, set[str]] = {}
    for group, part in zip(listing.groups, listing.parts, strict=True):
        if group:
            homes.setdefault(group, set()).add(part)
    torn = sorted(group for group, held in homes.items() if len(held) > 1)
    if torn:
        named = [
            f"{group} ({', '.join(part for part in PARTS if part in homes[group])})"
            for group in torn
        ]
        raise UserError(
            f"{where}: groups in more than one part: {some(named, 3)}; mend the split column, or "
            "leave the group column out if images of one group may be in several"
        )


def refuse_names(where: Path, listing: ImageIndex) -> None:
    """Raises UserError for an image name that cannot be hashed as a line of UTF-8."""
    for image in listing.images:
        if "\n" in image or not _is_unicode(image):
            raise UserError(
                f"{where}: the image name {image!a} has a line break or is not UTF-8; "
                "rename the file"
            )


def _is_unicode(name: str) -> bool:
    """False for a file name whose bytes are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _workbooks(root: Path) -> str:
    """The tables of other kinds that lie there, in words."""
    found = [entry.name for entry in scan(root) if entry.name.lower().endswith(WORKBOOKS)]
    return f" (save {some(sorted(found), NAMED, shown)} as CSV in UTF-8)" if found else ""


def _list_classes(root: Path, folders: Sequence[str]) -> ImageIndex:
    lists = lists_in(root)
    if lists and len(folders) < 2:
        raise UserError(
            f"{root}: no {LABELS} and no sub-folder a class, but {some(lists, NAMED, shown)}; give "
            f"the table to take, such as --data-root {root / shown(lists[0])}"
        )
    if not folders:
        raise UserError(
            f"{root}: neither a {LABELS} nor a sub-folder a class{_workbooks(root)}; give a CSV "
            "with the columns image and label, or sort the images into a folder a class"
        )
    found = {label: look_below(root / label) for label in folders}
    for label in folders:
        if not found[label].images:
            only = _only_others({label: found[label]})
            todo = f"convert or rename these, or list them in a {LABELS}" if only else "fill it"
            raise UserError(
                f"{root}: the class folder {label!r} has no images that can be read{only}; "
                f"{todo}, or remove it"
            )
    rows = [(f"{label}/{image}", label, "") for label in folders for image in found[label].images]
    images, labels, groups = zip(*rows, strict=True)
    told = _remarks(root, found, [""])
    return ImageIndex(images, labels, groups, None, tuple(folders), remarks=told)


def _only_others(found: Mapping[str, Found]) -> str:
    """What lies in folders without images, with a comma before; empty for nothing."""
    others = [path for below in found.values() for path in below.others]
    return f", only {endings(others)}, such as {shown(others[0])}" if others else ""


def _remarks(root: Path, found: Mapping[str, Found], beside: Sequence[str]) -> tuple[str, ...]:
    """What ``walk.remarks`` says, and images that lie right in the folders ``beside``."""
    stray = [
        f"{folder}/{name}".lstrip("/") for folder in beside for name in images_in(root / folder)
    ]
    told = remarks(found)
    if stray:
        they = f"{count(len(stray), 'image')} beside the class folders, such as {shown(stray[0])}"
        told += (f"not used: {they}",)
    return told


def _only_npz(root: Path) -> Path | None:
    """The ``.npz`` of a folder without images. Raises UserError where there are several."""
    found = [
        entry.name
        for entry in scan(root)
        if entry.is_file() and Path(entry.name).suffix.lower() == ".npz"
    ]
    if not found or any(images_below(root / folder) for folder in folders_in(root)):
        return None
    if len(found) > 1:
        raise UserError(
            f"{root}: several .npz files ({', '.join(found)}); name one, such as "
            f"--data-root {root / found[0]}"
        )
    return root / found[0]
