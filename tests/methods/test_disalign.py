import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from torch import nn

from lmdbench.methods.disalign import AlignedHead, generalised_weights

from .helpers import moved, randn, redrawn, snapshot


def random_head(seed: int = 0) -> AlignedHead:
    return redrawn(AlignedHead(nn.Linear(4, 3)), seed)


@given(st.lists(st.integers(1, 999), min_size=2, max_size=50), st.floats(0, 2))
def test_weights(counts, rho):
    expected = np.array([(sum(counts) / n) ** rho for n in counts])
    expected = len(counts) * expected / expected.sum()
    ours = generalised_weights(torch.tensor(counts, dtype=torch.float64), rho)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_logits_against_the_papers_mixture(seed):
    """σ (α z + β) + (1 − σ) z, image by image and class by class."""
    head = random_head(seed)
    features = randn(5, 4, seed=9)
    W, b = head.linear.weight.detach().numpy(), head.linear.bias.detach().numpy()
    v, c = head.confidence.weight.detach().numpy()[0], head.confidence.bias.item()
    alpha, beta = 1 + head.magnitude.detach().numpy(), head.margin.detach().numpy()
    for i, x in enumerate(features.numpy()):
        sigma, z = expit(v @ x + c), W @ x + b
        expected = sigma * (alpha * z + beta) + (1 - sigma) * z
        np.testing.assert_allclose(head(features)[i].detach(), expected, rtol=1e-10)


def test_without_confidence_it_is_ce(stage1, make_method):
    method = make_method("disalign", stage1.task, stage1).eval()
    with torch.no_grad():
        method.model.head.confidence.weight.zero_()
        method.model.head.confidence.bias.fill_(-1e4)
    (batch,) = stage1.task.in_order(stage1.task.train)
    assert torch.equal(method.predict(batch.images), stage1.predict(batch.images))


def test_it_begins_with_the_decisions_of_ce(stage1, make_method):
    method = make_method("disalign", stage1.task, stage1).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    ours, theirs = method.predict(batch.images), stage1.predict(batch.images)
    assert torch.equal(ours.argmax(1), theirs.argmax(1))
    assert (ours / theirs > 1).all()  # m is 1 at first, as in the official code
    assert torch.equal(method.model.head.confidence.weight, torch.full((1, 8), 0.1))


def test_only_the_calibration_is_trained(stage1, make_method, train):
    method = make_method("disalign", stage1.task, stage1)
    before = snapshot(method)
    train(method)
    learned = {"magnitude", "margin", "confidence.weight", "confidence.bias"}
    assert moved(method, before) == {f"model.head.{name}" for name in learned}
    assert torch.equal(method.model.head.linear.weight, stage1.model.head.weight)


def test_gradient():
    head = random_head()
    features = randn(5, 4, seed=9)
    labels, weights = torch.tensor([0, 1, 2, 1, 0]), torch.tensor([0.2, 1.0, 1.8]).double()
    parameters = (head.magnitude, head.margin, head.confidence.weight, head.confidence.bias)

    def loss(*_):
        return F.cross_entropy(head(features), labels, weight=weights)

    assert torch.autograd.gradcheck(loss, parameters)


@pytest.mark.parametrize("name", ["disalign", "marc"])
def test_instance_sampling_and_a_weighted_mean(stage1, make_method, name):
    method = make_method(name, stage1.task, stage1, batch_size=18)
    ((_, batch),) = method.batches()
    assert torch.bincount(batch.labels).tolist() == [12, 5, 1]
    losses = F.cross_entropy(method.model(batch.images), batch.labels, reduction="none")
    w = torch.tensor([(1 / n) ** 1.2 for n in (12, 5, 1)])[batch.labels]
    torch.testing.assert_close(method.loss(batch), (w * losses).sum() / w.sum())
