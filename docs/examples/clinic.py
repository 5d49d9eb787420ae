"""Photographs listed in a clinic's export: the docs' example of a data set."""

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset, Part, Split, register_dataset
from lmdbench.data.groups import by_rank
from lmdbench.data.splits.divide import divide
from lmdbench.data.tables import read_table

CODES = {"D22": "nevus", "C43": "melanoma", "C44": "carcinoma"}  # ICD-10 → class


@register_dataset("clinic")
class Clinic(Dataset):
    """The root holds export.csv and the folder photos. A patient's photographs stay together."""

    title = "Photographs of a clinic"
    source = "our clinic, 2019 to 2024, not public"
    licence = "none: for our own use"
    image_size = 32
    backbone = "small"
    weights = "none"
    recipes = {"all": {"epochs": 3, "batch_size": 16}, "head": {"epochs": 1}}

    def records(self) -> pd.DataFrame:
        assert self.root is not None
        table = read_table(self.root / "export.csv", ["photo", "icd10", "patient"])
        photos = table.unique("photo")
        for row, code in enumerate(table["icd10"]):
            if code not in CODES:
                raise UserError(f"{table.line(row)}: icd10 {code!r} is none of {', '.join(CODES)}")
        return pd.DataFrame(
            {
                "label": [CODES[code] for code in table["icd10"]],
                "file": [f"photos/{photo}.png" for photo in photos],
                "group": table["patient"],
            },
            index=pd.Index(photos, name="image"),
        )

    def split(self, imbalance_factor: float | None, seed: int) -> Split:  # noqa: ARG002
        records = self.records()
        classes = tuple(CODES.values())
        ids = records.index.to_numpy(dtype=str)
        labels = np.array([classes.index(label) for label in records["label"]])
        rows = divide(list(ids), list(records["label"]), list(records["group"]), seed)
        parts = {part: Part(ids[chosen], labels[chosen]) for part, chosen in rows.items()}
        groups = by_rank(classes, np.bincount(parts["train"].labels, minlength=len(classes)))
        return Split("random", classes, parts, groups.members, seed, group_rule=groups.rule)
