"""How many images look unlike the run's own, against counts by hand."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lmdbench.core.folders import default_cache
from lmdbench.evaluation.predictions import Predictions, load_predictions, save_predictions
from lmdbench.runs.likeness import (
    FEWEST,
    FILE,
    Reference,
    among,
    carried_over,
    likeness,
    nearness,
    reference_of,
)
from lmdbench.runs.prediction import PredictedLogits, load_run


def logits_of(probabilities: list[float]) -> np.ndarray:
    """Of two classes, the first with these probabilities."""
    p = np.array(probabilities)
    return np.stack([np.log(p), np.log1p(-p)], axis=1).astype(np.float32)


@pytest.fixture
def run(tmp_path):
    """101 validation images with largest probabilities of .60 to .80, the 5th percentile .61."""
    own = np.linspace(0.6, 0.8, 101)
    part = Predictions(
        np.array([f"v{k}" for k in range(101)]), np.zeros(101, np.int64), logits_of(list(own))
    )
    save_predictions(tmp_path / "predictions.npz", {"validation": part, "test": part})
    return SimpleNamespace(directory=tmp_path, record=SimpleNamespace(digests={}))


def test_those_are_unlike_whose_largest_probability_is_below_that_of_nearly_all(run):
    logits = logits_of([0.99, 0.62, 0.55, 0.45, 0.2, 0.5])
    logits[5] = np.nan
    found = likeness(run, PredictedLogits(logits, {5: "empty"}), None)
    assert found is not None
    assert found.threshold == pytest.approx(0.61, abs=1e-6)
    assert found.unlike.tolist() == [False, False, True, True, False, False]
    assert (found.images, found.readable, found.of([0, 2])) == (2, 5, 1)


def test_of_few_validation_images_nothing_is_told(run):
    few = Predictions(
        np.array([f"v{k}" for k in range(FEWEST - 1)]),
        np.zeros(FEWEST - 1, np.int64),
        logits_of([0.7] * (FEWEST - 1)),
    )
    save_predictions(run.directory / "predictions.npz", {"validation": few, "test": few})
    assert likeness(run, PredictedLogits(logits_of([0.5]), {}), None) is None
    (run.directory / "predictions.npz").unlink()
    assert likeness(run, PredictedLogits(logits_of([0.5]), {}), None) is None


def test_nearness_is_the_cosine_with_the_fifth_nearest():
    angles = np.radians([0, 10, 20, 30, 40, 90])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert nearness(train, np.array([[3.0, 0.0]])) == pytest.approx([np.cos(np.radians(40))])
    assert nearness(train[:2], np.array([[0.0, 2.0]])) == pytest.approx([0.0], abs=1e-9)


def test_by_features_those_are_unlike_that_are_farther_than_nearly_all(run):
    reference = Reference(np.array([[1.0, 0.0]]), 0.5)
    logits = logits_of([0.99, 0.99, 0.99])
    scores = reference.scores(np.array([[2.0, 0.1], [0.0, 1.0], [1.0, 1.0]]))
    scores[2] = np.nan
    found = likeness(run, PredictedLogits(logits, {2: "empty"}, scores), reference)
    assert found is not None
    assert found.unlike.tolist() == [False, True, False]
    assert (found.readable, found.by_features) == (2, True)


def test_among_training_images_an_image_is_not_its_own_neighbour():
    angles = np.radians([0, 10, 20, 30, 40, 50])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    farthest = np.cos(np.radians([50, 40, 30, 30, 40, 50]))
    assert among(train) == pytest.approx(farthest)


def test_the_threshold_of_a_refit_is_as_much_farther_as_that_of_the_run_it_repeats():
    """There 5 % of the training images are .1 or more apart from their 5th nearest, and validation
    images .3: three times as much. Here the former is .05."""

    def apart(distance):
        """Six features, each at this distance (1 - cosine) from all others."""
        return np.linalg.cholesky(np.full((6, 6), 1 - distance) + distance * np.eye(6))

    assert among(apart(0.1)) == pytest.approx(0.9)
    before = Reference(apart(0.1), 0.7)
    assert carried_over(before, apart(0.05)) == pytest.approx(1 - 3 * 0.05)
    assert carried_over(before, before.train) == pytest.approx(0.7)


@pytest.fixture
def own_run(trained_run, tmp_path, rewrite_record):
    """A trained run, its few validation images stood in for by its test images."""
    directory = shutil.copytree(trained_run, tmp_path / "run")
    parts = load_predictions(directory / "predictions.npz")
    save_predictions(
        directory / "predictions.npz", {"validation": parts["test"], "test": parts["validation"]}
    )
    os.utime(directory / "predictions.npz", (0, 0))  # as if the run had been done with these
    rewrite_record(directory)
    return load_run(directory, torch.device("cpu"))


def test_a_reference_is_made_of_the_prepared_training_images_and_kept(own_run, monkeypatch):
    monkeypatch.setattr("lmdbench.runs.likeness.FEWEST", 1)
    said = []
    made = reference_of(own_run, default_cache(), said.append)
    assert made is not None
    assert len(made.train) == sum(own_run.record.class_counts["train"])
    assert np.linalg.norm(made.train, axis=1) == pytest.approx(1)
    assert len(said) == 1
    kept = reference_of(own_run, own_run.directory / "no-cache", said.append)
    assert kept is not None
    assert len(said) == 1
    assert kept.train == pytest.approx(made.train, abs=1e-3)
    assert kept.threshold == made.threshold
    (own_run.directory / FILE).write_bytes(b"damaged")
    assert reference_of(own_run, own_run.directory / "no-cache") is None


def test_a_kept_reference_of_another_model_is_not_used(own_run, monkeypatch):
    monkeypatch.setattr("lmdbench.runs.likeness.FEWEST", 1)
    train = np.ones((3, 2))
    np.savez(own_run.directory / FILE, model="other", train=train, threshold=0.5)
    assert reference_of(own_run, own_run.directory / "no-cache") is None
