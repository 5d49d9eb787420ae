"""ISIC 2019, long-tailed as released with LMD."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset, Split, register_dataset
from lmdbench.data.lesions import Lesions, known_lesions
from lmdbench.data.sources import LMD_CITATION, Archive, Downloads, File, released_split
from lmdbench.data.splits.divide import isic_released_split
from lmdbench.data.tables import one_hot, read_table

GROUND_TRUTH = "ISIC_2019_Training_GroundTruth.csv"
METADATA = "ISIC_2019_Training_Metadata.csv"
IMAGES = "ISIC_2019_Training_Input"
ADDRESS = "https://isic-challenge-data.s3.amazonaws.com/2019"


@register_dataset("isic2019")
class ISIC2019(Dataset):
    """25,331 dermoscopy images of 8 diagnoses.

    The root is the folder that holds the ground truth, or one whose sub-folder ``isic2019`` does.
    ``group`` in the records is the lesion, where the metadata are there and name it; the released
    split ignores it. Classes are in the order of the ground truth's columns. The groups are those
    of the benchmark MONICA, two, three and three classes by size.
    """

    title = "ISIC-2019-LT"
    source = (
        "ISIC 2019 challenge (Tschandl et al. 2018, Codella et al. 2018, Combalia et al. 2019), "
        "https://challenge.isic-archive.com/data/#2019; long-tailed split released with LMD, "
        "https://github.com/peterlipan/LMD"
    )
    licence = "CC BY-NC 4.0"
    citation = (
        "Tschandl, Rosendahl, Kittler: The HAM10000 dataset, a large collection of multi-source "
        "dermatoscopic images of common pigmented skin lesions. Scientific Data 5, 180161 (2018)",
        "Codella et al.: Skin lesion analysis toward melanoma detection: a challenge at the 2017 "
        "ISBI, hosted by the ISIC. arXiv:1710.05006 (2018)",
        "Hernández-Pérez et al.: BCN20000: Dermoscopic lesions in the wild. Scientific Data 11, "
        "641 (2024); first Combalia et al., arXiv:1908.02288 (2019)",
        LMD_CITATION,
    )
    downloads = Downloads(
        folder="isic2019",
        table=GROUND_TRUTH,
        sources=(
            File(f"{ADDRESS}/{GROUND_TRUTH}", GROUND_TRUTH, rows=25331, about=1_200_000),
            File(f"{ADDRESS}/{METADATA}", METADATA, rows=25331, about=1_200_000),
            Archive(
                f"{ADDRESS}/{IMAGES}.zip",
                top=IMAGES,
                images=25331,
                about=9_800_000_000,
                unpacked=9_800_000_000,
            ),
            *released_split(
                "ISIC2019LT",
                training="1c15f0e64e59e4e5054691d9647a4b36192bae8b2869d7c59a1fc8af034664e0",
                validation="ee343c949581a094c29aedd5daa6767f67342ad481a57836df8334483007bcd1",
                testing="6614e775b734a69683d2388559249d05c41ba605813b3020845403cfd988fd91",
            ),
        ),
    )
    default_imbalance_factor = 100.0
    official_digest = "591b288e9dd64f813b45739b7afaccd0fc3521a19661de2c4b920e359d8bcfa1"
    class_sizes = {
        "MEL": 4522,
        "NV": 12875,
        "BCC": 3323,
        "AK": 867,
        "BKL": 2624,
        "DF": 239,
        "VASC": 253,
        "SCC": 628,
    }
    side_range = (450, 1024)  # 600×450 to 1024×1024
    group_unit = "lesion"
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "head": ("NV", "MEL"),
        "medium": ("BCC", "BKL", "AK"),
        "tail": ("SCC", "VASC", "DF"),
    }

    @property
    def image_root(self) -> Path:
        return self._ground_truth.parent

    def records(self) -> pd.DataFrame:
        return self._records.copy()

    def split(self, imbalance_factor: float | None, seed: int) -> Split:
        factor = self.default_imbalance_factor if imbalance_factor is None else imbalance_factor
        records, classes = self._records, tuple(self.class_sizes)
        parts = isic_released_split(
            list(records.index), list(records["label"]), classes, factor, seed
        )
        return Split(
            name="published" if self.is_official(records) else "recipe",
            classes=classes,
            parts=parts,
            groups=self.groups,
            group_rule="by size, 2/3/3 classes, as in the benchmark MONICA",
            seed=seed,
            imbalance_factor=float(factor),
        )

    @cached_property
    def _ground_truth(self) -> Path:
        assert self.root is not None
        for folder in (self.root / "isic2019", self.root):
            if (folder / GROUND_TRUTH).is_file():
                return folder / GROUND_TRUTH
        raise UserError(
            f"data set isic2019: no {GROUND_TRUTH} in {self.root} or {self.root / 'isic2019'}; "
            f"--data-root must name the folder with the official files ({self.source})"
        )

    @cached_property
    def _records(self) -> pd.DataFrame:
        table = read_table(self._ground_truth, ["image", *self.class_sizes])
        ids = table.unique("image")
        labels = one_hot(table, [*self.class_sizes, *(["UNK"] if "UNK" in table.columns else [])])
        records = pd.DataFrame(
            {"label": labels, "file": [f"{IMAGES}/{image}.jpg" for image in ids]},
            index=pd.Index(ids, name="image"),
        )
        listed, known = self._lesions
        lesions = dict(zip(listed, known.groups, strict=True))
        records["group"] = [lesions.get(image, "") for image in ids]
        return records[records["label"] != "UNK"]

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._lesions[1].remarks_of_words  # empty cells are as published

    @cached_property
    def _lesions(self) -> tuple[list[str], Lesions]:
        """The images of the metadata and their lesions; none where those are absent."""
        path = self._ground_truth.with_name(METADATA)
        if not path.is_file():
            return [], Lesions([], {})
        table = read_table(path, ["image", "lesion_id"])
        return table.unique("image"), known_lesions(table["lesion_id"])

    @property
    def group_source(self) -> str:
        return METADATA

    def metadata(self) -> pd.DataFrame:
        path = self._ground_truth.with_name(METADATA)
        if not path.is_file():
            raise UserError(f"{path}: no such file; `lmdbench data download isic2019` fetches it")
        return read_table(path, ["image"]).frame("image")
