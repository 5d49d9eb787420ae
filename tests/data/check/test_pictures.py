"""Planted near-duplicates are found, in drawn and in real images; unrelated images are not."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from lmdbench.data.check.pictures import SimilarPictures, find_pairs
from lmdbench.models.classifier import Encoder


def compressed(image: Image.Image) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=40)
    return Image.open(content).convert("RGB")


def cut(image: Image.Image, share: float = 0.06) -> Image.Image:
    width, height = image.size
    return image.crop((round(share * width), round(share * height), width, height))


CHANGES = {
    "compressed": compressed,
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "cut": cut,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "turned and cut": lambda image: cut(image.transpose(Image.Transpose.ROTATE_270)),
}


def plant(originals: dict[str, Path], folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Files with a changed copy of some of them, and copy → what it is a copy of."""
    folder.mkdir(exist_ok=True)
    files, source = dict(originals), {}
    ids = sorted(originals)
    for number, (name, change) in enumerate(CHANGES.items()):
        for image in ids[2 * number : 2 * number + 2]:
            copy = f"{name} {image}"
            files[copy] = folder / f"{copy}.png"
            change(Image.open(originals[image]).convert("RGB")).save(files[copy])
            source[copy] = image
    return files, source


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Textured pictures with a dark blob in the middle of each, like lesions on skin."""
    folder = tmp_path_factory.mktemp("drawn")
    files = {}
    axis = np.linspace(-1, 1, 96)
    blob = ((axis[:, None] ** 2 + axis**2) < 0.3) * 70.0
    for number in range(40):
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 90, (16, 16, 3)).astype(np.uint8))
        texture = np.asarray(coarse.resize((96, 96), Image.Resampling.BICUBIC), dtype=float)
        pixels = (120 + texture - blob[..., None]).clip(0, 255).astype(np.uint8)
        files[f"d{number:02}"] = folder / f"d{number:02}.png"
        Image.fromarray(pixels).save(files[f"d{number:02}"])
    return files


def reported(found: SimilarPictures) -> set[tuple[str, str]]:
    return {(pair.first, pair.second) for pair in found.pairs}


def test_planted_copies_of_drawn_images_are_found_and_no_others(
    drawn: dict[str, Path], tmp_path: Path
) -> None:
    files, source = plant(drawn, tmp_path / "copies")
    found = find_pairs(files, [sorted(drawn), sorted(source)])
    assert reported(found) == set(source.items())
    assert not any(pair.identical for pair in found.pairs)
    assert [pair.agreement for pair in found.pairs] == sorted(
        (pair.agreement for pair in found.pairs), reverse=True
    )


@pytest.mark.parametrize("data", ["isic2019", "hyper-kvasir"])
def test_planted_copies_of_real_images_are_found(
    test_data: Path, tmp_path: Path, data: str
) -> None:
    """One image in eighteen or so: far apart, so that they are not frames of one video."""
    images = sorted((test_data / data).rglob("*.jpg"))
    some = {path.stem: path for path in images[:: len(images) // 100]}
    files, source = plant(some, tmp_path / "copies")
    found = find_pairs(files, [sorted(some), sorted(source)])
    assert reported(found) == set(source.items())


def test_images_of_one_part_are_not_compared(drawn: dict[str, Path], tmp_path: Path) -> None:
    files, source = plant(drawn, tmp_path / "copies")
    assert find_pairs(files, [sorted([*drawn, *source])]).pairs == ()
    assert find_pairs(files, [[], sorted(drawn), [], sorted(source)]).pairs


def test_identical_files_are_called_so(drawn: dict[str, Path], tmp_path: Path) -> None:
    files = {**drawn, "copy": tmp_path / "copy.png"}
    files["copy"].write_bytes(drawn["d07"].read_bytes())
    found = find_pairs(files, [sorted(drawn), ["copy"]])
    (pair,) = found.pairs
    assert (pair.first, pair.second, pair.identical) == ("copy", "d07", True)
    assert (pair.agreement, pair.hash_distance) == (1.0, 0)
    assert found.contents["copy"] == found.contents["d07"]


def test_what_cannot_be_read_is_told_and_the_rest_compared(
    drawn: dict[str, Path], tmp_path: Path
) -> None:
    files, source = plant(drawn, tmp_path / "copies")
    files = {**files, "broken": tmp_path / "broken.jpg", "absent": tmp_path / "absent.jpg"}
    files["broken"].write_bytes(b"<html>no such image</html>")
    found = find_pairs(files, [sorted(drawn), [*sorted(source), "broken", "absent"]])
    assert dict(found.unreadable) == {
        "broken": "not an image",
        "absent": "No such file or directory",
    }
    assert reported(found) == set(source.items())


def test_features_find_what_the_hash_does_not_look_at(
    drawn: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no candidates by hash, an encoder that knows the pictures still brings them."""
    monkeypatch.setattr("lmdbench.data.check.pictures.LIKELY", 2.0)
    files, source = plant(drawn, tmp_path / "copies")
    parts = [sorted(drawn), sorted(source)]
    assert find_pairs(files, parts).pairs == ()

    body = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten())
    found = find_pairs(files, parts, Encoder(body, 3 * 64))
    assert reported(found) <= set(source.items())
    assert len(found.pairs) >= 10
    assert all(pair.cosine is not None and -1 <= pair.cosine <= 1 for pair in found.pairs)


def test_the_same_images_give_the_same_pairs(drawn: dict[str, Path], tmp_path: Path) -> None:
    files, source = plant(drawn, tmp_path / "copies")
    parts = [sorted(drawn), sorted(source)]
    assert find_pairs(files, parts) == find_pairs(files, parts)


def test_pictures_of_which_none_can_be_read_have_no_pairs(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in "abc"}
    for file in files.values():
        file.write_bytes(b"no image")
    found = find_pairs(files, [["a"], ["b", "c"]])
    assert found.pairs == ()
    assert dict(found.unreadable) == dict.fromkeys("abc", "not an image")
