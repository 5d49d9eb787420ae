"""Influences against numerical derivatives and against the bootstrap they stand for."""

import numpy as np
import pytest
from scipy import stats

from lmdbench.evaluation import inference, influence, metrics

CLASSES = ["A", "B", "C", "D"]
GROUPS = {"head": [0, 1], "tail": [2, 3]}
COUNTS = np.array([60, 40, 25, 12])
FACTS = metrics.Facts(grades=("C", "A", "D"), costs={"A": {"B": 3.0}, "D": {"A": 0.5, "D": 0.1}})
NET = "net_benefit@threshold=0.3"
NAMES = [
    *metrics.BUILT_IN,
    "expected_cost@prior=test",
    NET,
    *GROUPS,
    *(f"{stat}:{of}" for stat in (*metrics.CLASS_STATS, NET) for of in ("B", "tail")),
]
COSTS = np.array([[0, 3, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [0.5, 1, 1, 0.1]])

STATS = {  # of averages over classes: what is averaged
    "balanced_accuracy": "recall",
    "group_mean": "recall",
    "head": "recall",
    "tail": "recall",
    "macro_f1": "f1",
    "macro_auroc": "auroc",
    "macro_precision": "precision",
    "macro_specificity": "specificity",
    "macro_npv": "npv",
    "macro_positive_likelihood_ratio": "positive_likelihood_ratio",
    "macro_negative_likelihood_ratio": "negative_likelihood_ratio",
    "average_precision": "average_precision",
    NET: NET,
}


@pytest.fixture(params=["all different", "with ties"])
def case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and logits (N, 4) of a middling classifier."""
    rng = np.random.default_rng(7)
    labels = rng.permutation(np.repeat(np.arange(4), COUNTS))
    logits = rng.normal(size=(len(labels), 4)) + 1.2 * np.eye(4)[labels]
    if request.param == "with ties":
        logits = np.round(logits) + np.arange(4) / 10
    return labels, logits


def with_weights(
    metric: metrics.Metric, labels: np.ndarray, logits: np.ndarray, v: np.ndarray
) -> float:
    """The metric with each image counted ``v`` (N,) times, by definition; each class's weights
    add up to its number of images."""
    predicted, p = logits.argmax(axis=1), metrics.softmax(logits)
    matrix = np.zeros((4, 4))
    np.add.at(matrix, (labels, predicted), v)
    n, total = matrix.sum(axis=1), matrix.sum()
    stat = STATS.get(metric.name, metric.name.partition(":")[0])
    if stat == "accuracy":
        return np.trace(matrix) / total
    if stat == "mcc":
        guessed = matrix.sum(axis=0)
        upper = np.trace(matrix) * total - n @ guessed
        return upper / np.sqrt((total**2 - n @ n) * (total**2 - guessed @ guessed))
    if stat == "kappa":
        return kappa(1 - np.eye(4), matrix)
    if stat.endswith("weighted_kappa"):
        graded, places = np.isin(labels, [2, 0, 3]), np.array([1, -1, 0, 2])  # C < A < D
        taken = places[np.array([0, 2, 3])[logits[:, [0, 2, 3]].argmax(axis=1)]]
        grades = np.zeros((3, 3))
        np.add.at(grades, (places[labels[graded]], taken[graded]), v[graded])
        steps = np.abs(np.subtract.outer(np.arange(3), np.arange(3))).astype(float)
        return kappa(steps ** (1 + stat.startswith("quadratic")), grades)
    if stat.startswith("expected_cost"):
        w = v / total if stat.endswith("=test") else v / (n[labels] * 4)
        return w @ COSTS[labels, predicted]
    if metric.sets or metric.name in STATS:
        return np.mean(
            [
                np.mean([of_class(stat, k, labels, p, matrix, v) for k in members])
                for _, members in metric.sets or (("all", range(4)),)
            ]
        )
    if stat.startswith("classwise_ece"):
        w = v / total if stat == "classwise_ece" else v / (n[labels] * 4)
        return np.mean([binned(p[:, k], w * ((labels == k) - p[:, k])) for k in range(4)])
    stat, _, prior = stat.partition("_")
    w = v / total if not prior else v / (n[labels] * 4)
    own = p[np.arange(len(p)), labels]
    if stat == "nll":
        return w @ -np.log(own)
    if stat == "brier":
        return w @ ((p - np.eye(4)[labels]) ** 2).sum(axis=1)
    confidence = p.max(axis=1)
    return binned(confidence, w * ((predicted == labels) - confidence))


def binned(score: np.ndarray, gaps: np.ndarray) -> float:
    bins = metrics.equal_mass_bins(score)
    return sum(abs(gaps[bins == b].sum()) for b in range(metrics.ECE_BINS))


def kappa(disagreement: np.ndarray, matrix: np.ndarray) -> float:
    by_chance = np.outer(matrix.sum(axis=1), matrix.sum(axis=0)) / matrix.sum()
    return 1 - (disagreement * matrix).sum() / (disagreement * by_chance).sum()


def of_class(
    stat: str, k: int, labels: np.ndarray, p: np.ndarray, matrix: np.ndarray, v: np.ndarray
) -> float:
    hit, n, guessed = matrix[k, k], matrix[k].sum(), matrix[:, k].sum()
    if stat == "auroc":
        ours, score = labels == k, p[:, k]
        above = np.subtract.outer(score[ours], score[~ours])
        wins = (above > 0) + (above == 0) / 2
        return v[ours] @ wins @ v[~ours] / (v[ours].sum() * v[~ours].sum())
    if stat == "average_precision":
        ours, score = labels == k, p[:, k]
        taken = score[None] >= score[ours][:, None]
        return v[ours] @ (taken @ (v * ours) / (taken @ v)) / v[ours].sum()
    if stat == NET:
        taken = p[:, k] >= 0.3
        return (v[taken & (labels == k)].sum() - v[taken & (labels != k)].sum() * 3 / 7) / v.sum()
    rest, false = matrix.sum() - n, guessed - hit
    return {
        "npv": (rest - false) / (matrix.sum() - guessed),
        "positive_likelihood_ratio": (hit / n) / (false / rest),
        "negative_likelihood_ratio": (1 - hit / n) / (1 - false / rest),
        "recall": hit / n,
        "precision": hit / guessed,
        "f1": 2 * hit / (n + guessed),
        "specificity": 1 - (guessed - hit) / (matrix.sum() - n),
    }[stat]


@pytest.mark.parametrize("name", NAMES)
def test_is_the_derivative_by_an_images_weight(
    name: str, case: tuple[np.ndarray, np.ndarray]
) -> None:
    labels, logits = case
    metric = metrics.parse(name, CLASSES, GROUPS, FACTS)
    scorer = metrics.Scorer(labels, logits)
    one = np.ones(len(labels))
    assert scorer.value(metric) == pytest.approx(with_weights(metric, labels, logits, one))
    found = scorer.influence(metric)
    assert np.bincount(labels, found) == pytest.approx(0, abs=1e-12)
    step = 1e-6
    for image in range(0, len(labels), 9):
        of_class = labels == labels[image]
        # One more of this image, and as much less of its whole class.
        change = (np.arange(len(labels)) == image) - of_class / of_class.sum()
        up, down = (
            with_weights(metric, labels, logits, one + sign * step * change) for sign in (1, -1)
        )
        assert found[image] == pytest.approx((up - down) / (2 * step), abs=1e-8)


def test_the_jackknife_is_the_bootstraps_variance() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4), 4 * COUNTS)
    logits = rng.normal(size=(len(labels), 4)) + 1.2 * np.eye(4)[labels]
    names = ["macro_f1", "macro_auroc", "mcc", "macro_precision", "nll_balanced", "brier"]
    names += ["average_precision", "average_precision:D", "macro_npv", "kappa", "qwk", NET]
    names += ["positive_likelihood_ratio:A", "macro_negative_likelihood_ratio", "expected_cost"]
    chosen = [metrics.parse(name, CLASSES, GROUPS, FACTS) for name in names]
    found: list[list[float]] = []

    def score(images: np.ndarray) -> float:
        scorer = metrics.Scorer(labels[images], logits[images])
        found.append([scorer.value(metric) for metric in chosen])
        return found[-1][0]

    of_first = inference.within_class_bootstrap(score, labels, rng, rounds=1500)
    drawn = np.array(found)
    assert of_first.tolist() == drawn[:, 0].tolist()
    scorer = metrics.Scorer(labels, logits)
    for k, metric in enumerate(chosen):
        jackknife = inference.jackknife_variance(scorer.influence(metric), labels)
        rel = 0.2 if metric.title.startswith("LR+") else 0.15  # far from linear
        assert jackknife == pytest.approx(drawn[:, k].var(), rel=rel), metric.name


def test_the_jackknife_of_units_is_their_bootstraps_variance() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat(np.arange(4), 4 * COUNTS)
    units = np.array([f"{label}-{n // 3}" for n, label in enumerate(labels)])
    codes = np.unique(units, return_inverse=True)[1]
    shared = rng.normal(size=(codes.max() + 1, 4))[codes]  # images of a lesion look alike
    logits = shared + 0.3 * rng.normal(size=shared.shape) + 1.2 * np.eye(4)[labels]
    drawn = inference.within_class_bootstrap(
        lambda images: metrics.score("macro_f1", labels[images], logits[images]),
        labels,
        rng,
        rounds=1500,
        units=units,
    )
    found = metrics.influences(["macro_f1"], labels, logits, {})["macro_f1"]
    by_unit = inference.jackknife_variance(found, labels, units)
    assert by_unit == pytest.approx(drawn.var(), rel=0.15)
    assert by_unit > 2 * inference.jackknife_variance(found, labels)


def test_auroc_of_two_classes_has_delongs_variance() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [30, 20])
    scores = rng.normal(size=50) + labels
    # DeLong: variances of the placements over their numbers, by definition.
    wins = np.subtract.outer(scores[30:], scores[:30]) > 0
    expected = wins.mean(axis=1).var(ddof=1) / 20 + wins.mean(axis=0).var(ddof=1) / 30
    logits = np.stack([np.zeros(50), scores], axis=1)
    found = metrics.influences(["macro_auroc"], labels, logits, {})["macro_auroc"]
    assert inference.jackknife_variance(found, labels) == pytest.approx(expected)


def test_areas_of_scores_with_ties_are_mann_whitneys() -> None:
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 3, 80), rng.integers(0, 5, (80, 3)).astype(float)
    areas, _ = influence.aurocs(labels, scores)
    for k in range(3):
        ours, rest = scores[labels == k, k], scores[labels != k, k]
        u = stats.mannwhitneyu(ours, rest).statistic
        assert areas[k] == pytest.approx(u / (len(ours) * len(rest)))


def test_what_has_no_value_has_no_influence() -> None:
    labels, logits = np.array([0, 0, 1]), np.array([[1.0, 0], [1, 0], [1, 0]])
    found = metrics.influences(["mcc", "macro_f1", "tail"], labels, logits, {"tail": []})
    assert np.isnan(found["mcc"]).all()  # all predicted as one class: a value, but no slope
    assert np.isnan(found["tail"]).all()
    assert not np.isnan(found["macro_f1"]).any()


def test_auroc_of_many_classes_goes_block_by_block_and_comes_to_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 30, 200)
    scores = rng.integers(0, 40, (200, 30)) / 40  # with ties
    whole = influence.aurocs(labels, scores)
    monkeypatch.setattr(influence, "BLOCK", 7 * 200)
    for blocks, at_once in zip(influence.aurocs(labels, scores), whole, strict=True):
        np.testing.assert_array_equal(blocks, at_once)
