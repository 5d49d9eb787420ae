import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.focal import Focal, focal_loss

from .helpers import assert_finite, random_batch


@given(st.integers(1, 8), st.integers(2, 100), st.integers(0, 10))
def test_gamma_0_is_cross_entropy(batch, classes, seed):
    logits, labels = random_batch(classes, batch, seed)
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
    logits, labels = random_batch(classes, 6, seed)
    p_y = softmax(logits.numpy(), axis=1)[np.arange(6), labels.numpy()]
    expected = np.mean(-((1 - p_y) ** gamma) * np.log(p_y))
    assert focal_loss(logits, labels, gamma).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradient(gamma):
    logits, labels = random_batch()
    assert torch.autograd.gradcheck(
        lambda x: focal_loss(x, labels, gamma), logits.requires_grad_(), atol=1e-7
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [50.0, 1e4, 1e30])
def test_extreme_logits(gamma, size):
    logits = torch.tensor([[size, 0, -size], [0, -size, size], [-size, -size, size]])
    logits.requires_grad_()
    loss = focal_loss(logits, torch.tensor([0, 2, 0]), gamma)
    assert_finite(loss, logits)
    assert loss.item() == pytest.approx(2 * size / 3, rel=1e-5)  # only the last one is wrong


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


def test_gamma_0_trains_as_ce(losses_of):
    assert losses_of("focal", gamma=0.0) == pytest.approx(losses_of("ce"), rel=1e-5)
