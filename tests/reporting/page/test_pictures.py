"""Thumbnails: of the very images of the runs, or none with a reason."""

import base64
import io
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lmdbench.comparison.results import Run
from lmdbench.core.errors import UserError
from lmdbench.data.dataset import open_dataset
from lmdbench.data.splits.spec import SplitSpec, make_split
from lmdbench.data.store.files import content_digest
from lmdbench.data.store.store import open_images
from lmdbench.reporting.page.pictures import Pictures, find_pictures
from lmdbench.runs.record import read_record

FakeRun = Callable[..., Path]
SimilarPictures = Callable[..., Pictures]

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


@pytest.fixture
def found(fake_run: FakeRun, tmp_path: Path) -> Callable[..., Pictures]:
    """Pictures of a run on images at 32 px, whose store had the given digest."""

    def of(
        store: str | None, ids: list[str], open_dataset: Any, larger: bool = False, **spec: Any
    ) -> Pictures:
        here = tmp_path / f"results-{len(list(tmp_path.iterdir()))}"
        directory = fake_run(
            results=here, image_size=32, record={"digests": {"store": store}}, **spec
        )
        run = Run(directory, read_record(directory))
        cache = tmp_path / "cache"
        return find_pictures(run, run.setting, ids, cache, open_dataset, larger)[0]

    return of


def no_dataset(name: str) -> None:
    raise UserError(f"data set {name} needs --data-root DIR")


def shown(uri: str) -> Image.Image:
    kind, _, content = uri.partition(";base64,")
    assert kind == "data:image/jpeg"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def colour(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).reshape(-1, 3).mean(axis=0)


def test_from_the_store_of_the_runs(
    files: dict[str, Path], tmp_path: Path, found: SimilarPictures
) -> None:
    store = open_images("skin", files, 32, tmp_path / "cache")
    before = sorted((tmp_path / "cache").rglob("*"))
    pictures = found(store.digest, ["b", "a"], no_dataset)
    assert sorted(pictures.uris) == ["a", "b"]
    for name, uri in pictures.uris.items():
        assert shown(uri).size == (32, 32)
        assert np.allclose(colour(shown(uri)), COLOURS[name], atol=8)
    assert (pictures.note, pictures.advice) == (
        "Thumbnails of the images as prepared at 32 px.",
        "",
    )
    assert sorted((tmp_path / "cache").rglob("*")) == before


def test_images_of_the_same_names_with_another_content_are_not_shown(
    files: dict[str, Path], tmp_path: Path, found: SimilarPictures
) -> None:
    digests = {}
    for shade in ("first", "second"):
        for name, (red, green, blue) in COLOURS.items():
            value = (red, green, blue) if shade == "first" else (blue, red, green)
            Image.new("RGB", (64, 64), value).save(files[name])
        digests[shade] = open_images("skin", files, 32, tmp_path / "cache").digest
    for shade, expected in (("first", (200, 40, 40)), ("second", (40, 200, 40))):
        pictures = found(digests[shade], ["a"], no_dataset)
        assert np.allclose(colour(shown(pictures.uris["a"])), expected, atol=8), shade
    other = found("0" * 64, ["a"], no_dataset)
    assert other.uris == {}
    assert "needs --data-root" in other.advice
    assert "lmdbench data prepare skin --image-size 32 --data-root DIR" in other.advice


def test_a_store_of_more_images_serves_where_it_is_proven_to_hold_the_same(
    files: dict[str, Path], tmp_path: Path, found: SimilarPictures
) -> None:
    """Prepared are all images of the folder, trained on is a split without one of them."""
    folder, cache = files["a"].parent, tmp_path / "cache"
    for name in "de":
        Image.new("RGB", (64, 64), (9, 9, 9)).save(folder / f"{name}.png")
    rows = ("a.png,x,train", "b.png,x,test", "d.png,y,train", "e.png,y,test")
    (folder / "labels.csv").write_text("\n".join(("image,label,split", *rows)) + "\n")
    dataset = open_dataset("folder", folder, cache)
    images = sorted(path.name for path in folder.glob("*.png"))
    name = dataset.results_name
    open_images(name, {image: folder / image for image in images}, 32, cache)
    split = make_split(dataset, SplitSpec())
    there = {str(i): folder / str(i) for part in split.parts.values() for i in part.ids}
    assert 0 < len(there) < len(images)
    digest = content_digest(
        sorted(there), [sha256(there[i].read_bytes()).hexdigest() for i in sorted(there)], 32
    )
    spec = {
        "dataset": "folder",
        "results_name": name,
        "split": {
            "name": split.name,
            "seed": split.seed,
            "imbalance_factor": None,
            "fingerprint": split.fingerprint,
        },
    }
    assert sorted(found(digest, ["a.png"], lambda _: dataset, **spec).uris) == ["a.png"]
    assert found(digest, ["a.png"], no_dataset, **spec).uris == {}
    assert found("0" * 64, ["a.png"], lambda _: dataset, **spec).uris == {}


def test_without_images_the_reason_is_told(tmp_path: Path, found: SimilarPictures) -> None:
    pictures = found("0" * 64, ["a"], no_dataset)
    assert pictures.uris == {}
    assert str(tmp_path) in pictures.advice
    assert str(tmp_path) not in pictures.note
    imported = found(None, ["a"], no_dataset)
    assert "do not record which files" in imported.note
    assert not (tmp_path / "cache").exists()


def test_a_photograph_carries_nothing_beside_its_pixels(
    tmp_path: Path, found: SimilarPictures
) -> None:
    exif = Image.Exif()
    exif[0x010E] = "name of a patient"
    file = tmp_path / "a.jpg"
    Image.new("RGB", (64, 64)).save(file, exif=exif)
    store = open_images("skin", {"a": file}, 32, tmp_path / "cache")
    content = base64.b64decode(found(store.digest, ["a"], no_dataset).uris["a"].partition(",")[2])
    assert b"patient" in file.read_bytes()
    assert b"patient" not in content


def test_larger_pictures_are_of_the_very_files_that_are_at_hand(
    files: dict[str, Path], tmp_path: Path, found: SimilarPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upright and in their own shape, as far as they go; of another file there is none."""
    folder, cache = files["a"].parent, tmp_path / "cache"
    named = {f"{name}.png": path for name, path in files.items()}
    store = open_images("folder-images", named, 32, cache)

    def dataset(_: str) -> Any:
        return open_dataset("folder", folder, cache)

    spec = {"dataset": "folder", "results_name": "folder-images", "larger": True}
    pictures = found(store.digest, ["a.png", "b.png"], dataset, **spec)
    assert sorted(pictures.larger) == ["a.png", "b.png"]
    assert shown(pictures.larger["a.png"]).size == (240, 120)
    assert np.allclose(colour(shown(pictures.larger["b.png"])), COLOURS["b"], atol=8)
    assert "A click shows 2 of the 2 larger, from their original files." in pictures.note
    monkeypatch.setattr("lmdbench.reporting.page.pictures.MOST_BYTES", 100)
    assert not found(store.digest, ["a.png"], dataset, **spec).larger
    monkeypatch.undo()
    Image.new("RGB", (240, 120), (0, 0, 0)).save(files["a"])
    pictures = found(store.digest, ["a.png", "b.png"], dataset, **spec)
    assert list(pictures.larger) == ["b.png"]
    assert "1 of 2 images of folder have no larger picture" in pictures.advice
    assert not found(store.digest, ["a.png"], no_dataset, **spec).larger
