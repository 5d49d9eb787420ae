"""Logits or probabilities: told apart, and kept so that no score changes."""

import math

import numpy as np
import pytest
from hypothesis import given as any_of
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score

from lmdbench.core.errors import UserError
from lmdbench.evaluation.metrics import ROUNDED_SUM, score
from lmdbench.evaluation.metrics import softmax as chances
from lmdbench.sharing.values import Values, as_logits

IMAGES = [f"i{k}" for k in range(50)]


def test_probabilities_are_told_by_their_sums_and_keep_every_score() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 4)) * 3
    p = softmax(logits, axis=1)
    for given in (p, p.round(4)):  # as a CSV has them
        stored, kind, zeros = as_logits(given, "auto", IMAGES)
        assert (kind, zeros) == ("probabilities", int((given == 0).sum()))
        np.testing.assert_allclose(
            softmax(stored, axis=1), given / given.sum(1)[:, None], atol=1e-6
        )


def test_zeros_count_as_in_scikit_learns_log_loss() -> None:
    p = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    stored, _, zeros = as_logits(p, "auto", IMAGES)
    assert zeros == 2
    assert np.isfinite(stored).all()
    nll = -np.log(softmax(stored.astype(float), axis=1)[[0, 1, 2], [0, 0, 0]]).mean()
    assert math.isclose(nll, log_loss([0, 0, 0], p, labels=[0, 1]), rel_tol=1e-6)


def test_zeros_stay_below_all_that_is_not_zero() -> None:
    stored, _, _ = as_logits(np.array([[0.0, 1e-30, 1 - 1e-30]]), "auto", IMAGES)
    assert stored[0, 0] < stored[0, 1] < stored[0, 2]


def test_logits_stay_as_they_are() -> None:
    values = np.array([[0.2, 0.8], [-3.0, 7.0]])
    stored, kind, _ = as_logits(values, "auto", IMAGES)
    assert kind == "logits"
    np.testing.assert_array_equal(stored, values)
    forced, kind, _ = as_logits(np.array([[0.2, 0.8]]), "logits", IMAGES)
    assert kind == "logits"
    np.testing.assert_allclose(forced, [[0.2, 0.8]])


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ([[0.9, 0.8], [0.5, 0.5]], "auto", "add up to 1 (image i0: 1.7): say --values logits"),
        ([[0.5, 0.5], [0.5, 0.53]], "auto", "(image i1: 1.03): say --values probabilities if"),
        ([[0.5, 0.5], [0.9, 0.8]], "probabilities", "(image i1: 1.7); say --values logits if"),
        ([[0.5, 0.5], [0.5, 0.56]], "probabilities", "don't add up to 1 (image i1: 1.06)"),
        ([[99, 1.0], [40, 59.6]], "auto", "about 100 (image i0: 100), as percentages do: divide"),
        ([[99, 1.0], [40, 59.6]], "probabilities", "divide them by 100"),
        ([[0.5, 0.5], [-1.0, 2.0]], "probabilities", "those of image i1 are not all in [0, 1]"),
        (
            [[0.5, 0.5], [-0.2, 0.9], [0.1, 0.9]],
            "auto",
            "2 of 3 rows are probabilities, but image i1 has values from -0.2 to 0.9 that add up "
            "to 0.7; mend that, or say --values logits",
        ),
        (
            [[0.5, 0.5], [1.0, 0.0], [-1e-9, 1 + 1e-9]],
            "auto",
            "image i2 has values from -1e-09 to 1",
        ),
    ],
)
def test_values_that_are_neither_are_refused(
    values: list[list[float]], kind: Values, said: str
) -> None:
    with pytest.raises(UserError) as error:
        as_logits(np.array(values), kind, IMAGES)
    assert said in str(error.value)


def test_values_that_look_like_percentages_may_be_logits() -> None:
    stored, kind, _ = as_logits(np.array([[99, 1.0]]), "logits", IMAGES)
    assert (kind, stored.tolist()) == ("logits", [[99, 1]])


def aurocs(labels: np.ndarray, values: np.ndarray) -> float:
    return float(np.mean([roc_auc_score(labels == c, values[:, c]) for c in range(4)]))


@pytest.mark.parametrize("digits", [1, 2, 3, 7, 17])
@pytest.mark.parametrize("scale", [1, 40])
def test_images_rank_as_by_the_given_probabilities(digits: int, scale: int) -> None:
    """Rounded ones tie a lot, confident ones differ by less than float32 can tell near 1."""
    rng = np.random.default_rng(digits)
    labels = np.arange(400) % 4
    p = softmax(rng.normal(size=(400, 4)) * scale + np.eye(4)[labels], axis=1)
    p = p.round(digits)
    p = p[np.abs(p.sum(axis=1) - 1) <= ROUNDED_SUM]
    labels = np.arange(len(p)) % 4
    stored, kind, _ = as_logits(p, "auto", [f"i{k}" for k in range(len(p))])
    assert kind == "probabilities"
    assert math.isclose(score("macro_auroc", labels, stored), aurocs(labels, p), abs_tol=1e-12)


@any_of(
    arrays(
        np.float64,
        st.integers(2, 40),
        elements=st.sampled_from([0.0, 0.1, 0.3, 0.1 + 0.2, 0.5, np.nextafter(0.5, 1), 1e-300, 1.0])
        | st.floats(0, 1),
    )
)
def test_what_is_equal_stays_so_and_what_is_not_keeps_its_order(one: np.ndarray) -> None:
    p = np.stack([one, 1 - one], axis=1)
    stored, _, _ = as_logits(p, "probabilities", [f"i{k}" for k in range(len(one))])
    kept = chances(stored)[:, 0]
    np.testing.assert_array_equal(
        np.sign(np.subtract.outer(kept, kept)), np.sign(np.subtract.outer(one, one))
    )
    assert np.isfinite(stored).all()


def test_given_logits_rank_as_their_softmax() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    logits = rng.normal(size=(400, 4)) * 30
    stored, _, _ = as_logits(logits, "auto", [f"i{k}" for k in range(400)])
    expected = aurocs(labels, softmax(logits, axis=1))
    assert math.isclose(score("macro_auroc", labels, stored), expected, abs_tol=1e-12)
