"""Images for a finished run to predict: files, folders, tables, data sets; and whose classes their
labels are."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.files import read_text
from lmdbench.core.folders import expanded
from lmdbench.core.registry import unknown
from lmdbench.core.words import count, listed, some
from lmdbench.data.dataset import DATASETS, PARTS, Dataset, Elsewhere
from lmdbench.data.folder.elsewhere import in_folders, look_for
from lmdbench.data.folder.image_index import (
    ImageIndex,
    describe,
    refuse_names,
)
from lmdbench.data.folder.spelling import spelling
from lmdbench.data.folder.table import list_table
from lmdbench.data.folder.walk import endings, look_below, remarks
from lmdbench.data.reading import read_records, read_remarks
from lmdbench.data.splits.availability import missing_images, what_is_there
from lmdbench.data.splits.divide import PART_NAMES
from lmdbench.data.splits.spec import SplitSpec, make_split
from lmdbench.data.vectors import Vectors
from lmdbench.runs.request import open_dataset

NOT_IMAGES = (".csv", ".gz", ".npz", ".parquet", ".toml")  # files that list or hold many images
MOST_NAMED = 8  # labels that an error names


@dataclass(frozen=True)
class PredictionSet:
    """Images to predict, in their order. ``labels``: class names, empty where unknown; ``groups``:
    lesion or patient, empty where unknown."""

    title: str  # for people
    name: str  # for the name of a file
    ids: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    data_set: str = ""  # the results folder of the data set they are from
    split: Mapping[str, Any] = field(default_factory=dict)  # what is known of its identity
    parts: tuple[str, ...] = ()  # of it
    missing: int = 0  # images left out because their files are not there
    note: str = ""  # why folders are not taken for labels
    remarks: tuple[str, ...] = ()  # how tables and files were understood, see Dataset.remarks
    look_for: Callable[[Collection[str]], Elsewhere] = lambda _: Elsewhere()
    vectors: Vectors | None = None  # which these are rows of, instead of files

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, rows: Sequence[int]) -> PredictionSet:
        """Some of the images."""
        chosen: dict[str, Any] = {
            name: tuple(getattr(self, name)[row] for row in rows)
            for name in ("ids", "files", "labels", "groups")
            if name != "files" or self.vectors is None
        }
        return replace(self, **chosen)

    @property
    def images(self) -> Sequence[Path] | Sequence[np.ndarray]:
        """The files, or the vectors (D,) float32."""
        if self.vectors is None:
            return self.files
        return [self.vectors.rows[self.vectors.place[image]] for image in self.ids]

    @property
    def labelled(self) -> int:
        return sum(map(bool, self.labels))


@dataclass(frozen=True)
class SetOptions:
    """How to read a target. ``part``: None: test images where there are parts, else all."""

    data_root: Path | None = None
    split: SplitSpec = SplitSpec()  # noqa: RUF009 (frozen)
    part: str | None = None
    unlabelled: bool = False  # take no labels
    allow_missing: bool = False

    @property
    def of_a_split(self) -> bool:
        return self.split != SplitSpec() or self.part not in (None, "all")


def open_target(
    words: Sequence[str],
    choice: SetOptions,
    cache: Path,
    say: Callable[[str], None] = lambda _: None,
) -> PredictionSet:
    """The images that a command's words name: image files, or one data set, folder, table, ``.npz``
    or description.

    Raises UserError where there are none, files are missing, or names can't be understood.
    """
    paths = [expanded(word) for word in words]
    if len(words) > 1 or (paths[0].is_file() and paths[0].suffix.lower() not in NOT_IMAGES):
        target = _of_files(words, paths, choice)
    elif words[0] in DATASETS.names():
        if paths[0].exists():
            say(f"{words[0]}: the data set; ./{words[0]} would be what is here by that name")
        data = open_dataset(words[0], choice.data_root, cache)
        target = _of_split(data, choice, say)
    elif not paths[0].exists():
        raise UserError(
            f"{words[0]}: no such file or folder, and {unknown('data set', words[0], _names())}"
        )
    elif not (paths[0].is_file() or paths[0].is_dir()):
        raise UserError(f"{words[0]}: neither a file nor a folder")
    elif choice.of_a_split:
        target = _of_split(open_dataset("folder", paths[0], cache), choice, say)
    else:
        target = _of_path(paths[0], choice, cache, say)
    target = _with_files(target, choice)
    if choice.unlabelled:
        target = replace(target, labels=("",) * len(target), note="")
    return target


def _names() -> list[str]:
    return [name for name in DATASETS.names() if name != "folder"]


def _of_files(words: Sequence[str], paths: Sequence[Path], choice: SetOptions) -> PredictionSet:
    if choice.of_a_split:
        raise UserError("--split and --part are for data sets and folders; leave them out")
    for word, path in zip(words, paths, strict=True):
        if path.is_dir() or path.suffix.lower() in NOT_IMAGES or word in DATASETS.names():
            raise UserError(
                f"{word} is no image file: give a folder, a table or a data set by itself"
            )
        if not path.exists():
            raise UserError(f"{word}: no such file")
    files = dict(zip(words, paths, strict=True))  # once each
    refuse_names(paths[0].parent, _listing(list(files)))
    nothing = ("",) * len(files)
    name = paths[0].stem if len(files) == 1 else f"{len(files)}-images"
    title = words[0] if len(files) == 1 else f"{len(files)} image files"
    return PredictionSet(title, _slug(name), tuple(files), tuple(files.values()), nothing, nothing)


def _of_split(data: Dataset, choice: SetOptions, say: Callable[[str], None]) -> PredictionSet:
    split = make_split(data, choice.split)
    data.materialise(say)
    named = choice.part or "test"
    parts = PARTS if named == "all" else (named,)
    ids = [str(image) for part in parts for image in split.parts[part].ids]
    labels = [split.classes[label] for part in parts for label in split.parts[part].labels]
    if not ids:
        raise UserError(f"{data.results_name} {split.label} has no {named} images; see --part")
    records = read_records(data).loc[ids]
    return PredictionSet(
        title=f"{data.results_name} {split.label}, {named} images",
        name=_slug(f"{data.results_name}-{split.label}-{named}"),
        ids=tuple(ids),
        files=_files(data, records),
        vectors=data.vectors,
        labels=tuple(labels),
        groups=tuple(records["group"]),
        data_set=data.results_name,
        split=split.identity,
        parts=parts,
        remarks=read_remarks(data),
        look_for=data.look_for,
    )


def _of_path(
    path: Path, choice: SetOptions, cache: Path, say: Callable[[str], None]
) -> PredictionSet:
    """All images of a user's own, or those said to be for testing."""
    described = describe(path)
    data = open_dataset("folder", path, cache)
    note, search = "", data.look_for
    if described.kind == "images" and described.path.is_dir():  # as it is, described by nothing
        listing, note = _list_folder(described.folder)
        files = [described.folder / image for image in listing.images]
    elif described.kind == "table" and choice.unlabelled:
        listing = list_table(described, labelled=False)
        files = [described.folder / image for image in listing.images]
        if described.folders:
            files = in_folders(listing.images, described.folders, described.path)
        search = partial(look_for, listed=listing.images, described=described)
    else:
        data.spellings_stay = True  # type: ignore[attr-defined]  # they are matched with classes
        data.materialise(say)
        records = read_records(data)
        listing = replace(
            _listing(list(records.index)),
            labels=list(records["label"]),
            groups=list(records["group"]),
            parts=data.given_parts,  # type: ignore[attr-defined]
            remarks=read_remarks(data),
        )
        files = list(_files(data, records))
    refuse_names(path, listing)
    rows = list(range(len(listing.images)))
    parts: tuple[str, ...] = ()
    if listing.parts is not None and choice.part is None:
        rows = [row for row in rows if listing.parts[row] == "test"]
        parts = ("test",)
        if not rows:
            raise UserError(f"{path}: none of its images is for testing; --part all takes all")
    return PredictionSet(
        title=f"{path}{', test images' if parts else ''}",
        name=_slug(described.name),
        ids=tuple(listing.images),
        files=tuple(files),
        vectors=data.vectors,
        labels=tuple(listing.labels),
        groups=tuple(listing.groups),
        data_set=data.results_name,
        split={"name": "given"} if parts else {},
        parts=parts,
        note=note,
        remarks=listing.remarks,
        look_for=search,
    ).rows(rows)


