"""What the commands do, called from Python: trained, loaded, compared, predicted, on real runs."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmdbench
from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache
from lmdbench.evaluation.metrics import balanced_accuracy, softmax
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.evaluation.recalibration import fit_temperature

DOCS = Path(__file__).parents[1] / "docs"
CLASSES = ["dark", "light", "red"]
SHORT = {"epochs": 2, "batch_size": 16}


def drawn(n, seed):
    """Three kinds of images that are told by their brightness and colour."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = random.integers(0, 80, (n, 20, 20, 3))
    images[labels == 1] += 150
    images[labels == 2, :, :, 0] += 150
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("api") / "results"


@pytest.fixture(scope="module")
def runs(results):
    found = {}
    for method in ("ce", "crt"):
        found[method] = lmdbench.fit(
            method,
            *drawn(60, 0),
            test=drawn(30, 1),
            validation=drawn(12, 2),
            classes=CLASSES,
            name="toy",
            seeds=[0, 1],
            results=results,
            quiet=True,
            settings=SHORT | ({f"ce.{k}": v for k, v in SHORT.items()} if method == "crt" else {}),
        )
    return found


def test_fit_trains_and_leaves_runs_like_any_other(runs, results):
    assert [(run.method, run.seed) for run in runs["crt"]] == [("crt", 0), ("crt", 1)]
    assert all((run.directory / "done").exists() for run in runs["crt"])
    assert runs["ce"][0].record.results_name == "folder-toy"
    assert runs["ce"][0].classes == CLASSES
    assert runs["ce"][0].spec.image_size == 20
    assert runs["ce"][0].spec.settings["epochs"] == 2
    again = lmdbench.fit(
        "ce",
        *drawn(60, 0),
        test=drawn(30, 1),
        validation=drawn(12, 2),
        classes=CLASSES,
        name="toy",
        seeds=0,
        results=results,
        quiet=True,
        settings=SHORT,
    )
    assert again[0].id == runs["ce"][0].id
    assert again[0].record.attempts == runs["ce"][0].record.attempts  # not trained again


def test_the_command_and_the_function_mean_the_same_run(runs, lmdbench):
    (root,) = (default_cache() / "arrays").glob("*/toy")
    words = ("--dataset", "folder", "--data-root", root, "--backbone", "small", "--weights", "none")
    sets = ("--image-size", 20, "--set", "epochs=2", "--set", "batch_size=16")
    shown = lmdbench("run", "--method", "ce", *words, *sets, "--dry-run", "--json")
    assert json.loads(shown.out)[0]["id"] == runs["ce"][0].id


def test_loaded_runs_are_the_same_and_can_be_chosen(runs, results):
    there = lmdbench.load_runs(results)
    assert {run.id for run in there} == {run.id for found in runs.values() for run in found}
    assert {run.method for run in lmdbench.load_runs(results, methods=["crt"])} == {"crt"}
    assert len(there[:2]) == 2
    assert repr(lmdbench.load_runs(results, methods=["ce"])) == "Runs([ce seed 0, ce seed 1])"
    with pytest.raises(UserError, match="Did you mean crt"):
        lmdbench.load_runs(results, methods=["crtt"])


def test_one_name_a_run_and_a_list_of_runs_will_do(runs, results):
    assert len(lmdbench.load_runs(results, methods="ce")) == 2
    assert len(lmdbench.load_runs(results, methods=None)) == 4
    compare = lmdbench.compare
    assert set(compare(list(runs["ce"]), reference="ce").frame()["method"]) == {"ce"}
    assert set(compare(runs["ce"][0], metrics="accuracy").frame()["metric"]) == {"accuracy"}
    with pytest.raises(UserError, match="reference: give a name"):
        compare(results, reference=None)
    with pytest.raises(UserError, match="metrics: give names"):
        compare(results, metrics=[max])
    with pytest.raises(UserError, match="images: none is given"):
        lmdbench.predict(runs["ce"][0], None)


