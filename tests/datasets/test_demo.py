"""The drawn data set: its split, its images, and two processes that draw at once."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, PARTS
from lmdbench.datasets import demo
from lmdbench.datasets.demo import CLASSES, Demo, class_sizes, draw

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Demo:
    data = Demo(None, tmp_path_factory.mktemp("cache"))
    data.materialise()
    return data


@pytest.fixture
def few_images(monkeypatch):
    """A twentieth of the images, for tests of how they are written."""
    monkeypatch.setattr(demo, "LARGEST_CLASS", 25)
    monkeypatch.setattr(demo, "HELD_OUT", {"validation": 1, "test": 2})


def test_is_registered_and_marked_as_synthetic():
    assert DATASETS.get("demo") is Demo
    assert Demo.synthetic
    assert not Demo.needs_root


def test_planning_draws_nothing(tmp_path):
    data = Demo(None, tmp_path / "cache")
    split = data.split(None, 42)
    records = data.records()
    assert not (tmp_path / "cache").exists()
    assert split.counts("train").tolist() == [500, 259, 134, 69, 36, 19, 10, 5]
    assert split.counts("validation").tolist() == [15] * 8
    assert split.counts("test").tolist() == [50] * 8
    assert split.measured_imbalance == 100
    assert split.label == "drawn-if100"
    assert {name: len(group) for name, group in split.groups.items()} == {
        "head": 2,
        "medium": 3,
        "tail": 3,
    }
    assert tuple(c for group in split.groups.values() for c in group) == split.classes
    assert records.index.is_unique
    for part in PARTS:
        labels = records.loc[split.parts[part].ids, "label"]
        assert labels.tolist() == [split.classes[c] for c in split.parts[part].labels]
    ids = np.concatenate([split.parts[part].ids for part in PARTS])
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("factor", "smallest"), [(20, 25), (100, 5), (200, 2), (500, 1)])
def test_the_imbalance_factor_is_honoured(tmp_path, factor, smallest):
    counts = Demo(None, tmp_path).split(factor, 42).counts("train")
    assert counts.tolist() == class_sizes(factor)
    assert (counts[0], counts[-1]) == (500, smallest)
    assert (np.diff(counts) < 0).all()


@pytest.mark.parametrize("factor", [-1, 0, 1, 19.9, 501, float("nan"), float("inf")])
def test_other_factors_are_refused(tmp_path, factor):
    with pytest.raises(UserError, match=r"demo: imbalance factor .* is impossible"):
        Demo(None, tmp_path).split(factor, 42)


def test_the_split_seed_chooses_training_images_only(tmp_path):
    data = Demo(None, tmp_path)
    one, same, other = data.split(None, 42), data.split(None, 42), data.split(None, 43)
    assert one.fingerprint == same.fingerprint
    assert one.parts["train"].fingerprint != other.parts["train"].fingerprint
    assert one.parts["test"].fingerprint == other.parts["test"].fingerprint


def test_the_split_is_the_same_everywhere(tmp_path):
    """Runs are identified by this; a change needs another folder name and split name."""
    fingerprint = Demo(None, tmp_path).split(None, 42).fingerprint
    assert fingerprint == "92896afea79369d05239b54c0e69dc41482fc30dd3c0348ea8fa4398525717e9"


def test_drawings_are_the_same_everywhere():
    """Sums of the pixels, as counted when version 1 was made."""
    sums = [int(draw(f"{c}-test-000", look).astype(int).sum()) for c, look in CLASSES.items()]
    assert sums == [1017132, 926602, 1153750, 982146, 899941, 990781, 1097935, 903924]


def test_every_image_of_the_records_is_there(drawn):
    records = drawn.records()
    files = {
        path.relative_to(drawn.image_root).as_posix() for path in drawn.image_root.rglob("*.*")
    }
    assert files == set(records["file"])
    with Image.open(drawn.image_root / records["file"].iloc[7]) as image:
        assert (image.size, image.mode) == ((48, 48), "RGB")
        pixels = np.asarray(image)
    look = CLASSES[records["label"].iloc[7]]
    assert np.array_equal(pixels, draw(records.index[7], look))


def test_no_two_images_are_alike(drawn):
    contents = {path.read_bytes() for path in drawn.image_root.rglob("*.png")}
    assert len(contents) == len(drawn.records())


def test_images_are_no_flat_or_burnt_out_colours(drawn):
    for file in drawn.records()["file"][::40]:
        pixels = np.asarray(Image.open(drawn.image_root / file), dtype=float)
        assert pixels.std() > 10
        assert ((pixels == 0) | (pixels == 255)).mean() < 0.4


def test_a_second_time_nothing_is_drawn(drawn):
    folder = drawn.image_root
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    Demo(None, drawn.cache).materialise()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in drawn.cache.iterdir()] == ["demo-v1"]


@pytest.mark.usefixtures("few_images")
def test_a_missing_image_is_drawn_again(tmp_path):
    data = Demo(None, tmp_path)
    data.materialise()
    path = data.image_root / data.records()["file"].iloc[3]
    content = path.read_bytes()
    path.unlink()
    data.materialise()
    assert path.read_bytes() == content


def start_drawing(cache: Path) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=Demo(None, cache).materialise)
    process.start()
    return process


@pytest.mark.usefixtures("few_images")
def test_two_processes_at_once_draw_one_set(tmp_path):
    processes = [start_drawing(tmp_path) for _ in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["demo-v1"]
    assert len(list((tmp_path / "demo-v1").rglob("*.png"))) == len(Demo(None, tmp_path).records())


@pytest.mark.usefixtures("few_images")
def test_killed_while_drawing_then_drawn_whole(tmp_path):
    process = start_drawing(tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".demo-v1~*/*/*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "demo-v1").exists()
    data = Demo(None, tmp_path)
    data.materialise()
    assert [path.name for path in tmp_path.iterdir()] == ["demo-v1"]
    assert len(list(data.image_root.rglob("*.png"))) == len(data.records())


def test_an_unwritable_cache_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write in the cache .*LMDBENCH_CACHE"):
        Demo(None, tmp_path / "file" / "cache").materialise()
