from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset, sha256_lines
from lmdbench.data.splits.availability import prepare_files

HEADER = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
# Per class: training, validation and test images at imbalance factor 100.
AT_100 = {
    "NV": (9012, 1288, 2575),
    "MEL": (2898, 414, 828),
    "BCC": (1949, 279, 557),
    "BKL": (1409, 202, 402),
    "AK": (426, 61, 122),
    "SCC": (282, 41, 81),
    "VASC": (104, 15, 30),
    "DF": (90, 13, 26),
}
RELEASED = {"train": "training", "validation": "validation", "test": "testing"}


def isic(root: Path) -> Dataset:
    return DATASETS.get("isic2019")(root, root)


@pytest.fixture(scope="module")
def official(test_data: Path) -> Dataset:
    return isic(test_data)


def test_released_split_in_row_order(official: Dataset, test_data: Path) -> None:
    split = official.split(None, 42)
    assert split.classes == ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
    assert split.label == "published-if100"
    for name, part in split.parts.items():
        table = pd.read_csv(
            test_data / "published-splits" / "ISIC2019LT" / f"{RELEASED[name]}.csv"
        ).set_index("image")
        assert part.ids.tolist() == table.index.tolist()
        assert [split.classes[c] for c in part.labels] == table.idxmax(axis=1).tolist()
        assert part.fingerprint == sha256_lines(sorted(table.index))
        counts = dict(zip(split.classes, split.counts(name), strict=True))
        position = list(RELEASED).index(name)
        assert counts == {label: n[position] for label, n in AT_100.items()}


def test_labels_are_the_ground_truths(official: Dataset, test_data: Path) -> None:
    table = pd.read_csv(
        test_data / "isic2019" / "ISIC_2019_Training_GroundTruth.csv", index_col="image"
    )
    split = official.split(300, 1)
    for part in split.parts.values():
        truth = table.loc[part.ids].idxmax(axis=1)
        assert truth.tolist() == [split.classes[c] for c in part.labels]


@pytest.mark.parametrize(
    ("factor", "sizes"), [(200, (14845, 2124, 4242)), (500, (13556, 1939, 3874))]
)
def test_other_factors(official: Dataset, factor: float, sizes: tuple[int, ...]) -> None:
    split = official.split(factor, 42)
    assert tuple(len(part) for part in split.parts.values()) == sizes
    assert split.label == f"published-if{factor}"
    assert split.measured_imbalance == pytest.approx(factor, rel=0.07)


def test_other_seeds_draw_other_images(official: Dataset) -> None:
    first, again, other = official.split(None, 42), official.split(100, 42), official.split(100, 7)
    assert first.fingerprint == again.fingerprint
    assert other.fingerprint != first.fingerprint
    assert other.label == "published-if100-split7"
    for name in first.parts:
        assert other.counts(name).tolist() == first.counts(name).tolist()


def test_groups(official: Dataset) -> None:
    split = official.split(None, 42)
    assert split.groups["head"] == ("NV", "MEL")
    assert sorted(sum(split.groups.values(), ())) == sorted(split.classes)
    smallest_first = [split.counts("train")[split.classes.index(c)] for c in AT_100]
    ranked = [c for members in split.groups.values() for c in members]
    assert ranked == list(AT_100)
    assert smallest_first == sorted(smallest_first, reverse=True)


@pytest.mark.parametrize("factor", [1, 50, 5000, float("nan")])
def test_impossible_factor(official: Dataset, factor: float) -> None:
    with pytest.raises(UserError, match=r"possible here: 53\.9 to 4291"):
        official.split(factor, 42)


def test_records(official: Dataset, test_data: Path) -> None:
    records = official.records()
    assert len(records) == 25331
    assert records["label"].value_counts().to_dict() == dict(official.class_sizes)
    metadata = pd.read_csv(
        test_data / "isic2019" / "ISIC_2019_Training_Metadata.csv", index_col="image"
    )
    lesions = metadata["lesion_id"].fillna("").loc[records.index]
    assert records["group"].tolist() == lesions.tolist()
    downsampled = [image for image in records.index if image.endswith("_downsampled")]
    assert len(downsampled) == 2074
    assert records["file"][downsampled[0]].endswith(f"{downsampled[0]}.jpg")


