"""Thresholds chosen on validation images, and what they reach, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.evaluation.ensembles import mean_logits
from lmdbench.evaluation.inference import linear_estimate
from lmdbench.evaluation.predictions import Predictions
from lmdbench.runs.decisions import (
    Abstention,
    Known,
    OperatingPoint,
    decisions,
    parse_abstention,
    parse_operating_points,
    validation_images,
)
from lmdbench.runs.ensemble import Ensemble

CHANCES = np.array([0.9, 0.6, 0.3, 0.8, 0.2, 0.1, 0.45, 0.05])
KNOWN = Known(
    np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.stack([1 - CHANCES, CHANCES], axis=1), units=None
)


def test_an_operating_point_and_what_it_reaches():
    """Two of three of the class lie at or above .6; of the others .8 does, one of five."""
    (asked,) = parse_operating_points(["b:c:sensitivity=0.6"], ["a", "b:c"])
    point = asked.chosen(KNOWN)
    assert point.threshold == 0.6
    assert (point.sensitivity.value, point.sensitivity.images) == (pytest.approx(2 / 3), 3)
    assert (point.specificity.value, point.specificity.images) == (pytest.approx(4 / 5), 5)
    expected = linear_estimate(np.array([[1.0, 1, 0]]), np.zeros(3, int), np.ones(1))
    assert (point.sensitivity.low, point.sensitivity.high) == (expected.low, expected.high)
    assert point.flags(np.array([[0.4, 0.6], [0.41, 0.59]])).tolist() == [True, False]
    other = OperatingPoint("b", 1, "specificity", 0.8).chosen(KNOWN)
    assert 0.45 < other.threshold < 0.46
    assert other.specificity.value == pytest.approx(4 / 5)


def test_units_count_together():
    """Images of one lesion are no independent ones: the interval is wider."""
    units = np.array(["x", "x", "x", "y", "y", "y", "z", "z"])
    alone = OperatingPoint("b", 1, "specificity", 0.8).chosen(KNOWN).specificity
    together = Known(KNOWN.labels, KNOWN.chances, units)
    wider = OperatingPoint("b", 1, "specificity", 0.8).chosen(together).specificity
    assert wider.high - wider.low > alone.high - alone.low


def test_abstention_by_error_and_by_share():
    """Surest first: .05 right, .9 right, .1 right, .8 wrong …: 3 of 8 without an error."""
    found = Abstention("error", 0.1).chosen(KNOWN)
    assert found.threshold == pytest.approx(0.9)
    assert (found.share.value, found.error.value) == (3 / 8, 0)
    assert [one.value for one in found.by_class] == pytest.approx([2 / 5, 1 / 3])
    half = Abstention("share", 0.5).chosen(KNOWN)
    assert half.threshold == pytest.approx(0.8)
    assert half.share.value == 5 / 8  # the fourth and the fifth are equally sure
    assert half.error.value == pytest.approx(1 / 5)
    with pytest.raises(UserError, match="even of the validation images"):
        Abstention("error", 0.01).chosen(Known(1 - KNOWN.labels, KNOWN.chances, None))


def test_what_is_reached_elsewhere_is_measured_by_the_same_threshold():
    elsewhere = Known(np.array([1, 0]), np.array([[0.7, 0.3], [0.2, 0.8]]), None)
    point = OperatingPoint("b", 1, "sensitivity", 0.6).chosen(KNOWN).measured(elsewhere)
    assert (point.threshold, point.sensitivity.value, point.specificity.value) == (0.6, 0, 0)
    nothing = Known(np.array([0]), np.array([[0.2, 0.8]]), None)
    assert point.measured(nothing).sensitivity.images == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b", "give a class and what it is to reach"),
        ("b:recall=0.9", "give a class and what it is to reach"),
        ("c:sensitivity=0.9", "unknown class 'c'"),
        ("b:sensitivity=95", "give a share between 0 and 1"),
        ("b:sensitivity=high", "give a share between 0 and 1"),
    ],
)
def test_what_cannot_be_asked(text, message):
    with pytest.raises(UserError, match=message):
        parse_operating_points([text], ["a", "b"])
    with pytest.raises(UserError, match="b is given twice"):
        parse_operating_points(["b:sensitivity=0.9", "b:specificity=0.9"], ["a", "b"])
    of_two = Known(KNOWN.labels, np.pad(KNOWN.chances, ((0, 0), (0, 1))), None)
    with pytest.raises(UserError, match="no validation images of c"):
        OperatingPoint("c", 2, "sensitivity", 0.9).chosen(of_two)


def test_abstention_is_asked_for_by_error_or_share():
    assert parse_abstention(None) is None
    assert parse_abstention("error=0.05") == Abstention("error", 0.05)
    for text, message in (("risk=0.1", "give the error of what is"), ("share=80", "between 0")):
        with pytest.raises(UserError, match=message):
            parse_abstention(text)


def part(ids, chances):
    """Predictions of images of class 1 with these probabilities of it."""
    chances = np.array(chances)
    logits = np.log(np.stack([1 - chances, chances], axis=1))
    return Predictions(np.array(ids), np.ones(len(ids), dtype=np.int64), logits)


class Fixed(Ensemble):
    """Runs of which no more is there than what they said of validation images."""

    validation = None

    def __init__(self, *parts):
        runs = tuple(SimpleNamespace(classes=("a", "b")) for _ in parts)
        super().__init__(runs, (None,) * len(parts))
        object.__setattr__(self, "validation", list(parts))


def test_validation_images_have_the_mean_of_the_runs_that_know_them_as_such():
    """Seeds share their images; folds, of which one image is in two here, do not."""
    seeds = Fixed(part(["x", "y"], [0.2, 0.4]), part(["y", "x"], [0.6, 0.4]))
    known = validation_images(seeds)
    assert known.chances[:, 1] == pytest.approx([0.3, 0.5])
    logits = np.stack([one.logits for one in (seeds.validation[0], part(["x", "y"], [0.4, 0.6]))])
    assert np.exp(mean_logits(logits)) == pytest.approx(known.chances)
    folds = Fixed(part(["x", "y"], [0.2, 0.4]), part(["y", "z"], [0.6, 0.9]))
    assert validation_images(folds).chances[:, 1] == pytest.approx([0.2, 0.5, 0.9])
    asked = Abstention("share", 0.9)
    assert decisions(seeds, [], asked).whole
    found = decisions(folds, [], asked)
    assert (found.whole, found.images) == (False, 3)
    assert decisions(folds, [], None).images == 0
