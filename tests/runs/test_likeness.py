"""How many images look unlike the run's own, against counts by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from lmdbench.evaluation.predictions import Predictions, save_predictions
from lmdbench.runs.likeness import FEWEST, likeness


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
    return SimpleNamespace(directory=tmp_path)


def test_those_are_unlike_whose_largest_probability_is_below_that_of_nearly_all(run):
    logits = logits_of([0.99, 0.62, 0.55, 0.45, 0.2, 0.5])
    logits[5] = np.nan
    found = likeness(run, logits)
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
    assert likeness(run, logits_of([0.5])) is None
    (run.directory / "predictions.npz").unlink()
    assert likeness(run, logits_of([0.5])) is None
