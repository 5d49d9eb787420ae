import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.lade import lader

COUNTS = torch.tensor([40.0, 9.0, 4.0, 1.0], dtype=torch.float64)


def random_batch(classes: int = 4, batch: int = 6, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (batch,), generator=generator)


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
    counts = np.random.default_rng(seed).integers(1, 999, classes)
    ours = lader(logits, labels, torch.tensor(counts).double(), strength)
    expected = by_loops(logits.numpy(), labels.numpy(), counts, strength)
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
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_the_order_of_classes_does_not_matter():
    logits, labels = random_batch()
    order = torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(
        lader(logits[:, order], order.argsort()[labels], COUNTS[order], 0.1),
        lader(logits, labels, COUNTS, 0.1),
    )


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


def test_trains_as_balanced_softmax_at_alpha_0(make_task, make_method, train):
    losses = [
        train(make_method(name, make_task(), **settings))[-1]["loss"]
        for name, settings in (("lade", {"alpha": 0.0}), ("balanced-softmax", {}))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("counts", [(9, 1), (3,) + (1,) * 99])
def test_trains_with_2_and_100_classes(make_task, make_method, train, counts):
    (logs,) = train(make_method("lade", make_task(counts, validation=1), epochs=1, batch_size=16))
    assert math.isfinite(logs["loss"])
