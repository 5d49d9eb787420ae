"""Scores against hand values and scikit-learn, and what must hold for any predictions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lmdbench.evaluation import metrics

# Three classes; predictions are 0 0 1 | 1 2 | 2.
LABELS = np.array([0, 0, 0, 1, 1, 2])
LOGITS = np.array([[2, 1, 0], [3, 0, 1], [0, 2, 1], [1, 2, 0], [0, 1, 2], [0, 1, 4]], float)
GROUPS = {"head": [0], "medium": [1], "tail": [2]}


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits of a few classes, some perhaps without images, with ties in the scores."""
    classes = draw(st.integers(2, 6))
    images = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = rng.normal(size=(images, classes))
    if draw(st.booleans()):
        # Rows of a few kinds, all entries different: equal scores between images, not within one.
        logits = np.unique(logits, axis=0)[rng.integers(0, min(3, images), images)]
    return rng.integers(0, classes, images), logits


def groups_of(classes: int) -> dict[str, list[int]]:
    return {"head": [0], "medium": list(range(1, classes)), "tail": []}


def test_values_worked_out_by_hand() -> None:
    assert metrics.confusion_matrix(LABELS, LOGITS).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    got = metrics.scores(LABELS, LOGITS, GROUPS)
    assert got["accuracy"] == pytest.approx(4 / 6)
    assert got["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert got["macro_f1"] == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)
    assert (got["head"], got["medium"], got["tail"]) == pytest.approx((2 / 3, 1 / 2, 1))
    assert got["group_mean"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    # MCC: (4·6 − (3·2 + 2·2 + 1·2)) / √((36 − 14)(36 − 12))
    assert got["mcc"] == pytest.approx(12 / math.sqrt(22 * 24))


def test_auroc_counts_a_tie_one_half() -> None:
    labels = np.array([0, 0, 1, 1])
    scores = np.array([3.0, 1.0, 1.0, 0.0])
    logits = np.stack([scores, np.zeros(4)], axis=1)
    # Pairs of class 0 with class 1: 3>1, 3>0, 1=1, 1>0.
    assert metrics.class_aurocs(labels, logits).tolist() == [3.5 / 4, 3.5 / 4]


def test_group_value_is_the_mean_of_class_recalls_and_group_mean_no_balanced_accuracy() -> None:
    got = metrics.scores(LABELS, LOGITS, {"head": [0, 1], "tail": [2]})
    assert got["head"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert got["group_mean"] == pytest.approx(((2 / 3 + 1 / 2) / 2 + 1) / 2)
    assert got["group_mean"] != pytest.approx(got["balanced_accuracy"])


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_agrees_with_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    labels, logits = case
    predicted, there = logits.argmax(axis=1), np.unique(labels)
    recalls = sk.recall_score(labels, predicted, labels=there, average=None, zero_division=0)
    assert metrics.class_recalls(labels, logits)[there] == pytest.approx(recalls)
    assert metrics.balanced_accuracy(labels, logits) == pytest.approx(recalls.mean())
    assert metrics.accuracy(labels, logits) == pytest.approx(sk.accuracy_score(labels, predicted))
    f1 = sk.f1_score(labels, predicted, labels=there, average="macro", zero_division=0)
    assert metrics.macro_f1(labels, logits) == pytest.approx(f1)
    if len(there) > 1:
        assert metrics.mcc(labels, logits) == pytest.approx(
            sk.matthews_corrcoef(labels, predicted), abs=1e-12
        )
        probabilities = metrics.softmax(logits)
        expected = [sk.roc_auc_score(labels == k, probabilities[:, k]) for k in there]
        assert metrics.class_aurocs(labels, logits)[there] == pytest.approx(expected)
    if len(there) == logits.shape[1] > 2:
        whole = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
        assert metrics.macro_auroc(labels, logits) == pytest.approx(whole)


@settings(max_examples=60, deadline=None)
@given(predictions(), st.integers(0, 2**32))
def test_order_of_classes_and_images_changes_nothing(
    case: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    labels, logits = case
    rng = np.random.default_rng(seed)
    groups = groups_of(logits.shape[1])
    order = rng.permutation(logits.shape[1])  # new class k is old class order[k]
    new_of = np.argsort(order)
    images = rng.permutation(len(labels))
    moved = {name: [int(new_of[k]) for k in members] for name, members in groups.items()}
    before = metrics.scores(labels, logits, groups)
    after = metrics.scores(new_of[labels][images], logits[:, order][images], moved)
    assert before == {
        name: value if value is None else pytest.approx(value) for name, value in after.items()
    }


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_in_range_and_missing_exactly_where_there_is_a_reason(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, logits = case
    groups = groups_of(logits.shape[1])
    got, reasons = metrics.scores(labels, logits, groups), metrics.missing(labels, logits, groups)
    assert {name for name, value in got.items() if value is None} == set(reasons)
    for name, value in got.items():
        if value is not None:
            assert (-1 if name == "mcc" else 0) - 1e-12 <= value <= 1 + 1e-12


def test_a_class_without_images_is_missing_and_not_zero() -> None:
    labels = np.array([0, 0, 1])
    logits = np.array([[2.0, 1, 0], [0, 1, 2], [1, 2, 0]])
    assert metrics.class_recalls(labels, logits) == pytest.approx([0.5, 1, np.nan], nan_ok=True)
    assert math.isnan(metrics.class_aurocs(labels, logits)[2])
    assert math.isnan(metrics.class_f1(labels, logits)[2])
    got = metrics.scores(labels, logits, GROUPS)
    assert got["balanced_accuracy"] == pytest.approx(0.75)
    assert got["tail"] is None
    assert got["group_mean"] is None
    assert metrics.missing(labels, logits, GROUPS) == {
        "tail": "no class of the group has images",
        "group_mean": "tail has no value",
    }


def test_a_class_never_predicted_scores_zero() -> None:
    labels, logits = np.array([0, 1]), np.array([[1.0, 0], [1, 0]])
    assert metrics.class_f1(labels, logits).tolist() == [pytest.approx(2 / 3), 0]
    assert metrics.mcc(labels, logits) == 0


def test_one_class_only_has_no_auroc_and_no_mcc() -> None:
    labels, logits = np.array([1, 1]), np.array([[1.0, 0], [0, 1]])
    got = metrics.scores(labels, logits, {"head": [1]})
    assert (got["macro_auroc"], got["mcc"]) == (None, None)
    assert got["accuracy"] == 0.5
    assert metrics.missing(labels, logits, {"head": [1]})["mcc"] == "all images are of one class"


def test_no_groups_and_a_group_without_classes() -> None:
    assert metrics.scores(LABELS, LOGITS, {})["group_mean"] is None
    assert metrics.missing(LABELS, LOGITS, {"tail": []})["tail"] == "the group has no classes"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_score_nothing(bad: float) -> None:
    logits = LOGITS.copy()
    logits[3, 1] = bad
    got = metrics.scores(LABELS, logits, GROUPS)
    assert set(got.values()) == {None}
    assert math.isnan(metrics.balanced_accuracy(LABELS, logits))
    why = metrics.missing(LABELS, logits, GROUPS)["accuracy"]
    assert why == "the logits of 1 of 6 images are not finite"


def test_minus_infinity_rules_a_class_out() -> None:
    logits = LOGITS.copy()
    logits[0, 2] = -np.inf
    assert metrics.scores(LABELS, logits, GROUPS)["accuracy"] == pytest.approx(4 / 6)


def test_no_images() -> None:
    nothing = np.zeros(0, np.int64), np.zeros((0, 3))
    assert set(metrics.scores(*nothing, GROUPS).values()) == {None}
    assert metrics.missing(*nothing, GROUPS)["accuracy"] == "there are no images"


def test_large_logits_do_not_overflow() -> None:
    probabilities = metrics.softmax(np.array([[1e4, 0.0], [-1e4, 0.0]], np.float32))
    assert probabilities.tolist() == [[1, 0], [0, 1]]


def test_images_per_group() -> None:
    counts = metrics.images_per_group(LABELS, {"head": [0, 1], "tail": [2, 3], "none": []}, 4)
    assert counts == {"all": 6, "head": 5, "tail": 1, "none": 0}
