"""Which GPUs there are: as the environment names them, or as nvidia-smi lists them."""

import pytest

from lmdbench.core import environment
from lmdbench.core.errors import UserError
from lmdbench.core.gpus import foreign_build, gpus, none_shown, parse_listing


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path):
    """``nvidia_smi(lines)``: the only program on the path is a nvidia-smi of these shell lines."""

    def install(lines):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        script = tmp_path / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n{lines}\n")
        script.chmod(0o755)

    return install


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("", []),
        ("-1", []),
        ("0", ["0"]),
        ("2, 0,-1,1", ["2", "0"]),
        ("GPU-aa,MIG-bb", ["GPU-aa", "MIG-bb"]),
    ],
)
def test_gpus_that_are_visible(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == names


def test_a_machine_without_gpus(monkeypatch, nvidia_smi, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []
    assert none_shown() == "there is no nvidia-smi"
    nvidia_smi("echo 'No devices were found'; exit 6")
    assert gpus() == []
    assert none_shown() == "nvidia-smi shows none"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("echo 'Driver/library version mismatch' >&2; exit 18", "exit code 18: Driver/library"),
        ("kill -9 $$", "exit code -9: it said nothing"),
        ("exec sleep 60", "no answer in 0 s"),
    ],
)
def test_a_listing_that_fails_is_no_listing_of_nothing(monkeypatch, nvidia_smi, lines, why):
    monkeypatch.setattr("lmdbench.core.gpus.LISTING_SECONDS", 0.3)
    nvidia_smi(lines.replace("exec sleep", "exec /bin/sleep"))
    with pytest.raises(UserError) as error:
        gpus()
    assert str(error.value).startswith(f"nvidia-smi fails ({why}")
    assert "--workers N" in str(error.value)


def test_gpus_and_parts_of_gpus_that_nvidia_smi_lists():
    listing = (
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11)\n"
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-22)\n"
        "  MIG 3g.40gb     Device  0: (UUID: MIG-33)\n"
        "  MIG 3g.40gb     Device  1: (UUID: MIG-44)\n"
        "GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-55)\n"
    )
    assert parse_listing(listing) == ["GPU-11", "MIG-33", "MIG-44", "GPU-55"]


def test_torch_for_other_gpus_is_refused(monkeypatch):
    assert foreign_build("2.14.1+cu130") == foreign_build("2.14.1") == ""
    monkeypatch.setattr("lmdbench.core.gpus.metadata.version", lambda _: "2.14.1+rocm7.0")
    with pytest.raises(UserError, match=r"torch 2.14.1\+rocm7.0 is built for AMD's GPUs"):
        gpus()
    monkeypatch.setattr(environment.torch, "__version__", "2.14.1+rocm7.0")
    with pytest.raises(UserError, match="install torch for CUDA, or give --device cpu"):
        environment.choose_device("auto")
    assert environment.choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("text", ["mps", "cuda:", "gpu", "cuda:-1"])
def test_other_devices_are_refused_in_a_line(text):
    with pytest.raises(UserError, match="give auto, cpu, cuda or cuda:N, as lmdbench runs on no"):
        environment.choose_device(text)
