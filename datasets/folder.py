"""A user's own images, from a CSV or from folders."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lmdbench.data.dataset import PARTS, Dataset, Part, Split, register_dataset
from lmdbench.data.splits import (
    NEEDED,
    check_seed,
    cut_long_tail,
    divide,
    rank_groups,
    require_every_class,
    require_images,
)
from lmdbench.data.tables import read_table
from lmdbench.errors import UserError

LABELS = "labels.csv"
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
# How people call a part, in a split column or as a folder → the part.
PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
# Where a split comes without validation, this much of its training part becomes validation: what a
# 70/10/20 division has.
CARVED = {"train": 7 / 8, "validation": 1 / 8}


@dataclass(frozen=True)
class Listing:
    """Every image: its id, which is its path, its class, its group and, where given, its part."""

    images: list[str]
    labels: list[str]
    groups: list[str]
    parts: list[str] | None


@register_dataset("folder")
class Folder(Dataset):
    """Images of your own. The root is one of

    - a CSV with the columns ``image`` and ``label``, and if you like ``group`` (lesion or patient:
      its images are kept together) and ``split`` (train, validation, test); paths are relative to
      the CSV's folder or absolute;
    - a folder with such a CSV named ``labels.csv``;
    - a folder with one sub-folder a class;
    - a folder with ``train``, ``test`` and if you like ``val``, each with one sub-folder a class.

    Where no split is given, the images are divided 70/10/20 class by class, by ``--split-seed``,
    after the long-tail cut if ``--imbalance-factor`` asks for one: the cut then shapes the whole
    classes. Where a split is given the cut shapes its training part only, and if it has no
    validation an eighth of its training part becomes that, before the cut. Every class must have an
    image in training and test.

    Classes are sorted by name. Head, medium and tail are thirds of the classes by rank of training
    count. Image ids are the paths relative to the root's folder.
    """

    title = "Your own images"
    source = "your own images: a CSV (image, label[, group][, split]) or a folder a class"
    licence = "yours"

    @property
    def image_root(self) -> Path:
        return self._root if self._root.is_dir() else self._root.parent

    @property
    def results_name(self) -> str:
        root = self._root
        name = root.stem if root.is_file() and root.name != LABELS else self.image_root.name
        return "folder-" + (re.sub(r"[^\w.-]+", "-", name) or "root")

    def records(self) -> pd.DataFrame:
        listing = self._listing
        return pd.DataFrame(
            {"label": listing.labels, "file": listing.images, "group": listing.groups},
            index=pd.Index(listing.images, name="image"),
        )

    def split(self, imbalance_factor: float | None, seed: int) -> Split:
        check_seed(seed)
        listing = self._listing
        classes = tuple(sorted(set(listing.labels)))
        if len(classes) < 2:
            raise UserError(f"{self._root}: only one class, {classes[0]!r}; it takes two or more")
        if listing.parts is None:
            name, members = "random", self._divide(imbalance_factor, seed)
            drawn = True
        else:
            name, members = "given", self._given(listing.parts, classes, seed)
            drawn = "validation" not in listing.parts or imbalance_factor is not None
            if imbalance_factor is not None:
                members["train"] = self._cut(members["train"], imbalance_factor, 1, seed)
        code = {label: c for c, label in enumerate(classes)}
        ids = np.array(listing.images, dtype=str)
        codes = np.array([code[label] for label in listing.labels], dtype=np.int64)
        parts = {part: Part(ids[members[part]], codes[members[part]]) for part in PARTS}
        counts = np.bincount(parts["train"].labels, minlength=len(classes))
        return Split(
            name=name,
            classes=classes,
            parts=parts,
            groups=rank_groups(classes, counts),
            seed=seed if drawn else None,
            imbalance_factor=imbalance_factor,
        )

    def _divide(self, imbalance_factor: float | None, seed: int) -> dict[str, np.ndarray]:
        everything = np.arange(len(self._listing.images))
        if imbalance_factor is None:
            return self._divided(everything, seed)
        require_images(self._listing.labels, NEEDED, str(self._root))
        return self._divided(self._cut(everything, imbalance_factor, 2, seed), seed)

    def _divided(self, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        try:
            members = divide(*self._columns(rows), seed)
        except UserError as error:
            raise UserError(f"{self._root}: {error}") from None
        return {part: rows[chosen] for part, chosen in members.items()}

    def _given(
        self, parts: Sequence[str], classes: Sequence[str], seed: int
    ) -> dict[str, np.ndarray]:
        listing = self._listing
        where = np.array(parts, dtype=str)
        members = {part: np.flatnonzero(where == part) for part in PARTS}
        labels = np.array([classes.index(label) for label in listing.labels])
        empty = np.array([], dtype=str)
        require_every_class(
            classes,
            {part: Part(empty, labels[members[part]]) for part in PARTS},
            str(self._root),
        )
        if len(members["validation"]) == 0:
            rows = members["train"]
            carved = divide(*self._columns(rows), seed, CARVED, ("train",))
            members |= {part: rows[chosen] for part, chosen in carved.items()}
        return members

    def _cut(self, rows: np.ndarray, factor: float, smallest: int, seed: int) -> np.ndarray:
        ids, labels, _ = self._columns(rows)
        try:
            return rows[cut_long_tail(ids, labels, factor, smallest, seed)]
        except UserError as error:
            raise UserError(f"{self._root}: {error}") from None

    def _columns(self, rows: np.ndarray) -> tuple[list[str], list[str], list[str]]:
        listing = self._listing
        columns = (listing.images, listing.labels, listing.groups)
        ids, labels, groups = ([column[row] for row in rows] for column in columns)
        return ids, labels, groups

    @cached_property
    def _root(self) -> Path:
        assert self.root is not None
        root = Path(
            os.path.abspath(self.root)
        )  # not resolved: paths in a linked CSV are the link's
        return root / LABELS if (root / LABELS).is_file() else root

    @cached_property
    def _listing(self) -> Listing:
        listing = (_list_folder if self._root.is_dir() else _list_table)(self._root)
        for image in listing.images:  # ids are hashed as lines of UTF-8
            if "\n" in image or not _is_unicode(image):
                raise UserError(
                    f"{self._root}: the image name {image!a} has a line break or is not UTF-8; "
                    "rename the file"
                )
        return listing


def _is_unicode(name: str) -> bool:
    """False for a file name whose bytes are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _list_table(path: Path) -> Listing:
    table = read_table(path, ["image", "label"], any_case=True)
    images = [_normal_path(image, path.parent) for image in table.filled("image")]
    table.refuse_repeats("image", images)
    labels = table.filled("label")
    groups = table["group"] if "group" in table.columns else [""] * len(table)
    parts = None
    if "split" in table.columns:
        parts = []
        for row, word in enumerate(table["split"]):
            if word.lower() not in PART_NAMES:
                raise UserError(
                    f"{table.line(row)}: split {word!r} is none of {', '.join(PART_NAMES)}"
                )
            parts.append(PART_NAMES[word.lower()])
        _refuse_leaks(path, groups, parts)
    return Listing(images, labels, groups, parts)


