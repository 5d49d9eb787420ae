"""CSV files of predictions: which image, which class, logits or probabilities."""

import gzip
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from lmdbench.data.dataset import Part
from lmdbench.errors import UserError
from lmdbench.sharing.setting import Setting
from lmdbench.sharing.table import Read, Values, as_logits, read_predictions

Write = Callable[..., Path]


@pytest.fixture
def setting() -> Setting:
    """Three test, two validation and two training images of three classes."""
    parts = {
        "train": Part(np.array(["t0", "t1"]), np.array([0, 1])),
        "validation": Part(np.array(["v0", "v1"]), np.array([0, 2])),
        "test": Part(np.array(["a", "b", "c"]), np.array([2, 0, 1])),
    }
    facts = {"classes": ["NV", "MEL", "BCC"], "results_name": "skin", "split_label": "plain"}
    return Setting({}, facts, parts, {"a": "lesion 1", "c": "lesion 1"})


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(text: str, name: str = "mine.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return file


TEST = "image,NV,MEL,BCC\na,1,2,3\nb,4,5,6\nc,7,8,9.5\n"


def read(setting: Setting, *files: Path, values: Values = "auto") -> Read:
    return read_predictions(files, setting, values)


def problem(setting: Setting, *files: Path, values: Values = "auto") -> str:
    with pytest.raises(UserError) as error:
        read(setting, *files, values=values)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_rows_and_columns_come_in_any_order(setting: Setting, write: Write) -> None:
    found = read(setting, write("BCC,image,NV,MEL\n9.5,c,7,8\n3,a,1,2\n6,b,4,5\n"))
    test = found.parts["test"]
    assert test.ids.tolist() == ["a", "b", "c"]
    assert test.labels.tolist() == [2, 0, 1]
    assert test.logits.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9.5]]
    assert test.units is not None
    assert test.units.tolist() == ["lesion 1", "", "lesion 1"]
    assert (list(found.parts), found.values, found.zeros) == (["test"], "logits", 0)


def test_compressed_files_are_read(setting: Setting, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv.gz"
    path.write_bytes(gzip.compress(TEST.encode()))
    assert len(read(setting, path).parts["test"]) == 3
    path.write_bytes(path.read_bytes()[:-12])
    assert "mine.csv.gz: damaged" in problem(setting, path)


def test_validation_may_be_in_the_file_or_in_one_of_its_own(setting: Setting, write: Write) -> None:
    rows = "v1,1,1,0\nv0,3,0,0\n"
    both = read(setting, write(TEST + rows))
    apart = read(setting, write(TEST), write(f"image,NV,MEL,BCC\n{rows}", "val.csv"))
    for found in (both, apart):
        assert found.parts["validation"].logits.tolist() == [[3, 0, 0], [1, 1, 0]]
        assert found.parts["test"].logits[0].tolist() == [1, 2, 3]


def test_training_images_are_left_out_and_told(setting: Setting, write: Write) -> None:
    found = read(setting, write(TEST + "t0,1,1,1\nt1,,x,\n"))
    assert list(found.parts) == ["test"]
    assert found.notes == ("mine.csv: 2 training images left out",)


def test_a_part_column_is_checked(setting: Setting, write: Write) -> None:
    good = "image,part,NV,MEL,BCC\na,test,1,2,3\nb,test,4,5,6\nc,test,7,8,9\nt0,Training,1,1,1\n"
    assert list(read(setting, write(good)).parts) == ["test"]
    bad = good.replace("c,test", "c,val")
    assert "by its column 'part' 1 image is of another part than in skin plain: c" in problem(
        setting, write(bad)
    )


@pytest.mark.parametrize("form", ["{}.jpg", "images/{}.PNG", "images/{}", r"c:\x\{}.tif"])
def test_folders_and_endings_of_image_names_do_not_matter(
    setting: Setting, write: Write, form: str
) -> None:
    rows = [f"{form.format(name)},1,2,{k}" for k, name in enumerate("abc")]
    found = read(setting, write("\n".join(["image,NV,MEL,BCC", *rows])))
    assert found.parts["test"].logits[:, 2].tolist() == [0, 1, 2]
    assert "image names are matched without their folders" in found.notes[0]


def test_endings_matter_where_images_differ_in_nothing_else(write: Write) -> None:
    parts = {"test": Part(np.array(["a.jpg", "a.png"]), np.array([0, 1]))}
    setting = Setting(
        {}, {"classes": ["x", "y"], "results_name": "r", "split_label": "s"}, parts, {}
    )
    assert "in no part of r s: a" in problem(setting, write("image,x,y\na,1,2\n"))
    assert len(read(setting, write("image,x,y\na.png,1,2\na.jpg,1,2\n")).parts["test"]) == 2


@pytest.mark.parametrize("name", ["image_id", "Filename", "whatever"])
def test_the_column_of_images_is_found(setting: Setting, write: Write, name: str) -> None:
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
        (TEST.replace(",", ";"), "must be separated by commas"),
        ("x,y,NV,MEL,BCC\na,1,1,2,3\n", "no column with the images' ids; call it image"),
        ("image,nv,MEL,BCC,N V\n", "no rows"),
        ("image,nv,MEL,BCC,Nv\na,1,1,2,3\n", "'NV' could be any of the columns 'nv', 'Nv'"),
    ],
)
def test_what_is_wrong_is_named(setting: Setting, write: Write, text: str, said: str) -> None:
    assert said in problem(setting, write(text))


