"""What the tables tell against a split, against independent joins and hand values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, binom

from lmdbench.data.check import leaks
from lmdbench.data.dataset import DATASETS, Part, Split
from lmdbench.data.splits.spec import SplitSpec, make_split


def split_of(**parts: str) -> Split:
    """A split from words such as ``a:0 b:1``: image and class."""
    made = {}
    for name in ("train", "validation", "test"):
        words = [word.split(":") for word in parts.get(name, "").split()]
        ids = np.array([image for image, _ in words], dtype=str)
        made[name] = Part(ids, np.array([int(c) for _, c in words], dtype=np.int64))
    return Split("x", ("nv", "mel"), made, {})


def test_a_small_split_by_hand() -> None:
    split = split_of(train="a:0 b:0 c:1 d:1", validation="e:0 f:1", test="g:0 h:0 i:1 j:1")
    groups = {
        "a": "L1",
        "g": "L1",
        "b": "L2",
        "e": "L2",
        "c": "L3",
        "d": "L3",
        "f": "L4",
        "i": "L4",
    }
    images = leaks.listing(split, groups)
    assert len(images) == 10
    assert leaks.shared_images(images).keys == 0
    shared = leaks.shared_groups(images)
    assert shared.between() == {"train–validation": 1, "train–test": 1, "validation–test": 1}
    assert shared.keys == 3
    assert shared.touching("test", "train")["image"].tolist() == ["g"]
    assert shared.touching("test", "train", "validation")["image"].tolist() == ["g", "i"]
    assert shared.rows.loc[shared.rows["key"] == "L2", "image"].tolist() == ["b", "e"]


def test_images_without_a_lesion_share_none() -> None:
    split = split_of(train="a:0 b:1", test="c:0 d:1")
    assert leaks.shared_groups(leaks.listing(split, {})).keys == 0
    assert leaks.shared_groups(leaks.listing(split, {"a": "", "c": ""})).keys == 0


def test_an_image_in_two_parts_and_with_two_labels() -> None:
    split = split_of(train="a:0 b:1", validation="b:1", test="a:1 c:0")
    images = leaks.listing(split, {})
    shared = leaks.shared_images(images)
    assert shared.between() == {"train–validation": 1, "train–test": 1, "validation–test": 0}
    conflicts = leaks.conflicting_labels(images, "image")
    assert conflicts["image"].tolist() == ["a", "a"]
    assert sorted(conflicts["label"]) == ["mel", "nv"]


@pytest.mark.parametrize("factor", [100, 500])
def test_isic2019_shares_exactly_the_lesions_of_an_independent_join(
    test_data: Path, factor: float
) -> None:
    dataset = DATASETS.get("isic2019")(test_data, test_data)
    split = make_split(dataset, SplitSpec(imbalance_factor=factor))
    shared = leaks.shared_groups(leaks.listing(split, dataset.records()["group"].to_dict()))
    table = pd.read_csv(test_data / "isic2019" / "ISIC_2019_Training_Metadata.csv")
    lesions = table.dropna(subset=["lesion_id"]).set_index("image")["lesion_id"]
    of_part = {name: set(lesions.reindex(part.ids).dropna()) for name, part in split.parts.items()}
    train, validation, test = (of_part[name] for name in ("train", "validation", "test"))
    assert set(shared.rows["key"]) == (train & validation) | (train & test) | (validation & test)
    assert list(shared.between().values()) == [
        len(train & validation),
        len(train & test),
        len(validation & test),
    ]
    joined = pd.Series(split.parts["test"].ids).map(lesions).isin(train).sum()
    assert len(shared.touching("test", "train")) == joined > 1500


def test_half_widths() -> None:
    """By hand for one image: Jeffreys at x = ½ is Beta(1, 1), so 2.5 % to 97.5 %."""
    assert leaks.half_width(1) == pytest.approx(0.475)
    assert leaks.half_width(0) is None
    low, high = beta.ppf([0.025, 0.975], 50.5, 50.5)
    assert leaks.half_width(100) == pytest.approx((high - low) / 2)
    # About what the binomial itself spreads.
    assert leaks.half_width(100) == pytest.approx(1.96 * binom(100, 0.5).std() / 100, rel=0.03)


def test_small_classes_are_those_wider_than_twenty_points() -> None:
    found = leaks.small_classes(["a", "b", "c", "d"], np.array([0, 1, 21, 22]))
    assert [small.label for small in found] == ["a", "b", "c"]
    assert found[0].half_width is None