def test_further_columns_are_those_of_the_official_metadata(
    official: Dataset, tmp_path: Path
) -> None:
    found = official.metadata()
    assert list(found.columns) == ["age_approx", "anatom_site_general", "lesion_id", "sex"]
    assert found.loc["ISIC_0000002"].tolist() == ["60.0", "upper extremity", "", "female"]
    assert found["sex"].value_counts().to_dict() == {"male": 13286, "female": 11661, "": 384}
    assert official.group_unit == "lesion"
    alone = small(tmp_path, [one_hot("ISIC_1", 0)])
    with pytest.raises(UserError, match=r"Metadata\.csv: no such file"):
        alone.metadata()


def test_real_images_are_partial(official: Dataset) -> None:
    split = official.split(None, 42)
    with pytest.raises(UserError, match=r"of 23,104 images are missing .* --allow-missing"):
        prepare_files(official, split, allow_missing=False)
    prepared = prepare_files(official, split, allow_missing=True)
    assert prepared.split.label == "published-if100-partial"
    assert prepared.split.classes == split.classes
    assert all(path.is_file() for path in list(prepared.files.values())[:20])


def small(folder: Path, rows: list[str], header: str = HEADER) -> Dataset:
    folder.mkdir(exist_ok=True)
    (folder / "ISIC_2019_Training_GroundTruth.csv").write_text("\n".join([header, *rows]) + "\n")
    return isic(folder)


def one_hot(image: str, column: int, one: str = "1.0", zero: str = "0.0") -> str:
    return ",".join([image, *(one if c == column else zero for c in range(9))])


@pytest.mark.parametrize("folder", [".", "isic2019"])
@pytest.mark.parametrize(("one", "zero"), [("1", "0"), ("1.0", "0.0")])
def test_tables_are_found_and_read(tmp_path: Path, folder: str, one: str, zero: str) -> None:
    dataset = small(
        tmp_path / folder, [one_hot("a", 0, one, zero), one_hot("b_downsampled", 7, one)]
    )
    dataset = isic(tmp_path)
    records = dataset.records()
    assert records["label"].to_dict() == {"a": "MEL", "b_downsampled": "SCC"}
    assert records["group"].tolist() == ["", ""]
    images = tmp_path / folder / "ISIC_2019_Training_Input"
    assert dataset.image_root / records["file"]["b_downsampled"] == images / "b_downsampled.jpg"


def test_unknown_class_is_dropped_and_another_table_is_not_called_published(tmp_path: Path) -> None:
    rows = [one_hot(f"{c}-{n}", c) for c in range(9) for n in range(10 - c // 2)]
    dataset = small(tmp_path, rows)
    split = dataset.split(2, 0)
    assert split.name == "recipe"
    assert "UNK" not in split.classes
    assert not any(image.startswith("8-") for part in split.parts.values() for image in part.ids)
    assert np.concatenate([part.ids for part in split.parts.values()]).shape == (
        len({image for part in split.parts.values() for image in part.ids}),
    )


@pytest.mark.parametrize(
    ("rows", "header", "problem"),
    [
        ([one_hot("a", 0)], HEADER.replace("VASC", "VSC"), "no column 'VASC'.*VSC"),
        ([one_hot("a", 0), one_hot("b", 99)], HEADER, "line 3: exactly one class"),
        (["a,1,1,0,0,0,0,0,0,0"], HEADER, "line 2: exactly one class"),
        (["a,yes,0,0,0,0,0,0,0,0"], HEADER, "line 2: exactly one class"),
        (["a,nan,1,0,0,0,0,0,0,0"], HEADER, "line 2: exactly one class"),
        ([one_hot("a", 0), one_hot("a", 1)], HEADER, "line 3: image 'a' is listed twice"),
        ([one_hot("", 0)], HEADER, "line 2: image is empty"),
        (["a,1,0"], HEADER, "line 2: 3 values"),
        ([], HEADER, "no rows"),
    ],
)
def test_broken_tables(tmp_path: Path, rows: list[str], header: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as error:
        small(tmp_path, rows, header).records()
    assert "\n" not in str(error.value)


def test_absent_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no ISIC_2019_Training_GroundTruth\.csv in .*https://"):
        isic(tmp_path).split(None, 42)