def test_an_image_in_both_files_is_named(setting: Setting, write: Write) -> None:
    again = write("image,NV,MEL,BCC\na,1,2,3\n", "val.csv")
    assert "val.csv: a is there already" in problem(setting, write(TEST), again)


def test_class_columns_may_differ_in_case_and_blanks(write: Write) -> None:
    parts = {"test": Part(np.array(["a"]), np.array([0]))}
    facts = {"classes": ["round plain", "pink-dotted"], "results_name": "r", "split_label": "s"}
    found = read(Setting({}, facts, parts, {}), write("image,Pink_Dotted,ROUND-PLAIN\na,1,2\n"))
    assert found.parts["test"].logits.tolist() == [[2, 1]]


# Values

IMAGES = [f"i{k}" for k in range(50)]


def test_probabilities_are_told_by_their_sums_and_keep_every_score() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 4)) * 3
    p = softmax(logits, axis=1)
    for given in (p, p.round(4)):  # as a CSV has them
        stored, kind, zeros = as_logits(given, "auto", IMAGES)
        assert (kind, zeros) == ("probabilities", int((given == 0).sum()))
        np.testing.assert_allclose(
            softmax(stored, axis=1), given / given.sum(1)[:, None], atol=1e-6
        )


def test_zeros_count_as_in_scikit_learns_log_loss() -> None:
    p = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    stored, _, zeros = as_logits(p, "auto", IMAGES)
    assert zeros == 2
    assert np.isfinite(stored).all()
    nll = -np.log(softmax(stored.astype(float), axis=1)[[0, 1, 2], [0, 0, 0]]).mean()
    assert math.isclose(nll, log_loss([0, 0, 0], p, labels=[0, 1]), rel_tol=1e-6)


def test_zeros_stay_below_all_that_is_not_zero() -> None:
    stored, _, _ = as_logits(np.array([[0.0, 1e-30, 1 - 1e-30]]), "auto", IMAGES)
    assert stored[0, 0] <= stored[0, 1] < stored[0, 2]


def test_logits_stay_as_they_are() -> None:
    values = np.array([[0.2, 0.8], [-3.0, 7.0]])
    stored, kind, _ = as_logits(values, "auto", IMAGES)
    assert kind == "logits"
    np.testing.assert_array_equal(stored, values.astype(np.float32))
    forced, kind, _ = as_logits(np.array([[0.2, 0.8]]), "logits", IMAGES)
    assert kind == "logits"
    np.testing.assert_allclose(forced, [[0.2, 0.8]])


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ([[0.9, 0.8], [0.5, 0.5]], "auto", "not all rows add up to 1 (image i0: 1.7)"),
        ([[0.5, 0.5], [0.9, 0.8]], "probabilities", "don't add up to 1 (image i1: 1.7)"),
        ([[0.5, 0.5], [-1.0, 2.0]], "probabilities", "those of image i1 are not all in [0, 1]"),
    ],
)
def test_values_that_are_neither_are_refused(
    values: list[list[float]], kind: Values, said: str
) -> None:
    with pytest.raises(UserError) as error:
        as_logits(np.array(values), kind, IMAGES)
    assert said in str(error.value)
