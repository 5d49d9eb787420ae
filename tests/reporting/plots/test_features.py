"""Features before and after a run: which encoders, which images, and what is refused."""

import shutil

import numpy as np
import pytest
import torch

from lmdbench.core.errors import UserError
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.reporting.plots.features import embedding_of
from lmdbench.runs.prediction import load_run
from lmdbench.runs.request import open_dataset

CPU = torch.device("cpu")
SHORT = ("--set", "epochs=1", "--set", "batch_size=16")


@pytest.fixture
def run_of(toy_run, tmp_path):
    """Trains a method for a moment and gives its directory."""

    def run(method, *words):
        assert toy_run(method, *words).code == 0
        (directory,) = (tmp_path / "results").glob(f"*/*/{method}/seed0-*")
        return directory

    return run


@pytest.fixture
def embed(toy_folder, tmp_path):
    def of(directory, folder=toy_folder, **words):
        return embedding_of(
            directory,
            lambda name: open_dataset(name, folder, tmp_path / "cache"),
            tmp_path / "cache",
            **{
                "part": "test",
                "per_class": 2,
                "device": CPU,
                "accept_changed": False,
                "say": print,
                **words,
            },
        )

    return of


def test_an_encoder_that_was_trained_further_is_shown_before_and_after(run_of, embed):
    short = ("--set", "rrl.epochs=1", "--set", "rounds=1", "--set", "virtual_per_class=8")
    directory = run_of("lmd", *short, "--set", "encoder_lr=0.01")
    found = embed(directory)
    assert list(found.features) == ["before: rrl, seed 0", "after: lmd, seed 0"]
    before, after = found.features.values()
    assert before.shape == after.shape == (8, before.shape[1])
    assert not np.allclose(before, after)
    assert found.classes == ["round", "striped", "dotted", "rare"]  # by training images
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.counts.tolist() == [3, 3, 3, 3]


def test_a_frozen_encoder_is_shown_once(run_of, embed):
    found = embed(run_of("crt", *SHORT, "--set", "ce.epochs=1"))
    assert len(found.features) == 1
    assert "crt leaves the encoder as ce trained it." in found.notes


def test_features_are_of_the_images_they_stand_for(run_of, embed, toy_folder, tmp_path):
    directory = run_of("ce", *SHORT)
    found = embed(directory, per_class=3)
    assert "ce starts from no other run." in found.notes
    (features,) = found.features.values()
    # The head on the features gives the logits that the run saved, image by image.
    run = load_run(directory, CPU)
    with torch.inference_mode():
        logits = run.method.model.head(torch.from_numpy(features)).numpy()
    saved = load_predictions(directory / "predictions.npz")["test"]
    order = [run.classes.index(name) for name in found.classes]
    for place, c in enumerate(order):
        np.testing.assert_allclose(
            by_first(logits[found.labels == place]),
            by_first(saved.logits[saved.labels == c]),
            atol=1e-4,
        )


def by_first(rows):
    """Rows in the order of their first number."""
    return rows[np.argsort(rows[:, 0])]


def test_images_that_are_not_there_and_models_that_are_not_are_refused(
    run_of, embed, toy_folder, tmp_path
):
    directory = run_of("ce", *SHORT)
    some = tmp_path / "some"
    shutil.copytree(toy_folder, some)
    for image in some.glob("rare-*.png"):
        image.unlink()
    with pytest.raises(UserError, match=r"2 of 8 images that the run predicted are not there"):
        embed(directory, some)
    (directory / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        embed(directory)


def test_a_first_stage_that_is_gone_is_said(run_of, embed, tmp_path):
    directory = run_of("crt", *SHORT, "--set", "ce.epochs=1")
    shutil.rmtree(directory.parents[1] / "ce")
    found = embed(directory)
    assert list(found.features) == ["after: crt, seed 0"]
    assert (
        "The run it started from is gone, or was trained anew: no features from before."
        in found.notes
    )
