"""What a shell completes, through the entry point, as click's scripts for shells ask for it."""

import os
import subprocess
import sys

import pytest

from lmdbench.cli import completion
from lmdbench.core.registry import KINDS, registry_of
from lmdbench.models.backbones import LIBRARIES


@pytest.fixture
def completed(tmp_path):
    """What Tab offers behind words; the last one is typed in part."""
    cache = tmp_path / "cache"

    def tab(*words):
        asked = subprocess.run(
            [sys.executable, "-c", "from lmdbench.cli.main import main; main()"],
            env={
                **os.environ,
                "LMDBENCH_CACHE": str(cache),
                "_LMDBENCH_COMPLETE": "bash_complete",
                "COMP_WORDS": " ".join(["lmdbench", *words]),
                "COMP_CWORD": str(len(words)),
            },
            capture_output=True,
            text=True,
        )
        assert asked.stderr == ""
        return [line.removeprefix("plain,") for line in asked.stdout.splitlines()]

    tab.cache = cache
    return tab


def test_methods_are_asked_for_once(completed):
    assert completed("run", "--method", "balanced-") == ["balanced-mixup", "balanced-softmax"]
    (remembered,) = (completed.cache / "completion").iterdir()
    remembered.write_text('{"balanced-nothing": "of the cache"}')
    assert completed("run", "--method", "balanced-") == ["balanced-nothing"]
    remembered.write_text('{"balanced-')  # half of it
    assert completed("run", "--method", "balanced-") == ["balanced-mixup", "balanced-softmax"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["run", "--dataset", "isic"], ["isic-archive", "isic2019"]),
        (["datasets", "show", "hyper"], ["hyper-kvasir"]),
        (["compare", "--metric", "balanced"], ["balanced_accuracy"]),
        (["plot", "rank"], ["rank-stability"]),
        (["list", "sam"], ["samplers"]),
        (["sweep", "show", "what"], ["what-makes-it-work"]),
        (["sweep", "launch", "--on", "s"], ["slurm"]),
        (["run", "--log", "ten"], ["tensorboard"]),
        (["doc"], ["doctor"]),
        (["run", "--allow"], ["--allow-missing"]),
    ],
    ids=" ".join,
)
def test_names_of_other_kinds(completed, words, offered):
    assert completed(*words) == offered


def test_every_kind_can_be_completed(tmp_path, monkeypatch):
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path))
    for kind in KINDS:
        offered = completion.complete(kind)(None, None, "")
        assert [item.value for item in offered] == registry_of(kind).names()
        assert any(item.help for item in offered)


def test_backbones_of_a_library_are_asked_for_once(completed, monkeypatch):
    monkeypatch.setenv("LMDBENCH_CACHE", str(completed.cache))

    def offered(typed):
        return [item.value for item in completion.complete_backbone(None, None, typed)]

    assert offered("resnet1") == ["resnet18"]
    assert offered("frozen+8/resnet1") == ["frozen+8/resnet18"]
    assert [path.name[:10] for path in (completed.cache / "completion").iterdir()] == ["backbones-"]
    assert "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k" in offered("timm/vit_tiny_patch16_224.")
    assert offered("frozen/torchvision/convnext_t") == ["frozen/torchvision/convnext_tiny"]
    (remembered,) = (completed.cache / "completion").glob("timm-*.json")
    remembered.write_text('{"timm/of-the-cache": ""}')
    assert completed("features", "write", "--backbone", "ti") == ["timm/of-the-cache"]


def test_the_libraries_are_those_of_backbones():
    assert set(completion.LIBRARIES) == set(LIBRARIES)


def test_a_file_that_changed_is_asked_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path))
    before = completion._remembered("methods")
    monkeypatch.setattr(completion, "__version__", "another")
    assert completion._remembered("methods") != before


def test_without_a_place_for_a_cache_it_offers_nothing_and_says_nothing(monkeypatch):
    monkeypatch.delenv("LMDBENCH_CACHE", raising=False)
    monkeypatch.setattr("lmdbench.core.folders.has_home", lambda: False)
    assert completion.complete("methods")(None, None, "") == []
