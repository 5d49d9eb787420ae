"""Where a run works, and how the same bits are asked of a GPU, as far as one sees without it."""

import os

import pytest
import torch

from lmdbench.core import environment
from lmdbench.core.determinism import READ_ONCE, deterministic, gpu_settings

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("line", "version"),
    [
        (
            "NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15",
            "535.104.05",
        ),
        ("NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build", "580.95.05"),
        ("of another form", None),
    ],
)
def test_the_driver_is_told_by_its_module(monkeypatch, tmp_path, line, version):
    monkeypatch.setattr(environment, "DRIVER", tmp_path / "version")
    assert environment.driver_version() is None
    (tmp_path / "version").write_text(f"NVRM version: {line}\nGCC version:  gcc 11\n")
    assert environment.driver_version() == version


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(environment.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(environment, "DRIVER", tmp_path / "version")
    assert environment.unused_gpu() == ""
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX Kernel Module  470.57.02  Tue\n")
    assert "driver 470.57.02 is loaded, but torch" in environment.unused_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environment.unused_gpu() == ""


def test_the_cpu_has_no_facts_of_a_gpu():
    assert environment.environment(CPU)["gpu"] is None
    assert environment.peak_reserved_mib(CPU) is None


def test_a_deterministic_gpu_is_asked_for_and_let_go(monkeypatch):
    for name in READ_ONCE:
        monkeypatch.delenv(name, raising=False)
    before = gpu_settings()
    assert before["tf32_convolutions"]  # torch's default
    assert not before["deterministic"]
    with deterministic(GPU):
        assert gpu_settings() == {
            "tf32_convolutions": False,
            "tf32_products": False,
            "cudnn_benchmark": False,
            "cudnn_deterministic": True,
            "deterministic": True,
        }
        assert {name: os.environ[name] for name in READ_ONCE} == READ_ONCE
    assert gpu_settings() == before


def test_neither_the_cpu_nor_others_are_changed():
    before = gpu_settings()
    with deterministic(CPU):
        assert gpu_settings() == before
    with deterministic(GPU, asked=False):
        assert gpu_settings() == before
