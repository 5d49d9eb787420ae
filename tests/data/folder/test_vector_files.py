"""Feature files of a user's own: what is read, and what is refused."""

import sys

import numpy as np
import pandas as pd
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import open_dataset
from lmdbench.data.folder.image_index import describe
from lmdbench.data.folder.vector_files import read_vectors
from lmdbench.data.reading import read_metadata

IDS = ("a1", "a2", "a3", "b1", "b2", "b3")
LABELS = ("a", "a", "a", "b", "b", "b")
ROWS = np.arange(12, dtype=np.float32).reshape(6, 2) / 4


def write(path, **replaced):
    """A file of six images; None leaves an array out."""
    content = {"ids": np.array(IDS), "labels": np.array(LABELS), "features": ROWS} | replaced
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


def read(path):
    return read_vectors(describe(path))


def test_an_npz_says_all_of_its_images(tmp_path):
    parts = np.array(["train", "val", "test"] * 2)
    groups = np.array(["p1", "p1", "", "p2", "NA", "p3"])
    found = read(write(tmp_path / "uni.npz", parts=parts, groups=groups, name="UNI 2"))
    assert (found.vectors.name, found.vectors.ids, found.vectors.width) == ("UNI-2", IDS, 2)
    assert np.array_equal(found.vectors.rows, ROWS)
    assert (list(found.labels), found.classes) == (list(LABELS), ("a", "b"))
    assert list(found.parts) == ["train", "validation", "test"] * 2
    assert list(found.groups) == ["p1", "p1", "", "p2", "", "p3"]
    assert found.remarks[0] == "features: 6 × 2 by UNI-2, in place of images"


@pytest.mark.parametrize("letter", ["v", "f"])
def test_a_csv_says_the_same(tmp_path, letter):
    lines = [f"id,label,{letter}1,{letter}0,site"]  # columns in another order
    lines += [f"{i},{lab},{y},{x},s" for i, lab, (x, y) in zip(IDS, LABELS, ROWS, strict=True)]
    (tmp_path / "uni.csv").write_text("\n".join(lines))
    found, other = read(tmp_path / "uni.csv"), read(write(tmp_path / "uni.npz"))
    assert np.array_equal(found.vectors.rows, ROWS)
    assert found.vectors.digest == other.vectors.digest
    assert found.columns == {"site": ["s"] * 6}
    assert found.remarks[1:] == ()


def test_what_else_is_said_of_images_is_a_table(tmp_path):
    said = {
        "sex": np.array(["f", "m", "", "f", "m", "f"]),
        "age": np.array([45.0, 50.5, np.nan, 1, 2, 3]),
        "fold": np.array([0, 1, 2, 0, 1, 2]),
        "patient": np.array(["p1", "p1", "p2", "p3", "p3", "p3"]),
        "image_embedding": ROWS,
    }
    data = open_dataset("folder", write(tmp_path / "uni.npz", **said), tmp_path)
    table = read_metadata(data)
    assert table.index.tolist() == list(IDS)
    assert table["sex"].tolist() == ["f", "m", "", "f", "m", "f"]
    assert table["age"].tolist() == ["45", "50.5", "", "1", "2", "3"]
    assert table["patient"].tolist() == data.records()["group"].tolist()
    assert data.given_folds.words == dict(zip(IDS, "012012", strict=True))
    assert "not used: 'image_embedding'" in data.remarks


def test_an_id_of_patients_that_keeps_nothing_together_is_told(tmp_path):
    found = read(write(tmp_path / "uni.npz", patient_id=np.array(IDS)))
    assert list(found.groups) == [""] * 6
    assert found.remarks[-1].startswith("'patient_id' keeps no images together; call it groups")


@pytest.mark.parametrize("as_lists", [True, False])
def test_a_parquet_file_says_the_same(tmp_path, as_lists):
    path = tmp_path / "uni.parquet"
    columns = {"ID": IDS, "label": LABELS, "patient": list("ppqqrr"), "age": [1, 2, 3, 4, 5, None]}
    rows = {"features": list(ROWS)} if as_lists else {"v1": ROWS[:, 1], "v0": ROWS[:, 0]}
    pd.DataFrame(columns | rows).to_parquet(path)
    found, other = read(path), read(write(tmp_path / "uni.npz"))
    assert np.array_equal(found.vectors.rows, ROWS)
    assert found.vectors.digest == other.vectors.digest
    assert (list(found.labels), found.classes) == (list(LABELS), ("a", "b"))
    assert found.groups == list("ppqqrr")
    assert found.columns["age"] == ["1", "2", "3", "4", "5", ""]
    assert open_dataset("folder", path, tmp_path).vectors.name == "uni"


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": IDS, "label": LABELS}, "no column id; a Parquet file is read as one of feat"),
        (
            {"id": IDS, "label": LABELS},
            "must be v0, v1 … or f0, f1 …, .*; here are none",
        ),
        ({"id": IDS, "label": LABELS, "features": [[1.0]] * 5 + [[1.0, 2.0]]}, "all of one length"),
        ({"id": IDS, "label": LABELS, "features": [[1]] * 6}, "features are int64, but wants flo"),
    ],
)
def test_what_is_wrong_with_a_parquet_file_is_named(tmp_path, columns, says):
    path = tmp_path / "uni.parquet"
    pd.DataFrame(columns).to_parquet(path)
    with pytest.raises(UserError, match=says):
        read(path)


