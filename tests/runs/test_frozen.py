"""Runs on the features of a frozen encoder."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from lmdbench.core.errors import UserError
from lmdbench.core.randomness import Streams
from lmdbench.core.settings import describe
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.models.backbones import get_backbone, resolve_weights, with_drawn_views
from lmdbench.models.classifier import FrozenEncoder
from lmdbench.models.small import SmallNet
from lmdbench.models.weights import file_sha256
from lmdbench.runs.train import Training
from lmdbench.training.method import METHODS, Start, built_in_methods
from lmdbench.training.task import Images, Task

from ..methods.helpers import moved, snapshot

TOY_CLASSES = ("dotted", "rare", "round", "striped")


@pytest.fixture
def weights(tmp_path, request):
    """A file of weights of the small network, of this test alone."""
    torch.manual_seed(zlib.crc32(request.node.name.encode()))
    path = tmp_path / "weights.pt"
    torch.save(SmallNet().state_dict(), path)
    return path


@pytest.fixture
def run(toy_run, weights):
    """``toy_run`` with a frozen encoder, as JSON."""

    def call(method, *words):
        frozen = ("--backbone", "frozen/small", "--weights", weights)
        return toy_run(method, *frozen, "--json", *words)

    return call


# The encoder


def test_it_stays_as_it_is(make_encoder):
    made = make_encoder()
    encoder = FrozenEncoder(made.body, made.out_features)
    before = snapshot(encoder)
    encoder.train()
    images = torch.randn(4, 3, 8, 8)
    assert not encoder(images).requires_grad
    assert not moved(encoder, before)
    assert torch.equal(encoder(images), made.eval()(images))
    features = torch.randn(4, 8)
    assert encoder(features) is features


def test_its_name_is_that_of_the_network_behind_frozen():
    backbone = get_backbone("frozen/small")
    assert (backbone.name, backbone.architecture, backbone.frozen) == (
        "frozen/small",
        "small",
        True,
    )
    assert isinstance(backbone.construct(), FrozenEncoder)
    assert get_backbone("small").frozen is False
    with pytest.raises(UserError, match="smal"):
        get_backbone("frozen/smal")


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("frozen/resnet18", "none", "needs weights: --weights imagenet, or a file"),
        (
            "frozen/small",
            None,
            "needs weights: --weights FILE",
        ),  # as the data set's default is none
        ("frozen/small", "imagenet", "pass --weights FILE, or .* frozen/resnet18"),
    ],
)
def test_it_needs_weights(name, asked, says):
    with pytest.raises(UserError, match=says):
        resolve_weights(get_backbone(name), asked, "imagenet")


# Methods


@pytest.mark.parametrize("name", ["ce", "crt", "balms", "lmd", "ncm"])
def test_features_give_what_the_encoder_run_at_each_step_gives(make_task, train, name):
    """The same training on features computed before as with the encoder in each step, on images in
    the test view: head and logits."""
    start = METHODS.get(name).starts_from

    def trained(of_features: bool):
        task = make_task((12, 5, 3))
        encoder = get_backbone("frozen/small").construct()
        for images in (task.train, task.validation) if of_features else ():
            (batch,) = task.in_order(images)
            images._pixels, images._rows = encoder(batch.images), torch.arange(len(images))
        ancestor = None
        for method in filter(None, [start and "ce", name]):
            cls = METHODS.get(method)
            task.streams = Streams(0, torch.device("cpu"))
            task.streams.start_epoch(0)
            few = {"epochs": 3, "rounds": 2, "virtual_per_class": 30, "batch_size": 4}
            own = {key: n for key, n in few.items() if hasattr(cls.Settings, key)}
            torch.manual_seed(1)
            made = type("Seen", (cls,), {"views": ("test",)})(
                task, cls.Settings(**own), FrozenEncoder(encoder.body, encoder.out_features)
            )
            if ancestor is not None:
                made.start(ancestor)
            made.start_training()
            train(made)
            made.finish()
            ancestor = made
        (batch,) = task.in_order(task.validation)
        return ancestor.model.head.state_dict(), ancestor.predict(batch.images)

    torch.manual_seed(0)
    state = SmallNet().state_dict()
    original = SmallNet.__init__

    def same_weights(self):
        original(self)
        self.load_state_dict(state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SmallNet, "__init__", same_weights)
        (head, logits), (head_by_step, logits_by_step) = trained(True), trained(False)
    for key, value in head.items():
        torch.testing.assert_close(value, head_by_step[key], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, logits_by_step, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "words", "why"),
    [
        ("rrl", (), "several views of an image, and such features are of one; let the encoder be"),
        ("lmd", (), "rrl can't"),
        ("bcl", (), "several views"),
        ("mixup", (), "mixes images"),
        ("mislas", (), "mixup can't"),
        ("ride", (), "stages of the encoder"),
        ("bbn", (), "the end of the encoder"),
        ("crt", ("--set", "bn=train"), "bn=eval"),
        (
            "lmd",
            (),
            "start lmd from another method, --starts-from ce, or let the encoder be trained",
        ),
        ("lmd", ("--starts-from", "ce", "--set", "encoder_lr=1e-5"), "encoder, which is frozen"),
        ("lmd", ("--starts-from", "ce", "--set", "label_loss=gce"), "encoder, which is frozen"),
        ("ce", ("--set", "layer_decay=0.8"), "ce.layer_decay acts on the training of the encoder"),
    ],
)
def test_a_method_that_needs_images_says_why(run, method, words, why):
    outcome = run(method, "--dry-run", *words)
    assert outcome.code != 0
    assert why in outcome.err
    assert "Traceback" not in outcome.err


def test_every_method_that_can_not_says_so_in_a_line_of_its_own(toy_run, weights):
    """Where another start would help it is said, and helps; the others name none."""
    frozen = ("--backbone", "small", "--weights", weights, "--tuning", "head", "--dry-run")
    for name in (method.name for method in built_in_methods() if not works(method.name)):
        outcome = toy_run(name, *frozen)
        assert (outcome.code, outcome.out) == (2, ""), name
        (line,) = outcome.err.strip().splitlines()
        assert "can't work on the features of a frozen encoder: " in line
        assert "without frozen/ and --tuning head" in line
        if f"start {name} from another method, --starts-from ce" in line:
            eval_ = ("--set", "bn=eval") if name == "mislas" else ()
            assert toy_run(name, *frozen, "--starts-from", "ce", *eval_).code == 0, name


ICC = ("lmd", "lmd-released", "mrc-vfc")  # from rrl, but they can start from ce


def start_of(name: str) -> str | None:
    start = METHODS.get(name).starts_from
    return start.method if isinstance(start, Start) else start


def works(name: str) -> bool:
    """Whether it has one view of an image, unmixed, and leaves the encoder whole; and so on with
    what it starts from."""
    cls, start = METHODS.get(name), "ce" if name in ICC else start_of(name)
    return not cls.needs_images and len(cls.views) == 1 and (start is None or works(start))


@pytest.mark.parametrize("name", [m.name for m in built_in_methods() if works(m.name)])
def test_every_method_that_can_trains(run, name):
    few = ("rounds=1", "virtual_per_class=20", "batch_size=8") if name in ICC else ()
    words = [word for setting in few for word in ("--set", setting)]
    if "epochs" in describe(METHODS.get(name).Settings):
        words += ["--set", "epochs=1"]
    if start := "ce" if name in ICC else start_of(name):
        words += ["--starts-from", start, "--set", f"{start}.epochs=1"]
    outcome = run(name, *words)
    assert outcome.code == 0, outcome.err
    scores = json.loads(outcome.out)[0]["scores"]["test"]
    assert 0 <= scores["balanced_accuracy"] <= 1


def test_rs_and_crt_are_the_same_head(run):
    same = ("--set", "epochs=2", "--set", "schedule=constant")
    logits = []
    for name in "rs", "crt":
        directory = json.loads(run(name, *same).out)[0]["directory"]
        logits.append(
            load_predictions(Path(directory) / "predictions.npz", ["test"])["test"].logits
        )
    assert np.array_equal(*logits)


def test_a_method_with_an_encoder_of_its_own_is_refused(tmp_path, run):
    plugin = tmp_path / "own.py"
    plugin.write_text(
        "from lmdbench.training.method import register_method\n"
        "from lmdbench.methods.ce import CrossEntropy\n"
        "from lmdbench.models.classifier import Encoder\n\n\n"
        "@register_method('own-encoder')\n"
        "class Own(CrossEntropy):\n"
        "    def build(self, encoder):\n"
        "        super().build(Encoder(encoder.body, encoder.out_features))\n"
    )
    outcome = run("own-encoder", "--plugin", plugin, "--set", "epochs=1")
    assert outcome.code != 0
    assert "builds an encoder of its own" in outcome.err


# Whole runs


def test_features_are_computed_once_and_runs_repeat_to_the_bit(run, tmp_path):
    few = ("--set", "epochs=3", "--set", "ce.epochs=2")
    first, again = run("crt", *few), run("crt", *few, "--force")
    assert first.code == again.code == 0, first.err
    assert first.err.count("computed once") == 1
    assert "no augmentation has a part" in first.err
    assert "computed once" not in again.err
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/*/*/crt/*/run.json")]
    assert len(records) == 2
    for kind in ("features", "model"):
        assert len({record["digests"][kind] for record in records}) == 1
    assert records[0]["spec"]["backbone"] == "frozen/small"


@pytest.mark.parametrize("views", [0, 2])
def test_a_trained_run_predicts_images_by_its_own_encoder(
    run, lmdbench, toy_folder, tmp_path, views
):
    outcome = run("ce", "--set", "epochs=3", "--feature-views", views)
    directory = Path(json.loads(outcome.out)[0]["directory"])
    test = load_predictions(directory / "predictions.npz", ["test"])["test"]
    out = tmp_path / "own.csv"
    predicted = lmdbench("predict", directory, toy_folder, "--logits", "--output", out)
    assert predicted.code == 0, predicted.err
    table = pd.read_csv(out, index_col="image").loc[list(test.ids), sorted(TOY_CLASSES)]
    np.testing.assert_allclose(table.to_numpy(np.float32), test.logits, atol=1e-5)


def test_what_of_the_weights_does_not_fit_is_told_once(toy_run, weights):
    state = torch.load(weights, weights_only=True)
    torch.save({**state, "fc.weight": torch.zeros(5, 96)}, weights)
    words = ("--weights", weights, "--set", "epochs=1")
    told = toy_run("ce", "--backbone", "frozen/small", *words).err
    assert told.count("1 there are not used (fc.weight)") == 1
    assert "computing features: 100 %" in told
    torch.save({name: v for name, v in state.items() if name != "stem.1.bias"}, weights)
    told = toy_run("ce", "--tuning", "head", "--backbone", "small", *words, "--weights-partial").err
    assert told.count("1 tensor at random (stem.1.bias is missing there)") == 1


def test_weights_that_are_none_are_refused_before_anything_is_said(toy_run, weights, tmp_path):
    weights.write_bytes(b"\x89HDF\r\n\x1a\n")
    outcome = toy_run("ce", "--backbone", "frozen/small", "--weights", weights)
    (line,) = outcome.err.strip().splitlines()
    assert f"weights {weights}: HDF5" in line
    assert not (tmp_path / "results").exists()


def test_other_weights_have_other_features(run, tmp_path):
    torch.manual_seed(8)
    other = tmp_path / "other.pt"
    torch.save(SmallNet().state_dict(), other)
    for words in (), ("--weights", other):
        assert run("ncm", "--set", "ce.epochs=1", *words).code == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/*/*/ncm/*/run.json")]
    assert len({record["digests"]["features"] for record in records}) == 2


def test_a_given_run_must_have_the_same_weights(run, tmp_path):
    """Else the features would be of one encoder and the saved model of another."""
    directory = json.loads(run("ce", "--set", "epochs=1").out)[0]["directory"]
    torch.manual_seed(9)
    other = tmp_path / "other.pt"
    torch.save(SmallNet().state_dict(), other)
    outcome = run("crt", "--starts-from", directory, "--weights", other)
    assert outcome.code != 0
    assert "its weights is sha256:" in outcome.err


@pytest.mark.parametrize("views", [0, 3])
def test_killed_and_resumed_equals_uninterrupted(run, tmp_path, monkeypatch, views):
    """A checkpoint holds no copy of the encoder, and the trained run does."""
    words = ("--set", "epochs=6", "--feature-views", str(views))
    whole = Path(json.loads(run("ce", *words).out)[0]["directory"])
    saved = []
    save = Training._save

    def stop_after_three(self, method):
        save(self, method)
        saved.append(torch.load(self.directory / "checkpoint.pt", weights_only=True)["method"])
        if len(saved) == 3:
            raise KeyboardInterrupt

    results = ("--results", tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(Training, "_save", stop_after_three)
        assert run("ce", *words, *results).code != 0
    assert set(saved[0]) == {"model.head.weight", "model.head.bias"}
    resumed = run("ce", *words, *results)
    assert "resuming after epoch 3" in resumed.err
    both = whole, Path(json.loads(resumed.out)[0]["directory"])
    assert len({file_sha256(path / "predictions.npz") for path in both}) == 1
    for path in both:
        saved.append(load_file(path / "model.safetensors"))
    assert "model.encoder.body.stem.0.weight" in saved[-1]
    assert all(torch.equal(saved[-1][name], value) for name, value in saved[-2].items())


def features_of(record):
    """The file of features that a run had, by the SHA-256 in its record."""
    (file,) = (
        path
        for path in Path(os.environ["LMDBENCH_CACHE"]).glob("features/*/features.npy")
        if file_sha256(path) == record["digests"]["features"]
    )
    return file


def record_of(results, method="ce"):
    (path,) = results.glob(f"results/*/*/{method}/*/run.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("damage", ["short", "changed", "without its record"])
def test_damaged_features_are_named_and_computed_anew(run, tmp_path, damage):
    assert run("ce", "--set", "epochs=1").code == 0
    record = record_of(tmp_path)
    file = features_of(record)
    whole = file.read_bytes()
    if damage == "short":
        file.write_bytes(whole[:100])
    elif damage == "changed":
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    else:
        (file.parent / "features.json").write_text("{}")
    outcome = run("ce", "--set", "epochs=2")
    assert outcome.code == 0, outcome.err
    assert f"{file}: damaged; computed anew" in outcome.err
    assert file.read_bytes() == whole


def test_what_a_killed_process_left_of_features_does_not_count(run, tmp_path):
    assert run("ce", "--set", "epochs=1").code == 0
    file = features_of(record_of(tmp_path))
    whole, folder = file.read_bytes(), file.parent
    left = folder.with_name(f".{folder.name}~elsewhere~1~0")
    folder.rename(left)
    (left / "features.npy").write_bytes(whole[:1000])
    assert run("ce", "--set", "epochs=2").code == 0
    assert file.read_bytes() == whole
    assert not left.exists()


def test_killed_twice_and_asked_for_twice_at_once(
    copies, toy_run, toy_folder, weights, tmp_path, monkeypatch
):
    """SIGKILL once the claim is taken and once the file is begun, then two runs at the same time:
    one of them computes, and both have what an undisturbed process computes."""
    words = ("--tuning", "head", "--weights", weights, "--set", "epochs=1", "--image-size", "160")

    def start(results):
        return copies.popen(
            [
                *(sys.executable, "-m", "lmdbench", "run", "--method", "ce", "--dataset", "folder"),
                *("--data-root", toy_folder, "--backbone", "small", "--results", results, *words),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    folder = Path(os.environ["LMDBENCH_CACHE"]) / "features"
    before = set(folder.glob("*"))
    for moment in ("*.claim", ".*~*/features.npy"):
        there = set(folder.glob(moment))
        process = start(tmp_path / "killed")
        while process.poll() is None and set(folder.glob(moment)) <= there:
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    both = [start(tmp_path / name / "results") for name in ("one", "other")]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    digests = {record_of(tmp_path / name)["digests"]["features"] for name in ("one", "other")}
    (left,) = set(folder.glob("*")) - before
    assert digests == {file_sha256(left / "features.npy")}
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path / "cache"))
    assert toy_run("ce", *words).code == 0
    assert digests == {record_of(tmp_path)["digests"]["features"]}


# Features of drawn views


def test_a_name_tells_of_drawn_views():
    backbone = get_backbone("frozen+3/small")
    assert (backbone.name, backbone.architecture) == ("frozen+3/small", "small")
    assert (backbone.frozen, backbone.drawn_views) == (True, 3)
    assert get_backbone("frozen/small").drawn_views == 0
    for name in "frozen/small", "frozen+3/small":
        again = with_drawn_views(get_backbone(name), 3)
        assert (again.name, again.drawn_views) == ("frozen+3/small", 3)
    with pytest.raises(UserError, match="small is trained"):
        with_drawn_views(get_backbone("small"), 3)
    with pytest.raises(UserError, match=r"frozen\+2/small says another number"):
        with_drawn_views(get_backbone("frozen+2/small"), 3)
    with pytest.raises(UserError, match=r"frozen\+0"):
        get_backbone("frozen+0/small")


def test_a_step_takes_one_of_the_drawn_views_of_each_image():
    """Rows hold 100 · view + image: the test view (0) is for looking at images in order alone."""
    rows = torch.tensor([[100.0 * view + image] for view in range(4) for image in range(5)])
    places = torch.tensor([4, 0, 3]) + 5 * torch.arange(4)[:, None]
    labels = torch.tensor([0, 1, 0])
    images = Images(rows, places, labels, torch.device("cpu"))
    streams = Streams(0, torch.device("cpu"))
    task = Task(("a", "b"), images, images, streams, torch.device("cpu"))
    assert torch.cat([b.images for b in task.in_order(images)]).flatten().tolist() == [4, 0, 3]
    seen = {}
    for epoch in range(40):
        streams.start_epoch(epoch)
        for batch in task.batches("instance", ("strong",), 2):
            assert torch.equal(batch.labels, labels[batch.positions])
            rows_taken = batch.images.flatten().tolist()
            for position, row in zip(batch.positions.tolist(), rows_taken, strict=True):
                assert row % 100 == [4, 0, 3][position]
                seen.setdefault(position, []).append(row // 100)
    for views in seen.values():
        assert len(views) == 40
        assert set(views) == {1, 2, 3}
    drawn = []
    for _ in range(2):
        streams.start_epoch(3)
        drawn.append(torch.cat([b.images for b in task.batches("instance", ("strong",), 2)]))
    assert torch.equal(*drawn)


def test_drawn_views_are_encoded_once_beside_the_test_view(run, tmp_path):
    few = ("--feature-views", "2", "--set", "epochs=2")
    first, again = run("ce", *few), run("ce", *few, "--force")
    assert first.code == again.code == 0, first.err
    assert "features of 2 strong views of each training image" in first.err
    assert "computed once" not in again.err
    plain = run("ce", "--set", "epochs=2")
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/*/*/ce/*/run.json")]
    backbones = {record["spec"]["backbone"]: record for record in records}
    assert set(backbones) == {"frozen/small", "frozen+2/small"}
    views = np.load(features_of(backbones["frozen+2/small"]))
    test = np.load(features_of(backbones["frozen/small"]))
    assert views.shape == (3, *test.shape)
    assert np.array_equal(views[0], test)
    between = [np.abs(views[a] - views[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert min(between) > 0
    digests = {r["digests"]["predictions"] for r in records}
    assert plain.code == 0
    assert len(digests) == 2  # of the two backbones: a run repeats to the bit


def test_a_method_with_another_view_says_why(run, tmp_path):
    plugin = tmp_path / "weakly.py"
    plugin.write_text(
        "from lmdbench.training.method import register_method\n"
        "from lmdbench.methods.ce import CrossEntropy\n\n\n"
        "@register_method('weakly')\n"
        "class Weakly(CrossEntropy):\n"
        "    views = ('weak',)\n"
    )
    words = ("--plugin", plugin, "--set", "epochs=1")
    outcome = run("weakly", *words, "--feature-views", "2")
    assert outcome.code != 0
    assert "it trains by the view weak, and the drawn ones are strong" in outcome.err
    assert run("weakly", *words).code == 0


def test_a_trained_backbone_has_no_drawn_views(toy_run):
    outcome = toy_run("ce", "--feature-views", "2")
    assert outcome.code != 0
    assert "small is trained" in outcome.err
