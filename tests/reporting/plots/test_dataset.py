"""The picture of a data set: its numbers and names, its tiles, and the files it is written to."""

import warnings
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset, Part, Partial, Split
from lmdbench.data.splits.spec import SplitSpec, make_split
from lmdbench.reporting.plots.dataset import EXAMPLES, TILE, example_tiles, plot_dataset

COUNTS = {"an ordinary class": 1200, "snake_case $x^2$ & <b>": 40, "tiny": 1}


class Drawn(Dataset):
    name = "drawn"
    title = "Drawn"
    synthetic = True

    def records(self):
        raise NotImplementedError

    def split(self, imbalance_factor, seed):
        raise NotImplementedError


class Photographed(Drawn):
    title = "Photographed"
    synthetic = False


def make(counts=COUNTS, **words) -> Split:
    def part(name: str, counts: list[int]) -> Part:
        labels = np.repeat(np.arange(len(counts)), counts)
        return Part(np.array([f"{name}{i}" for i in range(len(labels))]), labels)

    numbers = list(counts.values())
    held_out = [max(1, n // 10) for n in numbers]
    parts = {"train": part("a", numbers), "validation": part("b", held_out)}
    names = tuple(counts)
    groups = {"head": names[:1], "tail": names[2:]}
    parts["test"] = part("c", held_out)
    return Split("given", names, parts, groups, group_rule="as the test says", **words)


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``texts(split, files, dataset)``: every text of the picture, as an SVG holds them."""
    monkeypatch.setitem(mpl.rcParams, "svg.fonttype", "none")

    def draw(split: Split, files=None, kind: type[Dataset] = Photographed) -> list[str]:
        path = tmp_path / "picture.svg"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plot_dataset(kind(tmp_path, tmp_path), split, files or {}, path)
        found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
        return ["".join(element.itertext()) for element in found]

    return draw


def test_classes_counts_groups_and_title_are_there(texts):
    found = texts(make())
    assert "Photographed (drawn), split given" in found
    assert "imbalance factor 1,200 · 3 classes · 1,241 train · 125 validation · 125 test" in found
    for label, count in COUNTS.items():
        assert label in found
        assert f"{count:,}" in found
    assert {"train, head", "train, tail", "train, in no group", "validation", "test"} <= {*found}
    assert "groups as the test says" in found
    assert "No images are there: the bars follow from the tables alone." in found
    assert not any("ynthetic" in text for text in found)


def test_synthetic_and_partial_are_marked(texts):
    dropped = tuple(f"a class number {i} with a long name" for i in range(12))
    found = texts(make(partial=Partial(5, 90, dropped)), kind=Drawn)
    assert "Synthetic: drawn by a program, not photographs" in found
    lines = " ".join(reversed(found))  # drawn from the lowest line up
    assert "partial: 85 of 90 images, without a class number 0 with a long name" in lines
    assert lines.count("with a long name") == 12


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Images of the first class, one of them broken; none of the others."""
    found = {}
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (40, 20), (10 * i, 100, 200)).save(path)
        found[f"a{i}"] = path
    (tmp_path / "3.png").write_bytes(b"broken")
    return found


def test_a_class_without_images_says_so(texts, files):
    found = texts(make(), files)
    assert "Up to 8 training images of each class" in found
    assert found.count("no training images here") == 2
    assert found.count("tiny") == 2  # below the bars and beside the sheet


def test_tiles_keep_the_shape_and_leave_out_what_is_broken(files):
    tiles = example_tiles(list(files.values()))
    assert len(tiles) == EXAMPLES
    assert [int(tile[TILE // 2, TILE // 2, 0]) for tile in tiles] == [
        10 * i for i in (0, 1, 2, 4, 5, 6, 7, 8)
    ]
    for tile in tiles:
        assert tile.shape == (TILE, TILE, 3)
        assert (tile[: TILE // 4 - 1] == 255).all()
        assert (tile[TILE // 4 + 1 : 3 * TILE // 4 - 1, :, 2] == 200).all()


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_split_gives_the_same_file(tmp_path, files, kind):
    contents = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"picture.{kind}"
        plot_dataset(Photographed(tmp_path, tmp_path), make(), files, path)
        contents.append(path.read_bytes())
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert contents[0] == contents[1]
    assert contents[0].startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[kind])


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"picture\.jpg: the name .* \.png, \.pdf, \.svg"):
        plot_dataset(Photographed(tmp_path, tmp_path), make(), {}, tmp_path / "picture.jpg")


def test_no_name_of_hyper_kvasir_is_clipped(test_data, tmp_path):
    """Nothing is drawn at the picture's edge: whatever is cut there would be."""
    dataset = DATASETS.get("hyper-kvasir")(test_data, tmp_path)
    path = tmp_path / "picture.png"
    plot_dataset(dataset, make_split(dataset, SplitSpec()), {}, path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.min() < 100
    for edge in (pixels[:2], pixels[-2:], pixels[:, :2].T, pixels[:, -2:].T):
        assert (edge == 255).all()