def test_a_file_that_is_no_parquet_and_one_without_pyarrow(tmp_path, monkeypatch):
    path = tmp_path / "uni.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="damaged, or no Parquet file"):
        read(path)
    pd.DataFrame({"id": IDS}).to_parquet(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError, match=r'Parquet takes pyarrow: pip install "lmdbench\[parquet\]"'
    ):
        read(path)


def test_the_digest_is_of_ids_and_numbers_in_any_order(tmp_path):
    one = read(write(tmp_path / "uni.npz")).vectors
    turned = {"ids": np.array(IDS[::-1]), "labels": np.array(LABELS[::-1]), "features": ROWS[::-1]}
    assert read(write(tmp_path / "x.npz", **turned)).vectors.digest == one.digest
    assert read(write(tmp_path / "y.npz", features=ROWS + 1)).vectors.digest != one.digest
    assert one.digest_of(IDS[:3]) != one.digest


def test_classes_that_are_numbers_stand_in_their_order(tmp_path):
    found = read(write(tmp_path / "uni.npz", labels=np.array([10, 10, 10, 9, 9, 9])))
    assert found.classes == ("9", "10")


def test_float64_is_rounded_and_told(tmp_path):
    found = read(write(tmp_path / "uni.npz", features=ROWS.astype(np.float64) + 1e-12))
    assert found.vectors.rows.dtype == np.float32
    assert "features: float64, rounded to float32" in found.remarks


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"ids": None}, "no array ids; a feature file has ids"),
        ({"features": ROWS[:, 0]}, r"features is \(6,\) float32, but wants one vector an image"),
        ({"features": ROWS[:, :0]}, r"features is \(6, 0\)"),
        ({"features": ROWS.astype(int)}, "features are int64, but wants floats"),
        ({"features": ROWS[:5]}, "6 ids but 5 rows of features"),
        ({"features": np.where(ROWS == 1, np.nan, ROWS)}, "of 1 image are not finite"),
        ({"features": np.where(ROWS == 1, np.inf, ROWS)}, "the first in row 2"),
        ({"features": ROWS.astype(np.float64) * 1e300}, "beyond float32"),
        (
            {"features": np.array([[1.0], [1.0, 2.0]] * 3, dtype=object)},
            "features is of Python obj",
        ),
        ({"ids": np.array([*IDS[:5], "a1"])}, "ids that are there twice: 'a1'"),
        ({"ids": np.array([*IDS[:5], " "])}, "the id of row 5 is empty"),
        ({"labels": np.array([*LABELS[:5], ""])}, "the label of row 5 is empty"),
        ({"labels": np.array(LABELS)[:, None]}, r"labels is \(6, 1\)"),
        ({"labels": np.zeros(6)}, "labels is .* float64, but wants one text or whole number"),
        ({"parts": np.array(["training set"] * 6)}, "the part of row 0 is 'training set'"),
        ({"parts": np.array([0, 1] * 3)}, "is '0', .* call it fold if these are folds"),
        ({"groups": np.array(["p"])}, "1 groups but 6 ids"),
        ({"groups": np.array(IDS), "patient": np.array(IDS)}, "groups and patient say the same"),
        ({"name": np.array(IDS)}, "name must be one text"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, replaced, says):
    with pytest.raises(UserError, match=says) as told:
        read(write(tmp_path / "uni.npz", **replaced))
    assert "uni.npz" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,label,v0,v2\na,x,1,2\n", "without a gap"),
        ("id,label,v0,f1\na,x,1,2\n", "without a gap"),
        ("id,v0\na,1\n", "no column 'label'"),
        ("id,label,v0,v1\na,x,1,2\nb,y,1\n", "line 3: 3 values where the header has 4"),
        ("id,label,v0\na,x,1\nb,y,one\n", "line 3: v0 is 'one', and wants a number"),
        ("id,label,v0\na,x,nan\nb,y,1\n", "not finite"),
        ("id,label,v0\na,x,1e99\nb,y,1\n", "beyond float32"),
        ("id,label,v0\na,x,1\na,y,1\n", "there twice: 'a'"),
    ],
)
def test_what_is_wrong_with_a_csv_is_named(tmp_path, text, says):
    (tmp_path / "uni.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        read(tmp_path / "uni.csv")


def test_one_class_is_too_few(tmp_path):
    path = write(tmp_path / "uni.npz", labels=np.array(["a"] * 6))
    with pytest.raises(UserError, match="only one class, 'a'"):
        open_dataset("folder", path, tmp_path).split(None, 42)


def test_half_a_file_is_named(tmp_path):
    path = write(tmp_path / "uni.npz", features=np.ones((6, 500), np.float32))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged, or no"):
        open_dataset("folder", path, tmp_path).split(None, 42)


def test_a_description_names_classes_and_orders_them(tmp_path):
    write(tmp_path / "uni.npz")
    text = 'npz = "uni.npz"\nname = "clinic"\nclass_order = ["mel", "nev"]\n'
    (tmp_path / "dataset.toml").write_text(text + '[classes]\na = "nev"\nb = "mel"\n')
    data = open_dataset("folder", tmp_path, tmp_path)
    assert data.results_name == "folder-clinic"
    assert data.split(None, 42).classes == ("mel", "nev")
    assert data.vectors is not None


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("bit_depth = 12\n", "bit_depth is about images, and uni.npz holds features"),
        ("[defaults]\nimage_size = 32\n", "image_size is about images"),
    ],
)
def test_a_description_says_nothing_of_images(tmp_path, lines, says):
    write(tmp_path / "uni.npz")
    (tmp_path / "dataset.toml").write_text('npz = "uni.npz"\n' + lines)
    with pytest.raises(UserError, match=says):
        describe(tmp_path)
