"""Maps of what speaks for a class, against values by hand."""

import pytest
import torch
from torch import nn

from lmdbench.models.attribution import class_maps, grad_cam, pixel_gradient
from lmdbench.models.backbones import Weights, build_encoder, get_backbone
from lmdbench.models.classifier import Classifier, FrozenEncoder
from lmdbench.models.small import SmallNet


def test_grad_cam_by_hand():
    """α = (1, −.5); Σ α A = (1 − 1, 2 − .5, 0 − 2, 4 − 0)."""
    activations = torch.tensor([[[[1.0, 2], [0, 4]], [[2.0, 1], [4, 0]]]])
    gradients = torch.tensor([[[[2.0, 0], [1, 1]], [[-0.5, -0.5], [-1, 0]]]])
    found = grad_cam(activations, gradients)
    assert found.tolist() == [[[0, 1.5], [0, 4]]]


def test_grad_cam_of_a_network_of_two_layers():
    """A convolution, the mean over the image and a linear layer: α_k is the weight over h · w."""
    torch.manual_seed(0)
    convolution, head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
    images = torch.randn(2, 3, 6, 6)
    maps = convolution(images)
    score = head(maps.mean(dim=(2, 3)))[:, 1].sum()
    (gradients,) = torch.autograd.grad(score, maps)
    expected = (head.weight[1][None, :, None, None] / 16 * maps).sum(dim=1).relu()
    torch.testing.assert_close(grad_cam(maps, gradients), expected)


def test_pixel_gradient_is_the_largest_over_channels():
    gradients = torch.tensor([[[[1.0, -5]], [[-2.0, 0]], [[0.5, 4]]]])
    assert pixel_gradient(gradients).tolist() == [[[2, 5]]]


@pytest.mark.parametrize("frozen", [False, True])
def test_maps_of_an_encoder_are_of_its_last_block(frozen):
    torch.manual_seed(0)
    encoder = build_encoder(get_backbone("small"), Weights("none", "none")).eval()
    if frozen:
        encoder = FrozenEncoder(encoder.body, encoder.out_features)
    assert isinstance(encoder.body, SmallNet)
    model = Classifier(encoder, nn.Linear(encoder.out_features, 3)).eval()
    images = torch.randn(2, 3, 32, 32)
    found, kind = class_maps(model, encoder, images, torch.tensor([0, 2]))
    assert (found.shape, kind) == ((2, 32, 32), "Grad-CAM")
    assert found.amin() >= 0
    assert found.amax() <= 1
    *_, last = encoder.body
    kept = []
    hook = last.register_forward_hook(lambda *a: kept.append(a[2]))
    model(images)
    hook.remove()
    weights = model.head.weight[[0, 2]][:, :, None, None]
    by_hand = (weights * kept[0]).sum(dim=1).relu()  # the mean over places is a constant factor
    by_hand = nn.functional.interpolate(by_hand[:, None], (32, 32), mode="bilinear")[:, 0]
    expected = by_hand / by_hand.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    torch.testing.assert_close(found, expected.detach(), atol=1e-4, rtol=1e-4)
    assert all(p.grad is None for p in model.parameters())


def test_without_a_map_of_features_it_is_the_gradient_at_the_pixels():
    encoder = build_encoder(get_backbone("small"), Weights("none", "none")).eval()
    encoder.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, encoder.out_features))
    model = Classifier(encoder, nn.Linear(encoder.out_features, 2)).eval()
    found, kind = class_maps(model, encoder, torch.randn(1, 3, 8, 8), torch.tensor([1]))
    slope = model.head.weight[1] @ encoder.body[1].weight
    expected = slope.reshape(3, 8, 8).abs().amax(dim=0)
    assert kind == "gradient"
    torch.testing.assert_close(found[0], (expected / expected.max()).detach())
