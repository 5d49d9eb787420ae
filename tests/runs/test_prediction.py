"""A finished run, loaded from its directory, says of images what it said when it finished."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.data.store.decoding import decode
from lmdbench.evaluation import metrics
from lmdbench.evaluation.inference import linear_estimate
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.runs.prediction import load_run, predict, score
from lmdbench.runs.record import seal, spec_id

CPU = torch.device("cpu")
SHORT = {
    "ce": ("--set", "epochs=2"),
    "focal": ("--set", "epochs=2"),
    "rrl": ("--set", "epochs=2"),
    "crt": ("--set", "epochs=2", "--set", "ce.epochs=1"),
    "lws": ("--set", "epochs=2", "--set", "ce.epochs=1"),
    "balms": ("--set", "epochs=2", "--set", "ce.epochs=1"),
    "lmd": ("--set", "rounds=2", "--set", "virtual_per_class=100", "--set", "rrl.epochs=1"),
    "lmd-released": (
        *("--set", "rounds=2", "--set", "virtual_per_class=100"),
        *("--set", "rrl.epochs=1"),
    ),
}


@pytest.fixture
def copied(trained_run, tmp_path) -> Path:
    """A copy of the run, to be changed."""
    return shutil.copytree(trained_run, tmp_path / "folder-toy" / "copied")


def own_test(directory):
    return load_predictions(directory / "predictions.npz", ["test"])["test"]


@pytest.mark.parametrize("method", SHORT)
def test_every_method_predicts_its_own_test_images_to_the_bit(
    method, toy_run, toy_folder, tmp_path
):
    assert toy_run(method, *SHORT[method]).code == 0
    (done,) = (tmp_path / "results").glob(f"*/*/{method}/seed*/done")
    run = load_run(done.parent, CPU)
    saved = own_test(done.parent)
    predicted = predict(run, [toy_folder / image for image in saved.ids])
    assert np.array_equal(predicted.logits, saved.logits)
    assert not predicted.unreadable


def test_batches_of_any_size_say_the_same(trained_run, toy_folder):
    run = load_run(trained_run, CPU)
    saved = own_test(trained_run)
    seen = []
    predicted = predict(
        run, [toy_folder / image for image in saved.ids], 5, lambda *args: seen.append(args)
    )
    np.testing.assert_allclose(predicted.logits, saved.logits, atol=1e-5)
    assert seen == [(5, 12), (10, 12), (12, 12)]


def test_features_are_the_encoder_s(trained_run, toy_folder):
    run = load_run(trained_run, CPU)
    content = (toy_folder / "round-0.png").read_bytes()
    pixels = torch.from_numpy(decode(content, run.image_size))[None]
    features = run.features(pixels)
    logits = (
        torch.from_numpy(features) @ run.method.model.head.weight.T + run.method.model.head.bias
    )
    np.testing.assert_allclose(logits.detach().numpy(), run.logits(pixels), atol=1e-5)


def test_unreadable_images_have_no_logits_and_a_reason(trained_run, toy_folder, tmp_path):
    run = load_run(trained_run, CPU)
    (tmp_path / "empty.png").touch()
    whole = (toy_folder / "round-1.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    files = [toy_folder / "round-1.png", *(tmp_path / n for n in ("empty.png", "cut.png"))]
    predicted = predict(run, [*files, tmp_path / "text.jpg", tmp_path / "none.png"], 2)
    assert list(predicted.unreadable) == [1, 2, 3, 4]
    assert predicted.unreadable[1] == "empty file"
    assert predicted.unreadable[3] == "not an image"
    assert "No such file" in predicted.unreadable[4]
    assert np.isfinite(predicted.logits[0]).all()
    assert np.isnan(predicted.logits[1:]).all()


def test_pixels_of_a_big_folder_are_not_kept(trained_run, tmp_path):
    """Memory is bounded by a batch, whatever the number of images."""
    import tracemalloc

    run = load_run(trained_run, CPU)
    Image.new("RGB", (24, 24)).save(tmp_path / "a.png")
    peaks = []
    for images in (200, 4000):
        tracemalloc.start()
        predict(run, [tmp_path / "a.png"] * images, batch_size=50)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 3000 * 3 * 24 * 24 / 4  # a fourth of the pixels of the others


# Which run, and whether it can be used


def edit(directory, **changes):
    record = json.loads((directory / "run.json").read_text())
    for key, value in changes.items():
        record[key] = {**record.get(key, {}), **value} if isinstance(value, dict) else value
    record["id"] = spec_id(record["spec"])
    record["digests"]["record"] = seal(record)
    (directory / "run.json").write_text(json.dumps(record))


def flip(name):
    """Change one bit in the middle of a file."""

    def flipped(directory):
        content = bytearray((directory / name).read_bytes())
        content[len(content) // 2] ^= 0x40
        (directory / name).write_bytes(content)

    return flipped


def remove(name):
    return lambda directory: (directory / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("done"), "is interrupted, not finished"),
        (remove("run.json"), "no such file"),
        (remove("model.safetensors"), "without its weights"),
        (
            lambda d: edit(d, imported={"archive": {"from": "x.zip"}}),
            "imported as predictions alone",
        ),
        (lambda d: edit(d, spec={"method": "mine"}), "'mine' is not known here; .*--plugin"),
        (lambda d: edit(d, spec={"method_version": 9}), "made by version 9 of ce; here is"),
        (lambda d: edit(d, digests={"method": "other"}), "has changed since .*--accept-changed"),
        (lambda d: edit(d, format=99), "another version of lmdbench"),
        (lambda d: (d / "model.safetensors").write_bytes(b"0" * 99), "damaged, .*trains it anew"),
        (flip("model.safetensors"), "damaged, its SHA-256 is not .*trains it anew"),
    ],
)
def test_a_run_that_cannot_be_used_is_told_in_one_line(copied, spoil, message):
    spoil(copied)
    with pytest.raises(UserError, match=message) as caught:
        load_run(copied, CPU)
    assert "\n" not in str(caught.value)


def test_changed_code_can_be_accepted(copied):
    edit(copied, digests={"method": "other"})
    assert load_run(copied, CPU, accept_changed=True).classes
    edit(copied, spec={"settings": {"no_such": 1}})
    with pytest.raises(UserError, match="does not fit the code of ce as it is now"):
        load_run(copied, CPU, accept_changed=True)


def test_a_method_of_a_plugin(toy_run, toy_folder, tmp_path):
    plugin = Path(__file__).parents[2] / "docs" / "examples" / "label_smoothing.py"
    assert toy_run("label-smoothing", "--plugin", plugin, "--set", "epochs=1").code == 0
    (done,) = (tmp_path / "results").glob("*/*/label-smoothing/seed*/done")
    saved = own_test(done.parent)
    predicted = predict(load_run(done.parent, CPU), [toy_folder / image for image in saved.ids])
    assert np.array_equal(predicted.logits, saved.logits)


# Scores


def test_scores_are_those_of_the_run_itself(trained_run):
    run, saved = load_run(trained_run, CPU), own_test(trained_run)
    found = {one.metric.name: one for one in score(run, saved.labels, saved.logits, None)}
    expected = metrics.scores(saved.labels, saved.logits, run.groups)
    assert expected.keys() <= found.keys()
    for name, value in expected.items():
        assert found[name].estimate.value == pytest.approx(value)
        assert found[name].own == pytest.approx(value)
    recalls = metrics.by_class("recall", saved.labels, saved.logits)
    for name, recall in zip(run.classes, recalls, strict=True):
        assert found[f"recall:{name}"].estimate.value == pytest.approx(recall)
        assert found[f"recall:{name}"].images == 3


def test_intervals_are_of_one_seed_and_the_images_given(trained_run):
    run, saved = load_run(trained_run, CPU), own_test(trained_run)
    correct = (saved.logits.argmax(axis=1) == saved.labels)[None].astype(float)
    found = {one.metric.name: one for one in score(run, saved.labels, saved.logits, None)}
    for name, weights in (
        ("balanced_accuracy", np.full(4, 1 / 4)),
        ("accuracy", np.bincount(saved.labels) / 12),
        (f"recall:{run.classes[2]}", np.eye(4)[2]),
    ):
        expected = vars(linear_estimate(correct, saved.labels, weights))
        assert vars(found[name].estimate) == pytest.approx(expected, nan_ok=True)
        assert found[name].estimate.seeds == 1
        assert not found[name].reason


def test_what_has_no_value_or_no_interval_says_why(trained_run):
    run, saved = load_run(trained_run, CPU), own_test(trained_run)
    two = saved.labels < 2
    found = {one.metric.name: one for one in score(run, saved.labels[two], saved.logits[two], None)}
    assert found[f"recall:{run.classes[3]}"].reason == "the class has no images"
    assert found[f"recall:{run.classes[3]}"].estimate is None
    assert "fewer than 5 test images" in found["macro_f1"].reason
    assert np.isnan(found["macro_f1"].estimate.low)
    own = metrics.balanced_accuracy(saved.labels[two], saved.logits[two])
    assert found["balanced_accuracy"].own == pytest.approx(own)


def test_images_of_one_lesion_count_as_one(trained_run):
    run, saved = load_run(trained_run, CPU), own_test(trained_run)
    labels, logits = np.tile(saved.labels, 2), np.tile(saved.logits, (2, 1))
    units = np.tile(saved.ids, 2)
    alone, together = (
        score(run, labels, logits, given)[0].estimate for given in (np.array([""] * 24), units)
    )
    assert alone.se < together.se
    correct = (logits.argmax(axis=1) == labels)[None].astype(float)
    expected = vars(linear_estimate(correct, labels, np.full(4, 1 / 4), units))
    assert vars(together) == pytest.approx(expected, nan_ok=True)
