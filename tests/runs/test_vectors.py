"""Runs on a file of features, by an encoder that is not here."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import lmdbench as library
from lmdbench.core.errors import UserError
from lmdbench.data.dataset import open_dataset
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.models.small import SmallNet
from lmdbench.models.weights import file_sha256

SIZES = {"dotted": 20, "rare": 8, "round": 14}
WIDTH = 5


@pytest.fixture(scope="module")
def content():
    """Ids, labels and features (42, 5) float32 of three classes."""
    rng = np.random.default_rng(3)
    labels = np.repeat(list(SIZES), list(SIZES.values()))
    ids = np.array([f"{label}/{n:02}.png" for n, label in enumerate(labels)])
    features = rng.normal(np.searchsorted(list(SIZES), labels)[:, None], 1, (len(labels), WIDTH))
    return {"ids": ids, "labels": labels, "features": features.astype(np.float32)}


@pytest.fixture
def file(content, tmp_path):
    np.savez(tmp_path / "uni.npz", **content)
    return tmp_path / "uni.npz"


@pytest.fixture
def run(lmdbench, file, tmp_path):
    """``lmdbench run`` of a method on the file."""

    def call(method, *words, root=file):
        data = ("--dataset", "folder", "--data-root", root)
        return lmdbench(
            *("run", "--method", method, *data, "--results", tmp_path / "results", *words)
        )

    return call


def directory_of(outcome):
    assert outcome.code == 0, outcome.err
    return Path(json.loads(outcome.out)[0]["directory"])


def test_ncm_answers_by_its_formula(run, file, content):
    directory = directory_of(run("ncm", "--set", "ce.epochs=1", "--json"))
    split = open_dataset("folder", file, file.parent).split(None, 42)
    rows = dict(zip(content["ids"], content["features"].astype(np.float64), strict=True))
    train = np.array([rows[image] for image in split.parts["train"].ids])
    test = np.array([rows[image] for image in split.parts["test"].ids])
    centre = train.mean(axis=0)
    known, asked = (
        (x - centre) / np.linalg.norm(x - centre, axis=1, keepdims=True) for x in (train, test)
    )
    labels = split.parts["train"].labels
    means = np.array([known[labels == c].mean(axis=0) for c in range(3)])
    expected = -((asked[:, None] - means) ** 2).sum(axis=2)
    found = load_predictions(directory / "predictions.npz")["test"]
    assert list(found.ids) == list(split.parts["test"].ids)
    assert np.allclose(found.logits, expected, atol=1e-5)


def test_its_split_is_that_of_images_with_the_same_ids_and_labels(file, content, tmp_path):
    for image in content["ids"]:
        path = tmp_path / "images" / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    images = open_dataset("folder", tmp_path / "images", tmp_path)
    vectors = open_dataset("folder", file, tmp_path)
    for factor in (None, 5):
        split, other = images.split(factor, 7), vectors.split(factor, 7)
        assert split.fingerprint == other.fingerprint
        assert split.parts["test"].fingerprint == other.parts["test"].fingerprint


def test_what_is_recorded(run, file, tmp_path):
    outcome = run("ce", "--set", "epochs=1", "--json", "--backbone", "features/uni-h")
    record = json.loads((directory_of(outcome) / "run.json").read_text())
    vectors = open_dataset("folder", file, tmp_path).vectors
    spec = record["spec"]
    assert (spec["backbone"], spec["image_size"]) == (f"features/uni-h@{WIDTH}", 0)
    assert spec["weights"] == f"sha256:{vectors.digest}"
    assert record["data_notes"] == [f"features: 42 × {WIDTH} by uni, in place of images"]
    assert "no images" in outcome.err


@pytest.mark.parametrize(
    ("method", "words", "says"),
    [
        ("rrl", (), "rrl can't work on the features of a frozen encoder: it compares"),
        ("mixup", (), "mixup can't work on the features of a frozen encoder"),
        ("ce", ("--backbone", "small"), "--backbone small: the data set has features, not images"),
        ("ce", ("--backbone", "features/uni@9"), f"the features have {WIDTH} numbers an image"),
        ("ce", ("--weights", "none"), "--weights is about images"),
        ("ce", ("--image-size", "32"), "--image-size is about images"),
        ("ce", ("--tuning", "lora"), "--tuning lora is about images"),
        ("ce", ("--feature-views", "3"), "--feature-views is about images"),
        ("ce", ("--skip-damaged",), "--skip-damaged is about images"),
    ],
)
def test_what_needs_images_is_refused(run, tmp_path, method, words, says):
    outcome = run(method, *words)
    assert outcome.code != 0
    assert says in outcome.err
    assert not (tmp_path / "results").exists()


def test_killed_and_resumed_equals_uninterrupted(run, file, copies, tmp_path):
    words = ("--set", "epochs=80", "--checkpoint-every", "1")
    whole = directory_of(run("ce", *words, "--json"))
    results = tmp_path / "killed"
    process = copies.popen(
        [
            *(sys.executable, "-m", "lmdbench", "run", "--method", "ce", "--dataset", "folder"),
            *("--data-root", str(file), "--results", str(results), *words),
        ],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if any(results.glob("*/*/ce/seed*/checkpoint.pt")):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "finished before it was killed"
    resumed = run("ce", *words, "--json", "--results", results)
    assert "resuming after epoch" in resumed.err
    both = whole, directory_of(resumed)
    assert len({file_sha256(path / "predictions.npz") for path in both}) == 1


def test_a_run_predicts_other_features_of_its_width(run, lmdbench, content, tmp_path):
    directory = directory_of(run("ce", "--set", "epochs=3", "--json"))
    own = load_predictions(directory / "predictions.npz")["test"]
    chosen = [list(content["ids"]).index(image) for image in own.ids]
    some = {name: array[chosen] for name, array in content.items()}
    np.savez(tmp_path / "some.npz", **some)
    words = ("--logits", "--output", tmp_path / "some.csv")
    outcome = lmdbench("predict", directory, tmp_path / "some.npz", *words)
    assert outcome.code == 0, outcome.err
    assert "features by some are taken for such by uni" in outcome.out
    told = library.predict(directory, some["features"], logits=True)
    columns = told[list(SIZES)].to_numpy()
    assert np.allclose(columns, own.logits, atol=1e-6)
    assert lmdbench("predict", directory, tmp_path / "some.npz", "--maps", tmp_path / "m").code
    np.savez(tmp_path / "narrow.npz", **{**some, "features": some["features"][:, :4]})
    refused = lmdbench("predict", directory, tmp_path / "narrow.npz")
    assert f"trained on features of {WIDTH} numbers an image, and these are features of 4" in (
        refused.err
    )
    with pytest.raises(UserError, match=f"give {WIDTH} floats an image"):
        library.predict(directory, some["features"][:, :4])


def test_runs_on_images_and_on_features_refuse_each_other(
    run, lmdbench, file, trained_run, toy_folder
):
    directory = directory_of(run("ce", "--set", "epochs=1", "--json"))
    assert "and these are images; give a feature file" in (
        lmdbench("predict", directory, toy_folder).err
    )
    assert "was trained on images, and these are features by uni" in (
        lmdbench("predict", trained_run, file).err
    )


def test_features_of_another_encoder_are_another_table(run, lmdbench, content, tmp_path):
    for name in ("uni", "conch"):
        home = tmp_path / name
        home.mkdir()
        np.savez(home / f"{name}.npz", **content)
        (home / "dataset.toml").write_text(f'npz = "{name}.npz"\nname = "clinic"\n')
        assert run("ce", "--set", "epochs=1", root=home).code == 0
    out = lmdbench("compare", "--results", tmp_path / "results").out
    assert out.count("folder-clinic · random · test images") == 2
    assert f"features/uni@{WIDTH}" in out
    assert f"features/conch@{WIDTH}" in out


def test_subgroups_and_patients_of_a_file_are_scored(run, content, tmp_path):
    """Accuracy of each sex from the predictions by hand, and a row a patient of two images."""
    places = np.arange(len(content["ids"]))
    said = {
        "sex": np.where(places % 3, "f", "m"),
        "patient": np.char.add("p", (places // 2).astype(str)),
    }
    path = tmp_path / "said.npz"
    np.savez(path, **content, **said)
    found = load_predictions(
        directory_of(run("ce", "--set", "epochs=3", "--json", root=path)) / "predictions.npz"
    )["test"]
    asked = {"data_root": path, "reference": "ce", "metrics": ["accuracy"]}
    images, patients = library.compare(
        tmp_path / "results", by=["sex"], unit="patient", **asked
    ).tables
    rows = [list(content["ids"]).index(image) for image in found.ids]
    right = found.logits.argmax(axis=1) == found.labels
    scores = {
        part.name: part.table.rows[0].cells["accuracy"].values[0]
        for part in images.subgroups[0].parts
    }
    sexes = said["sex"][rows]
    assert scores == pytest.approx({sex: right[sexes == sex].mean() for sex in ("f", "m")})
    owners = said["patient"][rows]
    assert patients.rows[0].cells["accuracy"].n == len(set(owners)) < len(owners)


def test_commands_on_images_say_that_there_are_none(lmdbench, file):
    root = ("folder", "--data-root", file)
    assert "there is nothing to prepare" in lmdbench("data", "prepare", *root).err
    assert "--near-duplicates is about" in lmdbench("data", "audit", *root, "--near-duplicates").err
    assert "--plot is about images" in lmdbench("datasets", "show", *root, "--plot", "x.png").err
    write = ("--dataset", *root, "--backbone", "small")
    assert "they are in its file already" in lmdbench("features", "write", *write).err
    shown = lmdbench("datasets", "show", *root)
    assert "images     42 of 42 are there" in shown.out
    assert "all 42 are there" in lmdbench("data", "verify", *root).out
    assert lmdbench("data", "audit", *root).code in (0, 1)


def test_what_features_write_writes_is_a_data_set(toy_folder, lmdbench, run, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save(SmallNet().state_dict(), weights)
    for ending in ("npz", "csv"):
        output = tmp_path / f"small.{ending}"
        words = ("--backbone", "small", "--weights", weights, "--image-size", "24")
        data = ("--dataset", "folder", "--data-root", toy_folder)
        assert lmdbench("features", "write", *data, *words, "--output", output).code == 0
        outcome = run("ce", "--set", "epochs=1", root=output)
        assert outcome.code == 0, outcome.err
        assert f"features/small@{SmallNet.out_features}" in outcome.err
