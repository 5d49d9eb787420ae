"""CSV files of predictions: which image, which class."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Part
from lmdbench.evaluation.metrics import Scorer, equal_mass_bins, score, softmax
from lmdbench.evaluation.predictions import load_predictions, save_predictions
from lmdbench.runs.record import RunRecord, RunSpec
from lmdbench.sharing.setting import NO_METHOD, SharedContext
from lmdbench.sharing.table import TablePredictions, read_predictions
from lmdbench.sharing.values import Values

Write = Callable[..., Path]


def record(results_name: str, split_label: str, classes: list[str]) -> RunRecord:
    training = {"selection": "last", "backbone": "small", "weights": "none", "image_size": 32}
    of_split = {"dataset": "folder", "results_name": results_name, "split": {}}
    spec = RunSpec(**NO_METHOD, **training, **of_split, precision="mixed")
    own = {"results_name": results_name, "split_label": split_label, "classes": classes}
    return RunRecord(id=spec.id, spec=spec, **own, class_counts={}, groups={})


@pytest.fixture
def setting() -> SharedContext:
    """Three test, two validation and two training images of three classes."""
    parts = {
        "train": Part(np.array(["t0", "t1"]), np.array([0, 1])),
        "validation": Part(np.array(["v0", "v1"]), np.array([0, 2])),
        "test": Part(np.array(["a", "b", "c"]), np.array([2, 0, 1])),
    }
    classes = ["NV", "MEL", "BCC"]
    return SharedContext(
        record("skin", "plain", classes), parts, {"a": "lesion 1", "c": "lesion 1"}
    )


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str, name: str = "mine.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return file


TEST = "image,NV,MEL,BCC\na,1,2,3\nb,4,5,6\nc,7,8,9.5\n"


def read(setting: SharedContext, *files: Path, values: Values = "auto") -> TablePredictions:
    return read_predictions(files, setting, values)


def problem(setting: SharedContext, *files: Path, values: Values = "auto") -> str:
    with pytest.raises(UserError) as error:
        read(setting, *files, values=values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_and_columns_come_in_any_order(setting: SharedContext, write: Write) -> None:
    found = read(setting, write("BCC,image,NV,MEL\n9.5,c,7,8\n3,a,1,2\n6,b,4,5\n"))
    test = found.parts["test"]
    assert test.ids.tolist() == ["a", "b", "c"]
    assert test.labels.tolist() == [2, 0, 1]
    assert test.logits.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9.5]]
    assert test.units is not None
    assert test.units.tolist() == ["lesion 1", "", "lesion 1"]
    assert (list(found.parts), found.values, found.zeros) == (["test"], "logits", 0)


def test_compressed_files_are_read(setting: SharedContext, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv.gz"
    path.write_bytes(gzip.compress(TEST.encode()))
    assert len(read(setting, path).parts["test"]) == 3
    path.write_bytes(path.read_bytes()[:-12])
    assert "mine.csv.gz: damaged" in problem(setting, path)


def test_validation_may_be_in_the_file_or_in_one_of_its_own(
    setting: SharedContext, write: Write
) -> None:
    rows = "v1,1,1,0\nv0,3,0,0\n"
    both = read(setting, write(TEST + rows))
    apart = read(setting, write(TEST), write(f"image,NV,MEL,BCC\n{rows}", "val.csv"))
    for found in (both, apart):
        assert found.parts["validation"].logits.tolist() == [[3, 0, 0], [1, 1, 0]]
        assert found.parts["test"].logits[0].tolist() == [1, 2, 3]


def test_training_images_are_left_out_and_told(setting: SharedContext, write: Write) -> None:
    found = read(setting, write(TEST + "t0,1,1,1\nt1,,x,\n"))
    assert list(found.parts) == ["test"]
    assert found.notes == ("mine.csv: 2 training images left out",)


def test_a_part_column_is_checked(setting: SharedContext, write: Write) -> None:
    good = "image,part,NV,MEL,BCC\na,test,1,2,3\nb,test,4,5,6\nc,test,7,8,9\nt0,Training,1,1,1\n"
    assert list(read(setting, write(good)).parts) == ["test"]
    bad = good.replace("c,test", "c,val")
    assert "mine.csv: part says validation, the split says test of 1 image: c" in problem(
        setting, write(bad)
    )


def test_test_images_that_are_called_training_images_are_told(
    setting: SharedContext, write: Write
) -> None:
    """Where training images are known, and where (--like) they are not."""
    of_run = replace(setting, parts={k: part for k, part in setting.parts.items() if k != "train"})
    rows = [f"{name}.jpg,train,1,2,3" for name in "abc"]
    for there in (setting, of_run):
        text = problem(there, write("\n".join(["image,part,NV,MEL,BCC", *rows])))
        assert "part says train, the split says test of 3 images: a, b, c" in text
    # Training images whose names without folders are those of test images are none of these.
    own = "image,part,NV,MEL,BCC\n" + "".join(f"{name},test,1,2,3\n" for name in "abc")
    found = read(of_run, write(own + "train/a,train,1,1,1\n"))
    assert found.notes == ("mine.csv: 1 training image left out",)


@pytest.mark.parametrize("form", ["{}.jpg", "images/{}.PNG", "images/{}", r"c:\x\{}.tif"])
def test_folders_and_endings_of_image_names_do_not_matter(
    setting: SharedContext, write: Write, form: str
) -> None:
    rows = [f"{form.format(name)},1,2,{k}" for k, name in enumerate("abc")]
    found = read(setting, write("\n".join(["image,NV,MEL,BCC", *rows])))
    assert found.parts["test"].logits[:, 2].tolist() == [0, 1, 2]
    assert f": {rows[0].split(',')[0]} → a (3 of 3 like this)" in found.notes[0]


def test_endings_matter_where_images_differ_in_nothing_else(write: Write) -> None:
    parts = {"test": Part(np.array(["a.jpg", "a.png"]), np.array([0, 1]))}
    setting = SharedContext(record("r", "s", ["x", "y"]), parts, {})
    assert "in no part of r s: a" in problem(setting, write("image,x,y\na,1,2\n"))
    assert len(read(setting, write("image,x,y\na.png,1,2\na.jpg,1,2\n")).parts["test"]) == 2


@pytest.mark.parametrize("name", ["image_id", "Filename", "whatever"])
def test_the_column_of_images_is_found(setting: SharedContext, write: Write, name: str) -> None:
    assert len(read(setting, write(TEST.replace("image", name))).parts["test"]) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,NV,MEL,BCC\na,1,2,3\n", "2 of the 3 test images of skin plain are missing: b, c"),
        (TEST + "d,1,2,3\ne,1,2,3\n", "2 images of it are in no part of skin plain: d, e"),
        (TEST + "b,1,2,3\n", "b is there more than once"),
        (
            TEST + "v0,1,2,3\n",
            "1 of the 2 validation images of skin plain is missing: v1; give all",
        ),
        (TEST + ",1,2,3\n", "line 5: image is empty"),
        (TEST.replace("9.5", "nan"), "line 4: BCC is 'nan', which is no finite number"),
        (TEST.replace("9.5", "-inf"), "BCC is '-inf'"),
        (TEST.replace("9.5", "1e39"), "BCC is '1e39'"),
        (TEST.replace("9.5", ""), "BCC is ''"),
        (TEST.replace("9.5", "nine"), "BCC is 'nine'"),
        (TEST.replace("BCC", "BBC"), "no column for the class 'BCC' (is 'BBC' for 'BCC'?)"),
        ("x,z,NV,MEL,BCC\na,1,1,2,3\n", "no column with the images' ids; call it image"),
        ("image,nv,MEL,BCC,N V\n", "no rows"),
        ("image,nv,MEL,BCC,Nv\na,1,1,2,3\n", "'NV' could be any of the columns 'nv', 'Nv'"),
    ],
)
def test_what_is_wrong_is_named(setting: SharedContext, write: Write, text: str, said: str) -> None:
    assert said in problem(setting, write(text))


def test_an_image_in_both_files_is_named(setting: SharedContext, write: Write) -> None:
    again = write("image,NV,MEL,BCC\na,1,2,3\n", "val.csv")
    assert "val.csv: a is there already" in problem(setting, write(TEST), again)


def test_class_columns_may_differ_in_case_and_blanks(write: Write) -> None:
    parts = {"test": Part(np.array(["a"]), np.array([0]))}
    setting = SharedContext(record("r", "s", ["round plain", "pink-dotted"]), parts, {})
    found = read(setting, write("image,Pink_Dotted,ROUND-PLAIN\na,1,2\n"))
    assert found.parts["test"].logits.tolist() == [[2, 1]]


def test_probabilities_that_were_rounded_are_divided_by_their_sums(
    setting: SharedContext, write: Write
) -> None:
    text = "image,NV,MEL,BCC\na,.33,.33,.3\nb,.5,.5,0\nc,.34,.34,.36\n"
    found = read(setting, write(text), values="probabilities")
    assert found.notes == (
        "rows add up to 0.96 to 1.04: each is divided by its sum, except to rank",
    )
    shares = softmax(found.parts["test"].logits)
    np.testing.assert_allclose(shares[0], [0.34375, 0.34375, 0.3125], rtol=1e-6)
    ranks = Scorer(found.parts["test"].labels, found.parts["test"].logits).ranks
    np.testing.assert_allclose(ranks[:2], [[0.33, 0.33, 0.3], [0.5, 0.5, 0]], atol=1e-15)
    assert "say --values probabilities if they are, rounded" in problem(setting, write(text))


def test_scores_of_a_file_full_of_ties_are_those_of_its_probabilities(
    tmp_path: Path, write: Write
) -> None:
    """In hundredths, with zeros and ones; written to disk and read again."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [250, 40, 10])
    sure = np.exp(3 * rng.normal(size=(300, 3)) + 4 * np.eye(3)[labels])
    p = rng.multinomial(100, sure / sure.sum(axis=1, keepdims=True)) / 100
    assert min((p == 0).sum(), (p == 1).sum()) > 50
    ids = np.array([f"i{k}" for k in range(300)])
    lines = [f"{image},{','.join(map(str, row))}" for image, row in zip(ids, p, strict=True)]
    shared = SharedContext(
        record("skin", "plain", ["NV", "MEL", "BCC"]), {"test": Part(ids, labels)}, {}
    )
    found = read(shared, write("image,NV,MEL,BCC\n" + "\n".join(lines)))
    save_predictions(tmp_path / "predictions.npz", found.parts)
    kept = load_predictions(tmp_path / "predictions.npz")["test"]
    bins = equal_mass_bins(p.max(axis=1))
    gaps = (p.argmax(axis=1) == labels) - p.max(axis=1)
    expected = {
        "macro_auroc": np.mean([roc_auc_score(labels == c, p[:, c]) for c in range(3)]),
        "nll": log_loss(labels, p),
        "brier": ((p - np.eye(3)[labels]) ** 2).sum(axis=1).mean(),
        "ece": np.abs(np.bincount(bins, gaps)).sum() / 300,
    }
    for name, value in expected.items():
        assert score(name, kept.labels, kept.logits) == pytest.approx(value, abs=1e-12), name


