"""Thumbnails: from the store of the runs, from the data set's files, or none with a reason."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmdbench.data.dataset import open_dataset
from lmdbench.data.store import open_images
from lmdbench.errors import UserError
from lmdbench.reporting.page.pictures import EDGE, find_pictures

COLOURS = {"a": (200, 40, 40), "b": (40, 200, 40), "c": (40, 40, 200)}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three images of one colour each, twice as wide as high."""
    folder = tmp_path / "images"
    folder.mkdir()
    rows = ["image,label,split"]
    for name, colour in COLOURS.items():
        Image.new("RGB", (240, 120), colour).save(folder / f"{name}.png")
        rows.append(f"{name}.png,x{name},train")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return {name: folder / f"{name}.png" for name in COLOURS}


def setting(**more: object) -> dict[str, object]:
    return {"results_name": "skin", "dataset": "skin", "image_size": 32, "store": None, **more}


def no_dataset(name: str) -> None:
    raise UserError(f"data set {name} needs --data-root DIR")


def shown(uri: str) -> Image.Image:
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/jpeg"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def colour(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).reshape(-1, 3).mean(axis=0)


def test_from_the_store_of_the_runs(files: dict[str, Path], tmp_path: Path) -> None:
    store = open_images("skin", files, 32, tmp_path / "cache")
    before = sorted((tmp_path / "cache").rglob("*"))
    found = find_pictures(setting(store=store.digest), ["b", "a"], tmp_path / "cache", no_dataset)
    assert sorted(found.uris) == ["a", "b"]
    for name, uri in found.uris.items():
        assert shown(uri).size == (32, 32)
        assert np.allclose(colour(shown(uri)), COLOURS[name], atol=8)
    assert found.note == "Thumbnails of the images as prepared at 32 px."
    assert sorted((tmp_path / "cache").rglob("*")) == before


def test_the_recorded_store_comes_before_another(files: dict[str, Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    digests = {}
    for shade in ("first", "second"):
        for name, (red, green, blue) in COLOURS.items():
            value = (red, green, blue) if shade == "first" else (blue, red, green)
            Image.new("RGB", (64, 64), value).save(files[name])
        digests[shade] = open_images("skin", files, 32, cache).digest
    for shade, expected in (("first", (200, 40, 40)), ("second", (40, 200, 40))):
        found = find_pictures(setting(store=digests[shade]), ["a"], cache, no_dataset)
        assert np.allclose(colour(shown(found.uris["a"])), expected, atol=8), shade
    unknown = find_pictures(setting(store="0" * 64), ["a"], cache, no_dataset)
    assert "another choice" in unknown.note


def test_from_the_files_where_no_store_has_them(files: dict[str, Path], tmp_path: Path) -> None:
    folder = files["a"].parent
    dataset = open_dataset("folder", folder, tmp_path / "cache")
    own = setting(results_name=dataset.results_name, dataset="folder")
    ids = [str(image) for image in dataset.records().index]
    found = find_pictures(own, [*ids, "gone"], tmp_path / "cache", lambda _: dataset)
    assert sorted(found.uris) == sorted(ids)
    assert shown(found.uris[ids[0]]).size == (EDGE, EDGE // 2)  # not squashed
    assert found.note.endswith("1 of them are not there or cannot be read.")
    files["a"].write_bytes(b"no image")
    assert len(find_pictures(own, ids, tmp_path / "cache", lambda _: dataset).uris) == 2


def test_without_images_the_reason_is_told(files: dict[str, Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    found = find_pictures(setting(), ["a"], cache, no_dataset)
    assert found.uris == {}
    assert "needs --data-root" in found.note
    other = open_dataset("folder", files["a"].parent, cache)
    found = find_pictures(setting(), ["a"], cache, lambda _: other)
    assert found.uris == {}
    assert other.results_name in found.note
    assert not cache.exists()


def test_a_photograph_carries_nothing_beside_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "name of a patient"
    (tmp_path / "images").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / "a.jpg", exif=exif)
    (tmp_path / "images" / "labels.csv").write_text("image,label,split\na.jpg,x,train\n")
    dataset = open_dataset("folder", tmp_path / "images", tmp_path / "cache")
    own = setting(results_name=dataset.results_name, dataset="folder")
    (image,) = map(str, dataset.records().index)
    found = find_pictures(own, [image], tmp_path / "cache", lambda _: dataset)
    content = base64.b64decode(found.uris[image].partition(",")[2])
    assert b"patient" in (tmp_path / "images" / "a.jpg").read_bytes()
    assert b"patient" not in content
