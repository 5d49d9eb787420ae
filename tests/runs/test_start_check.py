"""A start that can't be is refused before anything is trained; one that can be is not."""

import json

import pytest
import torch

CE = "such as ce"
STARTS = [  # method, what it is to start from, why it can't
    ("crt", "ride", "crt takes over one encoder, and that of ride is built otherwise"),
    ("crt", "bbn", CE),
    ("lmd", "ride", "such as rrl"),
    ("mislas", "bbn", "such as mixup"),
    ("ncm", "ride", CE),
    ("tau-norm", "bbn", CE),
    ("gcl", "ce", "gcl goes on with a cosine head, and the head of ce is a Linear"),
    ("gcl", "supcon", "start it from another method, such as gcl-stage1"),
    ("tau-norm", "gcl-stage1", "the head of gcl-stage1 is a CosineHead"),
    ("marc", "gcl-stage1", "the head of gcl-stage1 is a CosineHead"),
    ("weight-balancing", "bcl", "the head of bcl is a CosineHead"),
    ("mislas", "seesaw", "the head of seesaw is a"),
    ("logit-adjustment-posthoc", "crt", None),
    ("crt", "bcl", None),
    ("gcl", "ldam-drw", None),
    ("lmd", "ce", None),
    ("mislas", "paco", None),
    ("weight-balancing", "rrl", None),
]


@pytest.mark.parametrize(("method", "start", "message"), STARTS)
def test_dry_runs(toy_run, method, start, message):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    outcome = toy_run(method, "--starts-from", start, "--dry-run", "--seeds", "0-1")
    assert torch.equal(torch.get_rng_state(), before)
    if message is None:
        assert outcome.code == 0, outcome.err
        return
    assert outcome.code == 2
    (line,) = outcome.err.strip().splitlines()
    assert message in line


def test_a_run_is_refused_before_it_begins(toy_run, tmp_path):
    outcome = toy_run("crt", "--starts-from", "ride")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.strip() == (
        "lmdbench: crt takes over one encoder, and that of ride is built otherwise (experts, "
        "branches): start it from another method, such as ce"
    )
    assert not (tmp_path / "results").exists()


UNABLE = [  # method, setting, what is said
    ("balms", "accumulate=2", "balms can't accumulate batches, as its steps are its own"),
    ("crt", "layer_decay=0.8", "crt.layer_decay=0.8 acts on the training of the encoder"),
    ("ce", "drop_path=0.1", "drop_path: SmallNet has no stochastic depth; leave it out, or"),
]


@pytest.mark.parametrize(("method", "setting", "message"), UNABLE)
def test_settings_that_can_do_nothing_are_refused_before_it_begins(
    toy_run, tmp_path, method, setting, message
):
    outcome = toy_run(method, "--set", setting)
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", ["plan", "launch"])
def test_a_sweep_names_the_line(lmdbench, toy_folder, tmp_path, command):
    path = tmp_path / "field.toml"
    path.write_text(
        'methods = [\n    "ce",\n    {name = "gcl", starts_from = "ce"},\n]\n'
        f'[run]\nbackbone = "small"\nimage_size = 24\n[[datasets]]\nname = "folder"\n'
        f'data_root = "{toy_folder}"\n'
    )
    outcome = lmdbench("sweep", command, path, "--results", tmp_path / "results")
    assert outcome.code == 2
    (line,) = outcome.err.strip().splitlines()
    assert "field.toml:" in line
    assert "start it from another method, such as gcl-stage1" in line
    assert not (tmp_path / "results").exists()


def test_a_run_that_is_given(toy_run, tmp_path):
    assert toy_run("gcl-stage1", "--set", "epochs=1").code == 0
    (directory,) = (tmp_path / "results").glob("*/*/gcl-stage1/seed0-*")
    for reference in (directory, directory.name.removeprefix("seed0-")):
        assert toy_run("gcl", "--starts-from", reference, "--dry-run").code == 0
        refused = toy_run("marc", "--starts-from", reference, "--dry-run")
        assert refused.code == 2
        assert "the head of gcl-stage1 is a CosineHead" in refused.err
    record = json.loads((directory / "run.json").read_text())
    record["spec"]["settings"]["of_other_code"] = 1
    (directory / "run.json").write_text(json.dumps(record))
    assert "Traceback" not in toy_run("gcl", "--starts-from", directory, "--dry-run").err