# Names, labels and files as other programs leave them


@pytest.mark.parametrize("form", ["{}", "{}.png", "{}.0", "x/{}.jpeg", r"D:\img\{}.png", "{}e+00"])
def test_names_that_lost_their_zeros_are_found_and_told(write: Write, form: str) -> None:
    ids = [f"{n:05}.png" for n in (3, 1, 2)]
    parts = {"test": Part(np.array(ids), np.array([0, 1, 1]))}
    setting = SharedContext(record("r", "s", ["x", "y"]), parts, {})
    rows = [f"{form.format(n)},{n},0" for n in (1, 2, 3)]
    found = read(setting, write("\n".join(["image,x,y", *rows])))
    assert found.parts["test"].logits[:, 0].tolist() == [3, 1, 2]
    assert f": {form.format(1)} → 00001.png (3 of 3 like this)" in found.notes[0]


def test_names_that_could_be_several_are_told(write: Write) -> None:
    parts = {"test": Part(np.array(["01.png", "001.png"]), np.array([0, 1]))}
    setting = SharedContext(record("r", "s", ["x", "y"]), parts, {})
    text = problem(setting, write("image,x,y\n1,1,2\n2,1,2\n"))
    assert "2 images of it are in no part of r s: 1, 2 (1 could be 001.png or 01.png)" in text


