"""Predictions of lesions and patients, from those of their images, by hand."""

import numpy as np
import pytest

from lmdbench.comparison.samples import Sample, Units
from lmdbench.evaluation.metrics import softmax, unusable
from lmdbench.evaluation.predictions import Predictions


def predicted(labels, chances, images="abcdef") -> Predictions:
    logits = np.log(np.array(chances)).astype(np.float32)
    return Predictions(np.array(list(images[: len(labels)])), np.array(labels), logits)


def test_a_lesion_has_the_mean_of_its_images_probabilities() -> None:
    images = predicted([0, 0, 1], [[0.8, 0.2], [0.1, 0.9], [0.3, 0.7]])
    found = Sample(units=Units("lesion", {"a": "L1", "b": "L1"})).of(images)
    assert found.ids.tolist() == ["image c", "lesion L1"]
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_allclose(softmax(found.logits), [[0.3, 0.7], [0.45, 0.55]], atol=1e-7)
    assert found.units is None


def test_images_of_different_classes_are_scored_apart_and_resampled_together() -> None:
    images = predicted([0, 1, 0, 1], [[0.8, 0.2], [0.1, 0.9], [0.6, 0.4], [0.5, 0.5]])
    found = Sample(units=Units("lesion", dict.fromkeys("abc", "L1") | {"d": "L2"})).of(images)
    assert found.ids.tolist() == ["lesion L1, class 0", "lesion L1, class 1", "lesion L2"]
    assert found.labels.tolist() == [0, 1, 1]
    np.testing.assert_allclose(
        softmax(found.logits), [[0.7, 0.3], [0.1, 0.9], [0.5, 0.5]], atol=1e-7
    )
    assert found.units is not None
    assert found.units.tolist() == ["lesion L1", "lesion L1", ""]


def test_lesions_are_told_apart_within_patients_and_resampled_with_them() -> None:
    images = predicted([0, 0, 0], [[0.8, 0.2], [0.2, 0.8], [0.4, 0.6]])
    units = Units("lesion", dict.fromkeys("abc", "1"), {"a": "P", "b": "Q", "c": "Q"})
    found = Sample(units=units).of(images)
    assert found.ids.tolist() == ["lesion 1 of patient P", "lesion 1 of patient Q"]
    np.testing.assert_allclose(softmax(found.logits)[:, 0], [0.8, 0.3], atol=1e-7)
    assert found.units is not None
    assert found.units.tolist() == ["patient P", "patient Q"]


def test_the_order_of_images_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    images = Predictions(
        np.array([f"i{n}" for n in range(40)]), rng.integers(0, 3, 40), rng.normal(size=(40, 3))
    )
    units = Units("patient", {f"i{n}": str(n % 7) for n in range(30)})
    found, other = (Sample(units=units).of(images.of(rng.permutation(40))) for _ in range(2))
    assert found.ids.tolist() == other.ids.tolist()
    assert found.labels.tolist() == other.labels.tolist()
    np.testing.assert_allclose(found.logits, other.logits, rtol=1e-12)


def test_a_single_image_keeps_its_probabilities_and_equal_ones_stay_equal() -> None:
    chances = [[0.2, 0.3, 0.5], [0.2, 0.4, 0.4], [0.2, 0.8, 0.0]]
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(np.array(chances)), -700)
    images = Predictions(np.array(["a", "b", "c"]), np.array([0, 1, 2]), logits)
    found = softmax(Sample(units=Units("lesion", {})).of(images).logits)
    np.testing.assert_allclose(found, chances, rtol=1e-14, atol=1e-300)
    assert len(set(found[:, 0])) == 1


def test_a_run_that_is_broken_stays_so() -> None:
    logits = np.array([[np.nan, 0.0], [1.0, 0.0], [np.inf, 0.0]])
    images = Predictions(np.array(["a", "b", "c"]), np.array([0, 0, 1]), logits)
    found = Sample(units=Units("lesion", {"a": "L", "b": "L"})).of(images)
    assert unusable(found.logits) == 2
    assert len(found) == 2


def test_leaked_images_and_those_beyond_a_subgroup_are_left_out_first() -> None:
    images = predicted([0, 0, 0, 1], [[0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.4, 0.6]])
    units = Units("lesion", dict.fromkeys("abc", "L"))
    found = Sample(frozenset("b"), frozenset("abc"), units).of(images)
    assert found.ids.tolist() == ["lesion L"]
    np.testing.assert_allclose(softmax(found.logits), [[0.55, 0.45]], atol=1e-7)


@pytest.mark.parametrize(
    ("said", "of_lesions"),
    [
        ("a class has fewer than 5 test images", "a class has fewer than 5 test lesions"),
        ("paired by image and seed", "paired by lesion and seed"),
        ("unit: an image, alone", "unit: a lesion, alone"),
        ("weights imagenet", "weights imagenet"),
    ],
)
def test_what_is_said_of_images_is_said_of_lesions(said: str, of_lesions: str) -> None:
    assert Sample(units=Units("lesion", {})).in_words(said) == of_lesions
    assert Sample().in_words(said) == said