def test_seeds_of_numpy_and_twice_are_whole_numbers_once(runs, results):
    again = lmdbench.fit(
        "ce",
        *drawn(60, 0),
        test=drawn(30, 1),
        validation=drawn(12, 2),
        classes=CLASSES,
        name="toy",
        seeds=np.array([1, 0, 1]),
        results=results,
        quiet=True,
        settings=SHORT,
    )
    assert [run.id for run in again] == [runs["ce"][1].id, runs["ce"][0].id]


def test_a_frame_of_runs_has_a_row_a_run(runs):
    frame = runs["ce"].frame()
    assert list(frame["seed"]) == [0, 1]
    parts = load_predictions(runs["ce"][0].directory / "predictions.npz")
    expected = balanced_accuracy(parts["test"].labels, parts["test"].logits)
    assert frame["balanced_accuracy"][0] == pytest.approx(expected, abs=0)
    assert list(frame["set epochs"]) == [2, 2]
    of_class = runs["ce"].frame(metrics=["recall:red"], part="validation")
    assert of_class["recall:red"].between(0, 1).all()


def test_a_frame_of_images_has_a_row_an_image_and_run(runs):
    frame = runs["ce"].images()
    assert len(frame) == 2 * 30
    right = (frame["truth"] == frame["predicted"]).groupby([frame["seed"], frame["truth"]]).mean()
    scores = runs["ce"].frame().set_index("seed")["balanced_accuracy"]
    for seed in (0, 1):
        assert right[seed].mean() == pytest.approx(scores[seed])
    np.testing.assert_allclose(frame[[f"p:{name}" for name in CLASSES]].sum(axis=1), 1)


def test_a_comparison_is_a_frame_and_the_command_prints_its_numbers(runs, results, lmdbench):
    from lmdbench import api

    frame = api.compare(results, reference="ce", metrics=["accuracy"]).frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["method"]) == ["ce", "crt"]
    shown = lmdbench(
        "compare",
        "--results",
        results,
        "--reference",
        "ce",
        "--metric",
        "accuracy",
        "--format",
        "csv",
    )
    text = pd.read_csv(io.StringIO(shown.out))
    pd.testing.assert_series_equal(text["mean"], frame["mean"])
    pd.testing.assert_series_equal(text["difference"], frame["difference"])
    only = api.compare(runs["ce"], reference="ce").frame()
    assert set(only["method"]) == {"ce"}


@pytest.mark.parametrize("as_files", [False, True])
def test_predictions_of_its_own_test_images_are_those_it_kept(runs, tmp_path, as_files):
    from PIL import Image

    images, _ = drawn(30, 1)
    given = images
    if as_files:
        given = [tmp_path / f"{number}.png" for number in range(len(images))]
        for path, image in zip(given, images, strict=True):
            Image.fromarray(image).save(path)
    run = runs["crt"][0]
    frame = lmdbench.predict(run, given, device="cpu")
    kept = load_predictions(run.directory / "predictions.npz")["test"]
    np.testing.assert_allclose(frame[CLASSES].to_numpy(), softmax(kept.logits), atol=1e-5)
    assert list(frame["predicted"]) == [CLASSES[k] for k in kept.logits.argmax(axis=1)]
    logits = lmdbench.predict(str(run.directory), given, device="cpu", logits=True)
    np.testing.assert_allclose(logits[CLASSES].to_numpy(), kept.logits, atol=1e-4)


