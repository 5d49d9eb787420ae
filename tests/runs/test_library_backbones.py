"""Runs on timm's networks: trained, stopped and gone on with, frozen, predicted from, planned."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file

from lmdbench.evaluation.predictions import load_predictions
from lmdbench.models.backbones import get_backbone
from lmdbench.models.weights import file_sha256
from lmdbench.runs.train import Training

pytest.importorskip("timm", reason="lmdbench[timm] missing")

VIT = "timm/test_vit.r160_in1k"


@pytest.fixture
def run(toy_run):
    """``toy_run`` with a small transformer, as JSON."""

    def call(method, *words, backbone="timm/test_vit", weights="none"):
        network = ("--backbone", backbone, "--weights", weights, "--image-size", 32)
        return toy_run(method, *network, "--json", *words)

    return call


def directory(outcome) -> Path:
    assert outcome.code == 0, outcome.err
    return Path(json.loads(outcome.out)[0]["directory"])


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("crt", ("epochs=1", "ce.epochs=1")),
        ("ldam-drw", ("epochs=1",)),
        ("lmd", ("rounds=1", "virtual_per_class=20", "rrl.epochs=1")),
        ("ride", ("epochs=1",)),
        ("bbn", ("epochs=1",)),
    ],
)
def test_methods_train(run, method, words):
    made = directory(run(method, *(word for one in words for word in ("--set", one))))
    logits = load_predictions(made / "predictions.npz")["test"].logits
    assert np.isfinite(logits).all()
    record = json.loads((made / "run.json").read_text())
    assert record["spec"]["backbone"] == VIT
    assert record["backbone"]["mean"] == [0.5, 0.5, 0.5]
    assert record["backbone"]["license"] == "apache-2.0"


def test_stopped_and_gone_on_with_equals_uninterrupted(run, tmp_path, monkeypatch):
    words = ("--set", "epochs=4", "--set", "batch_size=8")
    whole = directory(run("ce", *words))
    save, saved = Training._save, []

    def stop_after_two(self, method):
        save(self, method)
        saved.append(method)
        if len(saved) == 2:
            raise KeyboardInterrupt

    results = ("--results", tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_save", stop_after_two)
        assert run("ce", *words, *results).code != 0
    resumed = run("ce", *words, *results)
    assert "resuming after epoch 2" in resumed.err
    first, second = (load_file(one / "model.safetensors") for one in (whole, directory(resumed)))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_published_weights_are_recorded_and_the_features_of_a_frozen_one_are_theirs(
    run, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    path = tmp_path / "torch" / "hub" / "checkpoints" / "test_vit.r160_in1k.safetensors"
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    state = get_backbone(VIT).construct().body.state_dict()
    safetensors.torch.save_file(state, path)
    outcome = run("ce", "--set", "epochs=1", backbone=f"frozen/{VIT}", weights="pretrained")
    record = json.loads((directory(outcome) / "run.json").read_text())
    assert record["spec"]["weights"] == "timm test_vit.r160_in1k"
    assert record["digests"]["weights"] == file_sha256(path)
    assert "1 resampled (pos_embed (1, 101, 64) → (1, 5, 64))" in outcome.err
    (kept,) = (
        file
        for file in Path(os.environ["LMDBENCH_CACHE"]).glob("features/*/features.npy")
        if file_sha256(file) == record["digests"]["features"]
    )
    assert "-timm-test_vit.r160_in1k-" in kept.parent.name


def test_a_finished_run_predicts(run, lmdbench, toy_folder, tmp_path):
    made = directory(run("ce", "--set", "epochs=1"))
    out = tmp_path / "predicted.csv"
    outcome = lmdbench("predict", made, toy_folder, "--output", out)
    assert outcome.code == 0, outcome.err
    assert len(out.read_text().splitlines()) == 1 + 12  # the header, and test images


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("ride", ("--backbone", "timm/test_nfnet"), "ride can't work on backbone timm/test_nfnet."),
        ("ce", ("--image-size", 24), "should be divisible by patch size (16); give --image-size"),
        ("ce", ("--weights-partial",), "--weights-partial is for --weights FILE, not for none"),
    ],
)
def test_what_can_not_be_is_told_before_training(run, tmp_path, method, words, message):
    outcome = run(method, "--dry-run", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.rglob("run.json"))


def test_a_plan_tells_what_the_library_says_of_it(run):
    outcome = run("ce", "--dry-run")
    assert "weights of 160 px images, mean 0.5 0.5 0.5, std 0.5 0.5 0.5, bicubic" in outcome.err
    assert "licence of the weights: apache-2.0" in outcome.err


def test_a_sweep_has_them_by_name(lmdbench, tmp_path):
    path = tmp_path / "several.toml"
    path.write_text(
        'name = "several"\n[run]\nbackbone = ["timm/test_vit", "torchvision/resnet18"]\n'
        'weights = "none"\nimage_size = 32\n[[methods]]\nname = "ce"\n'
        '[[datasets]]\nname = "demo"\n'
    )
    outcome = lmdbench("sweep", "plan", path, "--results", tmp_path / "results")
    assert outcome.code == 0, outcome.err
    assert "sweep several: 2 runs: 2 missing" in outcome.out
