"""Which of a split's images are there, and what remains of it without the others."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.words import count
from lmdbench.data.dataset import Dataset, Part, Partial, Prepared, Split
from lmdbench.data.reading import image_root, read_records
from lmdbench.data.splits.divide import NEEDED

_EXAMPLES = 3


def prepare_files(
    dataset: Dataset, split: Split, allow_missing: bool, say: Callable[[str], None] = lambda _: None
) -> Prepared:
    """The split with the files of its images, made first where the data set draws them itself.

    Raises UserError, with the number and a few names, where images are missing. ``allow_missing``
    goes on with those that are there, as ``without_missing`` does; where none is missing it changes
    nothing.
    """
    if dataset.vectors is not None:
        return Prepared(dataset, split, {})
    dataset.materialise(say)
    located = locate(dataset, split_files(dataset, split))
    _refuse_missing(dataset, located, allow_missing, say)
    files, missing = located.files, located.missing
    if not missing:
        return Prepared(dataset, split, files)
    partial = without_missing(split, missing)
    left = f"with the {len(files) - len(missing):,} that are there"
    return _kept(dataset, partial, files, f"{_problem(dataset, located)}; {left}")


def without_damaged(prepared: Prepared, damaged: Iterable[str]) -> Prepared:
    """What is left of a prepared split without images whose files cannot be read, marked as
    partial. Raises UserError where too little is left to train on."""
    dataset, before = prepared.dataset, prepared.split.partial
    lost = dict.fromkeys(sorted(image for image in damaged if image in prepared.files))
    if not lost:
        return prepared
    split = without_missing(prepared.split, lost)
    assert split.partial is not None
    partial = replace(split.partial, damaged=tuple(lost))
    if before is not None:
        partial = replace(
            partial,
            missing=before.missing + len(lost),
            total=before.total,
            dropped_classes=(*before.dropped_classes, *partial.dropped_classes),
        )
    files = prepared.files
    problem = f"data set {dataset.name}: {len(lost):,} of {count(len(files), 'image')} are damaged"
    return _kept(dataset, replace(split, partial=partial), files, f"{problem}; without them")


def _kept(dataset: Dataset, split: Split, files: Mapping[str, Path], problem: str) -> Prepared:
    """A smaller split with its files. Raises UserError where it has fewer than two classes."""
    if len(split.classes) < 2:
        raise UserError(
            f"{problem}, only {len(split.classes)} of the classes would have images in train and "
            "test; it takes 2"
        )
    ids = (str(image) for part in split.parts.values() for image in part.ids)
    return Prepared(dataset, split, {image: files[image] for image in ids})


def table_files(
    dataset: Dataset, allow_missing: bool, say: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, Path], int]:
    """Image id → file, for every image of the data set's table that is there, and how many are
    missing. Makes and raises as ``prepare_files`` does."""
    dataset.materialise(say)
    located = locate(dataset, record_files(dataset))
    _refuse_missing(dataset, located, allow_missing, say)
    return located.there, len(located.missing)


def record_files(dataset: Dataset) -> dict[str, Path]:
    """Image id → file, for every image of the data set's table in its order; none where
    it has vectors."""
    if dataset.vectors is not None:
        return {}
    root = image_root(dataset)
    return {str(image): root / file for image, file in read_records(dataset)["file"].items()}


@dataclass(frozen=True)
class Located:
    """Where images are. ``files``: image id → file, ``missing``: the images whose file is not
    there; ``told``: how images were found elsewhere, and what the missing ones may be."""

    files: Mapping[str, Path]
    missing: Mapping[str, None]
    told: str = ""

    @property
    def there(self) -> dict[str, Path]:
        return {image: file for image, file in self.files.items() if image not in self.missing}


def locate(dataset: Dataset, files: Mapping[str, Path]) -> Located:
    """Which of the images (id → file) are there; those that are not are looked for elsewhere."""
    missing = missing_images(files)
    if not missing or dataset.makes_images:
        return Located(files, missing)
    found = dataset.look_for(missing)
    left = {image: None for image in missing if image not in found.files}
    return Located({**files, **found.files}, left, found.told)


def _refuse_missing(
    dataset: Dataset, located: Located, allow_missing: bool, say: Callable[[str], None]
) -> None:
    """Raises UserError where images are missing and may not be, and where all are."""
    there = len(located.files) - len(located.missing)
    if located.missing and there == 0:
        known = located.told or "none is there: is this the right --data-root?"
        raise UserError(f"{_problem(dataset, located)}; {known}")
    if located.missing and not allow_missing:
        told = f"{located.told}; or " if located.told else ""
        raise UserError(
            f"{_problem(dataset, located)}; {told}add them, or pass --allow-missing (in a sweep: "
            f"allow_missing = true) to go on with the {there:,} that are there"
        )
    if located.told:
        say(located.told)


def _problem(dataset: Dataset, located: Located) -> str:
    files, missing = located.files, located.missing
    examples = ", ".join(
        f"{_short(files[image], dataset)}{what_is_there(files[image])}"
        for image in list(missing)[:_EXAMPLES]
    )
    return (
        f"data set {dataset.name}: {len(missing):,} of {count(len(files), 'image')} are missing "
        f"under {dataset.image_root}, for example {examples}"
    )


def what_is_there(file: Path) -> str:
    """What has the name of a file that is missing, in brackets; empty for nothing."""
    with suppress(OSError):
        mode = file.lstat().st_mode
        if stat.S_ISLNK(mode):
            mode = file.stat().st_mode if file.exists() else mode
        kinds = ((stat.S_ISLNK, "a link to nothing"), (stat.S_ISDIR, "a folder"))
        named = [name for is_kind, name in kinds if is_kind(mode)]
        return f" ({named[0] if named else 'there, but no file'})"
    return ""


def _short(file: Path, dataset: Dataset) -> str:
    """A file's path from the data set's folder on."""
    root = dataset.image_root
    return str(file.relative_to(root) if file.is_relative_to(root) else file)


def split_files(dataset: Dataset, split: Split) -> dict[str, Path]:
    """Image id → file, for every image of the split in its order; none where it has vectors."""
    if dataset.vectors is not None:
        return {}
    root = image_root(dataset)
    files = read_records(dataset)["file"].to_dict()
    return {
        image: root / files[image] for part in split.parts.values() for image in map(str, part.ids)
    }


def missing_images(files: Mapping[str, Path]) -> dict[str, None]:
    """The images whose file is not there, in order. Lists each folder once instead of asking for
    every file."""
    listings: dict[Path, set[str]] = {}
    missing: dict[str, None] = {}
    for image, file in files.items():
        folder = file.parent
        if folder not in listings:
            listings[folder] = _files_in(folder)
        if file.name not in listings[folder]:
            missing[image] = None
    return missing


def without_missing(split: Split, missing: Mapping[str, object]) -> Split:
    """The split of the images that are there, marked as partial.

    A class left without images in train or test is dropped, with its images elsewhere and from its
    group; labels are numbered anew.
    """
    parts = {}
    for name, part in split.parts.items():
        there = np.array([str(image) not in missing for image in part.ids], dtype=bool)
        parts[name] = Part(part.ids[there], part.labels[there])
    size = len(split.classes)
    counts = np.stack([np.bincount(parts[name].labels, minlength=size) for name in NEEDED])
    keep = np.asarray((counts > 0).all(axis=0))
    renumbered = np.cumsum(keep) - 1
    classes = tuple(np.array(split.classes, dtype=object)[keep])
    groups = {
        name: tuple(member for member in members if member in classes)
        for name, members in split.groups.items()
    }
    return replace(
        split,
        classes=classes,
        parts={
            name: Part(part.ids[keep[part.labels]], renumbered[part.labels[keep[part.labels]]])
            for name, part in parts.items()
        },
        groups={name: members for name, members in groups.items() if members},
        partial=Partial(
            missing=len(missing),
            total=sum(len(part) for part in split.parts.values()),
            dropped_classes=tuple(c for c in split.classes if c not in classes),
        ),
    )


def _files_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if _is_file(entry)}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from error


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError as error:
        if error.errno == errno.ELOOP:  # links that lead to each other
            return False
        raise