def test_predictions_are_calibrated_by_the_run_s_validation_images(runs):
    """softmax(logits / T) · new share / share among them."""
    images, _ = drawn(30, 1)
    run = runs["crt"][0]
    parts = load_predictions(run.directory / "predictions.npz")
    validation = parts["validation"]
    temperature = fit_temperature(validation.labels, validation.logits)
    prior = {"dark": 0.5, "light": 0.25, "red": 0.25}
    chances = softmax(parts["test"].logits / temperature) * list(prior.values())
    chances /= np.bincount(validation.labels) / len(validation.labels)
    chances /= chances.sum(axis=1, keepdims=True)
    frame = lmdbench.predict(run, images, device="cpu", calibrate="temperature", prior=prior)
    np.testing.assert_allclose(frame[CLASSES].to_numpy(), chances, atol=1e-5)
    assert list(frame["predicted"]) == [CLASSES[k] for k in chances.argmax(axis=1)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: lmdbench.fit("cee", x, y), "Did you mean ce"),
        (lambda x, y: lmdbench.fit("ce", x / 255, y), "not uint8"),
        (lambda x, y: lmdbench.fit("ce", x, y[:-1]), "60 images but 59 labels"),
        (
            lambda x, y: lmdbench.fit("ce", x, y, validation=(x, y)),
            "validation is given without test",
        ),
        (lambda x, y: lmdbench.fit("ce", x, y, settings={"epoch": 1}), "Did you mean epochs"),
        (lambda x, y: lmdbench.fit("ce", x, y, device="gpu"), "give auto, cpu, cuda"),
        (lambda x, y: lmdbench.run("ce", "isic2020"), "unknown data set 'isic2020'"),
        (lambda x, y: lmdbench.run("ce", "isic2019", data_root="/nowhere"), "does not exist"),
        (lambda x, y: lmdbench.load_runs("/nowhere"), "no results folder /nowhere"),
        (lambda x, y: lmdbench.fit("ce", x, y, seeds="0-1"), "whole numbers from 0 on"),
        (lambda x, y: lmdbench.fit("ce", x, y, seeds=[-1]), "whole numbers from 0 on"),
        (lambda x, y: lmdbench.fit("ce", x, y, seeds=[0.5]), "not 0.5"),
        (lambda x, y: lmdbench.fit("ce", x, y, seeds=[]), "seeds: none is given"),
        (lambda x, y: lmdbench.fit("ce", x, y, seeds=None), "whole numbers from 0 on"),
        (lambda x, y: lmdbench.fit("ce", x, y, selection="bst"), "Did you mean best"),
        (lambda x, y: lmdbench.fit("ce", x, y, precision="fp16"), "unknown precision 'fp16'"),
        (lambda x, y: lmdbench.fit("ce", x, y, image_size="20"), "image_size: give a whole"),
        (lambda x, y: lmdbench.fit("ce", x, y, image_size=0), "pixels from 16 to 2048, not 0"),
        (lambda x, y: lmdbench.fit("ce", x, y, settings=["epochs=1"]), "settings: give a dict"),
        (lambda x, y: lmdbench.fit("ce", x, y, setting={}), "Did you mean settings"),
        (lambda x, y: lmdbench.fit("ce", x, y, imbalance_factor="x"), "give a number, not 'x'"),
        (lambda x, y: lmdbench.fit("ce", None, y), "train: images must be an array"),
        (lambda x, y: lmdbench.fit("ce", x, None), "train: labels must be an array"),
        (lambda x, y: lmdbench.fit(None, x, y), "method: give a name or a registered class"),
        (lambda x, y: lmdbench.fit(lmdbench.Method, x, y), "method: give a name or a registered"),
        (lambda x, y: lmdbench.run("ce", "folder", data_root=4), "data_root: give a path, not 4"),
        (lambda x, y: lmdbench.compare([]), "results: give a folder, or runs as load_runs"),
        (lambda x, y: lmdbench.compare(3), "results: give a folder, or runs as load_runs"),
        (lambda x, y: lmdbench.load_runs(3), "results: give a path, not 3"),
        (lambda x, y: lmdbench.predict("12345678", None), "neither a run"),
        (lambda x, y: lmdbench.compare("/nowhere"), "no results folder /nowhere"),
        (
            lambda x, y: lmdbench.predict("12345678", x, results="/nowhere"),
            "neither a run directory",
        ),
    ],
)
def test_what_can_not_be_done_is_one_line(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        call(*drawn(60, 0))
    assert "\n" not in str(caught.value)


def test_the_page_trains_compares_and_prints(tmp_path):
    """Its code as it stands there, in a process of its own."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) < 20
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"lmd \(rounds=3\).*0\.\d+", done.stdout)


def test_empty_names_are_not_taken_for_none():
    with pytest.raises(UserError, match="data_root is empty"):
        lmdbench.run("ce", "demo", data_root="")
    with pytest.raises(UserError, match="results is empty"):
        lmdbench.compare("")
    with pytest.raises(UserError, match="--groups ''"):
        lmdbench.run("ce", "demo", groups="")
