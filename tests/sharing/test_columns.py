"""Which columns of a table of predictions are the classes, under which names."""

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.tables import Table
from lmdbench.sharing.columns import class_columns, other_columns

CLASSES = ["MEL", "NV", "basal cell"]


def table(*columns: str) -> Table:
    from pathlib import Path

    return Table(Path("mine.csv"), list(columns), [], [])


def problem(*columns: str) -> str:
    with pytest.raises(UserError) as error:
        class_columns(table(*columns), CLASSES)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("form", ["prob_{}", "p:{}", "{}_logit", "class {}", "Score-{}"])
def test_the_same_words_around_all_names_do_not_matter(form: str) -> None:
    named = [form.format(name) for name in CLASSES]
    columns, note = class_columns(table("image", *reversed(named)), CLASSES)
    assert columns == named
    assert note.startswith(f"the columns of the classes are {named[0]!r}, ")


def test_names_as_they_are_come_first() -> None:
    named = [f"prob_{name}" for name in CLASSES]
    assert class_columns(table("image", *named, *CLASSES), CLASSES) == (CLASSES, "")


def test_what_can_not_be_told_is_refused() -> None:
    both = [f"{kind}_{name}" for kind in ("prob", "logit") for name in CLASSES]
    assert "could be those like 'prob_MEL' or 'logit_MEL'; leave" in problem("image", *both)


@pytest.mark.parametrize("truth", ["true", "gt", "y_true", "label"])
def test_a_one_hot_truth_is_no_prediction(truth: str) -> None:
    assert "no column for the classes" in problem("image", *(f"{truth}_{c}" for c in CLASSES))


@pytest.mark.parametrize("numbered", [("0", "1", "2"), ("1", "2", "3"), ("p_0", "p_1", "p_2")])
def test_numbers_of_classes_are_told(numbered: tuple[str, ...]) -> None:
    text = problem("image", *numbered)
    assert f"({', '.join(map(repr, numbered))} are numbers: name them as the classes" in text


def test_columns_that_say_a_class_are_no_image_ids() -> None:
    found = other_columns(table("label", "y_pred", "file", "age", *CLASSES), CLASSES)
    assert (found.image, found.truth, found.decision) == ("file", ["label"], ["y_pred"])
    assert found.ignored == ["age"]
    with pytest.raises(UserError, match="no column with the images' ids"):
        other_columns(table("label", *CLASSES), CLASSES)
    own = other_columns(table("file", "label", "NV"), ["label", "NV"])  # a class of that name
    assert own.truth == []
