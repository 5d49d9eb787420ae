"""Scores against hand values and scikit-learn, and what must hold for any predictions."""

import math
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


CLASSES = ["NV", "MEL", "ulcerative-colitis-grade-0-1"]


@pytest.mark.parametrize(
    ("typed", "name", "title"),
    [
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
    ],
)
def test_an_unknown_name_lists_what_there_is(typed: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        metrics.parse(typed, CLASSES, GROUPS)


def test_what_a_metric_says_of_itself() -> None:
    of = {name: metrics.parse(name, CLASSES, GROUPS) for name in metrics.BUILT_IN}
    assert {name for name, m in of.items() if m.lower_is_better} == {
        *("nll", "brier", "ece", "nll_balanced", "brier_balanced", "ece_balanced")
    }
    linear = {name for name, m in of.items() if m.weights is not None}
    assert linear == {"balanced_accuracy", "accuracy", "group_mean"}
    assert {name for name, m in of.items() if not m.percent} == {
        *("nll", "nll_balanced", "brier", "brier_balanced")
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


def kappa(labels: np.ndarray, logits: np.ndarray) -> float:
    return sk.cohen_kappa_score(labels, logits.argmax(axis=1))


def register_kappa(**words: Any) -> metrics.Metric:
    metrics.register_metric("kappa", title="Cohen's kappa", bounds=(-1, 1), **words)(kappa)
    return metrics.parse("Kappa", CLASSES, GROUPS)


def test_an_added_metric_goes_by_its_name_and_stands_in_the_summary() -> None:
    metric = register_kappa()
    assert (metric.title, metric.bounds, metric.percent) == ("Cohen's kappa", (-1, 1), True)
    assert metric.resampled
    assert not any(metrics.METRICS[name].resampled for name in metrics.BUILT_IN)
    assert tuple(metrics.scores(LABELS, LOGITS, GROUPS)) == (*metrics.SUMMARY, "kappa", *GROUPS)
    assert metrics.score("kappa", LABELS, LOGITS) == kappa(LABELS, LOGITS)
    assert np.isnan(metrics.Scorer(LABELS, LOGITS).influence(metric)).all()
    with pytest.raises(UserError, match=r"unknown metric 'kapa'\. Did you mean kappa\?"):
        metrics.parse("kapa", CLASSES, GROUPS)
    with pytest.raises(
        UserError, match=r"^metric 'kappa' is already registered by .*test_metrics; choose"
    ):
        register_kappa()


def test_an_added_metric_without_a_value_says_why() -> None:
    register_kappa()
    labels, logits = np.zeros(6, int), np.eye(3)[np.zeros(6, int)]
    assert metrics.scores(labels, logits, {}, ["kappa"]) == {"kappa": None}
    assert metrics.missing(labels, logits, {}, ["kappa"]) == {
        "kappa": "it is not defined here (NaN)"
    }
    broken = np.full((6, 3), np.nan)
    assert "not finite" in metrics.missing(labels, broken, {}, ["kappa"])["kappa"]


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
    metric = register_kappa()
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 20, 10])
    logits = rng.normal(size=(70, 3)) + np.eye(3)[labels]
    one = metrics.Scorer(labels, logits).resamples(metric)
    assert len(one) == metrics.RESAMPLES
    assert one.tolist() == metrics.Scorer(labels, logits + 7).resamples(metric).tolist()
    assert one.mean() == pytest.approx(kappa(labels, logits), abs=0.05)


def test_what_is_known_of_a_name_without_classes() -> None:
    for name in (*metrics.BUILT_IN, "tail", "f1:MEL", "recall:NV", "auroc:tail"):
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
