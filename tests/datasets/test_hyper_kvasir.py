from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset, sha256_lines
from lmdbench.data.splits.availability import prepare_files

TRAIN = {
    "bbps-2-3": 918,
    "polyps": 822,
    "cecum": 807,
    "dyed-lifted-polyps": 802,
    "pylorus": 799,
    "dyed-resection-margins": 791,
    "z-line": 746,
    "retroflex-stomach": 610,
    "bbps-0-1": 516,
    "ulcerative-colitis-grade-2": 355,
    "esophagitis-a": 323,
    "retroflex-rectum": 313,
    "esophagitis-b-d": 208,
    "ulcerative-colitis-grade-1": 161,
    "ulcerative-colitis-grade-3": 107,
    "impacted-stool": 105,
    "barretts-short-segment": 43,
    "barretts": 33,
    "ulcerative-colitis-grade-0-1": 27,
    "ulcerative-colitis-grade-2-3": 22,
    "ulcerative-colitis-grade-1-2": 9,
    "ileum": 7,
    "hemorrhoids": 4,
}
RELEASED = {"train": "training", "validation": "validation", "test": "testing"}


def kvasir(root: Path) -> Dataset:
    return DATASETS.get("hyper-kvasir")(root, root)


@pytest.fixture(scope="module")
def official(test_data: Path) -> Dataset:
    return kvasir(test_data)


def test_released_split_in_row_order(official: Dataset, test_data: Path) -> None:
    split = official.split(None, 42)
    assert split.label == "published"
    assert split.classes == tuple(sorted(TRAIN))
    for name, part in split.parts.items():
        table = pd.read_csv(
            test_data / "published-splits" / "hyper-kvasir" / f"{RELEASED[name]}.csv"
        )
        assert part.ids.tolist() == table["Video file"].tolist()
        assert part.labels.tolist() == table["labels"].tolist()
        assert [split.classes[c] for c in part.labels] == table["Finding"].tolist()
        assert part.fingerprint == sha256_lines(sorted(table["Video file"]))
    assert dict(zip(split.classes, split.counts("train"), strict=True)) == TRAIN
    assert split.measured_imbalance == 229.5
    ones = [c for c, n in zip(split.classes, split.counts("test"), strict=True) if n == 1]
    assert ones == ["hemorrhoids", "ileum", "ulcerative-colitis-grade-1-2"]


def test_groups_by_training_count(official: Dataset) -> None:
    groups = official.split(None, 42).groups
    assert {name: len(members) for name, members in groups.items()} == {
        "head": 9,
        "medium": 7,
        "tail": 7,
    }
    assert all(TRAIN[c] >= 500 for c in groups["head"])
    assert all(100 <= TRAIN[c] < 500 for c in groups["medium"])
    assert all(TRAIN[c] < 100 for c in groups["tail"])


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_other_seeds(official: Dataset, seed: int) -> None:
    first, other = official.split(None, 42), official.split(None, seed)
    assert other.seed == seed
    assert other.label == f"published-split{seed}"
    assert other.groups == first.groups
    assert other.fingerprint != first.fingerprint
    for name in first.parts:
        assert np.abs(other.counts(name) - first.counts(name)).max() <= 1


def test_no_imbalance_factor(official: Dataset) -> None:
    with pytest.raises(UserError, match="no imbalance factor"):
        official.split(100, 42)


@pytest.mark.parametrize("inside", ["", "hyper-kvasir", "hyper-kvasir/labeled-images"])
def test_roots(test_data: Path, official: Dataset, inside: str) -> None:
    dataset = kvasir(test_data / inside)
    assert dataset.split(None, 42).fingerprint == official.split(None, 42).fingerprint
    records = dataset.records()
    assert (dataset.image_root / records["file"][records["label"] == "ileum"].iloc[0]).is_file()


def test_real_images_are_partial(official: Dataset) -> None:
    split = official.split(None, 42)
    with pytest.raises(UserError, match="8,768 of 10,662 images are missing"):
        prepare_files(official, split, allow_missing=False)
    prepared = prepare_files(official, split, allow_missing=True)
    partial = prepared.split
    assert len(prepared.files) == 1894
    assert len(partial.classes) == 9
    assert partial.partial is not None
    assert len(partial.partial.dropped_classes) == 14
    assert {c: TRAIN[c] for c in partial.classes} == dict(
        zip(partial.classes, partial.counts("train"), strict=True)
    )
    assert partial.groups["head"] == ("polyps",)
    for name, part in partial.parts.items():
        whole = dict(zip(split.parts[name].ids, split.parts[name].labels, strict=True))
        for image, label in zip(part.ids, part.labels, strict=True):
            assert partial.classes[label] == split.classes[whole[image]]
    folders = {path.parent.name for path in prepared.files.values()}
    assert folders == set(partial.classes)


HEADER = "Video file,Organ,Finding,Classification"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("Video file,Organ,Classification\na,Lower GI,x", "no column 'Finding'"),
        (f"{HEADER}\na,Middle GI,polyps,x", "line 2: Organ 'Middle GI'"),
        (f"{HEADER}\na,Lower GI,polyp,x", "line 2: Finding 'polyp'"),
        (f"{HEADER}\na,Lower GI,polyps,x\na,Lower GI,polyps,x", "line 3: Video file 'a'"),
    ],
)
def test_broken_tables(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "image-labels.csv").write_text(text)
    with pytest.raises(UserError, match=problem):
        kvasir(tmp_path).records()


def test_a_table_too_small_for_the_recipe(tmp_path: Path) -> None:
    rows = [f"{n},Lower GI,{'polyps' if n else 'ileum'},x" for n in range(20)]
    (tmp_path / "image-labels.csv").write_text("\n".join([HEADER, *rows]))
    with pytest.raises(UserError, match="cannot divide this table"):
        kvasir(tmp_path).split(None, 42)


def test_absent_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no labeled-images/image-labels\.csv in .*https://"):
        kvasir(tmp_path).split(None, 42)
