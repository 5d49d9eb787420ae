"""What makes no sense in a metric is refused in one line that names it and what to do."""

import functools
import math

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.evaluation import metrics
from lmdbench.evaluation.metric_check import check_influences, example, tried


def hits(labels, logits):
    return (logits.argmax(axis=1) == labels) / len(labels)


def share(labels, logits):
    return hits(labels, logits).sum()


def spoils(labels, logits):
    logits -= logits.max(axis=1, keepdims=True)
    return 0.5


def draws(labels, logits):
    return np.random.default_rng().random()


WRONG = [
    ({"name": "two words"}, share, "a name has letters, digits, - and _ only"),
    ({"name": "tail"}, share, "called like a group of classes; choose another name"),
    ({"name": "accuracy"}, share, "metric 'accuracy' is built in; choose another name"),
    ({"name": "Macro-F1"}, share, "metric 'macro_f1' is built in"),
    ({}, "share", "must be a function of labels"),
    ({}, functools.partial(share), "must be a function of labels"),
    ({"title": " "}, share, "title ' '; give the words at the head of its column"),
    ({"title": "two\nlines"}, share, "give the words at the head of its column"),
    ({"bounds": (1, 0)}, share, "bounds (1, 0); give its smallest and its largest value"),
    ({"bounds": 1}, share, "bounds 1; give its smallest and its largest value"),
    ({"bounds": (0, math.nan)}, share, "give its smallest and its largest value"),
    ({}, lambda labels: 0.5, "it raised TypeError"),
    ({}, lambda labels, logits: hits(labels, logits), "it returned ndarray, not one number"),
    ({}, lambda labels, logits: None, "it returned NoneType, not one number"),
    ({}, lambda labels, logits: math.nan, "it is not defined here (NaN)"),
    ({"bounds": (0, math.inf)}, lambda labels, logits: math.inf, "it is infinite"),
    ({}, lambda labels, logits: 100 * share(labels, logits), "outside its bounds 0 to 1"),
    ({}, spoils, "read-only; of labels (N,) int64 and logits (N, C), which it must not change"),
    ({}, draws, "of the same images; make it give one value, with a generator of a fixed seed"),
    (
        {},
        lambda labels, logits: 1 - share(labels, logits),
        "always wrong 1; say lower_is_better=True",
    ),
    ({"lower_is_better": True}, share, "say lower_is_better=False"),
    ({"influences": lambda labels: labels}, share, "its influences raised TypeError"),
    ({"influences": share}, share, "of 54 images are float64 of shape ()"),
    ({"influences": lambda labels, logits: logits}, share, "are float32 of shape (54, 3)"),
    ({"influences": lambda labels, logits: labels / 0.0}, share, "not all finite"),
    ({"influences": lambda labels, logits: 0.0 * labels}, share, "are 0 times what one more copy"),
    ({"influences": lambda y, z: len(y) * hits(y, z)}, share, "leave them out for a bootstrap"),
    ({"influences": lambda y, z: -hits(y, z)}, share, "and of the other sign"),
]


@pytest.mark.parametrize(("words", "function", "message"), WRONG)
def test_a_wrong_metric_is_told_in_one_line(words, function, message):
    given = {"name": "own", "title": "Own", **words}
    before = list(metrics.METRICS)
    with pytest.raises(UserError) as told:
        metrics.register_metric(given.pop("name"), **given)(function)
    assert message in str(told.value)
    assert str(told.value).startswith("metric ")
    assert "\n" not in str(told.value)
    assert list(metrics.METRICS) == before


@pytest.mark.parametrize("name", metrics.BUILT_IN)
def test_influences_of_the_built_in_metrics_pass(name):
    facts = metrics.Facts(grades=("1", "0", "2"))
    metric = metrics.parse(name, "012", {"head": [0], "tail": [1, 2]}, facts)

    def value(labels, logits):
        return metrics.Scorer(labels, logits).value(metric)

    def influences(labels, logits):
        return metrics.Scorer(labels, logits).influence(metric)

    check_influences(name, value, influences)


def test_influences_of_another_metric_do_not_pass_for_kappa():
    def kappa(labels, logits):
        return 2 * share(labels, logits) - 1

    def of_brier(labels, logits):
        return metrics.influences(["brier"], labels, logits, {})["brier"]

    with pytest.raises(UserError, match="and of the other sign"):
        check_influences("kappa", kappa, of_brier)


def test_a_metric_that_is_nothing_on_the_example_is_no_reason_to_refuse_it():
    def never(labels, logits):
        return np.zeros(len(labels))

    check_influences("never", lambda labels, logits: 0.0, never)


def test_influences_that_fail_on_other_images_are_told_in_one_line():
    def few(labels, logits):
        if len(labels) != 54:
            raise ValueError("not so\nmany")
        return hits(labels, logits)

    metrics.register_metric("own", title="Own", influences=few)(share)
    with pytest.raises(UserError, match="'own': its influences raised ValueError: not so many; "):
        metrics.influences(["own"], *(array[:50] for array in example()), {})


def test_a_value_or_a_reason():
    labels, logits = example()
    value, why = tried(share, labels, logits, (0, 1))
    assert (value, why) == (share(labels, logits), "")

    def fails(labels, logits):
        raise ValueError("no class\n  at all")

    value, why = tried(fails, labels, logits, (0, 1))
    assert math.isnan(value)
    assert why == "it raised ValueError: no class at all"
