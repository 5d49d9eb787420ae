import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lmdbench.core.errors import UserError
from lmdbench.methods.bbn import (
    ReversedSampler,
    last_block,
    mixed_features,
    with_own_last_block,
)
from lmdbench.models.backbones import BACKBONES, get_backbone


@pytest.fixture
def make_encoder(make_staged_encoder):
    return make_staged_encoder


def test_classes_are_drawn_by_the_inverse_of_their_size():
    counts = [60, 20, 5, 1]
    labels = torch.arange(4).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(86, generator=torch.Generator().manual_seed(0))]
    drawn = ReversedSampler(labels).draw(40_000, torch.Generator().manual_seed(0))
    inverse = np.array([max(counts) / n for n in counts])
    expected = inverse / inverse.sum()  # P_i of the paper's equation 4
    shares = torch.bincount(labels[drawn], minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, expected, atol=0.01)
    of_largest = torch.bincount(drawn[labels[drawn] == 0], minlength=86)[labels == 0].double()
    assert of_largest.min() > 0  # every image of a class alike
    assert of_largest.std() < 3 * of_largest.mean().sqrt()


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("resnet18", "layer4.1."),
        ("resnet50", "layer4.2."),
        ("small", "layer3."),
        ("efficientnet_v2_s", "features.7."),
        *((f"efficientnet-lite{n}", ("_conv_head.", "_bn1.")) for n in range(3)),
        ("torchvision/vit_b_32", ("encoder.layers.encoder_layer_11.", "encoder.ln.")),
    ],
)
def test_the_branches_share_all_but_the_last_block(name, own):
    encoder = get_backbone(name, 32).construct()
    twin = with_own_last_block(encoder)
    pairs = zip(encoder.body.named_parameters(), twin.body.named_parameters(), strict=True)
    for (key, one), (_, other) in pairs:
        assert (one is not other) == key.startswith(own), key
        assert torch.equal(one, other)
    for (key, one), (_, other) in zip(
        encoder.body.named_modules(), twin.body.named_modules(), strict=True
    ):
        if isinstance(one, nn.BatchNorm2d):  # its statistics as well
            assert (one is not other) == f"{key}.".startswith(own), key


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("timm/test_vit.r160_in1k", ("blocks.5.", "norm.")),
        ("timm/swin_tiny_patch4_window7_224", ("layers.3.blocks.1.", "norm.")),
        ("timm/test_resnet.r160_in1k", "layer4.0."),
        ("timm/test_efficientnet.r160_in1k", ("conv_head.", "bn2.")),
    ],
)
def test_the_same_of_timm(name, own):
    pytest.importorskip("timm", reason="lmdbench[timm] missing")
    test_the_branches_share_all_but_the_last_block(name, own)


def test_every_backbone_is_among_those():
    assert set(BACKBONES) <= {
        *("resnet18", "resnet34", "resnet50", "small", "efficientnet_v2_s"),
        *(f"efficientnet-lite{n}" for n in range(3)),
    }


def test_a_network_without_convolutions_is_refused():
    with pytest.raises(UserError, match="a Sequential has none: choose another --backbone"):
        last_block(nn.Sequential(nn.Flatten(), nn.Linear(4, 4)))


def test_features_are_weighted_and_put_one_behind_the_other():
    one, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 20.0]])
    assert mixed_features(one, other, 0.75).tolist() == [[1.5, 3.0, 5.0, 10.0]]
    assert mixed_features(one, other, 0.5).tolist() == [[1, 2, 10, 20]]


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_loss_by_the_papers_equations(make_task, make_method, progress):
    """Two whole networks and two heads, put together by hand."""
    method = make_method("bbn", make_task((9, 5, 1)))
    with torch.no_grad():  # so that the branches differ
        method.model.encoder.body.rebalancing.body.layer3[0].weight.mul_(-0.5)
    _, (batch, reverse) = next(method.batches())
    method.eval()
    branches = copy.deepcopy(method.model.encoder.body)
    W_c, W_r = method.model.head.weight.split(96, dim=1)
    f_c = branches.conventional.body(batch.images)
    f_r = branches.rebalancing.body(reverse.images)
    alpha = 1 - progress**2
    z = 2 * (alpha * f_c @ W_c.T + (1 - alpha) * f_r @ W_r.T) + method.model.head.bias
    p = z.softmax(1)
    rows = torch.arange(len(batch))
    expected = -(
        alpha * p[rows, batch.labels].log() + (1 - alpha) * p[rows, reverse.labels].log()
    ).mean()
    method.progress = progress
    torch.testing.assert_close(method.loss((batch, reverse)), expected)


def test_at_first_it_learns_from_the_conventional_branch_alone(make_task, make_method):
    method = make_method("bbn", make_task((9, 5, 1)))
    batches = next(method.batches())[1]
    branches = method.model.encoder.body
    for progress, still in ((0.0, branches.rebalancing), (1.0, branches.conventional)):
        method.train()
        method.zero_grad()
        method.progress = progress
        method.loss(batches).backward()
        for branch in (branches.conventional, branches.rebalancing):
            moved = branch.body.layer3[0].weight.grad.abs().max() > 0
            assert moved == (branch is not still)


def test_at_test_both_branches_count_alike(make_task, make_method, train):
    task = make_task((9, 5, 1))
    method = make_method("bbn", task)
    train(method)
    (batch,) = task.in_order(task.validation)
    with torch.no_grad():
        branches = method.model.encoder.body
        features = [b(batch.images) for b in (branches.conventional, branches.rebalancing)]
        expected = method.model.head(mixed_features(*features, 0.5))
        assert torch.equal(method.predict(batch.images), expected)
    assert not torch.equal(*features)
    assert F.cross_entropy(expected, batch.labels).isfinite()


def test_shared_weights_are_trained_once(make_task, make_method):
    method = make_method("bbn", make_task())
    (group,) = method.running_optimizers["sgd"].param_groups
    encoder = get_backbone("small").construct()
    own = sum(p.numel() for p in encoder.body.layer3.parameters())
    head = 2 * 96 * 3 + 3
    total = sum(p.numel() for p in encoder.parameters()) + own + head
    assert sum(p.numel() for p in group["params"]) == total
