"""timm's networks by name, against timm itself: features, sizes, weights wherever they lie."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from lmdbench.core.errors import UserError
from lmdbench.models.backbones import (
    build_encoder,
    frozen,
    get_backbone,
    library_names,
    resolve_weights,
    weights_digest,
)
from lmdbench.training.views.augmentation import IMAGENET_MEAN, IMAGENET_STD

timm = pytest.importorskip("timm", reason="lmdbench[timm] missing")

VIT = "timm/test_vit.r160_in1k"
DINO = "timm/vit_small_patch14_dinov2.lvd142m"
SIZE = 32


def their(name: str, **more) -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model(name.removeprefix("timm/"), **more).eval()


def own_weights(backbone, requested: str = "pretrained", partial: bool = False):
    """The encoder and what was said of its weights."""
    said: list[str] = []
    weights = resolve_weights(backbone, requested, "none", partial)
    return build_encoder(backbone, weights, said.append).eval(), said


def save(state: dict[str, Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


# Networks


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("timm/test_vit.r160_in1k", 0.5),
        ("timm/test_resnet.r160_in1k", 0.5),
        ("timm/test_efficientnet.r160_in1k", None),
        ("timm/test_convnext.r160_in1k", 0.5),
        ("timm/test_maxvit.untrained", 0.5),
    ],
)
def test_features_are_those_of_timm(name: str, mean: float | None, tmp_path: Path) -> None:
    """Of the same pixels, each normalised as it wants them."""
    sized = {"img_size": SIZE} if "vit" in name else {}
    theirs = their(name, num_classes=0, **sized)
    path = save(theirs.state_dict(), tmp_path / "w.safetensors")
    encoder, said = own_weights(get_backbone(name, SIZE), str(path))
    pixels = torch.rand(2, 3, SIZE, SIZE)

    def normalised(mean, std) -> Tensor:
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    usual = normalised(IMAGENET_MEAN, IMAGENET_STD)
    wanted = usual if mean is None else normalised([mean] * 3, [mean] * 3)
    with torch.no_grad():
        torch.testing.assert_close(encoder(usual), theirs(wanted), atol=1e-5, rtol=1e-4)
    assert encoder.out_features == theirs(wanted).shape[1]
    assert said == []


def test_a_name_stands_for_that_with_its_tag() -> None:
    assert get_backbone("timm/test_vit", SIZE).name == VIT
    assert get_backbone("frozen/timm/test_vit", SIZE).name == f"frozen/{VIT}"
    assert get_backbone("timm/vit_tiny_patch16_224", SIZE).name.endswith("augreg_in21k_ft_in1k")


def test_it_is_made_for_the_size() -> None:
    body = get_backbone(VIT, 64).construct().body
    assert body.pos_embed.shape[1] == 1 + (64 // 16) ** 2
    assert get_backbone(VIT).construct().body.pos_embed.shape[1] == 1 + (160 // 16) ** 2


def test_what_timm_says_of_it_is_recorded() -> None:
    origin = get_backbone("timm/eva02_tiny_patch14_224.mim_in22k", 28).origin
    assert origin is not None
    assert origin.record == {
        "library": f"timm {timm.__version__}",
        "architecture": "eva02_tiny_patch14_224",
        "size": 224,
        "fixed": True,
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "license": "mit",
    }
    assert "bicubic; licence of the weights: mit" in origin.line


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("timm/test_vitt", None, r"unknown model of timm 'test_vitt'\. Did you mean test_vit"),
        ("timm/vit_smal_patch16_224", None, r"Did you mean vit_small_patch16_224"),
        ("timm/test_vit.r160_in1", None, r"weights of timm's test_vit 'r160_in1'\. .*r160_in1k"),
        ("timm/vit_tiny_patch16_224_in21k", None, r"timm calls it timm/vit_tiny_patch16_224\.au"),
        (VIT, 40, r"height \(40\) should be divisible by patch size \(16\); give .* 32 or 48$"),
        (DINO, 32, r"at 32 px: its patches of 14 px leave a rim of 4 px out; give .* 28 or 42$"),
        (VIT, 8, r"can't make features of images \(2, 3, 8, 8\).* give --image-size 16$"),
        ("timm/convnext_atto", 28, r"can't make features of images .* give --image-size 32$"),
        ("timm/hf-hub:vit", None, r"write timm/hf-hub:owner/name"),
    ],
)
def test_what_there_is_not(name: str, size: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        get_backbone(name, size)
    assert "\n" not in str(raised.value)


def test_without_timm_a_line_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("lmdbench.models.timm_models.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'pip install "lmdbench\[timm\]"$'):
        get_backbone(VIT)


def test_its_names_are_those_of_timm() -> None:
    found = library_names("timm")
    assert {VIT, "timm/resnet18.a1_in1k", "timm/test_mambaout"} <= set(found)


# Weights


def test_published_weights_placed_by_hand(checkpoints: Path) -> None:
    """Of another size: position embeddings are resampled as timm does, and told."""
    whole = their(VIT)
    path = save(whole.state_dict(), checkpoints / "test_vit.r160_in1k.safetensors")
    backbone = get_backbone(VIT, SIZE)
    encoder, said = own_weights(backbone)
    overlay = {"file": str(path), "custom_load": False}
    theirs = their(
        VIT, pretrained=True, num_classes=0, img_size=SIZE, pretrained_cfg_overlay=overlay
    )
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(encoder.body.state_dict()[name], tensor), name
    assert said == [
        f"pretrained weights of {VIT}: 1 resampled (pos_embed (1, 101, 64) → (1, 5, 64))"
    ]
    weights = resolve_weights(backbone, "pretrained", "none")
    assert weights.identity == "timm test_vit.r160_in1k"
    assert resolve_weights(backbone, None, "imagenet") == weights
    assert weights_digest(backbone, weights) == hashlib.sha256(path.read_bytes()).hexdigest()


def in_the_hubs_cache(checkpoints: Path, repository: str, state: dict[str, Tensor]) -> Path:
    """A file as the Hub's own client keeps it: named by its SHA-256. Returns that file."""
    folder = checkpoints.parents[2] / "hub" / f"models--{repository.replace('/', '--')}"
    content = safetensors.torch.save({k: v.contiguous() for k, v in state.items()})
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    snapshot = folder / "snapshots" / ("a" * 40)
    for made in (blob.parent, snapshot, folder / "refs"):
        made.mkdir(parents=True)
    blob.write_bytes(content)
    (folder / "refs" / "main").write_text("a" * 40)
    (snapshot / "model.safetensors").symlink_to(blob)
    return blob


