"""CSV files of predictions: which image, which class, logits or probabilities."""

import gzip
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Part
from lmdbench.runs.record import RunRecord, RunSpec
from lmdbench.sharing.setting import NO_METHOD, SharedContext
from lmdbench.sharing.table import TablePredictions, Values, as_logits, read_predictions

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
    assert "image names are matched without their folders" in found.notes[0]


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
        (TEST.replace(",", ";"), "its columns seem separated by ';'; save it with commas"),
        ("x,y,NV,MEL,BCC\na,1,1,2,3\n", "no column with the images' ids; call it image"),
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
        ([[0.9, 0.8], [0.5, 0.5]], "auto", "add up to 1 (image i0: 1.7): say --values logits"),
        ([[0.5, 0.5], [0.5, 0.53]], "auto", "(image i1: 1.03): say --values probabilities if"),
        ([[0.5, 0.5], [0.9, 0.8]], "probabilities", "(image i1: 1.7); say --values logits if"),
        ([[0.5, 0.5], [0.5, 0.56]], "probabilities", "don't add up to 1 (image i1: 1.06)"),
        ([[99, 1.0], [40, 59.6]], "auto", "about 100 (image i0: 100), as percentages do: divide"),
        ([[99, 1.0], [40, 59.6]], "probabilities", "divide them by 100"),
        ([[0.5, 0.5], [-1.0, 2.0]], "probabilities", "those of image i1 are not all in [0, 1]"),
    ],
)
def test_values_that_are_neither_are_refused(
    values: list[list[float]], kind: Values, said: str
) -> None:
    with pytest.raises(UserError) as error:
        as_logits(np.array(values), kind, IMAGES)
    assert said in str(error.value)


def test_values_that_look_like_percentages_may_be_logits() -> None:
    stored, kind, _ = as_logits(np.array([[99, 1.0]]), "logits", IMAGES)
    assert (kind, stored.tolist()) == ("logits", [[99, 1]])


def test_probabilities_that_were_rounded_are_divided_by_their_sums(
    setting: SharedContext, write: Write
) -> None:
    text = "image,NV,MEL,BCC\na,.33,.33,.3\nb,.5,.5,0\nc,.34,.34,.36\n"
    found = read(setting, write(text), values="probabilities")
    assert found.notes == ("rows add up to 0.96 to 1.04: each is divided by its sum",)
    shares = np.exp(found.parts["test"].logits)
    np.testing.assert_allclose(shares[0], [0.34375, 0.34375, 0.3125], rtol=1e-6)
    assert "say --values probabilities if they are, rounded" in problem(setting, write(text))