def test_one_image_under_two_names_is_there_twice(setting: SharedContext, write: Write) -> None:
    text = problem(setting, write(TEST + "A.png,1,2,3\n"))
    assert "A.png (is A.png the image a, which has a row already?)" in text
    twice = TEST.replace("a,", "a.png,") + "a.jpg,1,2,3\n"
    assert "a is there more than once" in problem(setting, write(twice))


def test_labels_of_the_file_are_compared(setting: SharedContext, write: Write) -> None:
    text = "image,NV,MEL,BCC,label,y_pred\na,1,2,3,BCC,BCC\nb,4,5,6,NV,BCC\nc,7,8,9,MEL,BCC\n"
    found = read(setting, write(text))
    assert found.notes == (
        "mine.csv: label agrees with the split (3 images)",
        "mine.csv: y_pred agrees with the largest values (3 images)",
    )
    for name in ("label", "Target", "true", "Y_TRUE", "class", "ground truth", "gt"):
        wrong = text.replace("NV,BCC\nc", "MEL,BCC\nc").replace("label", name)
        said = problem(setting, write(wrong))
        assert (
            f"mine.csv: {name}: 1 of 3 labels (33%) contradict the split, e.g. b: MEL here" in said
        )
    other = problem(setting, write(text.replace("c,7,8,9,MEL,BCC", "c,7,8,9,MEL,NV")))
    assert "y_pred: 1 of 3 images (33%) have their largest value in another class" in other


def test_labels_of_training_images_are_compared_where_known(
    setting: SharedContext, write: Write
) -> None:
    text = "image,NV,MEL,BCC,label\na,1,2,3,BCC\nb,4,5,6,NV\nc,7,8,9,MEL\nt0,,,,MEL\n"
    assert "e.g. t0: MEL here, NV there" in problem(setting, write(text))


@pytest.mark.parametrize("name", ["mine.npz", "mine.PARQUET", "mine.xlsx", "mine.json", "mine.pt"])
def test_other_kinds_of_files_are_told(setting: SharedContext, write: Write, name: str) -> None:
    said = problem(setting, write("PK", name))
    assert "are read from CSV files (or .csv.gz): write one with a column image and one" in said
