"""What MARC has of its own; its loss is tested beside `disalign`, its start in test_linear_head."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmdbench.methods.marc import MarginHead

from .helpers import moved, randn, recall, redrawn, snapshot


def random_head(seed: int = 0) -> MarginHead:
    return redrawn(MarginHead(nn.Linear(4, 3)), seed)


@pytest.mark.parametrize("seed", range(3))
def test_logits_against_calibrated_margins(seed):
    """‖w‖ (ω d + β) with d the signed distance to the class's plane."""
    head = random_head(seed)
    features = randn(5, 4, seed=9)
    ours = head(features).detach().numpy()
    for i, x in enumerate(features.numpy()):
        for j in range(3):
            w, b = head.linear.weight[j].detach().numpy(), head.linear.bias[j].item()
            norm = np.sqrt((w**2).sum())
            distance = (w @ x + b) / norm
            calibrated = head.omega[j].item() * distance + head.beta[j].item()
            assert ours[i, j] == pytest.approx(norm * calibrated, rel=1e-9)


def test_only_omega_and_beta_are_trained(stage1, make_method, train):
    method = make_method("marc", stage1.task, stage1)
    before = snapshot(method)
    train(method)
    assert moved(method, before) == {"model.head.omega", "model.head.beta"}
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == 2 * 3
    assert torch.equal(method.model.head.linear.weight, stage1.model.head.weight)


def test_gradient():
    head = random_head()
    features = randn(5, 4, seed=9)
    labels = torch.tensor([0, 1, 2, 1, 0])

    def loss(*_):
        return F.cross_entropy(head(features), labels)

    assert torch.autograd.gradcheck(loss, (head.omega, head.beta))


def test_rho_0_is_plain_cross_entropy(stage1, make_method):
    method = make_method("marc", stage1.task, stage1, rho=0.0)
    _, batch = next(method.batches())
    expected = F.cross_entropy(method.model(batch.images), batch.labels)
    torch.testing.assert_close(method.loss(batch), expected)


def test_wins_back_the_tail(make_task, make_method, train):
    task = make_task((40, 2), validation=10)
    ce = make_method("ce", task, epochs=2, batch_size=8, lr=0.003)
    train(ce)
    marc = make_method("marc", task, ce, epochs=10, batch_size=8, lr=2.0)
    train(marc)
    assert recall(marc, 1) > recall(ce, 1)