def _normal_path(image: str, folder: Path) -> str:
    """One spelling a file: relative to the folder where it lies inside, with forward slashes."""
    path = posixpath.normpath(Path(image).as_posix())
    inside = folder.as_posix().rstrip("/") + "/"
    return path.removeprefix(inside)


def _refuse_leaks(path: Path, groups: Sequence[str], parts: Sequence[str]) -> None:
    """A lesion or patient in two parts makes test scores too good."""
    homes: dict[str, set[str]] = {}
    for group, part in zip(groups, parts, strict=True):
        if group:
            homes.setdefault(group, set()).add(part)
    torn = sorted(group for group, held in homes.items() if len(held) > 1)
    if torn:
        named = ", ".join(
            f"{group} ({', '.join(part for part in PARTS if part in homes[group])})"
            for group in torn[:3]
        )
        more = f" and {len(torn) - 3:,} more" if len(torn) > 3 else ""
        raise UserError(
            f"{path}: groups in more than one part: {named}{more}; mend the split column, or leave "
            "the group column out if images of one group may be in several"
        )


def _list_folder(root: Path) -> Listing:
    folders = _folders(root)
    named = {name: PART_NAMES[name.lower()] for name in folders if name.lower() in PART_NAMES}
    lacking = [part for part in NEEDED if part not in named.values()]
    if lacking and len(named) == len(folders) > 0:
        raise UserError(f"{root}: has {', '.join(named)} but no folder {' and no '.join(lacking)}")
    if lacking:
        return _list_classes(root, folders)
    twice = [part for part, n in Counter(named.values()).items() if n > 1]
    if twice:
        raise UserError(f"{root}: more than one folder for {twice[0]}: {', '.join(sorted(named))}")
    others = [folder for folder in folders if folder not in named and _images(root / folder)]
    if others:
        raise UserError(
            f"{root}: beside the parts {', '.join(named)} the folder {others[0]!r} holds images, "
            f"too; move it elsewhere, or describe the images in a {LABELS}"
        )
    images: list[str] = []
    labels: list[str] = []
    parts: list[str] = []
    for folder, part in named.items():
        for label in _folders(root / folder):
            found = [f"{folder}/{label}/{image}" for image in _images(root / folder / label)]
            images += found
            labels += [label] * len(found)
            parts += [part] * len(found)
    if not images:
        raise UserError(f"{root}: no images in the class folders of {', '.join(named)}")
    return Listing(images, labels, [""] * len(images), parts)


def _list_classes(root: Path, folders: Sequence[str]) -> Listing:
    if not folders:
        raise UserError(
            f"{root}: neither a {LABELS} nor a sub-folder a class; give a CSV with the columns "
            "image and label, or sort the images into a folder a class"
        )
    images: list[str] = []
    labels: list[str] = []
    for label in folders:
        found = _images(root / label)
        if not found:
            raise UserError(
                f"{root}: the class folder {label!r} has no images "
                f"({', '.join(sorted(e[1:] for e in EXTENSIONS))}); fill it or remove it"
            )
        images += [f"{label}/{image}" for image in found]
        labels += [label] * len(found)
    return Listing(images, labels, [""] * len(images), None)


def _folders(root: Path) -> list[str]:
    """Sub-folders by name, without hidden ones and what archivers leave."""
    return sorted(
        entry.name
        for entry in _scan(root)
        if entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))
    )


def _images(folder: Path) -> list[str]:
    """Image files below a folder, at any depth: sorted paths relative to it."""
    found = []
    for path, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(path).relative_to(folder)
        found += [
            (inside / file).as_posix()
            for file in files
            if Path(file).suffix.lower() in EXTENSIONS and not file.startswith(".")
        ]
    return sorted(found)


def _scan(root: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root) as entries:
            return list(entries)
    except OSError as error:
        _unreadable(error)
        raise


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error
