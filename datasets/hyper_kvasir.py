"""Hyper-Kvasir's labelled images, split as released with LMD."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset, Split, register_dataset
from lmdbench.data.groups import by_count
from lmdbench.data.sources import LMD_CITATION, Archive, Downloads, released_split
from lmdbench.data.splits.divide import kvasir_released_split, require_every_class
from lmdbench.data.tables import read_table

TABLE = "image-labels.csv"
IMAGES = "labeled-images"
# The table's organ → the folder of its images.
ORGANS = {"Lower GI": "lower-gi-tract", "Upper GI": "upper-gi-tract"}
HEAD_FROM, TAIL_BELOW = 500, 100  # training images


@register_dataset("hyper-kvasir")
class HyperKvasir(Dataset):
    """10,662 endoscopy images of 23 findings.

    The root is the folder ``labeled-images``, or one that holds it, or one whose sub-folder
    ``hyper-kvasir`` does. Classes are sorted by name, as in the released split. No groups are
    published; here a class is head with 500 training images or more, tail with fewer than 100. The
    tail is natural, so there is no imbalance factor to choose.
    """

    title = "Hyper-Kvasir (labelled images)"
    source = (
        "Borgli et al., Scientific Data 2020, "
        "https://datasets.simula.no/downloads/hyper-kvasir/hyper-kvasir-labeled-images.zip; "
        "split released with LMD, https://github.com/peterlipan/LMD"
    )
    licence = "research and education, with citation"
    citation = (
        "Borgli et al.: HyperKvasir, a comprehensive multi-class image and video dataset for "
        "gastrointestinal endoscopy. Scientific Data 7, 283 (2020)",
        LMD_CITATION,
    )
    downloads = Downloads(
        folder="hyper-kvasir",
        table=f"{IMAGES}/{TABLE}",
        sources=(
            Archive(
                "https://datasets.simula.no/downloads/hyper-kvasir/hyper-kvasir-labeled-images.zip",
                top=IMAGES,
                images=10662,
                about=4_000_000_000,
                unpacked=4_000_000_000,
                tables=(f"{IMAGES}/{TABLE}",),
            ),
            *released_split(
                "hyper-kvasir",
                training="bf6b366361c307d50f0f9733a9ac58139c796bdecfbe223f4ce10ce8faf14f3b",
                validation="ff4aa53592cffdffafe76671e817d0ad3e14836803655db77b99876e399b8f82",
                testing="48e5179fef5ade62b337742b1420173c64b16eeceaf45d1e52b49e2b04ae4ca5",
            ),
        ),
    )
    official_digest = "9926a668a9bf0c3b06db15344988257b548fb54039714eb23345ae444a4aff83"
    class_sizes = {
        "barretts": 41,
        "barretts-short-segment": 53,
        "bbps-0-1": 646,
        "bbps-2-3": 1148,
        "cecum": 1009,
        "dyed-lifted-polyps": 1002,
        "dyed-resection-margins": 989,
        "esophagitis-a": 403,
        "esophagitis-b-d": 260,
        "hemorrhoids": 6,
        "ileum": 9,
        "impacted-stool": 131,
        "polyps": 1028,
        "pylorus": 999,
        "retroflex-rectum": 391,
        "retroflex-stomach": 764,
        "ulcerative-colitis-grade-0-1": 35,
        "ulcerative-colitis-grade-1": 201,
        "ulcerative-colitis-grade-1-2": 11,
        "ulcerative-colitis-grade-2": 443,
        "ulcerative-colitis-grade-2-3": 28,
        "ulcerative-colitis-grade-3": 133,
        "z-line": 932,
    }

    # Of Mayo's grades, which other classes have none of
    ordered_classes = (
        "ulcerative-colitis-grade-0-1",
        "ulcerative-colitis-grade-1",
        "ulcerative-colitis-grade-1-2",
        "ulcerative-colitis-grade-2",
        "ulcerative-colitis-grade-2-3",
        "ulcerative-colitis-grade-3",
    )

    @property
    def image_root(self) -> Path:
        return self._table.parent

    def records(self) -> pd.DataFrame:
        return self._records.copy()

    def split(self, imbalance_factor: float | None, seed: int) -> Split:
        if imbalance_factor is not None:
            raise UserError(
                "data set hyper-kvasir has no imbalance factor to choose: its released split keeps "
                "the natural long tail (229.5); leave --imbalance-factor out"
            )
        records, classes = self._records, tuple(self.class_sizes)
        parts = kvasir_released_split(list(records.index), list(records["label"]), classes, seed)
        require_every_class(classes, parts, str(self._table))
        counts = np.bincount(parts["train"].labels, minlength=len(classes))
        groups = by_count(classes, counts, HEAD_FROM, TAIL_BELOW)
        return Split(
            name="published" if self.is_official(records) else "recipe",
            classes=classes,
            parts=parts,
            groups=groups.members,
            group_rule=groups.rule,
            seed=seed,
        )

    def metadata(self) -> pd.DataFrame:
        return read_table(self._table, ["Video file"]).frame("Video file")

    @cached_property
    def _table(self) -> Path:
        assert self.root is not None
        inside = Path("labeled-images")
        for folder in (self.root / "hyper-kvasir" / inside, self.root / inside, self.root):
            if (folder / TABLE).is_file():
                return folder / TABLE
        raise UserError(
            f"data set hyper-kvasir: no labeled-images/{TABLE} in {self.root} or its folder "
            f"hyper-kvasir; --data-root must name the folder of the official files ({self.source})"
        )

    @cached_property
    def _records(self) -> pd.DataFrame:
        table = read_table(self._table, ["Video file", "Organ", "Finding", "Classification"])
        ids, findings = table.unique("Video file"), table["Finding"]
        files = []
        for row, (image, organ, finding, folder) in enumerate(
            zip(ids, table["Organ"], findings, table.filled("Classification"), strict=True)
        ):
            if organ not in ORGANS:
                raise UserError(
                    f"{table.line(row)}: Organ {organ!r} is none of {', '.join(ORGANS)}"
                )
            if finding not in self.class_sizes:
                raise UserError(f"{table.line(row)}: Finding {finding!r} is none of the 23 classes")
            files.append(f"{ORGANS[organ]}/{folder}/{finding}/{image}.jpg")
        return pd.DataFrame(
            {"label": findings, "file": files, "group": ""}, index=pd.Index(ids, name="image")
        )