def _files(data: Dataset, records: pd.DataFrame) -> tuple[Path, ...]:
    """The files of a data set's records; none where it has vectors."""
    if data.vectors is not None:
        return ()
    return tuple(data.image_root / file for file in records["file"])


def _list_folder(root: Path) -> tuple[ImageIndex, str]:
    """The images below a folder: of classes where all lie in sub-folders, by the first of these;
    parts of a split first, where all sub-folders are called so. And a note where some images lie
    beside sub-folders."""
    found = look_below(root)
    images = found.images
    if not images:
        only = f", only {endings(found.others)}" if found.others else ""
        raise UserError(f"{root}: no images in it, at any depth{only}")
    listing = replace(_listing(images), remarks=remarks({"": found}, str(root)))
    folders = [image.split("/")[:-1] for image in images]
    if not all(folders):
        return listing, _beside(images, folders)
    parts = None
    if all(first.lower() in PART_NAMES for first, *_ in folders):
        parts = [PART_NAMES[first.lower()] for first, *_ in folders]
        folders = [rest for _, *rest in folders]
    if not all(folders):
        return replace(listing, parts=parts), _beside(images, folders)
    return replace(listing, labels=[first for first, *_ in folders], parts=parts), ""


def _beside(images: Sequence[str], folders: Sequence[Sequence[str]]) -> str:
    """Which images keep sub-folders from being labels; empty where there are none of these."""
    if not any(folders):
        return ""
    stray = [image for image, inside in zip(images, folders, strict=True) if not inside]
    they_lie = f"{some(stray, 1)} {'lie' if len(stray) > 1 else 'lies'}"
    return f"{they_lie} beside the sub-folders, so their names are not taken as labels"


