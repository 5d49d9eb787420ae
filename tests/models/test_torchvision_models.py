"""torchvision's networks by name, against torchvision itself."""

import pytest
import torch
import torchvision.models
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from lmdbench.core.errors import UserError
from lmdbench.models.backbones import (
    build_encoder,
    get_backbone,
    library_names,
    resolve_weights,
)
from lmdbench.models.classifier import Encoder
from lmdbench.models.weights import load_state


@pytest.mark.parametrize(
    ("name", "last", "size", "width"),
    [
        ("resnet18", "fc", 32, 512),
        ("mobilenet_v3_small", "classifier.3", 32, 1024),
        ("shufflenet_v2_x0_5", "fc", 32, 1024),
        ("regnet_y_400mf", "fc", 32, 440),
        ("squeezenet1_1", None, 32, 512),
    ],
)
def test_features_are_what_the_classifier_is_given(name, last, size, width, tmp_path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None).eval()
    path = tmp_path / "whole.pth"
    torch.save(theirs.state_dict(), path)
    backbone = get_backbone(f"torchvision/{name}", size)
    said: list[str] = []
    weights = resolve_weights(backbone, str(path), "none")
    encoder = build_encoder(backbone, weights, said.append).eval()
    if last is None:
        theirs.classifier = nn.AdaptiveAvgPool2d(1)
    else:
        theirs.set_submodule(last, nn.Identity())
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), theirs(images))
    assert encoder.out_features == width
    assert "2 there are not used (" in said[0]


def test_a_vision_transformer_of_another_size() -> None:
    def network(size: int) -> VisionTransformer:
        torch.manual_seed(0)
        return VisionTransformer(size, 16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)

    state = network(64).state_dict()
    expected = interpolate_embeddings(32, 16, dict(state))["encoder.pos_embedding"]
    encoder = Encoder(network(32), 8)
    convert = get_backbone("torchvision/vit_b_16", 32).convert
    loaded = load_state(encoder, state, "a file", convert=convert)
    assert torch.equal(encoder.body.encoder.pos_embedding, expected)
    assert loaded.text == "1 resampled (encoder.pos_embedding (1, 17, 8) → (1, 5, 8))"


def test_its_weights_are_torchvisions_own() -> None:
    backbone = get_backbone("torchvision/resnet50", 32)
    assert resolve_weights(backbone, None, "imagenet").identity == "IMAGENET1K_V2"
    assert get_backbone("torchvision/vit_b_16", 32).origin.record == {
        "library": f"torchvision {torchvision.__version__.partition('+')[0]}",
        "architecture": "vit_b_16",
        "size": 224,
        "fixed": True,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
        "license": None,
    }


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "torchvision/resnet",
            None,
            r"unknown model of torchvision 'resnet'\. Did you mean resnet",
        ),
        ("torchvision/vit_b_16", 40, r"indivisible by patch size!; give --image-size 32 or 48$"),
        ("torchvision/maxvit_t", 100, r"not divisible by partition size 7.* --image-size 224$"),
    ],
)
def test_what_there_is_not(name, size, message) -> None:
    with pytest.raises(UserError, match=message):
        get_backbone(name, size)


def test_its_names_are_those_that_classify() -> None:
    names = library_names("torchvision")
    assert {"torchvision/resnet18", "torchvision/swin_v2_t"} <= set(names)
    assert not any("rcnn" in name or "deeplab" in name for name in names)