def test_published_weights_in_the_hubs_cache(checkpoints: Path) -> None:
    network = their("timm/test_resnet.r160_in1k")
    blob = in_the_hubs_cache(checkpoints, "timm/test_resnet.r160_in1k", network.state_dict())
    encoder, _ = own_weights(get_backbone("timm/test_resnet", SIZE))
    assert torch.equal(encoder.body.conv1[0].weight, network.conv1[0].weight)
    blob.write_bytes(blob.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"damaged \(its SHA-256 is not [0-9a-f]{12}…") as raised:
        own_weights(get_backbone("timm/test_resnet", SIZE))
    assert f"delete {blob}" in str(raised.value)


def test_without_network_a_line_says_which_file_from_where_and_to_where(checkpoints: Path) -> None:
    with pytest.raises(UserError) as raised:
        own_weights(get_backbone(VIT, SIZE))
    assert str(raised.value) == (
        "could not download model.safetensors of timm/test_vit.r160_in1k (no connection to the "
        "Hugging Face Hub): fetch "
        "https://huggingface.co/timm/test_vit.r160_in1k/resolve/main/model.safetensors and put it "
        f"there as {checkpoints}/test_vit.r160_in1k.safetensors, or pass --weights FILE or "
        "--weights none"
    )


def test_weights_of_an_address(checkpoints: Path, monkeypatch) -> None:
    """timm has some that are on no hub."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr("lmdbench.download.web.BACK_OFF", 0.0)
    backbone = get_backbone("timm/gcvit_xxtiny.in1k")
    with pytest.raises(UserError, match=rf"put it into {checkpoints} by hand \(from https://gith"):
        own_weights(backbone)


def test_one_without_weights() -> None:
    backbone = get_backbone("timm/test_maxvit.untrained", SIZE)
    assert resolve_weights(backbone, None, "imagenet").identity == "none"
    with pytest.raises(
        UserError, match=r"there are none for timm/test_maxvit\.untrained; pass --w"
    ):
        resolve_weights(backbone, "pretrained", "none")
    with pytest.raises(UserError, match=r"needs weights: --weights FILE$"):
        resolve_weights(frozen(backbone), None, "none")


def test_imagenets_are_not_what_it_has() -> None:
    with pytest.raises(UserError, match="pass --weights none, or --weights pretrained, or a file"):
        resolve_weights(get_backbone(VIT, SIZE), "imagenet", "none")


def repository(checkpoints: Path, configuration: dict, state: dict[str, Tensor]) -> Path:
    (checkpoints / "owner--derm.json").write_text(json.dumps(configuration))
    return save(state, checkpoints / "owner--derm.safetensors")


def test_a_repository_is_identified_by_its_file(checkpoints: Path) -> None:
    """Its own arguments and normalisation act."""
    network = their(VIT, num_classes=7, global_pool="avg")
    configuration = {
        "architecture": "test_vit",
        "num_classes": 7,
        "model_args": {"global_pool": "avg"},
        "pretrained_cfg": {
            "input_size": [3, 160, 160],
            "fixed_input_size": True,
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "classifier": "head",
            "license": "mit",
            "unheard_of": 1,
        },
    }
    path = repository(checkpoints, configuration, network.state_dict())
    backbone = get_backbone("timm/hf-hub:owner/derm", 160)
    encoder, _ = own_weights(backbone)
    weights = resolve_weights(backbone, "pretrained", "none")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.identity == f"timm hf-hub:owner/derm sha256:{digest}"
    assert backbone.slug == "timm-hf-hub-owner-derm"
    pixels = torch.rand(2, 3, 160, 160)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    ours = [torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD)]
    network.reset_classifier(0)
    with torch.no_grad():
        features = encoder((pixels - ours[0]) / ours[1])
        torch.testing.assert_close(features, network((pixels - mean) / std), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"model": "test_vit"}, "no configuration of a timm model"),
        ({"architecture": "no_such_net"}, "has no model 'no_such_net'"),
        ({"architecture": "test_vit", "pretrained_cfg": {"input_size": [1, 9, 9]}}, "1 channels"),
    ],
)
def test_a_repository_of_something_else(checkpoints: Path, configuration, message) -> None:
    repository(checkpoints, configuration, {})
    with pytest.raises(UserError, match=message):
        get_backbone("timm/hf-hub:owner/derm")


def test_a_repository_without_network(checkpoints: Path) -> None:
    with pytest.raises(UserError, match=re.escape("resolve/v2/config.json and put it there as ")):
        get_backbone("timm/hf-hub:owner/derm@v2")


# Files of one's own


def test_names_of_other_times(tmp_path: Path) -> None:
    """DeiT III as its authors released it, in a checkpoint of its training."""
    name = "timm/deit3_small_patch16_224.fb_in1k"
    network = their(name, img_size=SIZE, depth=1)
    released = {
        re.sub(r"ls(\d)\.gamma", r"gamma_\1", key): value
        for key, value in network.state_dict().items()
    }
    assert "blocks.0.gamma_1" in released
    path = tmp_path / "deit.pth"
    torch.save({"model": released, "epoch": 3}, path)
    backbone = get_backbone(name, SIZE)
    weights = resolve_weights(backbone, str(path), "none", partial=True)  # one block of twelve
    said: list[str] = []
    encoder = build_encoder(backbone, weights, said.append)
    assert torch.equal(encoder.body.blocks[0].ls1.gamma, network.blocks[0].ls1.gamma)
    assert "tensors at random (blocks.1.norm1.weight is missing there, " in said[0]
    assert weights.identity.startswith("partial sha256:")


def test_a_file_that_fits_in_part_only(tmp_path: Path) -> None:
    state = their(VIT, num_classes=0, img_size=SIZE).state_dict()
    state["norm.weight"] = torch.ones(99)
    del state["blocks.0.attn.qkv.bias"]
    path = save(state, tmp_path / "part.safetensors")
    backbone = get_backbone(VIT, SIZE)
    with pytest.raises(
        UserError, match=r"but blocks\.0\.attn\.qkv\.bias is missing there; with --w"
    ):
        own_weights(backbone, str(path))
    encoder, said = own_weights(backbone, str(path), partial=True)
    told = "blocks.0.attn.qkv.bias is missing there; norm.weight is (99,) there, not (64,)"
    assert said == [f"weights {path} for {VIT}: 2 tensors at random ({told})"]
    assert torch.equal(encoder.body.cls_token, state["cls_token"])


def test_a_file_of_which_nothing_fits(tmp_path: Path) -> None:
    path = save(
        {"weight": torch.zeros(3), "other.bias": torch.zeros(3)}, tmp_path / "x.safetensors"
    )
    for partial in (False, True):
        with pytest.raises(UserError, match=r"another architecture; 0 of \d+ tensors match"):
            own_weights(get_backbone(VIT, SIZE), str(path), partial)


def test_partial_is_for_files() -> None:
    with pytest.raises(UserError, match="--weights-partial is for --weights FILE, not for none"):
        resolve_weights(get_backbone(VIT, SIZE), "none", "none", partial=True)