def _listing(images: Sequence[str]) -> ImageIndex:
    """Images of which nothing is known but their names."""
    nothing = [""] * len(images)
    return ImageIndex(images, nothing, nothing, None, ())


def _with_files(target: PredictionSet, choice: SetOptions) -> PredictionSet:
    """The target without the images whose files are not there, if that may be."""
    if target.vectors is not None:
        return target
    files = dict(zip(target.ids, target.files, strict=True))
    lacking = missing_images(files)
    if not lacking:
        return target
    found = target.look_for(lacking)
    if found.told:
        target = replace(target, remarks=(*target.remarks, found.told))
    files |= found.files
    target = replace(target, files=tuple(files.values()))
    lacking = {image: None for image in lacking if image not in found.files}
    if not lacking:
        return target
    first = files[next(iter(lacking))]
    example = f"{first}{what_is_there(first)}"
    problem = f"{len(lacking):,} of {count(len(target), 'image')} of {target.title} are missing"
    if len(lacking) == len(files):
        raise UserError(f"{problem}, such as {example}: {found.told or 'is this where they lie?'}")
    if not choice.allow_missing:
        told = f"{found.told}; or " if found.told else ""
        raise UserError(f"{problem}, such as {example}; {told}add them, or pass --allow-missing")
    rows = [row for row, image in enumerate(target.ids) if image not in lacking]
    return replace(target.rows(rows), missing=len(lacking))


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "images"


# Labels and classes


@dataclass(frozen=True)
class LabelMatch:
    """``codes`` (N,) int64: each image's class, −1 where its label is unknown.

    ``renamed``: label → class, where they are not written the same. ``ignored``: label → images,
    of labels that are none of the classes; ``near``: of these, label → the class that comes near.
    """

    codes: np.ndarray
    renamed: Mapping[str, str]
    ignored: Mapping[str, int]
    near: Mapping[str, str] = field(default_factory=dict)

    @property
    def in_words(self) -> list[str]:
        """Of each label that is none of the classes, its images and the class that comes near."""
        return _in_words(self.ignored, self.near)