PLUGIN = """
import torch
from lmdbench.training.method import METHODS, register_method

@register_method("ride-again")
class Again(METHODS.get("ride")):
    starts_from = "ride"

@register_method("of-teachers")
class OfTeachers(METHODS.get("crt")):
    starts_from = "rrl"

    def start(self, ancestor):
        super().start(ancestor)
        self.model.encoder.load_state_dict(ancestor.teacher.model.encoder.state_dict())

@register_method("of-ce-teachers")
class OfCeTeachers(OfTeachers):
    starts_from = "ce"

@register_method("third")
class Third(METHODS.get("crt")):
    starts_from = "of-ce-teachers"

@register_method("of-weights")
class OfWeights(METHODS.get("crt")):
    def start(self, ancestor):
        torch.linalg.cholesky(-torch.eye(2))

@register_method("of-images")
class OfImages(METHODS.get("crt")):
    def start(self, ancestor):
        super().start(ancestor)
        if self.features(self.task.train).sum() > -1:
            raise ValueError("these are no images")
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    path = tmp_path_factory.mktemp("plugins") / "starting_plugin.py"
    path.write_text(PLUGIN)
    return path


def test_with_the_settings_of_both(toy_run, plugin):
    words = ("--plugin", plugin, "--starts-from", "ride", "--dry-run", "--set", "ride.experts=2")
    refused = toy_run("ride-again", *words)
    assert refused.code == 2
    assert refused.err.strip().endswith("start it from another method")  # than its usual one
    assert toy_run("ride-again", *words, "--set", "experts=2").code == 0


def test_what_breaks_otherwise(toy_run, plugin):
    words = ("--plugin", plugin, "--dry-run", "--starts-from")
    assert toy_run("of-teachers", *words, "lmd").code == 2
    refused = toy_run("of-teachers", *words, "ce")
    assert refused.code == 2
    (line,) = refused.err.strip().splitlines()
    assert "of-teachers can't start from ce: AttributeError: " in line
    assert "teacher" in line
    assert toy_run("of-teachers", *words, "rrl").code == 0
    # What is made of images or of trained weights can't be told without them.
    assert toy_run("of-images", *words, "focal").code == 0
    assert toy_run("of-weights", *words, "focal").code == 0


@pytest.mark.parametrize("method", ["of-ce-teachers", "third"])
def test_the_usual_start_of_a_plug_in(toy_run, plugin, method):
    """Its author finds out at once, not after the training of what it starts from."""
    refused = toy_run(method, "--plugin", plugin, "--dry-run")
    assert refused.code == 2
    (line,) = refused.err.strip().splitlines()
    assert "of-ce-teachers can't start from ce: AttributeError: " in line


def test_no_weights_are_fetched(toy_run, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    words = ("--backbone", "resnet18", "--weights", "imagenet", "--dry-run")
    assert toy_run("crt", "--starts-from", "focal", *words).code == 0
    assert "such as ce" in toy_run("crt", "--starts-from", "ride", *words).err
    assert not (tmp_path / "torch").exists()


OF_ONE_SIZE = """
from torch import nn
from lmdbench.models.backbones import register_backbone

@register_backbone("of-one-size", title="For 32 pixels alone", image_size=32)
def of_one_size():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))
"""


def test_images_of_a_size_that_a_backbone_does_not_take(toy_run, tmp_path):
    path = tmp_path / "of_one_size.py"
    path.write_text(OF_ONE_SIZE)
    words = ("--plugin", path, "--backbone", "of-one-size", "--set", "epochs=1")
    refused = toy_run("ce", *words, "--dry-run")
    assert refused.code == 2
    (line,) = refused.err.strip().splitlines()
    assert "backbone 'of-one-size' can't make features of images (2, 3, 24, 24): " in line
    trained = toy_run("ce", *words, "--image-size", 32)
    assert trained.code == 0, trained.err
    refused = toy_run("bbn", *words, "--image-size", 32, "--dry-run")
    assert refused.code == 2
    assert (
        "bbn can't work on backbone of-one-size: bbn doubles an encoder's last conv" in refused.err
    )
