import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.weight_balancing import WeightBalancing, norm_limit, project_
from lmdbench.training.method import Start

from .helpers import moved, snapshot


@pytest.fixture
def stage1(stage1):
    """Classes differ in the norm of their weights."""
    with torch.no_grad():
        stage1.model.head.weight.mul_(torch.tensor([[3.0], [2.0], [1.0]]))
    return stage1


@given(st.integers(2, 100), st.floats(0, 1), st.integers(0, 9))
def test_projection_against_numpy(classes, share, seed):
    rows = np.random.default_rng(seed).normal(size=(classes, 5))
    norms = np.sqrt((rows**2).sum(axis=1))
    delta = norms.min() + share * (norms.max() - norms.min())
    weight = torch.from_numpy(rows.copy())
    limit = norm_limit(weight, share)
    assert limit.item() == pytest.approx(delta)
    project_(weight, limit)
    for row, norm, projected in zip(rows, norms, weight.numpy(), strict=True):
        expected = row if norm <= delta else row * delta / norm
        np.testing.assert_allclose(projected, expected, rtol=1e-9)
    once = weight.clone()
    project_(weight, limit)
    torch.testing.assert_close(weight, once)  # a second time changes nothing


def test_a_class_without_weights_stays_so():
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    project_(weight, torch.tensor(1.0))
    torch.testing.assert_close(weight, torch.tensor([[0.0, 0.0], [0.6, 0.8]]))


def test_it_begins_with_the_head_of_stage_1(stage1, make_method):
    assert isinstance(WeightBalancing.starts_from, Start)
    assert WeightBalancing.starts_from.method == "ce"
    assert dict(WeightBalancing.starts_from.settings) == {"weight_decay": 5e-3}
    method = make_method("weight-balancing", stage1.task, stage1).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    assert torch.equal(method.predict(batch.images), stage1.predict(batch.images))
    norms = stage1.model.head.weight.detach().norm(dim=1)
    assert method.limit.item() == pytest.approx(float(0.9 * norms.min() + 0.1 * norms.max()))


def test_loss_is_weighted_by_effective_numbers(stage1, make_method):
    """Divided by the batch size, not by the weights in the batch."""
    method = make_method("weight-balancing", stage1.task, stage1, beta=0.9).eval()
    _, batch = next(method.batches())
    w = np.array([(1 - 0.9) / (1 - 0.9**n) for n in (12, 5, 1)])
    w *= 3 / w.sum()
    log_p = method.model(batch.images).log_softmax(1).detach().numpy()
    expected = sum(-w[y] * row[y] for y, row in zip(batch.labels.tolist(), log_p, strict=True))
    assert method.loss(batch).item() == pytest.approx(expected / len(batch), rel=1e-5)


def test_a_step_is_sgd_then_projection(stage1, make_method):
    settings = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.1}
    method = make_method("weight-balancing", stage1.task, stage1, **settings)
    head = method.model.head
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    method.train()
    method.step(next(method.batches())[1])
    stepped = weight - 0.1 * (head.weight.grad + 0.1 * weight)
    scale = (method.limit / stepped.norm(dim=1, keepdim=True)).clamp(max=1)
    assert (scale < 1).any()
    torch.testing.assert_close(head.weight.detach(), scale * stepped)
    torch.testing.assert_close(head.bias.detach(), bias - 0.1 * (head.bias.grad + 0.1 * bias))


def test_norms_stay_within_the_ball(stage1, make_method, train):
    """The head alone moves, instance by instance; max_norm=1 leaves stage 1's largest norm."""
    method = make_method("weight-balancing", stage1.task, stage1, lr=0.5)
    assert method.sampler == "instance"
    before = snapshot(method)
    train(method)
    assert moved(method, before) == {"model.head.weight", "model.head.bias"}
    assert method.model.head.weight.norm(dim=1).max() <= method.limit * (1 + 1e-5)
    loose = make_method("weight-balancing", stage1.task, stage1, max_norm=1.0)
    torch.testing.assert_close(loose.limit, stage1.model.head.weight.norm(dim=1).max().detach())


def test_what_is_refused():
    for text in ("beta=1", "max_norm=1.5", "max_norm=-1"):
        key, value = text.split("=")
        with pytest.raises(UserError, match=f"{key} is"):
            resolve("weight-balancing", WeightBalancing.Settings, [], {key: value})
