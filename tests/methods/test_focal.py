import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from lmdbench.errors import UserError
from lmdbench.methods.focal import Focal, focal_loss
from lmdbench.settings import resolve


def random_logits(batch: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (batch,), generator=generator)


@given(st.integers(1, 8), st.integers(2, 100), st.integers(0, 10))
def test_gamma_0_is_cross_entropy(batch, classes, seed):
    logits, labels = random_logits(batch, classes, seed)
    logits.requires_grad_()
    focal, plain = focal_loss(logits, labels, 0.0), F.cross_entropy(logits, labels)
    torch.testing.assert_close(focal, plain, rtol=1e-14, atol=1e-14)
    (ours,), (theirs,) = (torch.autograd.grad(x, logits) for x in (focal, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-15)


def test_hand_value():
    logits = torch.tensor([[math.log(1.0), math.log(3.0)]], dtype=torch.float64)
    loss = focal_loss(logits, torch.tensor([0]), 2.0)  # p_y = 1/4
    assert loss.item() == pytest.approx(0.75**2 * math.log(4), rel=1e-14)


@given(st.floats(0, 5), st.integers(2, 20), st.integers(0, 5))
def test_formula(gamma, classes, seed):
    logits, labels = random_logits(6, classes, seed)
    p_y = softmax(logits.numpy(), axis=1)[np.arange(6), labels.numpy()]
    expected = np.mean(-((1 - p_y) ** gamma) * np.log(p_y))
    assert focal_loss(logits, labels, gamma).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradient(gamma):
    logits, labels = random_logits(5, 4)
    assert torch.autograd.gradcheck(
        lambda x: focal_loss(x, labels, gamma), logits.requires_grad_(), atol=1e-7
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_extreme_logits(gamma, size):
    logits = torch.tensor([[size, 0, -size], [0, -size, size], [-size, -size, size]])
    logits.requires_grad_()
    loss = focal_loss(logits, torch.tensor([0, 2, 0]), gamma)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert loss.item() == pytest.approx(2 * size / 3, rel=1e-5)  # only the last one is wrong


def test_the_order_of_classes_does_not_matter():
    logits, labels = random_logits(7, 5)
    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = focal_loss(logits[:, order], order.argsort()[labels], 2.0)
    torch.testing.assert_close(permuted, focal_loss(logits, labels, 2.0), rtol=1e-14, atol=0)


def test_well_classified_examples_are_played_down_more():
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    label = torch.tensor([0])
    easy, hard = (
        focal_loss(row[None], label, 2.0) / F.cross_entropy(row[None], label) for row in logits
    )
    assert easy < 0.01 < 0.9 < hard


def test_negative_gamma_is_refused():
    with pytest.raises(UserError, match=r"gamma is -1\.0, but must be at least 0"):
        resolve("focal", Focal.Settings, [], {"gamma": "-1"})


@pytest.mark.parametrize("counts", [(9, 1), (3,) + (1,) * 99])
def test_trains_with_2_and_100_classes(make_task, make_method, train, counts):
    method = make_method("focal", make_task(counts, validation=1), epochs=1, batch_size=16)
    before = [p.clone() for p in method.parameters()]
    (logs,) = train(method)
    assert math.isfinite(logs["loss"])
    assert any(not torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))


def test_gamma_0_trains_as_ce(make_task, make_method, train):
    losses = [
        train(make_method(name, make_task(), **settings))[-1]["loss"]
        for name, settings in (("focal", {"gamma": 0.0}), ("ce", {}))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
