"""What the doctor finds on machines that lack this or that."""

import os
import stat
import sys

import PIL
import pytest
import torch

from lmdbench.doctor import checks


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def only(tmp_path, monkeypatch):
    """A folder that holds all programs there are."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_folder_is_looked_at_and_not_made(tmp_path):
    wanted = tmp_path / "results" / "of-mine"
    found = checks.folder("results", wanted, "--results")
    assert found.state == "ok"
    assert found.text.startswith(f"{wanted}, made when it is needed, ")
    assert not any(tmp_path.iterdir())
    wanted.mkdir(parents=True)
    assert checks.folder("results", wanted, "--results").text.startswith(f"{wanted}, ")
    assert not any(wanted.iterdir())


def test_a_folder_that_can_not_be_written_to_says_how_to_name_another(tmp_path):
    (tmp_path / "file").touch()
    found = checks.folder("cache", tmp_path / "file" / "cache", "LMDBENCH_CACHE")
    assert found.state == "problem"
    assert "name another folder by LMDBENCH_CACHE" in found.text
    assert "Not a directory" in found.text


def test_little_room_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "LITTLE_DISK", 1e30)
    found = checks.folder("results", tmp_path, "--results")
    assert (found.state, found.text.endswith("which is soon full")) == ("note", True)


def test_memory_is_the_least_of_machine_and_container(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "CGROUP_MEMORY", tmp_path / "memory.max")
    whole = checks.free_memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert checks.free_memory() == pytest.approx(whole, rel=0.2)
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("1000000000\n")
    assert checks.free_memory() == 2e9
    assert checks.memory() == checks.Check(
        "memory",
        "note",
        "2 GB free: large networks will not fit; a smaller --set batch_size helps",
    )


def test_data_is_counted_or_named(toy_folder, tmp_path):
    assert checks.dataset("folder", toy_folder, tmp_path).state == "ok"
    assert checks.dataset("folder", tmp_path, tmp_path) is None  # it is nobody's folder
    for name in ("hyper-kvasir", "isic-archive", "isic2019"):
        absent = checks.dataset(name, tmp_path, tmp_path)
        assert absent.state == "note"
        assert absent.text.count(f"`lmdbench data download {name}` fetches it") == 1
    (unasked,) = checks.datasets(None, tmp_path)
    assert unasked.text.startswith("not looked for: hyper-kvasir, isic-archive, isic2019; say")


def test_real_data_in_part(test_data, tmp_path):
    found = checks.dataset("isic2019", test_data, tmp_path)
    assert found.text.startswith("2,661 of 25,331 images are there: ")


def test_slurm(only):
    assert checks.slurm().state == "note"
    program(only, "sbatch", "exit 0")
    assert "can't be started" in checks.slurm().text
    program(only, "sinfo", "echo 'gpu* up 4'; echo 'cpu up 16'")
    assert checks.slurm() == checks.Check(
        "slurm", "ok", "partitions gpu* (4 nodes, up); cpu (16 nodes, up)"
    )
    program(only, "sinfo", "echo 'sinfo: error: no controller' >&2; exit 1")
    assert checks.slurm() == checks.Check(
        "slurm",
        "problem",
        "sinfo fails (sinfo: error: no controller): ask who runs the cluster",
    )


def test_a_queue_that_does_not_answer_is_not_waited_for(only, monkeypatch):
    monkeypatch.setattr(checks, "ANSWER_SECONDS", 0.1)
    program(only, "sbatch", "exit 0")
    program(only, "sinfo", "while true; do :; done")
    assert "gave no answer in 0 s" in checks.slurm().text


def test_weights_in_the_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert checks.weights().state == "note"
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/hub/checkpoints/resnet18-f37072fd.pth").touch()
    (tmp_path / "torch/hub/checkpoints/.download-1").touch()
    (tmp_path / "hf/hub/models--timm--vit_tiny_patch16_224").mkdir(parents=True)
    assert checks.weights() == checks.Check(
        "weights", "ok", "cached: resnet18-f37072fd.pth, timm/vit_tiny_patch16_224"
    )


def test_a_version_is_that_of_the_distribution_whatever_its_name():
    assert checks._version("pytest") == pytest.__version__
    assert checks._version("PIL") == PIL.__version__  # of pillow


def test_extras_say_how_to_install_them(monkeypatch):
    monkeypatch.setattr(checks, "EXTRAS", {"mine": (("no_such", "click"), "something")})
    (found,) = checks.extras()
    assert found.state == "note"
    assert found.text == 'no_such not installed; for something: pip install "lmdbench[mine]"'
    monkeypatch.setattr(checks, "EXTRAS", {"mine": (("click",), "something")})
    (found,) = checks.extras()
    assert (found.state, found.text.split()[0]) == ("ok", "click")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu_is_a_note_and_one_that_is_hidden_is_told(only, monkeypatch):
    assert checks.device().text == "no GPU (there is no nvidia-smi): training is on the CPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert checks.device() == checks.Check("device", "problem", "1 GPU, and torch can use none")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program(only, "nvidia-smi", "echo broken; exit 9")
    found = checks.device()
    assert found.state == "problem"
    assert "nvidia-smi fails (exit code 9: broken)" in found.text


def test_processors_of_a_job(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    there = os.cpu_count()
    limit = f" of the machine's {there}" if there > 1 else ""
    assert checks.processors().text == f"1{limit}"
    assert sys.version.split()[0] in checks.python().text
