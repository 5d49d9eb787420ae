"""Scores against hand values and scikit-learn, and what must hold for any predictions."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from lmdbench.core.errors import UserError
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
    assert metrics.by_class("auroc", labels, logits).tolist() == [3.5 / 4, 3.5 / 4]


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
    assert metrics.by_class("recall", labels, logits)[there] == pytest.approx(recalls)
    assert metrics.balanced_accuracy(labels, logits) == pytest.approx(recalls.mean())
    assert metrics.score("accuracy", labels, logits) == pytest.approx(
        sk.accuracy_score(labels, predicted)
    )
    f1 = sk.f1_score(labels, predicted, labels=there, average="macro", zero_division=0)
    assert metrics.score("macro_f1", labels, logits) == pytest.approx(f1)
    if len(there) > 1:
        assert metrics.score("mcc", labels, logits) == pytest.approx(
            sk.matthews_corrcoef(labels, predicted), abs=1e-12
        )
        probabilities = metrics.softmax(logits)
        expected = [sk.roc_auc_score(labels == k, probabilities[:, k]) for k in there]
        assert metrics.by_class("auroc", labels, logits)[there] == pytest.approx(expected)
    precision = sk.precision_score(
        labels, predicted, labels=there, average=None, zero_division=np.nan
    )
    assert metrics.by_class("precision", labels, logits)[there] == pytest.approx(
        precision, nan_ok=True
    )
    precision = sk.precision_score(
        labels, predicted, labels=there, average="macro", zero_division=0
    )
    assert metrics.score("macro_precision", labels, logits) == pytest.approx(precision)
    if len(there) > 1:
        others = [
            sk.recall_score(labels == k, predicted == k, pos_label=False, zero_division=0)
            for k in there
        ]
        assert metrics.by_class("specificity", labels, logits)[there] == pytest.approx(others)
        assert metrics.score("macro_specificity", labels, logits) == pytest.approx(np.mean(others))
    every = np.arange(logits.shape[1])
    probabilities = metrics.softmax(logits)
    each = 1 / np.bincount(labels)[labels]  # every class counts the same
    for prior, weights in (("", None), ("_balanced", each)):
        expected = sk.log_loss(labels, probabilities, labels=every, sample_weight=weights)
        assert metrics.score(f"nll{prior}", labels, logits) == pytest.approx(expected)
        distances = ((probabilities - np.eye(len(every))[labels]) ** 2).sum(axis=1)
        expected = np.average(distances, weights=weights)
        assert metrics.score(f"brier{prior}", labels, logits) == pytest.approx(expected)
    if len(every) > 2:
        expected = sk.brier_score_loss(labels, probabilities, labels=every)
        assert metrics.score("brier", labels, logits) == pytest.approx(expected)
    if len(there) == logits.shape[1] > 2:
        whole = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
        assert metrics.score("macro_auroc", labels, logits) == pytest.approx(whole)


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
    names = [*metrics.BUILT_IN, "f1:medium", "auroc:medium"]
    before = metrics.scores(labels, logits, groups, names)
    after = metrics.scores(new_of[labels][images], logits[:, order][images], moved, names)
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
    classes = [str(k) for k in range(logits.shape[1])]
    stats = [f"{stat}:{of}" for stat in metrics.CLASS_STATS for of in ("0", "tail", "medium")]
    names = [*metrics.BUILT_IN, *groups, *stats]
    got = metrics.scores(labels, logits, groups, names)
    reasons = metrics.missing(labels, logits, groups, names)
    assert {name for name, value in got.items() if value is None} == set(reasons)
    for name, value in got.items():
        if value is not None:
            low, high = metrics.parse(name, classes, groups).bounds
            assert low - 1e-12 <= value <= high + 1e-12


def test_a_class_without_images_is_missing_and_not_zero() -> None:
    labels = np.array([0, 0, 1])
    logits = np.array([[2.0, 1, 0], [0, 1, 2], [1, 2, 0]])
    assert metrics.by_class("recall", labels, logits) == pytest.approx(
        [0.5, 1, np.nan], nan_ok=True
    )
    assert math.isnan(metrics.by_class("auroc", labels, logits)[2])
    assert math.isnan(metrics.by_class("f1", labels, logits)[2])
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
    assert metrics.by_class("f1", labels, logits).tolist() == [pytest.approx(2 / 3), 0]
    assert metrics.score("mcc", labels, logits) == 0


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


def test_summary_is_what_scores_gives_by_default() -> None:
    assert tuple(metrics.scores(LABELS, LOGITS, GROUPS)) == (*metrics.SUMMARY, *GROUPS)


def test_new_values_worked_out_by_hand() -> None:
    # Predictions 0 0 1 | 1 2 | 2: precisions 2/2, 1/2, 1/2; false 0 of 3, 1 of 4, 1 of 5.
    assert metrics.by_class("precision", LABELS, LOGITS).tolist() == [1, 0.5, 0.5]
    assert metrics.by_class("specificity", LABELS, LOGITS) == pytest.approx([1, 3 / 4, 4 / 5])
    got = metrics.scores(LABELS, LOGITS, GROUPS, ["precision:head", "f1:2", "specificity:1"])
    assert got == pytest.approx({"precision:head": 1, "f1:2": 2 / 3, "specificity:1": 3 / 4})
    labels, logits = np.array([0, 0, 1]), np.log([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    assert metrics.score("nll", labels, logits) == pytest.approx(-math.log(0.9 * 0.4 * 0.8) / 3)
    by_class = (-math.log(0.9 * 0.4) / 2 - math.log(0.8)) / 2
    assert metrics.score("nll_balanced", labels, logits) == pytest.approx(by_class)
    assert metrics.score("brier", labels, logits) == pytest.approx((0.02 + 0.72 + 0.08) / 3)
    # Three bins used, one image in each: confidences .9, .6, .8, right, wrong, right.
    assert metrics.score("ece", labels, logits) == pytest.approx((0.1 + 0.6 + 0.2) / 3)
    assert metrics.score("ece_balanced", labels, logits) == pytest.approx((0.7 / 2 + 0.2) / 2)


def test_bins_share_out_the_remainder_and_keep_ties_together() -> None:
    rng = np.random.default_rng(0)
    bins = metrics.equal_mass_bins(rng.permutation(np.linspace(0, 1, 47)), 15)
    assert sorted(np.bincount(bins)) == [3] * 13 + [4] * 2
    assert metrics.equal_mass_bins(np.arange(4), 2).tolist() == [0, 0, 1, 1]
    assert metrics.equal_mass_bins(np.array([3, 1, 1, 1]), 4).tolist() == [3, 0, 0, 0]
    assert metrics.equal_mass_bins(np.ones(9), 5).tolist() == [0] * 9


def test_ece_with_bins_of_equal_size_is_the_usual_one() -> None:
    rng = np.random.default_rng(1)
    labels, logits = rng.integers(0, 3, 600), rng.normal(size=(600, 3))
    p = metrics.softmax(logits)
    order = np.argsort(p.max(axis=1))
    right = p.argmax(axis=1) == labels
    bins = np.split(order, metrics.ECE_BINS)
    expected = np.mean([abs(right[b].mean() - p[b].max(axis=1).mean()) for b in bins])
    assert metrics.score("ece", labels, logits) == pytest.approx(expected)


def test_a_class_never_predicted_has_no_precision_but_counts_0_in_the_mean() -> None:
    labels, logits = np.array([0, 1]), np.array([[1.0, 0], [1, 0]])
    assert metrics.by_class("precision", labels, logits) == pytest.approx(
        [0.5, np.nan], nan_ok=True
    )
    assert metrics.score("macro_precision", labels, logits) == 0.25
    names = ["precision:1", "precision:0", "recall:1"]
    assert metrics.scores(labels, logits, {}, names) == {
        "precision:1": None,
        "precision:0": 0.5,
        "recall:1": 0,
    }
    assert metrics.missing(labels, logits, {}, names) == {
        "precision:1": "the class is never predicted"
    }


def test_a_class_ruled_out_has_no_likelihood() -> None:
    logits = LOGITS.copy()
    logits[0, 0] = -np.inf
    names = ["nll", "brier", "ece", "nll_balanced"]
    got = metrics.scores(LABELS, logits, GROUPS, names)
    assert [name for name, value in got.items() if value is None] == ["nll", "nll_balanced"]
    why = metrics.missing(LABELS, logits, GROUPS, names)["nll"]
    assert why == "an image's own class has probability 0 (its logit is −∞)"


def test_a_class_without_images_says_so() -> None:
    labels, logits = np.array([0, 1]), np.eye(3)[:2]
    assert metrics.missing(labels, logits, GROUPS, ["f1:2", "f1:tail"]) == {
        "f1:2": "the class has no images",
        "f1:tail": "no class of the group has images",
    }


def test_average_precision_by_hand_with_a_tie() -> None:
    labels, scores = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.8, 0.6, 0.6, 0.2])
    logits = np.log(np.stack([1 - scores, scores], axis=1))
    # Precisions at the three scores: 1/1, 2/4 (both of .6 are taken), 3/5.
    assert metrics.by_class("auprc", labels, logits)[1] == pytest.approx((1 + 2 / 4 + 3 / 5) / 3)


@settings(max_examples=60, deadline=None)
@given(predictions(), st.sampled_from([0.25, 0.5, 0.8, 0.9, 1.0]))
def test_rankings_are_those_of_scikit_learn(
    case: tuple[np.ndarray, np.ndarray], least: float
) -> None:
    labels, logits = case
    probabilities, there = metrics.softmax(logits), np.unique(labels)
    precisions = metrics.by_class("average_precision", labels, logits)
    sensitivity = metrics.by_class(f"sensitivity@specificity={least}", labels, logits)
    specificity = metrics.by_class(f"specificity@sensitivity={least}", labels, logits)
    for found in (precisions, sensitivity, specificity):
        without = np.setdiff1d(np.arange(logits.shape[1]), there)
        assert np.isnan(found[without if len(there) > 1 else slice(None)]).all()
    for k in there if len(there) > 1 else ():
        ours, score = labels == k, probabilities[:, k]
        assert precisions[k] == pytest.approx(sk.average_precision_score(ours, score))
        false, found, _ = sk.roc_curve(ours, score, drop_intermediate=False)
        kept = 1 - false
        assert sensitivity[k] == pytest.approx(found[kept >= least - 1e-12].max())
        assert specificity[k] == pytest.approx(kept[found >= least - 1e-12].max())
    if len(there) > 1:
        for name, of_classes in (
            ("average_precision", precisions),
            (f"sensitivity@specificity={least}", sensitivity),
        ):
            value = metrics.scores(labels, logits, {}, [name])
            assert next(iter(value.values())) == pytest.approx(of_classes[there].mean())


@settings(max_examples=60, deadline=None)
@given(predictions(), st.integers(0, 2**32))
def test_kappas_are_those_of_scikit_learn(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, logits = case
    order = np.random.default_rng(seed).permutation(logits.shape[1])
    facts = metrics.Facts(grades=tuple(str(k) for k in order))
    grade = np.argsort(order)
    linear, quadratic = "linear_weighted_kappa", "quadratic_weighted_kappa"
    names = {"kappa": None, linear: "linear", quadratic: "quadratic"}
    got = metrics.scores(labels, logits, {}, list(names), facts)
    for name, weights in names.items():
        if len(np.unique(labels)) == 1:
            assert got[name] is None
            continue
        taken = logits.argmax(axis=1)
        expected = sk.cohen_kappa_score(
            grade[labels], grade[taken], labels=range(len(order)), weights=weights
        )
        assert got[name] == pytest.approx(expected, abs=1e-12)


def test_weighted_kappa_needs_an_order_and_looks_at_its_classes_alone() -> None:
    names = ["qwk"]
    assert metrics.scores(LABELS, LOGITS, GROUPS, names) == {"quadratic_weighted_kappa": None}
    assert metrics.missing(LABELS, LOGITS, GROUPS, names) == {
        "quadratic_weighted_kappa": "the data set says no order of its classes (ordered_classes)"
    }
    # Of the images of 0 and 2 as grades; 2 > 0 > 1 predicted 0 0 (0: 2, 0, 1 without 1) | 2.
    facts = metrics.Facts(grades=("2", "0"))
    logits = LOGITS[[0, 1, 2, 5]]
    taken = [0, 0, 2, 2]
    expected = sk.cohen_kappa_score([0, 0, 0, 2], taken, labels=[2, 0], weights="quadratic")
    assert logits[:, [0, 2]].argmax(axis=1).tolist() == [0, 0, 1, 1]
    got = metrics.scores(LABELS, LOGITS, GROUPS, names, facts)
    assert got["quadratic_weighted_kappa"] == pytest.approx(expected)
    lone = metrics.Facts(grades=("2", "3"))
    logits = np.pad(LOGITS, ((0, 0), (0, 1)))
    assert metrics.missing(LABELS, logits, GROUPS, names, lone) == {
        "quadratic_weighted_kappa": "one of the classes in order has images"
    }


def test_predictive_values_and_likelihood_ratios_by_hand() -> None:
    # Confusions: 2 1 0 | 0 1 1 | 0 0 1.
    assert metrics.by_class("npv", LABELS, LOGITS) == pytest.approx([3 / 4, 3 / 4, 4 / 4])
    # Recalls 2/3, 1/2, 1; false 0 of 3, 1 of 4, 1 of 5.
    ratios = metrics.by_class("lr+", LABELS, LOGITS)
    assert ratios == pytest.approx([np.nan, 2, 5], nan_ok=True)
    assert metrics.by_class("lr-", LABELS, LOGITS) == pytest.approx([1 / 3, (1 / 2) / (3 / 4), 0])
    names = ["lr+:0", "macro_positive_likelihood_ratio", "lr+:1", "ppv:1", "ppv"]
    assert metrics.missing(LABELS, LOGITS, GROUPS, names) == {
        "positive_likelihood_ratio:0": "the class is predicted for no image of another "
        "(a division by 0)",
        "macro_positive_likelihood_ratio": "a class is predicted for no image of another "
        "(a division by 0)",
    }
    got = metrics.scores(LABELS, LOGITS, GROUPS, ["npv", "lr-", "ppv"])
    assert got == pytest.approx(
        {
            "macro_npv": 2.5 / 3,
            "macro_negative_likelihood_ratio": 1 / 3,
            "macro_precision": 2 / 3,
        }
    )


def test_likelihood_ratios_of_two_classes_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 60), rng.normal(size=(60, 2))
    positive, negative = sk.class_likelihood_ratios(labels, logits.argmax(axis=1))
    assert metrics.by_class("lr+", labels, logits)[1] == pytest.approx(positive)
    assert metrics.by_class("lr-", labels, logits)[1] == pytest.approx(negative)


@pytest.mark.parametrize(("name", "right", "false"), [("lr+:1", 160, 100), ("lr-:1", 40, 1900)])
def test_intervals_of_likelihood_ratios_are_simels(name: str, right: int, false: int) -> None:
    labels = np.repeat([1, 0], [200, 2000])
    taken = np.repeat([1, 0, 1, 0], [160, 40, 100, 1900])
    scorer, metric = metrics.Scorer(labels, np.eye(2)[taken]), metrics.parse(name, "01", {})
    value = scorer.value(metric)
    assert value == pytest.approx((right / 200) / (false / 2000))
    found = metric.estimate(
        np.array([value]),
        scorer.correct[None],
        scorer.influence(metric)[None],
        labels,
        scorer.counts,
        None,
    )
    # Simel et al. 1991: the variance of the logarithm of a ratio of two shares; here with n − 1 and
    # Student's t, which makes it a little wider.
    factor = math.exp(1.959964 * math.sqrt(1 / right - 1 / 200 + 1 / false - 1 / 2000))
    assert (found.low, found.high) == pytest.approx((value / factor, value * factor), rel=5e-3)


def test_a_class_predicted_for_every_image_has_no_negative_predictive_value() -> None:
    labels, logits = np.array([0, 1]), np.array([[1.0, 0], [1, 0]])
    names = ["npv:0", "npv:1", "macro_npv", "lr-:0", "lr-:1"]
    got = metrics.scores(labels, logits, {}, names)
    assert got == {
        "npv:0": None,
        "npv:1": 0.5,
        "macro_npv": None,
        "negative_likelihood_ratio:0": None,
        "negative_likelihood_ratio:1": 1,
    }
    why = metrics.missing(labels, logits, {}, names)
    assert why["npv:0"] == "the class is predicted for every image"
    assert why["macro_npv"] == "a class is predicted for every image"


def test_expected_cost_by_hand() -> None:
    got = metrics.scores(LABELS, LOGITS, GROUPS, ["expected_cost", "expected_cost@prior=test"])
    # Wrong: 1 of 3, 1 of 2, 0 of 1.
    assert got == pytest.approx(
        {"expected_cost": (1 / 3 + 1 / 2) / 3, "expected_cost@prior=test": 2 / 6}
    )
    facts = metrics.Facts(costs={"0": {"1": 6.0}, "1": {"1": 0.5}})
    got = metrics.scores(LABELS, LOGITS, GROUPS, ["expected_cost"], facts)
    assert got["expected_cost"] == pytest.approx((6 / 3 + (0.5 + 1) / 2 + 0) / 3)


def test_expected_cost_by_a_file(tmp_path: Path) -> None:
    file = tmp_path / "Costs-1.csv"
    file.write_text("\ufeff,0,1,2\n0,0,6,1\n 1 ,1,0.5,1\n\n", encoding="utf-8")
    name = f"expected-cost@costs={file}"
    facts = metrics.Facts(costs={"2": {"2": 9.0}})  # of the data set: the file goes before
    got = metrics.scores(LABELS, LOGITS, GROUPS, [name], facts)
    assert got == {f"expected_cost@costs={file}": pytest.approx((6 / 3 + 1.5 / 2) / 3)}
    metric = metrics.parse(name, "012", GROUPS)
    assert metric.title == metrics.described(metric.name).title == "Expected cost (Costs-1.csv)"
    assert metric.note.startswith("costs of Costs-1.csv, of what it leaves out 1 if wrong;")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no costs; write a header"),
        (",0,1\n", "no costs; write a header"),
        (",0,4\n0,1,1\n", "unknown class '4'"),
        (",0,1\n0,1,1\n0,1,1\n", "two rows of 0; leave one out"),
        (",0,1\n0,1\n", "1 costs of 0 for 2 columns of classes"),
        (",0,1\n0,0,-1\n", "the cost of 0 taken for 1 is '-1', but must be a number from 0 on"),
        (",0,1\n0,0,x\n", "the cost of 0 taken for 1 is 'x'"),
    ],
)
def test_a_file_that_is_no_table_of_costs_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "costs.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(f"{file}: {message}")):
        metrics.parse(f"expected_cost@costs={file}", "012", GROUPS)


def test_a_class_of_one_image_among_many_does_not_carry_kappa() -> None:
    counts = np.array([900, 600, 1])
    without = {
        name: bool(metrics.parse(name, "012", GROUPS).too_small(counts))
        for name in ("kappa", "expected_cost@prior=test", "expected_cost", "average_precision")
    }
    assert list(without.values()) == [False, False, True, True]


def test_net_benefit_by_hand() -> None:
    p = np.array([[0.2, 0.8], [0.6, 0.4], [0.79, 0.21], [0.9, 0.1]])
    labels = np.array([1, 0, 1, 1])
    # From .2 on: of class 1 the images of .8, .4 and .21, two of them right; .2/.8 = 1/4.
    got = metrics.by_class("net_benefit@threshold=0.2", labels, np.log(p))
    # Of class 0 all, also that of .2 itself: one right, three wrong.
    assert got == pytest.approx([(1 - 3 / 4) / 4, (2 - 1 / 4) / 4])
    name = "net_benefit@threshold=0.2"
    assert metrics.scores(labels, np.log(p), {}, [name])[name] == pytest.approx(got.mean())
    assert metrics.described(name).bounds == (-0.25, 1)


def test_classwise_ece_by_definition() -> None:
    rng = np.random.default_rng(1)
    labels, logits = rng.integers(0, 3, 600), rng.normal(size=(600, 3))
    p = metrics.softmax(logits)
    expected = np.mean(
        [
            abs((labels[b] == k).mean() - p[b, k].mean())
            for k in range(3)
            for b in np.split(np.argsort(p[:, k]), metrics.ECE_BINS)
        ]
    )
    assert metrics.score("classwise_ece", labels, logits) == pytest.approx(expected)


def test_the_bootstrap_by_counts_is_the_literal_one() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 20, 10])
    logits = np.round(rng.normal(size=(70, 3)) + 1.5 * np.eye(3)[labels], 1)
    for name in ("sensitivity@specificity=0.9", "specificity@sensitivity=0.8:1"):
        metric = metrics.parse(name, "012", {})
        quick = metrics.Scorer(labels, logits).resamples(metric)
        literal = metrics.Scorer(labels, logits).resamples(replace(metric, counted=None))
        assert quick == pytest.approx(literal)
        assert quick.std() > 0.01


CLASSES = ["NV", "MEL", "ulcerative-colitis-grade-0-1"]


@pytest.mark.parametrize(
    ("typed", "name", "title"),
    [
        ("Sensitivity", "balanced_accuracy", "Balanced accuracy"),
        ("recall", "balanced_accuracy", "Balanced accuracy"),
        ("specificity", "macro_specificity", "Macro specificity"),
        ("PPV", "macro_precision", "Macro precision"),
        ("precision", "macro_precision", "Macro precision"),
        ("npv", "macro_npv", "Macro NPV"),
        ("f1", "macro_f1", "Macro F1"),
        ("auroc", "macro_auroc", "Macro AUROC"),
        ("AUPRC", "average_precision", "Average precision"),
        ("Kappa", "kappa", "Kappa"),
        ("sensitivity:MEL", "recall:MEL", "Recall of MEL"),
        ("sensitivity:tail", "tail", "Tail"),
        ("auprc:tail", "average_precision:tail", "AP of tail"),
        ("lr-:NV", "negative_likelihood_ratio:NV", "LR− of NV"),
        (
            "recall@Specificity=.90",
            "sensitivity@specificity=0.9",
            "Sensitivity at specificity 0.9",
        ),
        (
            "net-benefit@threshold=0.2:mel",
            "net_benefit@threshold=0.2:MEL",
            "Net benefit at threshold 0.2 of MEL",
        ),
        ("balanced-accuracy", "balanced_accuracy", "Balanced accuracy"),
        ("Macro F1", "macro_f1", "Macro F1"),
        ("ece_balanced", "ece_balanced", "ECE (equal prior)"),
        ("Tail", "tail", "Tail"),
        ("recall:tail", "tail", "Tail"),
        ("recall:mel", "recall:MEL", "Recall of MEL"),
        ("auroc: tail", "auroc:tail", "AUROC of tail"),
        (
            "f1:ulcerative_colitis_grade_0_1",
            "f1:ulcerative-colitis-grade-0-1",
            "F1 of ulcerative-colitis-grade-0-1",
        ),
    ],
)
def test_names_as_people_type_them(typed: str, name: str, title: str) -> None:
    metric = metrics.parse(typed, CLASSES, GROUPS)
    assert (metric.name, metric.title) == (name, title)
    again = metrics.parse(metric.name, CLASSES, GROUPS)
    assert (again.name, again.title, again.sets) == (metric.name, metric.title, metric.sets)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("balancd_accuracy", "unknown metric 'balancd_accuracy'. Did you mean balanced_accuracy"),
        ("NV", r"unknown metric 'NV'.*recall:CLASS"),
        ("recall:MEEL", "unknown class or group 'MEEL'. Did you mean MEL"),
        ("brier:MEL", "unknown metric before the colon 'brier'"),
        ("sensitivty", "unknown metric 'sensitivty'. Did you mean sensitivity"),
        ("aurpc", "unknown metric 'aurpc'. Did you mean auroc or auprc"),
        ("weighted_kappa", "Did you mean linear_weighted_kappa or quadratic_weighted_kappa"),
        ("net_benefit", "metric 'net_benefit' needs a threshold, as in net_benefit@threshold=0.2"),
        ("net_benefit@threshold=1", "must be a share above 0 and below 1"),
        ("sensitivity@specificity=90", "must be a share above 0 and up to 1, as in sensitivity@s"),
        ("sensitivity@specificity=", "specificity is empty"),
        ("npv@specificity=0.9", "unknown metric 'npv@specificity=0.9'.*Known: sensitivity@spec"),
        ("expected_cost@cost=a.csv", "unknown word of expected_cost 'cost'. Did you mean costs?"),
        ("expected_cost@prior=none", "unknown prior of expected_cost 'none'. Known: equal, test"),
        ("expected_cost@costs=no.csv", "expected_cost: there is no file no.csv"),
    ],
)
def test_an_unknown_name_lists_what_there_is(typed: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        metrics.parse(typed, CLASSES, GROUPS)


def test_what_a_metric_says_of_itself() -> None:
    of = {name: metrics.parse(name, CLASSES, GROUPS) for name in metrics.BUILT_IN}
    assert {name for name, m in of.items() if m.lower_is_better} == {
        *("nll", "brier", "ece", "nll_balanced", "brier_balanced", "ece_balanced"),
        *("classwise_ece", "classwise_ece_balanced", "expected_cost"),
        "macro_negative_likelihood_ratio",
    }
    linear = {name for name, m in of.items() if m.weights is not None}
    assert linear == {"balanced_accuracy", "accuracy", "group_mean"}
    assert {name for name, m in of.items() if not m.percent} == {
        *("nll", "nll_balanced", "brier", "brier_balanced", "expected_cost"),
        *("macro_positive_likelihood_ratio", "macro_negative_likelihood_ratio"),
    }
    counts = np.array([7, 2, 1])
    assert of["macro_f1"].images(counts) == of["ece"].images(counts) == 10
    assert metrics.parse("tail", CLASSES, GROUPS).images(counts) == 1


def weights_of(name: str, counts: np.ndarray, groups: dict[str, list[int]]) -> np.ndarray:
    weights = metrics.parse(name, CLASSES, groups).weights
    assert weights is not None
    return weights(counts)


def test_weights_of_recalls_give_the_metric() -> None:
    rng = np.random.default_rng(0)
    labels, logits = rng.choice([0, 1, 3], 50), rng.normal(size=(50, 4))
    counts = np.bincount(labels, minlength=4)
    groups = {"head": [0, 1], "tail": [2, 3]}
    recalls = np.nan_to_num(metrics.by_class("recall", labels, logits))
    for name in ("accuracy", "balanced_accuracy", "group_mean", "head", "tail", "recall:tail"):
        weights = weights_of(name, counts, groups)
        assert weights[2] == 0
        assert weights.sum() == pytest.approx(1)
        expected = metrics.scores(labels, logits, groups, [name])
        assert weights @ recalls == pytest.approx(next(iter(expected.values())))
    assert metrics.METRICS["macro_f1"].weights is None
    assert np.isnan(weights_of("tail", counts, {"tail": [2]})).all()


# Metrics that are added


def accord(labels: np.ndarray, logits: np.ndarray) -> float:
    return sk.cohen_kappa_score(labels, logits.argmax(axis=1))


def register_accord(**words: Any) -> metrics.Metric:
    metrics.register_metric("accord", title="Accord", bounds=(-1, 1), **words)(accord)
    return metrics.parse("Accord", CLASSES, GROUPS)


def test_an_added_metric_goes_by_its_name_and_stands_in_the_summary() -> None:
    metric = register_accord()
    assert (metric.title, metric.bounds, metric.percent) == ("Accord", (-1, 1), True)
    assert metric.resampled
    assert not any(metrics.METRICS[name].resampled for name in metrics.BUILT_IN)
    assert tuple(metrics.scores(LABELS, LOGITS, GROUPS)) == (*metrics.SUMMARY, "accord", *GROUPS)
    assert metrics.score("accord", LABELS, LOGITS) == accord(LABELS, LOGITS)
    assert np.isnan(metrics.Scorer(LABELS, LOGITS).influence(metric)).all()
    with pytest.raises(UserError, match=r"unknown metric 'accordd'\. Did you mean accord or"):
        metrics.parse("accordd", CLASSES, GROUPS)
    with pytest.raises(
        UserError, match=r"^metric 'accord' is already registered by .*test_metrics; choose"
    ):
        register_accord()


def test_an_added_metric_without_a_value_says_why() -> None:
    register_accord()
    labels, logits = np.zeros(6, int), np.eye(3)[np.zeros(6, int)]
    assert metrics.scores(labels, logits, {}, ["accord"]) == {"accord": None}
    assert metrics.missing(labels, logits, {}, ["accord"]) == {
        "accord": "it is not defined here (NaN)"
    }
    broken = np.full((6, 3), np.nan)
    assert "not finite" in metrics.missing(labels, broken, {}, ["accord"])["accord"]


@pytest.mark.parametrize(
    ("bounds", "percent", "expected"),
    [((0, 1), None, True), ((0, 2), None, False), ((0, 2), True, True), ((0, 1), False, False)],
)
def test_percent_unless_said_where_bounds_are_those_of_shares(
    bounds: tuple[float, float], percent: bool | None, expected: bool
) -> None:
    metrics.register_metric("own", title="Own", bounds=bounds, percent=percent)(
        lambda labels, logits: metrics.score("accuracy", labels, logits)
    )
    assert metrics.described("own").percent is expected


def test_an_added_metric_has_the_influences_it_brings() -> None:
    def hits(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
        return (logits.argmax(axis=1) == labels) / len(labels)

    metrics.register_metric("hits", title="Hits", influences=hits)(
        lambda labels, logits: hits(labels, logits).sum()
    )
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 80), rng.normal(size=(80, 3))
    found = metrics.influences(["hits", "accuracy"], labels, logits, {})
    assert found["hits"] == pytest.approx(found["accuracy"])
    assert not metrics.METRICS["hits"].resampled


def test_resamples_are_the_same_for_every_run_of_the_same_images() -> None:
    metric = register_accord()
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 20, 10])
    logits = rng.normal(size=(70, 3)) + np.eye(3)[labels]
    one = metrics.Scorer(labels, logits).resamples(metric)
    assert len(one) == metrics.RESAMPLES
    assert one.tolist() == metrics.Scorer(labels, logits + 7).resamples(metric).tolist()
    assert one.mean() == pytest.approx(accord(labels, logits), abs=0.05)


def test_what_is_known_of_a_name_without_classes() -> None:
    shares = ("sensitivity@specificity=0.9", "net_benefit@threshold=0.2:MEL")
    for name in (*metrics.BUILT_IN, *shares, "tail", "f1:MEL", "recall:NV", "auroc:tail"):
        known, whole = metrics.described(name), metrics.parse(name, CLASSES, GROUPS)
        for what in ("name", "title", "bounds", "lower_is_better", "percent", "resampled"):
            assert getattr(known, what) == getattr(whole, what), (name, what)


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([0, 1], [[1.0, 0.0]], r"labels \(2,\) and logits \(1, 2\): give \(N,\) and \(N, C\)"),
        ([0], [1.0], r"give \(N,\) and \(N, C\)"),
        ([2], [[1.0, 0.0]], "class indices from 0 to 1"),
        ([-1], [[1.0, 0.0]], "class indices from 0 to 1"),
    ],
)
def test_what_are_no_labels_and_logits_is_told(labels: Any, logits: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        metrics.scores(labels, logits, {})


def test_lists_will_do() -> None:
    found = metrics.scores([0, 1, 1], [[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]], {"head": [0]})
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["head"] == 1


@pytest.mark.parametrize("title", ["Accuracy", "accuracy "])
def test_a_title_that_another_has_is_refused(title):
    with pytest.raises(
        UserError, match="metric 'hits': 'accuracy' has the title 'Accuracy' already"
    ):
        metrics.register_metric("hits", title=title)(lambda labels, logits: 0.5)
    assert "hits" not in metrics.METRICS


def test_weighted_kappa_rests_on_the_classes_in_order_alone() -> None:
    facts = metrics.Facts(grades=("a", "b", "c"))
    metric = metrics.parse("quadratic_weighted_kappa", ["a", "b", "c", "other"], {}, facts)
    assert metric.too_small(np.array([9, 9, 9, 1])) == ""
    assert metric.too_small(np.array([9, 9, 3, 1])) == "a class has fewer than 5 test images"
    assert not metric.averages_classes
