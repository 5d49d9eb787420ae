"""What a table of predictions says of its images' classes, against the split and its own values."""

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.sharing.own_labels import (
    OwnColumn,
    compare_decisions,
    compare_truth,
    is_decision,
    is_truth,
)

CLASSES = ["mel", "nv", "basal cell"]
LABELS = [0, 1, 2, 0, 1, 2]
NAMES = [CLASSES[label] for label in LABELS]


def column(said: list[str], order: tuple[int, ...] = (0, 1, 2)) -> OwnColumn:
    images = [f"{k:03}.png" for k in range(len(said))]
    return OwnColumn("mine.csv: label", images, said, CLASSES, order)


def problem(said: list[str], order: tuple[int, ...] = (0, 1, 2)) -> str:
    with pytest.raises(UserError) as error:
        compare_truth(column(said, order), LABELS)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "label",
        "Label",
        "LABELS",
        "target",
        "true",
        "y_true",
        "Class",
        "ground_truth",
        "GroundTruth",
        "gt",
        "y",
        "true_label",
        "target-class",
        "classes",
        "class_id",
        "label_idx",
        "actual",
        "truth",
    ],
)
def test_columns_of_true_classes_are_told_by_their_names(name: str) -> None:
    assert is_truth(name)
    assert not is_decision(name)


@pytest.mark.parametrize(
    "name",
    [
        "pred",
        "predicted",
        "Prediction",
        "y_pred",
        "predicted_label",
        "argmax",
        "pred_class",
        "y_hat",
    ],
)
def test_columns_of_predicted_classes_are_told_by_their_names(name: str) -> None:
    assert is_decision(name)
    assert not is_truth(name)


@pytest.mark.parametrize("name", ["image", "id", "part", "probability", "score", "age", "nv", ""])
def test_others_are_neither(name: str) -> None:
    assert not is_truth(name)
    assert not is_decision(name)


@pytest.mark.parametrize(
    ("said", "order", "how"),
    [
        (NAMES, (0, 1, 2), ""),
        ([name.upper().replace(" ", "_") for name in NAMES], (0, 1, 2), ""),
        (
            ["0", "1", "2", "0", "1", "2"],
            (0, 1, 2),
            "; numbers by the order of the classes, 0 = mel",
        ),
        (
            ["0.0", "1.0", "2.0", "0.0", "1.0", "2.0"],
            (0, 1, 2),
            "; numbers by the order of the classes, 0",
        ),
        (
            ["1", "2", "3", "1", "2", "3"],
            (0, 1, 2),
            "; numbers by the order of the classes, 1 = mel",
        ),
        (
            ["2", "0", "1", "2", "0", "1"],
            (1, 2, 0),
            "; numbers by the order of the columns, 0 = nv",
        ),
    ],
)
def test_labels_that_agree_are_said(said: list[str], order: tuple[int, ...], how: str) -> None:
    note = compare_truth(column(said, order), LABELS)
    assert note.startswith(f"mine.csv: label agrees with the split (6 images{how}")


def test_empty_cells_say_nothing() -> None:
    assert "(5 images)" in compare_truth(column(["", *NAMES[1:]]), LABELS)
    assert compare_truth(column([""] * 6), LABELS) == ""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            ["nv", "basal cell", "mel"] * 2,
            "6 of 6 labels (100%) contradict the split, e.g. 000.png: nv here, mel there; as many "
            "images of each class in both: are its rows out of order?",
        ),
        (["nv", *NAMES[1:]], "1 of 6 labels (17%) contradict the split, e.g. 000.png: nv here"),
        (["nv", *NAMES[1:]], "were labels changed since?"),
        (["mel"] * 6, "4 of 6 labels (67%) contradict the split, e.g. 001.png: mel here, nv there"),
        (["0", "1", "2", "0", "2", "2"], "0 = mel, e.g. 004.png: basal cell (2) here, nv there"),
        (
            ["1", "2", "0", "1", "2", "0"],
            "6 of 6 labels (100%) contradict the split; numbers by the order",
        ),
    ],
)
def test_any_contradiction_is_refused(said: list[str], told: str) -> None:
    assert told in problem(said)


def test_codes_of_classes_are_not_compared() -> None:
    coded = ["C43", "D22.1", "C44", "C43", "D22.9", "C44"]
    note = compare_truth(column(coded), LABELS)
    assert "is not compared with the split: 'C43', 'D22.1', 'C44' and 1 more are no class" in note
    assert "are no class" in compare_truth(column(["bad", "good", "bad"] * 2), LABELS)


def test_codes_that_stand_for_several_classes_are_refused() -> None:
    mixed = ["C43", "D22", "C44", "D22", "C43", "C44"]
    assert "contradict the split, e.g. 'C43' stands for mel, nv" in problem(mixed)


def test_numbers_that_are_classes_are_names() -> None:
    own = OwnColumn("t.csv: label", ["a", "b"], ["1", "2.0"], ["1", "2", "7"], (0, 1, 2))
    assert compare_truth(own, [0, 1]) == "t.csv: label agrees with the split (2 images)"


# Predicted classes

VALUES = np.array([[3.0, 1, 0], [0, 2, 1], [0, 1, 2], [0.5, 0.5, 0], [1, 4, 2], [0, 0, 1]])


def test_decisions_are_compared_with_the_largest_values() -> None:
    for said in (
        ["mel", "nv", "basal cell", "nv", "nv", "basal cell"],
        ["0", "1", "2", "0", "1", "2"],
    ):
        assert "agrees with the largest values (6 images" in compare_decisions(column(said), VALUES)


def test_other_decisions_are_refused() -> None:
    with pytest.raises(UserError) as error:
        compare_decisions(column(["nv", "nv", "nv", "nv", "nv", "basal cell"]), VALUES)
    assert (
        "2 of 6 images (33%) have their largest value in another class, e.g. 000.png: nv here, mel "
        "by the values; are the columns of the classes mixed up?"
    ) in str(error.value)


def test_decisions_of_other_names_are_not_compared() -> None:
    assert compare_decisions(column(["x"] * 6), VALUES).endswith("not compared: 'x' is no class")
