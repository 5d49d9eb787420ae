"""What a data set is: a table of images, a split of it, and where the files lie. No torch here."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.registry import Registry, registrar
from lmdbench.core.words import count, listed
from lmdbench.data.definition import check_dataset
from lmdbench.data.sources import Downloads
from lmdbench.data.vectors import Vectors

PARTS = ("train", "validation", "test")


def sha256_lines(lines: Iterable[str]) -> str:
    """SHA-256 of the lines joined by newlines, in hexadecimal."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Part:
    """One part of a split: image ids (N,) str and labels (N,) int64, in the split's own order."""

    ids: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the sorted image ids joined by newlines."""
        return sha256_lines(sorted(self.ids))


@dataclass(frozen=True)
class Partial:
    """What a split lacks when it is used with images missing: ``missing`` of ``total``, and of
    these the ids of the ``damaged`` ones, whose files are there and cannot be read."""

    missing: int
    total: int
    dropped_classes: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()

    def __str__(self) -> str:
        dropped = f", without {listed(self.dropped_classes)}" if self.dropped_classes else ""
        damaged = f", {count(len(self.damaged), 'damaged image')} left out" * bool(self.damaged)
        return f"partial: {self.total - self.missing} of {self.total} images{damaged}{dropped}"

    @property
    def record(self) -> dict[str, Any]:
        """As ``run.json`` has it, which says nothing of damaged images where there are none."""
        return {key: value for key, value in asdict(self).items() if value or key != "damaged"}


@dataclass(frozen=True)
class GivenFolds:
    """Folds of a k-fold split as tables give them. ``words``: image id → the name of its fold, such
    as ``"0"`` or ``"fold1"``, "" where it has none; ``source``: the file and column, in words."""

    source: str
    words: Mapping[str, str]


@dataclass(frozen=True)
class Split:
    """A named division of a data set's images into train, validation and test."""

    name: str
    classes: tuple[str, ...]
    parts: Mapping[str, Part]
    groups: Mapping[str, tuple[str, ...]]  # head, medium, tail → class names
    seed: int | None = None
    imbalance_factor: float | None = None  # as asked for; None where nothing was cut
    partial: Partial | None = None
    group_rule: str = ""  # how the groups came to be, in words
    # Of a k-fold split folds, fold and division, of a balanced one test_per_class, also as asked.
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what a reader should know of how it was made

    def counts(self, part: str) -> np.ndarray:
        """Images of each class in a part, (C,) int64."""
        return np.bincount(self.parts[part].labels, minlength=len(self.classes))

    @property
    def measured_imbalance(self) -> float:
        """Largest training class over the smallest."""
        counts = self.counts("train")
        return float(counts.max() / counts.min())

    @cached_property  # every run of a plan asks for it
    def fingerprint(self) -> str:
        """SHA-256 over (image id, class, part) in sorted order: what a run worked on."""
        return sha256_lines(
            sorted(
                f"{image}\t{self.classes[label]}\t{name}"
                for name, part in self.parts.items()
                for image, label in zip(part.ids, part.labels, strict=True)
            )
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What a run's specification says of it, as JSON has it."""
        return {
            "name": self.name,
            "seed": self.seed,
            "imbalance_factor": self.imbalance_factor,
            "fingerprint": self.fingerprint,
            **json.loads(json.dumps(dict(self.details))),
        }

    def refitted(self) -> Split:
        """Its training and validation images as training images, without any for validation; the
        groups stay as they are."""
        train, validation = self.parts["train"], self.parts["validation"]
        together = Part(
            np.concatenate([train.ids, validation.ids]),
            np.concatenate([train.labels, validation.labels]),
        )
        nothing = Part(validation.ids[:0], validation.labels[:0])
        return replace(
            self,
            parts={**self.parts, "train": together, "validation": nothing},
            details={**self.details, "refit": True},
            notes=(*self.notes, "trained on its training and validation images together"),
        )

    @property
    def label(self) -> str:
        """The split in one word, as it names a results folder."""
        return split_label(self.identity, partial=self.partial is not None)


def split_label(identity: Mapping[str, Any], *, partial: bool) -> str:
    """The label of a split, from what a run's specification says of it."""
    words = [f"{identity['name']}{identity.get('folds') or identity.get('test_per_class') or ''}"]
    if "fold" in identity:
        words.append(f"fold{identity['fold']}")
    if identity["imbalance_factor"] is not None:
        words.append(f"if{identity['imbalance_factor']:g}")
    if identity["seed"] not in (None, 42):
        words.append(f"split{identity['seed']}")
    if identity.get("refit"):
        words.append("refit")
    if partial:
        words.append("partial")
    return "-".join(words)


@dataclass(frozen=True)
class Elsewhere:
    """Images that are not where a table says. ``files``: image id → the file that was found for it;
    ``told``: how they were found, and what the others may be."""

    files: Mapping[str, Path] = field(default_factory=dict)
    told: str = ""


class Dataset(ABC):
    """A data set: subclass it, fill in the class attributes and the two methods, register it.

    ``records`` reads the official tables and needs no images; ``split`` divides them and needs none
    either. Both raise UserError, naming the file, for a table that is absent or lacks a column.
    They are called through ``lmdbench.data.reading``, which looks at what they give.
    """

    name: ClassVar[str]
    title: str = ""
    source: str = ""  # where it comes from and whom to cite
    licence: str = ""
    citation: ClassVar[tuple[str, ...]] = ()  # the publications to cite, one text each
    downloads: ClassVar[Downloads | None] = None  # what `lmdbench data download` fetches
    synthetic: ClassVar[bool] = False  # marked so wherever its numbers appear
    needs_root: ClassVar[bool] = True  # whether --data-root must say where it lies
    default_imbalance_factor: ClassVar[float | None] = None
    official_digest: ClassVar[str] = ""  # of the official tables, see ``is_official``
    class_sizes: ClassVar[Mapping[str, int]] = {}  # class → images, where known without the tables
    side_range: ClassVar[tuple[int, int] | None] = None  # pixels of the official images' sides
    group_unit: str = ""  # what ``group`` names, "lesion" or "patient", where that is known

    # Of pictures of more than 8 bits, where their values don't tell: how many bits they hold, or
    # which values are black and white (what is beyond is cut)
    bit_depth: int | None = None
    intensity_range: tuple[float, float] | None = None

    image_size: int = 224
    backbone: str = "resnet18"
    weights: str = "imagenet"
    # Classes that are grades of one thing, the lowest first; others may be left out
    ordered_classes: tuple[str, ...] = ()
    # What a wrong prediction costs, true class → predicted class → cost; 1 where nothing is said
    costs: Mapping[str, Mapping[str, float]] = {}
    # Settings that suit this data set better than a method's own defaults. Keys: a method's name,
    # or what it trains ("all", "head") for every such method.
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, root: Path | None, cache: Path) -> None:
        """``root``: the folder or table of --data-root; ``cache``: where files may be made."""
        self.root = root
        self.cache = cache

    @abstractmethod
    def records(self) -> pd.DataFrame:
        """All labelled images, all of it text: index image id, columns ``label`` (class name),
        ``file`` (path relative to ``image_root``, or absolute) and ``group`` (lesion or patient, ""
        where unknown)."""

    @abstractmethod
    def split(self, imbalance_factor: float | None, seed: int) -> Split:
        """The default split. ``imbalance_factor`` None means the data set's default; one that is
        asked for is refused, or cut to and named in the split."""

    @property
    def image_root(self) -> Path:
        """The folder that the ``file`` column is relative to."""
        assert self.root is not None
        return self.root

    @property
    def makes_images(self) -> bool:
        """Whether ``materialise`` makes the images, so that none is there before."""
        return not self.needs_root

    @property
    def vectors(self) -> Vectors | None:
        """Features that take the place of its images; None: it has images."""
        return None

    @property
    def results_name(self) -> str:
        """The folder of its results; tells a user's own data sets apart."""
        return self.name

    @property
    def group_source(self) -> str:
        """The file or column that names lesions or patients where it is there; empty: none."""
        return ""

    def metadata(self) -> pd.DataFrame | None:
        """What its tables say of the images beside class and file, such as age, sex and site: index
        image id, a column of text each, "" where nothing is said. None: the further columns of
        ``records``. Raises UserError, naming the file, for a table that is absent."""
        return None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should know of how its tables and files were understood, such as rows left
        out or words taken for "unknown": a line each, told before anything is done with them."""
        return ()

    @property
    def given_folds(self) -> GivenFolds | None:
        """Folds that its tables give, which ``--split kfold`` then takes; None: they give none."""
        return None

    def is_official(self, records: pd.DataFrame) -> bool:
        """Whether the records are the official ones, in their order: the recipes depend on it."""
        rows = zip(records.index, records["label"], strict=True)
        return sha256_lines(f"{image}\t{label}" for image, label in rows) == self.official_digest

    def look_for(self, missing: Collection[str]) -> Elsewhere:  # noqa: ARG002 (by subclasses)
        """Images (their ids) whose files are not there, looked for in other places."""
        return Elsewhere()

    def materialise(self, say: Callable[[str], None] = lambda _: None) -> None:  # noqa: B027
        """Make the images, for a data set that draws them itself. Called before they are read;
        ``say`` tells the user of work that takes a while."""


@dataclass(frozen=True)
class Prepared:
    """A split whose images are known to be there."""

    dataset: Dataset
    split: Split
    files: Mapping[str, Path] = field(repr=False)  # image id → file, of every image in the split


DATASETS: Registry[type[Dataset]] = Registry(
    "data set", "lmdbench.datasets", group="lmdbench.datasets", base=Dataset
)


@registrar
def register_dataset(name: str) -> Callable[[type[Dataset]], type[Dataset]]:
    """Class decorator: make a data set available under a name. See ``Registry.register``.

    Raises UserError for what makes no sense in a data set's class.
    """

    def decorate(cls: type[Dataset]) -> type[Dataset]:
        if isinstance(cls, type) and issubclass(cls, Dataset):
            check_dataset(name, cls, Dataset)
        return DATASETS.register(name)(cls)

    return decorate


def open_dataset(name: str, data_root: Path | None, cache: Path) -> Dataset:
    """The data set of that name, on the files under ``data_root``.

    Raises UserError for an unknown name, and where the data set needs a root that is not given or
    not there.
    """
    if name and name not in DATASETS and Path(name).exists():
        raise UserError(
            f"unknown data set {name!r}; for files of your own give --dataset folder --data-root "
            f"{name}"
        )
    kind = DATASETS.get(name)
    if kind.needs_root:
        if data_root is None:
            raise UserError(
                f"data set {name} needs --data-root DIR (or LMDBENCH_DATA): where its files lie. "
                f"It comes from: {kind.source}"
            )
        if not data_root.exists():
            raise UserError(
                f"data set {name}: --data-root {data_root} does not exist. "
                f"The data set comes from: {kind.source}"
            )
    return kind(data_root, cache)
