"""The supervised contrastive loss against loops, and what learns from it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.methods.supcon import supervised_contrastive_loss

from .helpers import assert_finite, drawn_by_class, unit_rows


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 20))
def test_loss_is_that_of_the_paper(images, classes, seed):
    """Also with a class of one image, whose other view alone is like it."""
    features, tau = unit_rows(2 * images, 5, seed), 0.3
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, classes, images)).repeat(2)
    f, y, losses = features.numpy(), labels.numpy(), []
    for i in range(len(f)):
        others = [j for j in range(len(f)) if j != i]
        total = sum(np.exp(f[i] @ f[a] / tau) for a in others)
        positives = [p for p in others if y[p] == y[i]]
        losses.append(-np.mean([np.log(np.exp(f[i] @ f[p] / tau) / total) for p in positives]))
    ours = supervised_contrastive_loss(features, labels, tau).item()
    assert ours == pytest.approx(np.mean(losses), rel=1e-10, abs=1e-12)


def test_gradient():
    labels = torch.tensor([0, 1, 1, 0, 1, 1])
    assert torch.autograd.gradcheck(
        lambda f: supervised_contrastive_loss(f, labels, 0.5), unit_rows(6, 3, 0).requires_grad_()
    )


def test_low_temperatures_stay_finite():
    f = unit_rows(6, 3, 0).float().requires_grad_()
    loss = supervised_contrastive_loss(f, torch.tensor([0, 1, 2, 0, 1, 2]), 1e-3)
    assert_finite(loss, f)


def test_loss_of_a_batch(make_task, make_method):
    method = make_method("supcon", make_task((12, 5, 1)), temperature=0.2).eval()
    _, batch = next(method.batches())
    z = torch.cat([method.model.encoder(view) for view in batch.views])
    labels = batch.labels.repeat(2)
    f = F.normalize(method.projector(z), dim=1)
    expected = 0.2 / 0.07 * supervised_contrastive_loss(f, labels, 0.2)
    expected = expected + F.cross_entropy(method.model.head(z), labels)
    torch.testing.assert_close(method.loss(batch), expected)


def test_the_head_does_not_move_the_encoder(make_task, make_method):
    """The encoder's gradient is the contrast's, whatever the head."""
    method = make_method("supcon", make_task((12, 5, 1))).eval()
    _, batch = next(method.batches())
    encoder, head = list(method.model.encoder.parameters()), method.model.head
    gradients = []
    for size in (1.0, 100.0):
        with torch.no_grad():
            head.weight.mul_(size)
        gradients.append(torch.autograd.grad(method.loss(batch), encoder))
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
    assert torch.autograd.grad(method.loss(batch), head.weight)[0].abs().max() > 0


def test_batches_are_class_balanced_with_two_views(make_task, make_method):
    method = make_method("supcon", make_task((12, 5, 1)), batch_size=6)
    assert drawn_by_class(method) == [6, 6, 6]
    one, other = next(method.batches())[1].views
    assert not torch.equal(one, other)
