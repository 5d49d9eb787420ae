"""A user's own images: from folders, a CSV, a MedMNIST file or a TOML description."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError, told_of
from lmdbench.core.files import check_cache
from lmdbench.core.words import count
from lmdbench.data.dataset import (
    PARTS,
    Dataset,
    Elsewhere,
    GivenFolds,
    Part,
    Split,
    register_dataset,
)
from lmdbench.data.folder.classes import with_classes
from lmdbench.data.folder.description import Description
from lmdbench.data.folder.elsewhere import in_folders, look_for
from lmdbench.data.folder.image_index import (
    ImageIndex,
    describe,
    list_folder,
    list_medmnist,
    refuse_leaks,
    refuse_names,
)
from lmdbench.data.folder.medmnist import ENDING, MedMNIST, read_medmnist, write_images
from lmdbench.data.folder.table import list_table, read_columns
from lmdbench.data.folder.taken import taken
from lmdbench.data.folder.vector_files import VectorFile, list_vectors, read_vectors
from lmdbench.data.groups import Groups, by_rank, from_lists, parse_groups
from lmdbench.data.splits.availability import locate, missing_images, record_files
from lmdbench.data.splits.divide import (
    NEEDED,
    check_seed,
    cut_long_tail,
    divide,
    require_every_class,
    require_images,
)
from lmdbench.data.store.build_once import make_once
from lmdbench.data.vectors import Vectors

# Where a split comes without validation, this much of its training part becomes validation: what a
# 70/10/20 division has.
CARVED = {"train": 7 / 8, "validation": 1 / 8}


@register_dataset("folder")
class Folder(Dataset):
    """Images of your own. The root is one of

    - a CSV with the columns ``image`` and ``label``, and if you like ``group`` (lesion or patient:
      its images are kept together) and ``split`` (train, validation, test); paths are relative to
      the CSV's folder or absolute;
    - a folder with such a CSV named ``labels.csv``;
    - a folder with one sub-folder a class;
    - a folder with ``train``, ``test`` and if you like ``val``, each with one sub-folder a class;
    - a MedMNIST ``.npz``, or a folder that holds one and no images: 2-D, one label an image;
    - a feature file, an ``.npz``, a CSV or a Parquet file of ids, labels and vectors by an encoder
      that does not run here (see ``read_vectors``): these then take the place of images;
    - a TOML file, or a folder with one named ``dataset.toml``, that describes one of these: see
      ``read_description`` and docs/own-data.md.

    Where no split is given, the images are divided 70/10/20 class by class, by ``--split-seed``,
    after the long-tail cut if ``--imbalance-factor`` asks for one: the cut then shapes the whole
    classes. Where a split is given the cut shapes its training part only, and if it has no
    validation an eighth of its training part becomes that, before the cut. Every class must have an
    image in training and test.

    Classes are sorted by name, those of a ``.npz`` by number, those of a description by the codes
    they stand for unless it orders them. Head, medium and tail are thirds of the classes by rank of
    training count, unless a description says otherwise. Image ids are the paths relative to the
    root's folder; of a ``.npz`` ``train/000000`` and so on.
    """

    title = "Your own images"
    source = (
        "your own images: a folder a class, a CSV, a MedMNIST .npz, a file of features or a "
        "dataset.toml"
    )
    licence = "yours"

    spellings_stay = False  # whether classes of alike spelling stay as they are, told or not

    def __init__(self, root: Path | None, cache: Path) -> None:
        super().__init__(root, cache)
        if root is not None:
            for name, value in self._described.attributes.items():
                setattr(self, name, value)
            column = self._described.columns.get("group", "").lower()
            self.group_unit = next((u for u in ("lesion", "patient") if u in column), "")

    @property
    def image_root(self) -> Path:
        if self._medmnist is None:
            return self._described.folder
        return self.cache / "medmnist" / f"{self.results_name}-{self._medmnist.identity[:16]}"

    @property
    def makes_images(self) -> bool:
        return self._medmnist is not None

    @property
    def vectors(self) -> Vectors | None:
        return None if self._vector_file is None else self._vector_file.vectors

    @property
    def results_name(self) -> str:
        return "folder-" + (re.sub(r"[^\w.-]+", "-", self._described.name) or "root")

    @property
    def group_source(self) -> str:
        described = self._described
        if self._vector_file is not None and any(self._vector_file.groups):
            return f"the groups of {described.holder.name}"
        if described.kind != "table":
            return ""
        return f"the column {described.columns.get('group', 'group')!r} of {described.holder.name}"

    def metadata(self) -> pd.DataFrame:
        if self._vector_file is not None:
            ids = pd.Index(self._vector_file.vectors.ids, name="image")
            return pd.DataFrame(dict(self._vector_file.columns), index=ids, dtype=object)
        if self._described.kind != "table":
            raise UserError(
                f"{self._where}: its images are listed in no table, which alone has columns; "
                "write one, with a column image, see docs/own-data.md"
            )
        return read_columns(self._described)

    @property
    def remarks(self) -> tuple[str, ...]:
        assert self.root is not None
        if self.vectors is not None:
            return self._listing.remarks
        files = record_files(self)
        told = taken(self.root, self._described, list(files.values()))
        if told:  # unless images that are in no row are those of the table, found elsewhere
            there = locate(self, files).files
            told = taken(self.root, self._described, list(there.values()))
        return (*told, *self._listing.remarks)

    @property
    def given_folds(self) -> GivenFolds | None:
        return self._listing.folds

    @property
    def given_parts(self) -> Sequence[str] | None:
        """The part of each record, where the user says it."""
        return self._listing.parts

    def records(self) -> pd.DataFrame:
        listing, described = self._listing, self._described
        files = [f"{image}{listing.ending}" for image in listing.images]
        if described.folders:
            homes = in_folders(files, described.folders, described.path)
            files = [os.path.relpath(file, described.folder) for file in homes]
        return pd.DataFrame(
            {"label": listing.labels, "file": files, "group": listing.groups},
            index=pd.Index(listing.images, name="image"),
        )

    def look_for(self, missing: Collection[str]) -> Elsewhere:
        """Of a table, below its folder: for all of its images at once, so that a split's images are
        not found otherwise than the others."""
        if self._described.kind != "table":
            return Elsewhere()
        found = self._elsewhere
        return replace(found, files={i: found.files[i] for i in missing if i in found.files})

    @cached_property
    def _elsewhere(self) -> Elsewhere:
        images = self._listing.images
        missing = missing_images(record_files(self))
        return look_for(list(missing), images, self._described)

    def materialise(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Write the images of a ``.npz`` into the cache, unless they are there."""
        content = self._medmnist
        if content is None or self._is_complete(content):
            return
        check_cache(self.image_root.parent)
        total = count(sum(map(len, content.labels.values())), "image")
        say(f"writing the {total} of {content.path.name} into the cache, once")
        make_once(
            self.image_root,
            lambda: self._is_complete(content),
            lambda folder: write_images(content, folder, say),
        )

    def _is_complete(self, content: MedMNIST) -> bool:
        root = self.image_root
        ids = (image for piece in content.labels for image in content.ids(piece))
        return not missing_images({image: root / f"{image}{ENDING}" for image in ids})

    def split(self, imbalance_factor: float | None, seed: int) -> Split:
        check_seed(seed)
        listing = self._listing
        classes = listing.classes
        if len(classes) < 2:
            there = f"only one class, {classes[0]!r}" if classes else "no images"
            raise UserError(f"{self._where}: {there}; it takes two classes or more")
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
        groups = self._groups(classes, counts)
        return Split(
            name=name,
            classes=classes,
            parts=parts,
            groups=groups.members,
            group_rule=groups.rule,
            seed=seed if drawn else None,
            imbalance_factor=imbalance_factor,
        )

    def _divide(self, imbalance_factor: float | None, seed: int) -> dict[str, np.ndarray]:
        everything = np.arange(len(self._listing.images))
        if imbalance_factor is None:
            return self._divided(everything, seed)
        require_images(self._listing.labels, NEEDED, self._where)
        return self._divided(self._cut(everything, imbalance_factor, 2, seed), seed)

    def _divided(self, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        with told_of(self._where):
            members = divide(*self._columns(rows), seed)
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
            classes, {part: Part(empty, labels[members[part]]) for part in PARTS}, self._where
        )
        if len(members["validation"]) == 0:
            rows = members["train"]
            carved = divide(*self._columns(rows), seed, CARVED, ("train",))
            members |= {part: rows[chosen] for part, chosen in carved.items()}
        return members

    def _cut(self, rows: np.ndarray, factor: float, smallest: int, seed: int) -> np.ndarray:
        ids, labels, _ = self._columns(rows)
        with told_of(self._where):
            kept = cut_long_tail(ids, labels, factor, smallest, seed)
        return rows[kept]

    def _columns(self, rows: np.ndarray) -> tuple[list[str], list[str], list[str]]:
        listing = self._listing
        columns = (listing.images, listing.labels, listing.groups)
        ids, labels, groups = ([column[row] for row in rows] for column in columns)
        return ids, labels, groups

    def _groups(self, classes: Sequence[str], counts: np.ndarray) -> Groups:
        asked, where = self._described.groups, f"{self._described.path}: groups"
        if not asked:
            return by_rank(classes, counts)
        if isinstance(asked, str):
            return parse_groups(asked, classes, counts, where)
        return from_lists(asked, classes, where)

    @cached_property
    def _described(self) -> Description:
        assert self.root is not None
        return describe(self.root)

    @property
    def _where(self) -> str:
        """What errors name."""
        return str(self._described.holder)

    @cached_property
    def _medmnist(self) -> MedMNIST | None:
        described = self._described
        return read_medmnist(described.holder) if described.kind == "npz" else None

    @cached_property
    def _vector_file(self) -> VectorFile | None:
        return read_vectors(self._described) if self._described.kind == "vectors" else None

    @cached_property
    def _listing(self) -> ImageIndex:
        described = self._described
        if self._medmnist is not None:
            listing = list_medmnist(self._medmnist)
        elif self._vector_file is not None:
            listing = list_vectors(self._vector_file)
        elif described.kind == "table":
            listing = list_table(described)
        else:
            listing = list_folder(described.holder)
        listing = with_classes(listing, described, spellings_stay=self.spellings_stay)
        refuse_leaks(described.holder, listing)
        refuse_names(described.holder, listing)
        return listing
