from pathlib import Path

import pandas as pd
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset, sha256_lines
from lmdbench.data.splits.availability import prepare_files

CLASSES = [
    "AK",
    "AMP",
    "AN",
    "BCC",
    "BKL",
    "DF",
    "LK",
    "LS",
    "MEL",
    "NV",
    "SCC",
    "SK",
    "SL",
    "VASC",
]
TABLES = {"train": "training", "validation": "validation", "test": "testing"}


def archive(root: Path) -> Dataset:
    return DATASETS.get("isic-archive")(root, root)


@pytest.fixture(scope="module")
def official(test_data: Path) -> Dataset:
    return archive(test_data)


def small(folder: Path, **extra: list[str]) -> Path:
    """Tables of two images a class in training, one elsewhere; ``extra`` rows by table."""
    folder.mkdir(exist_ok=True, parents=True)
    for table, copies in {"training": 2, "validation": 1, "testing": 1}.items():
        rows = [
            f"{table}{c}{n}," + ",".join(str(int(c == k)) for k in range(14))
            for c in range(14)
            for n in range(copies)
        ]
        text = "\n".join(["image," + ",".join(CLASSES), *rows, *extra.get(table, [])])
        (folder / f"{table}.csv").write_text(text + "\n")
    return folder


def test_the_released_tables_are_the_split(official: Dataset, test_data: Path) -> None:
    split = official.split(None, 42)
    assert split.label == "published"
    assert split.seed is None
    assert list(split.classes) == CLASSES
    for name, table in TABLES.items():
        path = test_data / "published-splits" / "ISIC_Archive" / f"{table}.csv"
        released = pd.read_csv(path, index_col="image")
        part = split.parts[name]
        assert part.ids.tolist() == released.index.tolist()
        assert [CLASSES[c] for c in part.labels] == released.idxmax(axis=1).tolist()
        assert part.fingerprint == sha256_lines(sorted(released.index))
    assert [len(part) for part in split.parts.values()] == [17508, 2509, 5003]
    assert split.measured_imbalance == pytest.approx(1001, abs=0.5)


def test_sizes_and_groups(official: Dataset) -> None:
    records = official.records()
    assert records["label"].value_counts().to_dict() == dict(official.class_sizes)
    split = official.split(None, 42)
    test = dict(zip(split.classes, split.counts("test").tolist(), strict=True))
    assert [test[c] for c in split.groups["tail"]] == [50, 49, 6, 6, 3, 3]
    assert split.groups["head"] == ("NV", "MEL", "BCC", "SK")
    assert split.groups["medium"] == ("AK", "SCC", "BKL", "SL")


def test_no_factor_and_no_seed_draw_another(official: Dataset) -> None:
    with pytest.raises(UserError, match="no imbalance factor to choose"):
        official.split(100, 42)
    from lmdbench.data.splits.spec import SplitSpec, make_split

    with pytest.raises(UserError, match="no seed draws it"):
        make_split(official, SplitSpec(seed=1))


@pytest.mark.parametrize("inside", [".", "isic-archive", "split/ISIC_Archive"])
def test_where_the_tables_may_lie(tmp_path: Path, inside: str) -> None:
    small(tmp_path / inside)
    split = archive(tmp_path).split(None, 42)
    assert split.name == "given"
    assert len(split.parts["train"]) == 28


def test_images_keep_the_ending_that_they_have(tmp_path: Path) -> None:
    folder = small(tmp_path) / "images"
    folder.mkdir()
    for name in ("training00.JPG", "training01.png", "testing00.jpg"):
        (folder / name).touch()
    dataset = archive(tmp_path)
    files = dataset.records()["file"]
    assert files["training00"] == "training00.JPG"
    assert files["training01"] == "training01.png"
    assert files["validation00"] == "validation00.jpg"
    with pytest.raises(UserError, match="53 of 56 images are missing"):
        prepare_files(dataset, dataset.split(None, 42), allow_missing=False)


def test_lesions_come_from_the_metadata(tmp_path: Path) -> None:
    small(tmp_path)
    assert set(archive(tmp_path).records()["group"]) == {""}
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("isic_id,sex,lesion_id\ntraining00,male,IL_1\nunknown,,IL_2\n")
    groups = archive(tmp_path).records()["group"]
    assert groups["training00"] == "IL_1"
    assert (groups != "").sum() == 1
    metadata.write_text("isic_id,sex\ntraining00,male\n")
    with pytest.raises(UserError, match=r"metadata\.csv: no column 'lesion_id'"):
        archive(tmp_path).records()
    metadata.write_text("name,lesion_id\ntraining00,x\n")
    with pytest.raises(UserError, match="no column 'isic_id' or 'image'"):
        archive(tmp_path).records()


def test_further_columns_are_those_of_the_metadata(tmp_path: Path) -> None:
    small(tmp_path)
    with pytest.raises(UserError, match=r"metadata\.csv: no such file; `lmdbench data download"):
        archive(tmp_path).metadata()
    (tmp_path / "metadata.csv").write_text("isic_id,sex,lesion_id\ntraining00,male,IL_1\n")
    found = archive(tmp_path).metadata()
    assert found.loc["training00"].to_dict() == {"sex": "male", "lesion_id": "IL_1"}


def test_broken_tables(tmp_path: Path) -> None:
    one = "x,1" + ",0" * 13
    small(tmp_path, training=[one], testing=[one])
    with pytest.raises(UserError, match=r"image 'x' is listed in training\.csv and testing\.csv"):
        archive(tmp_path).records()
    small(tmp_path, training=["x,1,1" + ",0" * 12])
    with pytest.raises(UserError, match=r"training\.csv, line 30: exactly one class"):
        archive(tmp_path).records()
    small(tmp_path)
    (tmp_path / "validation.csv").unlink()
    with pytest.raises(UserError, match=r"validation\.csv: cannot be read: No such file"):
        archive(tmp_path).records()


def test_absent_tables_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lmdbench data download isic-archive"):
        archive(tmp_path).split(None, 42)
