import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from torch import nn

from lmdbench.errors import UserError
from lmdbench.methods.disalign import AlignedHead, generalised_weights


@pytest.fixture
def stage1(make_task, make_method, train):
    """A task with a trained cross-entropy run on it."""
    method = make_method("ce", make_task((12, 5, 1)))
    train(method)
    return method


def random_head(seed: int = 0) -> AlignedHead:
    generator = torch.Generator().manual_seed(seed)
    head = AlignedHead(nn.Linear(4, 3, dtype=torch.float64)).double()
    with torch.no_grad():
        for p in head.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return head


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
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
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
    before = {name: value.clone() for name, value in method.state_dict().items()}
    train(method)
    after = method.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    learned = {"magnitude", "margin", "confidence.weight", "confidence.bias"}
    assert moved == {f"model.head.{name}" for name in learned}
    assert torch.equal(method.model.head.linear.weight, stage1.model.head.weight)


def test_batch_norm_in_training_mode_moves_buffers_too(stage1, make_method, train):
    method = make_method("disalign", stage1.task, stage1, bn="train")
    before = {name: value.clone() for name, value in method.model.encoder.state_dict().items()}
    train(method)
    after = method.model.encoder.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name, _ in method.model.encoder.named_buffers()}


def test_gradient():
    head = random_head()
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    labels, weights = torch.tensor([0, 1, 2, 1, 0]), torch.tensor([0.2, 1.0, 1.8]).double()
    parameters = (head.magnitude, head.margin, head.confidence.weight, head.confidence.bias)

    def loss(*_):
        return F.cross_entropy(head(features), labels, weight=weights)

    assert torch.autograd.gradcheck(loss, parameters)


def test_instance_sampling_and_a_weighted_mean(stage1, make_method):
    method = make_method("disalign", stage1.task, stage1, batch_size=18)
    ((_, batch),) = method.batches()
    assert torch.bincount(batch.labels).tolist() == [12, 5, 1]
    losses = F.cross_entropy(method.model(batch.images), batch.labels, reduction="none")
    w = torch.tensor([(1 / n) ** 1.2 for n in (12, 5, 1)])[batch.labels]
    torch.testing.assert_close(method.loss(batch), (w * losses).sum() / w.sum())


@pytest.mark.parametrize("counts", [(9, 1), (3,) + (1,) * 99])
def test_trains_with_2_and_100_classes(make_task, make_method, train, counts):
    task = make_task(counts, validation=1)
    method = make_method("disalign", task, make_method("ce", task), epochs=1, batch_size=16)
    (logs,) = train(method)
    assert math.isfinite(logs["loss"])


def test_needs_a_linear_head_to_start_from(make_task, make_method):
    task = make_task()
    with pytest.raises(UserError, match="head of ldam-drw is a CosineHead"):
        make_method("disalign", task, make_method("ldam-drw", task))
