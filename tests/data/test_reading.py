"""What a data set's tables hold is looked at once, where they are read."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import PARTS, Dataset, Part, Split
from lmdbench.data.reading import (
    image_root,
    read_metadata,
    read_records,
    read_remarks,
    read_split,
)
from lmdbench.data.splits.availability import split_files
from lmdbench.data.splits.spec import SplitSpec, make_split

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("nevus", "basal cell carcinoma")
IDS = [f"{part}{n}" for part in PARTS for n in range(6)]
LABELS = [CLASSES[n % 3 == 2] for _ in PARTS for n in range(6)]  # two of three are nevi


def table(**columns) -> pd.DataFrame:
    good = {"label": LABELS, "file": [f"{image}.jpg" for image in IDS], "group": ""}
    return pd.DataFrame({**good, **columns}, index=IDS)


def parts(ids=IDS, labels=LABELS) -> dict[str, Part]:
    codes = np.array([CLASSES.index(label) for label in labels])
    thirds = np.array_split(np.arange(len(ids)), 3)
    return {
        part: Part(np.array(ids)[rows], codes[rows])
        for part, rows in zip(PARTS, thirds, strict=True)
    }


class Clinic(Dataset):
    name = "clinic"
    title, source, licence = "Clinic", "this test", "MIT"

    def __init__(self, records=None, split=None, factor=None) -> None:
        super().__init__(Path("/images"), Path("/cache"))
        self._records = table() if records is None else records
        self._split = split or Split("given", CLASSES, parts(), {"head": CLASSES})
        self.default_imbalance_factor = factor

    def records(self) -> pd.DataFrame:
        return self._records

    def split(self, imbalance_factor, seed) -> Split:  # noqa: ARG002
        return self._split


def refused(call, *words) -> str:
    with pytest.raises(UserError, match=r"^data set 'clinic': ") as caught:
        call(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_further_columns_of_the_records_are_its_metadata_as_texts() -> None:
    ages = [41.0, np.nan, *[7] * (len(IDS) - 2)]
    found = read_metadata(Clinic(table(age=ages, sex=None)))
    assert list(found.columns) == ["age", "sex"]
    assert found["age"].tolist()[:3] == ["41.0", "", "7.0"]
    assert set(found["sex"]) == {""}
    assert found.index.tolist() == IDS
    assert read_metadata(Clinic()).shape == (len(IDS), 0)


def test_metadata_that_are_no_table() -> None:
    class Wrong(Clinic):
        found: object = "none"

        def metadata(self):
            return self.found

    dataset = Wrong()
    assert "metadata gives str, no pandas DataFrame" in refused(read_metadata, dataset)
    dataset = Wrong()
    dataset.found = pd.DataFrame({"sex": ["f", "m"]}, index=["a", "a"])
    assert "images come twice in its metadata: 'a'" in refused(read_metadata, dataset)


def test_good_ones_are_read_as_they_are() -> None:
    dataset = Clinic()
    assert read_records(dataset).equals(table().astype(object))
    split = read_split(dataset, None, 0)
    assert split.classes == CLASSES
    assert next(iter(split_files(dataset, split))) == "train0"


@pytest.mark.parametrize(
    "same",
    [
        table(label=pd.Categorical(LABELS), file=[f"{image}.jpg" for image in IDS]),
        table().set_index(pd.Index(np.array(IDS), name="image")),
        table().astype("string"),
        table(weight=1.0),
    ],
    ids=["categories", "numpy", "pandas strings", "a further column"],
)
def test_texts_may_come_in_any_of_pandas_kinds(same: pd.DataFrame) -> None:
    records = read_records(Clinic(same))
    assert records.to_dict() == table().to_dict()
    assert {type(value) for value in [*records.index, *records["label"]]} == {str}


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        ([1, 2], "records gives list, no pandas DataFrame"),
        (table().drop(columns="file"), "no column 'file', but \\['label', 'group'\\]"),
        (table()[:0], "no images"),
        (
            table().set_index(pd.RangeIndex(18)),
            "index\\): 0 \\(int\\) and 17 more, but must be text",
        ),
        (table().rename({"train1": "train0"}), "image ids come twice: 'train0'"),
        (table().rename({"train1": ""}), "index\\): '', but must be text"),
        (table(label=[np.nan, *LABELS[1:]]), "'label': nan .* for 'train0', but must be the name"),
        (
            table(label=[c == "nevus" for c in LABELS]),
            "'label': True \\(bool\\) for 'train0' and 17",
        ),
        (table(label=["a\tb", *LABELS[1:]]), "'label': 'a\\\\tb' for 'train0', but must be the"),
        (table(file=Path("a.jpg")), "column 'file': .*Path.* for 'train0' and 17 more"),
        (table(group=float("nan")), "column 'group': nan \\(float\\) .* \"\" where no lesion"),
        (table(group=7), "column 'group': 7 \\(int\\) for 'train0' and 17 more"),
        (pd.concat([table(), table()["label"]], axis=1), "has the column 'label' twice"),
    ],
)
def test_tables_that_are_wrong(records, problem: str) -> None:
    with pytest.raises(UserError, match=f"^data set 'clinic': .*{problem}") as caught:
        read_records(Clinic(records))
    assert "\n" not in str(caught.value)


def given(**words) -> Split:
    return Split(**{"name": "given", "classes": CLASSES, "parts": parts(), "groups": {}, **words})


def replaced(**words) -> dict[str, Part]:
    return {**parts(), **words}


@pytest.mark.parametrize(
    ("split", "problem"),
    [
        ({}, "split gives dict, no Split"),
        (given(classes=list(CLASSES)), "classes of its split are .* must be a tuple"),
        (given(classes=("nevus", "nevus")), "come twice: 'nevus'"),
        (given(classes=("nevus",)), "takes two or more"),
        (given(name="a/b"), "the name of its split is 'a/b', but names a folder"),
        (given(seed=np.int64(3)), "the seed of its split is .*3.*, but must be int or None"),
        (given(imbalance_factor=np.float32(3)), "imbalance_factor of its split is .*3.0"),
        (given(details={"of": np.int64(3)}), "details of its split can't be written to run.json"),
        (given(notes="by hand"), "notes of its split are 'by hand', no tuple of texts"),
        (given(group_rule=None), "group_rule of its split is None, but must be text"),
        (given(groups={"head": "nevus"}), "groups of its split are .* group → a tuple of classes"),
        (given(groups={"head": ("naevus",)}), "groups .* no classes of it: 'naevus'"),
        (given(groups={"head": CLASSES, "tail": ("nevus",)}), "in two groups .*: 'nevus'"),
        (given(parts={"train": parts()["train"]}), "are \\['train'\\], but must be train, v"),
        (given(parts=replaced(test=Part([], []))), "part 'test' .* is no Part of two arrays"),
        (
            given(parts=replaced(test=Part(parts()["test"].ids, np.zeros(2, int)))),
            "'test' of its split has 6 ids, but 2 labels",
        ),
        (
            given(parts=replaced(test=Part(parts()["test"].ids, parts()["test"].labels * 1.0))),
            "labels of float64, but must have int64",
        ),
        (
            given(parts=replaced(test=Part(np.arange(6), parts()["test"].labels))),
            "'test' .* has images that its table lacks: 0, 1, 2 and 3 more",
        ),
        (given(parts=replaced(test=parts()["train"])), "in 'train' and in 'test': 'train0'"),
        (
            given(parts=parts(ids=[IDS[0], *IDS[:1], *IDS[2:]])),
            "'train' of its split has images twice: 'train0'",
        ),
        (
            given(parts=parts(labels=[CLASSES[1], *LABELS[1:]])),
            "'train0' as 'basal cell carcinoma', but its table as 'nevus'",
        ),
        (
            given(parts=replaced(test=Part(parts()["test"].ids, parts()["test"].labels + 5))),
            "'test0' as 5, but its table as 'nevus'",
        ),
        (
            given(parts=replaced(test=Part(np.array([], str), np.array([], int)))),
            "'test' of its split has no images of 'nevus', 'basal cell carcinoma'",
        ),
    ],
)  # fmt: skip
def test_splits_that_are_wrong(split, problem: str) -> None:
    dataset = Clinic()
    dataset._split = split
    with pytest.raises(UserError, match=f"^data set 'clinic': .*{problem}") as caught:
        read_split(dataset, None, 0)
    assert "\n" not in str(caught.value)


def test_what_is_said_of_classes_is_of_classes_that_there_are() -> None:
    dataset = Clinic()
    dataset.ordered_classes, dataset.costs = CLASSES, {"nevus": {"basal cell carcinoma": 2}}
    read_split(dataset, None, 0)
    dataset.ordered_classes = ("nevus", "melanoma")
    assert "ordered_classes name no classes of its split: 'melanoma'" in refused(
        read_split, dataset, None, 0
    )
    dataset.ordered_classes, dataset.costs = (), {"nevus": {"bcc": 2}}
    assert "costs name no classes of its split: 'bcc'" in refused(read_split, dataset, None, 0)


def test_arrays_come_in_the_kinds_that_predictions_are_kept_in() -> None:
    of_objects = {
        name: Part(part.ids.astype(object), part.labels.astype(np.uint8))
        for name, part in parts().items()
    }
    split = read_split(Clinic(split=given(parts=of_objects)), None, 0)
    assert {part.ids.dtype.kind for part in split.parts.values()} == {"U"}
    assert {part.labels.dtype for part in split.parts.values()} == {np.dtype(np.int64)}
    assert split.fingerprint == given().fingerprint


def test_a_part_without_validation_images_is_none_of_them() -> None:
    empty = Part(np.array([], str), np.array([], int))
    read_split(Clinic(split=given(parts=replaced(validation=empty))), None, 0)


def test_a_split_that_ignores_an_imbalance_factor_refuses_it() -> None:
    silent = Clinic()
    assert "nothing of --imbalance-factor 50; leave it out" in refused(read_split, silent, 50.0, 0)
    with pytest.raises(UserError, match="imbalance-factor 50; leave it out"):
        make_split(silent, SplitSpec(imbalance_factor=50.0))
    pretending = Clinic(split=given(imbalance_factor=50.0))
    told = refused(read_split, pretending, 50.0, 0)
    assert "--imbalance-factor 50 changes nothing in its split" in told


@pytest.mark.parametrize("factor", [2.0, 100.0])
def test_a_factor_that_the_images_have_anyway_is_no_slip(factor: float) -> None:
    default = 100.0  # of the data set, with which its split is made anyway
    read_split(Clinic(split=given(imbalance_factor=factor), factor=default), factor, 0)


def test_a_seed_that_changes_nothing_is_refused() -> None:
    split = given(seed=7)
    assert make_split(Clinic(split=given()), SplitSpec()).seed is None
    make_split(Clinic(split=split), SplitSpec())
    with pytest.raises(UserError, match="data set 'clinic': --split-seed 7 changes nothing"):
        make_split(Clinic(split=split), SplitSpec(seed=7))


def test_where_the_files_lie_must_be_said() -> None:
    class Rootless(Clinic):
        needs_root = False

        def __init__(self) -> None:
            super().__init__()
            self.root = None

    class Texts(Clinic):
        image_root = "/images"

    class Nested(Clinic):
        results_name = "clinic/2024"

    assert "says no image_root" in refused(image_root, Rootless())
    assert "image_root is '/images', but must be a pathlib.Path" in refused(image_root, Texts())
    assert "results_name is 'clinic/2024', but names a folder" in refused(
        read_split, Nested(), None, 0
    )


def test_what_breaks_inside_is_told_in_one_line() -> None:
    class Broken(Clinic):
        def records(self):
            return pd.read_csv("/nowhere/labels.csv")

    told = refused(read_records, Broken())
    assert "records fails with FileNotFoundError" in told
    assert f"{__file__}, line " in told


def test_a_wrong_table_is_told_before_the_split_that_it_breaks() -> None:
    class Unlabelled(Clinic):
        def records(self):
            return super().records().rename(columns={"label": "diagnosis"})

        def split(self, *_):
            return self.records()["label"]

    assert "its table has no column 'label'" in refused(read_split, Unlabelled(), None, 0)


def test_nothing_else_reads_tables_and_splits() -> None:
    for path in (ROOT / "lmdbench").rglob("*.py"):
        if path.name == "reading.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr != "records", f"{path}, line {node.lineno}"


def test_remarks_are_lines() -> None:
    assert read_remarks(Clinic()) == ()
    (said,) = read_remarks(Clinic(table(group=["NA", "nan", *(["NA", ""] * 8)])))
    assert said == 'lesions: "NA" (9 images) counts as one lesion; give "" where none is known'

    class Remarking(Clinic):
        remarks = ("12 rows without a label are left out",)

    assert read_remarks(Remarking()) == Remarking.remarks
    for wrong in ("one text", ("two\nlines",), (3,), [], ("",)):
        Remarking.remarks = wrong
        assert "no tuple of lines of text" in refused(read_remarks, Remarking())
