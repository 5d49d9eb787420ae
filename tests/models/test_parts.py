"""The blocks of networks, and what is done block by block."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from lmdbench.core.errors import UserError
from lmdbench.models.backbones import get_backbone
from lmdbench.models.parts import (
    checkpoint_blocks,
    layers_from_top,
    mark_layers,
    parts_of,
    set_drop_path,
)


def vit(**settings) -> nn.Module:
    """torchvision's, with three blocks."""
    sizes = {"image_size": 16, "patch_size": 8, "num_layers": 3, "num_heads": 2}
    return torchvision.models.VisionTransformer(**sizes, hidden_dim=8, mlp_dim=16, **settings)


def timm_network(name: str, **settings) -> nn.Module:
    return timm.create_model(name, pretrained=False, num_classes=0, **settings)


@pytest.mark.parametrize(
    ("backbone", "blocks", "first", "last"),
    [
        ("resnet18", 8, "layer1.0", "layer4.1"),
        ("resnet50", 16, "layer1.0", "layer4.2"),
        ("efficientnet_v2_s", 40, "features.1.0", "features.6.14"),
        ("efficientnet-lite0", 16, "_blocks.0", "_blocks.15"),
        ("small", 3, "layer1", "layer3"),
    ],
)
def test_blocks_of_the_backbones(backbone, blocks, first, last):
    with torch.device("meta"):
        parts = parts_of(get_backbone(backbone).construct().body)
    assert len(parts.blocks) == blocks
    assert next(iter(parts.blocks)) == first
    assert [*parts.blocks][-1] == last


@pytest.mark.parametrize(
    ("name", "blocks", "last"),
    [
        ("resnet18", 8, "layer4.1"),
        ("convnext_atto", 12, "stages.3.blocks.1"),
        ("efficientnet_b0", 16, "blocks.6.0"),
        ("vit_tiny_patch16_224", 12, "blocks.11"),
        ("swin_tiny_patch4_window7_224", 12, "layers.3.blocks.1"),
        ("regnety_002", 13, "s4.b7"),
        ("eva02_tiny_patch14_224", 12, "blocks.11"),
        ("vit_base_patch16_siglip_224", 12, "blocks.11"),
    ],
)
def test_blocks_of_timms_networks(name, blocks, last):
    with torch.device("meta"):
        network = timm_network(name)
    parts = parts_of(network)
    assert len(parts.blocks) == blocks
    assert [*parts.blocks][-1] == last
    named = [*parts.stem, *parts.rest, *(n for names in parts.blocks.values() for n in names)]
    assert sorted(named) == sorted(n for n, _ in network.named_parameters())


def test_parts_of_a_vit():
    parts = parts_of(vit())
    assert [*parts.blocks] == [f"encoder.layers.encoder_layer_{i}" for i in range(3)]
    assert parts.stem == (
        "class_token",
        "conv_proj.weight",
        "conv_proj.bias",
        "encoder.pos_embedding",
    )
    assert parts.rest[:2] == ("encoder.ln.weight", "encoder.ln.bias")


def test_a_network_within_another_is_looked_into():
    wrapped = nn.Sequential(nn.Identity(), vit())
    assert next(iter(parts_of(wrapped).blocks)) == "1.encoder.layers.encoder_layer_0"


def test_what_lies_between_blocks_goes_with_the_next():
    with torch.device("meta"):
        parts = parts_of(timm_network("convnext_atto"))
    assert "stages.1.downsample.1.weight" in parts.blocks["stages.1.blocks.0"]


def test_unknown_blocks_are_told_in_a_line():
    with pytest.raises(UserError, match="the blocks of a Sequential are not known; choose a "):
        parts_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))


def test_layers_are_counted_from_the_head_down():
    body = vit()
    mark_layers(body)
    depths = {name: layers_from_top(body)[p] for name, p in body.named_parameters()}
    assert depths["class_token"] == depths["encoder.pos_embedding"] == 4
    assert depths["encoder.layers.encoder_layer_0.ln_1.weight"] == 3
    assert depths["encoder.layers.encoder_layer_2.self_attention.in_proj_weight"] == 1
    assert depths["encoder.ln.weight"] == 0


def test_stochastic_depth_rises_from_block_to_block():
    network = timm_network("vit_tiny_patch16_224", depth=4, img_size=16)
    set_drop_path(network, 0.3)
    rates = [m.p for m in network.modules() if isinstance(m, StochasticDepth)]
    assert rates == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    drawn = [network.train()(images) for _ in range(8)]
    assert not all(torch.equal(one, drawn[0]) for one in drawn)
    assert torch.equal(network.eval()(images), network(images))


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto", "mobilenetv4_conv_small"])
def test_timms_networks_have_a_place_for_it(name):
    with torch.device("meta"):
        network = timm_network(name)
        set_drop_path(network, 0.2)
    last = [m for m in network.modules() if isinstance(m, StochasticDepth)][-1]
    assert last.p == pytest.approx(0.2)


def test_stochastic_depth_that_torchvision_has_is_replaced():
    with torch.device("meta"):
        body = get_backbone("efficientnet_v2_s").construct().body
    set_drop_path(body, 0.0)
    assert {m.p for m in body.modules() if isinstance(m, StochasticDepth)} == {0.0}


def test_a_network_without_it_refuses_it():
    with torch.device("meta"):
        body = get_backbone("resnet18").construct().body
    with pytest.raises(UserError, match="ResNet has no stochastic depth; leave it out"):
        set_drop_path(body, 0.1)


@pytest.mark.parametrize("dropping", [False, True])
def test_checkpoints_leave_gradients_and_batch_norm_as_they_are(dropping):
    """Bit for bit, also where blocks draw which of them are left out, and where they are copies."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = timm_network("resnet10t")
    if dropping:
        set_drop_path(plain, 0.5)
    saving = copy.deepcopy(plain)
    checkpoint_blocks(saving)
    saving = copy.deepcopy(saving)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for network in (plain, saving):
        torch.manual_seed(1)
        network.train()(images).square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(plain.buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other)
    assert [*plain.state_dict()] == [*saving.state_dict()]


def test_checkpoints_keep_less_for_the_gradient():
    kept = []
    for network in (vit(), vit()):
        if kept:
            checkpoint_blocks(network)
        saved = set()
        images = torch.randn(4, 3, 16, 16)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: saved.add(t.data_ptr()) or t, lambda t: t
        ):
            network(images)
        kept.append(len(saved))
    assert kept[1] < kept[0] / 2
