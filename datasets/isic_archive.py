"""ISIC-Archive-LT: 14 diagnoses from the ISIC Archive, split as released with LMD."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import PARTS, Dataset, Part, Split, register_dataset, sha256_lines
from lmdbench.data.lesions import Lesions, known_lesions
from lmdbench.data.sources import LMD_CITATION, ApiImages, Downloads, released_split
from lmdbench.data.splits.divide import require_every_class
from lmdbench.data.tables import Table, one_hot, read_table

# Part → the released table of its images.
TABLES = {"train": "training.csv", "validation": "validation.csv", "test": "testing.csv"}
METADATA = "metadata.csv"
IMAGES = "images"
ENDINGS = (".jpg", ".JPG", ".jpeg", ".png")
# Where the tables may lie below the root: as downloaded here, or in a copy of LMD's repository.
FOLDERS = ("isic-archive", "split/ISIC_Archive", "published-splits/ISIC_Archive", "ISIC_Archive")


@register_dataset("isic-archive")
class ISICArchive(Dataset):
    """25,020 dermoscopy images of 14 diagnoses from the ISIC Archive.

    The root is the folder that holds the three released tables, or one whose sub-folder
    ``isic-archive`` does. The tables are the split: the listing of the archive they were drawn from
    is lost, so no seed and no imbalance factor can draw another. Images lie in ``images`` beside
    them, named by id. ``group`` is the lesion, where ``metadata.csv`` (as the archive's ``isic``
    tool writes it, or with a column ``image``) names it. Head, medium and tail are those of the
    authors' slides.
    """

    title = "ISIC-Archive-LT"
    source = (
        "ISIC Archive, https://www.isic-archive.com; choice of images and split released with LMD, "
        "https://github.com/peterlipan/LMD"
    )
    licence = "each image its own: CC0, CC BY or CC BY-NC, see metadata.csv"
    citation = (
        "The ISIC Archive, https://www.isic-archive.com; each image as its attribution in "
        "metadata.csv says",
        LMD_CITATION,
    )
    downloads = Downloads(
        folder=FOLDERS[0],
        table=TABLES["train"],
        sources=(
            *released_split(
                "ISIC_Archive",
                training="98299470a2f46a69ab5befdb8a2895a86d44880871f360c1e0b026266e25722e",
                validation="d4a7dac2673ceb78d85367a080c7eff25d9d35efdbb06e3ec784bec042d66834",
                testing="9a02ac0f78ff6bbba50013d9da622fd2c1be3575559e031fe18d84dc65ef8949",
                folder="",
            ),
            ApiImages(tuple(TABLES.values()), about=10_000_000_000, endings=ENDINGS),
        ),
    )
    group_unit = "lesion"
    official_digest = "1804dd56b8de19f35411b77d21efbda30973cb188f1eba5ba6cabc0b39691881"
    class_sizes = {
        "AK": 869,
        "AMP": 14,
        "AN": 15,
        "BCC": 3393,
        "BKL": 384,
        "DF": 246,
        "LK": 32,
        "LS": 27,
        "MEL": 4522,
        "NV": 12875,
        "SCC": 656,
        "SK": 1464,
        "SL": 270,
        "VASC": 253,
    }
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "head": ("NV", "MEL", "BCC", "SK"),
        "medium": ("AK", "SCC", "BKL", "SL"),
        "tail": ("VASC", "DF", "LK", "LS", "AN", "AMP"),
    }

    @property
    def image_root(self) -> Path:
        return self._folder / IMAGES

    @property
    def group_source(self) -> str:
        return f"{METADATA} (isic_id, lesion_id)"

    def records(self) -> pd.DataFrame:
        return self._records.drop(columns="part")

    def split(self, imbalance_factor: float | None, seed: int) -> Split:  # noqa: ARG002
        if imbalance_factor is not None:
            raise UserError(
                "data set isic-archive has no imbalance factor to choose: the released tables are "
                "its split (imbalance 1,001); leave --imbalance-factor out"
            )
        records, classes = self._records, tuple(self.class_sizes)
        codes = records["label"].map({label: c for c, label in enumerate(classes)}).to_numpy()
        ids = records.index.to_numpy(dtype=str)
        inside = {part: (records["part"] == part).to_numpy() for part in PARTS}
        parts = {part: Part(ids[chosen], codes[chosen]) for part, chosen in inside.items()}
        require_every_class(classes, parts, str(self._folder))
        return Split(
            name="published" if self.is_official(records) else "given",
            classes=classes,
            parts=parts,
            groups=self.groups,
            group_rule="as in the authors' MICCAI 2023 slides",
        )

    def is_official(self, records: pd.DataFrame) -> bool:
        """Whether the tables are the released ones: images, labels and parts, in their order."""
        rows = zip(records.index, records["label"], self._records["part"], strict=True)
        return sha256_lines("\t".join(row) for row in rows) == self.official_digest

    @cached_property
    def _folder(self) -> Path:
        assert self.root is not None
        for folder in (*(self.root / inside for inside in FOLDERS), self.root):
            if (folder / TABLES["train"]).is_file():
                return folder
        raise UserError(
            f"data set isic-archive: no {TABLES['train']} in {self.root} or its folder "
            f"{FOLDERS[0]}; `lmdbench data download isic-archive` fetches it ({self.source})"
        )

    @cached_property
    def _records(self) -> pd.DataFrame:
        pieces = []
        for part, name in TABLES.items():
            table = read_table(self._folder / name, ["image", *self.class_sizes])
            labels = one_hot(table, list(self.class_sizes))
            index = pd.Index(table.unique("image"), name="image")
            pieces.append(pd.DataFrame({"label": labels, "part": part}, index=index))
        records = pd.concat(pieces)
        for image in records.index[records.index.duplicated()]:
            where = " and ".join(TABLES[part] for part in records["part"][[image]])
            raise UserError(f"{self._folder}: image {image!r} is listed in {where}")
        endings = self._endings
        records["file"] = [f"{image}{endings.get(image, ENDINGS[0])}" for image in records.index]
        listed, known = self._lesions
        lesions = dict(zip(listed, known.groups, strict=True))
        records["group"] = [lesions.get(image, "") for image in records.index]
        return records

    @cached_property
    def _endings(self) -> dict[str, str]:
        """Image → the ending of its file, of those that are there."""
        found: dict[str, str] = {}
        with suppress(OSError), os.scandir(self.image_root) as entries:
            for entry in entries:
                name, dot, ending = entry.name.rpartition(".")
                if dot + ending in ENDINGS:
                    found.setdefault(name, dot + ending)
        return found

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._lesions[1].remarks_of_words  # empty cells are as published

    @cached_property
    def _lesions(self) -> tuple[list[str], Lesions]:
        """The images of the metadata and their lesions; none where those are absent."""
        path = self._folder / METADATA
        if not path.is_file():
            return [], Lesions([], {})
        table = read_table(path, ["lesion_id"])
        return table.unique(_key(table)), known_lesions(table["lesion_id"])

    def metadata(self) -> pd.DataFrame:
        path = self._folder / METADATA
        if not path.is_file():
            raise UserError(
                f"{path}: no such file; `lmdbench data download isic-archive` fetches it"
            )
        table = read_table(path, [])
        return table.frame(_key(table))


def _key(table: Table) -> str:
    """The column that names the images. Raises UserError where there is none."""
    key = next((name for name in ("isic_id", "image") if name in table.columns), None)
    if key is None:
        raise UserError(f"{table.path}: no column 'isic_id' or 'image' to name the images by")
    return key
