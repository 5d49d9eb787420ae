"""``lmdbench features``: what is kept, and features as a file for other code."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lmdbench.models.small import SmallNet
from lmdbench.training.views.augmentation import IMAGENET_MEAN, IMAGENET_STD


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(19)
    path = tmp_path / "weights.pt"
    torch.save(SmallNet().state_dict(), path)
    return path


@pytest.fixture
def write(lmdbench, toy_folder, weights):
    def call(*words):
        return lmdbench(
            *("features", "write", "--dataset", "folder", "--data-root", toy_folder),
            *("--backbone", "small", "--weights", weights, "--image-size", 24, *words),
        )

    return call


def test_they_are_written_with_ids_labels_and_parts(write, weights, toy_folder, tmp_path):
    """The numbers: those of the network itself on the decoded images, normalised."""
    for suffix in "npz", "csv":
        outcome = write("--output", tmp_path / f"features.{suffix}")
        assert outcome.code == 0, outcome.err
        assert f"features by frozen/small: {tmp_path}" in outcome.out
    assert "computed once" not in outcome.err
    table = pd.read_csv(toy_folder / "labels.csv")
    with np.load(tmp_path / "features.npz") as made:
        ids, labels, parts, features = (made[key] for key in ("ids", "labels", "parts", "features"))
    found = pd.DataFrame({"image": ids, "label": labels, "split": parts})
    expected = table.set_index("image").loc[ids].reset_index()
    pd.testing.assert_frame_equal(found, expected[["image", "label", "split"]], check_dtype=False)
    assert len(found) == len(table)
    network = SmallNet().eval()
    network.load_state_dict(torch.load(weights, weights_only=True))
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = torch.stack([torch.from_numpy(image(toy_folder / name)) for name in ids])
    with torch.no_grad():
        by_hand = network((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
    np.testing.assert_allclose(features, by_hand, atol=1e-5)
    read = pd.read_csv(tmp_path / "features.csv")
    assert list(read.columns[:4]) == ["id", "label", "part", "f0"]
    np.testing.assert_allclose(read.filter(regex=r"^f\d").to_numpy(), features, rtol=1e-6)


def image(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB"))


def test_a_run_finds_what_was_written(write, toy_run, weights):
    assert write().code == 0
    words = ("--tuning", "head", "--weights", weights, "--set", "epochs=1")
    outcome = toy_run("ce", *words)
    assert outcome.code == 0, outcome.err
    assert "computed once" not in outcome.err


def test_the_list_says_what_there_is(write, lmdbench, monkeypatch, tmp_path):
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path / "cache"))
    assert "no features in" in lmdbench("features", "list").out
    assert write("--feature-views", 2, "--quiet").code == 0
    plain, views = json.loads(lmdbench("features", "list", "--json").out)
    by_name = {one["record"]["backbone"]: one for one in (plain, views)}
    assert set(by_name) == {"frozen/small", "frozen+2/small"}
    record = by_name["frozen+2/small"]["record"]
    assert (record["drawn_views"], record["width"], record["image_size"]) == (2, 96, 24)
    shape = np.load(Path(by_name["frozen+2/small"]["folder"]) / "features.npy").shape
    assert shape == (3, record["images"], 96)
    text = lmdbench("features", "list").out
    assert f"{record['images']:,} × 96" in text
    (Path(plain["folder"]) / "features.json").unlink()
    assert "without a record of what it is" in lmdbench("features", "list").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--output", "vectors.txt"), "must end in .npz or .csv"),
        (("--output", "nowhere/vectors.npz"), "there is no folder nowhere"),
        (("--weights", "none"), "an encoder that isn't trained needs weights"),
        (("--backbone", "frozen+2/small", "--feature-views", "3"), "says another number"),
    ],
)
def test_what_it_refuses(write, words, says):
    outcome = write(*words)
    assert outcome.code == 2
    assert says in outcome.err
    assert "Traceback" not in outcome.err
