import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.lade import lader

from .helpers import assert_finite, random_batch, random_counts

COUNTS = torch.tensor([40.0, 9.0, 4.0, 1.0], dtype=torch.float64)


def by_loops(f: np.ndarray, y: np.ndarray, counts: np.ndarray, strength: float) -> float:
    """Class by class, from the paper's terms as the official code weighs them."""
    prior, C, total = counts / counts.sum(), len(counts), 0.0
    for c in range(C):
        own = [f[i, c] for i in range(len(y)) if y[i] == c]
        first = sum(own) / len(own) if own else 0.0
        ratio = (1 / C) / prior[c]
        normaliser = math.log(np.mean([ratio * math.exp(f[i, c]) for i in range(len(y))]))
        total += prior[c] * (-(first - normaliser) + strength * normaliser**2)
    return total


@given(st.integers(2, 20), st.integers(1, 8), st.floats(0, 1), st.integers(0, 10))
def test_regulariser_against_loops(classes, batch, strength, seed):
    logits, labels = random_batch(classes, batch, seed)
    counts = random_counts(classes, seed)
    ours = lader(logits, labels, counts, strength)
    expected = by_loops(logits.numpy(), labels.numpy(), counts.numpy(), strength)
    assert ours.item() == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_absent_classes_are_only_normalised():
    logits, _ = random_batch()
    labels = torch.zeros(6, dtype=torch.int64)
    before = lader(logits, labels, COUNTS, 0.1)
    assert before.isfinite()
    logits[:, 3] += 1.0
    assert lader(logits, labels, COUNTS, 0.1) != before


def test_gradient():
    logits, labels = random_batch()
    assert torch.autograd.gradcheck(
        lambda x: lader(x, labels, COUNTS, 0.1), logits.requires_grad_()
    )


def test_its_optimum_is_the_log_density_ratio_under_a_uniform_prior():
    """On a finite x with known p(x|c), f_c = log p(x|c) / p_u(x) is stationary at λ = 0 for the
    distribution that the class term takes for its denominators."""
    p_x_given_c = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], dtype=torch.float64)
    labels, xs = [], []
    for c in range(2):  # a training set with these frequencies, balanced
        for x in range(3):
            times = round(10 * p_x_given_c[c, x].item())
            labels += [c] * times
            xs += [x] * times
    f = (p_x_given_c / p_x_given_c.mean(dim=0)).log().T.clone().requires_grad_()  # (x, c)
    loss = lader(f[xs], torch.tensor(labels), torch.tensor([10.0, 10.0]).double(), 0.0)
    (gradient,) = torch.autograd.grad(loss, f)
    assert gradient.abs().max() < 1e-12


def test_extreme_logits():
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = lader(logits, torch.tensor([0, 1]), torch.tensor([100.0, 1.0]), 0.1)
    assert_finite(loss, logits)


def test_alpha_0_is_the_loss_of_pc_softmax_and_alpha_adds_the_regulariser(make_task, make_method):
    task = make_task((12, 5, 1))
    _, batch = next(make_method("lade", task).batches())
    values = []
    for alpha in (0.0, 0.1, 1.0):
        method = make_method("lade", task, alpha=alpha).eval()
        logits = method.model(batch.images)
        plain = balanced_softmax_loss(logits, batch.labels, task.class_counts)
        expected = plain + alpha * lader(logits, batch.labels, task.class_counts, 0.1)
        torch.testing.assert_close(method.loss(batch), expected)
        values.append(method.loss(batch).item())
    assert len(set(values)) == 3


def test_trains_as_balanced_softmax_at_alpha_0(losses_of):
    assert losses_of("lade", alpha=0.0) == pytest.approx(losses_of("balanced-softmax"), rel=1e-5)
