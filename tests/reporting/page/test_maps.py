"""Maps beside the images of a page: of the row that was asked for, or the reason for none."""

import base64
import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lmdbench.data.store.decoding import decode
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.runs.maps import SIDE, beside, maps_of
from lmdbench.runs.prediction import load_run


@pytest.fixture
def results(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the results of a trained run."""
    return shutil.copytree(trained_run.parents[3], tmp_path / "results")


@pytest.fixture
def report(lmdbench: Any, results: Path, toy_folder: Path, tmp_path: Path) -> Any:
    def make(*words: object) -> Any:
        output = tmp_path / "r.html"
        root = ("--data-root", toy_folder)
        return lmdbench("report", "--results", results, *root, "--output", output, *words)

    return make


SPOKE = re.compile(
    r'<figure><img src="data:image/jpeg;base64,([^"]+)" alt="Image (\S+) as pre[^>]+>'
)


def test_the_answers_and_maps_are_those_of_the_runs(trained_run: Path, toy_folder: Path) -> None:
    """Twice the same run answers as once; the map is the run's own, for what it predicted."""
    run = load_run(trained_run, torch.device("cpu"))
    test = load_predictions(trained_run / "predictions.npz", ["test"])["test"]
    pictures = [decode((toy_folder / str(image)).read_bytes(), 24) for image in test.ids[:3]]
    pixels = torch.from_numpy(np.stack(pictures))
    once, twice = maps_of([run], pixels), maps_of([run, run], pixels)
    assert once.answers.tolist() == test.logits[:3].argmax(axis=1).tolist()
    assert once.values.shape == (3, SIDE, SIDE)
    assert (once.kinds, twice.kinds) == ({"Grad-CAM": 1}, {"Grad-CAM": 2})
    np.testing.assert_allclose(twice.values, once.values, atol=1e-6)
    own, _ = run.maps(pixels, torch.from_numpy(once.answers))
    small = np.asarray(Image.fromarray(once.values[0].astype(np.float32)).resize((24, 24)))
    assert np.corrcoef(small.ravel(), own[0].ravel())[0, 1] > 0.99


def test_each_image_opens_to_its_map(
    report: Any, trained_run: Path, toy_folder: Path, tmp_path: Path
) -> None:
    done = report("--maps")
    assert done.code == 0, done.err
    assert done.err.count("\n") == 1
    text = (tmp_path / "r.html").read_text()
    assert "what spoke for the answer of ce" in text
    assert "1 run; Grad-CAM" in text
    shown = {image: content for content, image in SPOKE.findall(text)}
    test = load_predictions(trained_run / "predictions.npz", ["test"])["test"]
    assert set(shown) <= set(test.ids)
    assert len(SPOKE.findall(text)) == text.count('width="96"')
    image = next(iter(shown))
    pixels = decode((toy_folder / image).read_bytes(), 24)
    run = load_run(trained_run, torch.device("cpu"))
    found = maps_of([run], torch.from_numpy(pixels[None]))
    large = Image.fromarray(pixels.transpose(1, 2, 0)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
    expected = np.asarray(beside(np.asarray(large), found.values[0]), dtype=float)
    with Image.open(io.BytesIO(base64.b64decode(shown[image]))) as picture:
        drawn = np.asarray(picture, dtype=float)
    assert drawn.shape == (SIDE, 2 * SIDE, 3)
    assert np.abs(drawn - expected).mean() < 4  # of 255: it is a JPEG


def test_where_there_are_none_a_line_says_why(report: Any, results: Path, tmp_path: Path) -> None:
    def why(*words: object) -> str:
        done = report(*words)
        assert done.code == 0, done.err
        assert "There are no maps" in (tmp_path / "r.html").read_text()
        _, line = done.err.splitlines()
        return line

    assert "no row of crt, only of ce" in why("--maps", "crt")
    (weights,) = results.rglob("model.safetensors")
    weights.unlink()
    line = why("--maps", "ce")
    assert line.startswith("no maps of folder-")
    assert "finished, but without its weights" in line
    assert report("--maps", "--no-images").code == 2
