"""What the tables alone tell against a split: images and lesions in two parts, labels that
contradict each other, classes too small to say anything about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from lmdbench.data.dataset import PARTS, Split

PAIRS = tuple(combinations(PARTS, 2))
CONFIDENCE = 0.95
TOO_WIDE = 0.2  # half an interval's width from which a class's recall says too little


@dataclass(frozen=True)
class Shared:
    """Things that lie in two parts or more: images themselves, lesions, near-duplicates.

    ``rows``: every image concerned, with the columns ``key`` (what is shared), ``image``, ``part``
    and ``label``; sorted. Images of one key lie in two parts at least.
    """

    rows: pd.DataFrame

    @property
    def keys(self) -> int:
        return int(self.rows["key"].nunique())

    def between(self) -> dict[str, int]:
        """How many things two parts share: ``train–test`` → number, for every pair."""
        homes = self.rows.groupby("key")["part"].agg(set)
        return {f"{a}–{b}": int(sum({a, b} <= parts for parts in homes)) for a, b in PAIRS}

    def touching(self, part: str, *others: str) -> pd.DataFrame:
        """The rows of a part whose key lies in one of the others, too."""
        keys = self.rows.loc[self.rows["part"].isin(others), "key"]
        return self.rows[(self.rows["part"] == part) & self.rows["key"].isin(keys)]


@dataclass(frozen=True)
class SmallClass:
    """A class with its test images and half the width of the 95 % interval of its recall, at the
    recall that makes it widest (None without test images)."""

    label: str
    test: int
    half_width: float | None


def listing(split: Split, groups: Mapping[str, str]) -> pd.DataFrame:
    """Every image of a split: ``image``, ``part``, ``label`` and ``group`` (empty: unknown)."""
    pieces = [
        pd.DataFrame(
            {
                "image": part.ids,
                "part": name,
                "label": np.array(split.classes, dtype=object)[part.labels],
            }
        )
        for name, part in split.parts.items()
    ]
    images = pd.concat(pieces, ignore_index=True)
    images["group"] = [groups.get(image, "") for image in images["image"]]
    return images


def shared_images(images: pd.DataFrame) -> Shared:
    """Images that are listed in two parts."""
    return _shared(images.assign(key=images["image"]))


def shared_groups(images: pd.DataFrame) -> Shared:
    """Lesions, or patients, with images in two parts."""
    return _shared(images[images["group"] != ""].assign(key=images["group"]))


def _shared(images: pd.DataFrame) -> Shared:
    torn = images.groupby("key")["part"].transform("nunique") > 1
    rows = images.loc[torn, ["key", "image", "part", "label"]]
    return Shared(rows.sort_values(["key", "part", "image"], ignore_index=True))


def conflicting_labels(images: pd.DataFrame, key: str) -> pd.DataFrame:
    """Rows of images that agree in ``key`` (``image`` or ``group``) but not in their label."""
    known = images[images[key] != ""]
    conflict = known.groupby(key)["label"].transform("nunique") > 1
    return known[conflict].sort_values([key, "label", "image"], ignore_index=True)


def half_width(n: int) -> float | None:
    """Half the width of the 95 % Jeffreys interval (Brown, Cai & DasGupta 2001) of a share of n
    images, where half of them are right: the widest. None without images."""
    if n == 0:
        return None
    from scipy.stats import beta

    low, high = beta.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], n / 2 + 0.5, n / 2 + 0.5)
    return float(high - low) / 2


def small_classes(classes: Sequence[str], test: np.ndarray) -> list[SmallClass]:
    """The classes whose test images (C,) leave an interval wider than ± 20 points."""
    found = [
        SmallClass(label, int(n), half_width(int(n)))
        for label, n in zip(classes, test, strict=True)
    ]
    return [c for c in found if c.half_width is None or c.half_width > TOO_WIDE]
