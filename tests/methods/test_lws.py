"""Its start from a run of ce is tested in test_linear_head."""

import torch
from torch import nn

from lmdbench.methods.lws import ScaledHead

from .helpers import drawn_by_class, moved, snapshot


def test_logits_are_scaled_with_their_bias():
    head = ScaledHead(nn.Linear(4, 3))
    with torch.no_grad():
        head.scale.copy_(torch.tensor([2.0, 0.5, -1.0]))
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    for j in range(3):
        plain = features @ head.linear.weight[j] + head.linear.bias[j]
        torch.testing.assert_close(head(features)[:, j], head.scale[j] * plain)


def test_only_the_scale_is_trained(stage1, make_method, train):
    method = make_method("lws", stage1.task, stage1)
    before = snapshot(method)
    train(method)
    assert moved(method, before) == {"model.head.scale"}
    linear = method.model.head.linear
    assert torch.equal(linear.weight, stage1.model.head.weight)
    assert torch.equal(linear.bias, stage1.model.head.bias)


def test_weight_decay_acts_on_the_scale(stage1, make_method):
    scales = []
    for decay in (0.0, 0.5):
        settings = {"lr": 0.1, "momentum": 0.0, "weight_decay": decay}
        method = make_method("lws", stage1.task, stage1, **settings)
        method.train()
        method.step(next(method.batches())[1])
        scales.append(method.model.head.scale.detach())
    torch.testing.assert_close(scales[1], scales[0] - 0.1 * 0.5 * torch.ones(3))


def test_five_epochs_of_class_balanced_batches(stage1, make_method):
    method = make_method("lws", stage1.task, stage1, batch_size=9)
    assert type(method).Settings().epochs == 5
    assert drawn_by_class(method) == [6, 6, 6]