def match_labels(
    labels: Sequence[str],
    classes: Sequence[str],
    asked: Mapping[str, str],
    *,
    ignore_unknown: bool = False,
) -> LabelMatch:
    """The class of each label: as ``asked`` (label → class) says, else by the same name, else by
    the only one that differs in nothing but its spelling (see ``spelling``). That doesn't matter in
    ``asked``, either, where no label is written so.

    Raises UserError for a label or class in ``asked`` that there is not, and where none of the
    labels is a class, unless that may be.
    """
    there = Counter(label for label in labels if label)
    given: dict[str, str] = {}
    for key, name in asked.items():
        meant = [key] if key in there else [one for one in there if spelling(one) == spelling(key)]
        if not meant:
            raise UserError(f"--map: {unknown('label', key, sorted(there))}")
        if name not in classes:
            raise UserError(f"--map {key}={name}: {unknown('class', name, list(classes))}")
        for label in meant:
            if given.setdefault(label, name) != name:
                raise UserError(f"--map: {label} is given twice, as {given[label]} and {name}")
    found = {label: given.get(label) or _same(label, classes) for label in there}
    ignored = {label: there[label] for label in sorted(there) if not found[label]}
    near = _near(ignored, classes)
    if ignored and len(ignored) == len(there) and not ignore_unknown:
        raise UserError(_no_class(ignored, near, classes))
    code = {label: classes.index(name) for label, name in found.items() if name}
    return LabelMatch(
        np.array([code.get(label, -1) for label in labels], dtype=np.int64),
        {label: name for label, name in sorted(found.items()) if name and name != label},
        ignored,
        near,
    )


def _same(label: str, classes: Sequence[str]) -> str:
    """The class of that name; empty where there is none, or more than one that looks like it."""
    if label in classes:
        return label
    alike = [name for name in classes if spelling(name) == spelling(label)]
    return alike[0] if len(alike) == 1 else ""


def _near(labels: Collection[str], classes: Sequence[str]) -> dict[str, str]:
    """Label → the class that comes near, where one does."""
    plain = {spelling(name): name for name in classes}
    found = {
        label: difflib.get_close_matches(spelling(label), plain, n=1, cutoff=0.5)
        for label in labels
    }
    return {label: plain[near[0]] for label, near in found.items() if near}


def _in_words(ignored: Mapping[str, int], near: Mapping[str, str]) -> list[str]:
    return [
        f"{label} ({count(images, 'image')}{f'; {near[label]}?' if label in near else ''})"
        for label, images in ignored.items()
    ]


def _no_class(ignored: Mapping[str, int], near: Mapping[str, str], classes: Sequence[str]) -> str:
    first = next(iter(ignored))
    return (
        f"none of the labels is a class of the run: {some(_in_words(ignored, near), MOST_NAMED)}. "
        f"Its classes: {listed(classes)}. Say which is which by --map '{first}=CLASS,…'; "
        "--ignore-unknown predicts these images without scoring them; --unlabelled, if the names "
        "are no labels"
    )


def parse_map(texts: Sequence[str]) -> dict[str, str]:
    """``label=class`` pairs, several separated by commas, or a file of them, one a line.

    Raises UserError for what is no pair, and a label that is given twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        path = expanded(text)
        if path.is_file():
            try:
                lines = read_text(path, "utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"--map {text}: can't be read as UTF-8 text ({error})") from error
            items = [line for line in lines if line.strip() and not line.startswith("#")]
        elif "=" not in text:
            raise UserError(f"--map {text!r}: neither label=CLASS nor a file of such lines")
        else:
            items = text.split(",")
        for item in items:
            label, equals, name = (word.strip() for word in item.partition("="))
            if not (label and equals and name):
                raise UserError(f"--map: {item.strip()!r} is no pair such as melanoma=MEL")
            if pairs.setdefault(label, name) != name:
                raise UserError(f"--map: {label} is given twice, as {pairs[label]} and {name}")
    return pairs
