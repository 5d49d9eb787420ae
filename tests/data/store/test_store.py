"""The image store: pixels, keys, unreadable files, kills, and two processes at once."""

import csv
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import subprocess
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, features

from lmdbench.core import files
from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset, Prepared, Split
from lmdbench.data.store import files as stored
from lmdbench.data.store import hashing
from lmdbench.data.store import store as store_module
from lmdbench.data.store.decoding import whole_images
from lmdbench.data.store.store import decode, open_store

SIZE = 20


class Photos(Dataset):
    name = "photos"

    def records(self) -> pd.DataFrame:
        raise NotImplementedError

    def split(self, imbalance_factor: float | None, seed: int) -> Split:
        raise NotImplementedError


def prepared_from(folder: Path) -> Prepared:
    split = Split("none", ("a",), {}, {})
    files = {path.stem: path for path in folder.iterdir() if path.is_file()}
    return Prepared(Photos(folder, folder), split, files)


def noise(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty small PNG and JPEG files, last changed long ago."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(40):
        kind = "jpg" if i % 2 else "png"
        Image.fromarray(noise(i)).save(folder / f"p{i:02}.{kind}")
        os.utime(folder / f"p{i:02}.{kind}", (1e9, 1e9))
    return folder


def resized(path: Path, size: int = SIZE) -> np.ndarray:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small).transpose(2, 0, 1)


def store_folders(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "stores").iterdir() if path.is_dir())


# Pixels


def test_pixels_equal_pillow_s_and_rows_find_them(photos, tmp_path):
    prepared = prepared_from(photos)
    calls = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = open_store(
            prepared, SIZE, tmp_path / "cache", lambda done, total: calls.append((done, total))
        )
    assert store.pixels.dtype == torch.uint8
    assert store.pixels.shape == (40, 3, SIZE, SIZE)
    ids = list(prepared.files)[::-1]
    rows = store.rows(np.array(ids))
    assert rows.dtype == torch.int64
    for image, pixels in zip(ids, store.pixels[rows], strict=True):
        assert np.array_equal(pixels.numpy(), resized(prepared.files[image]))
    assert calls[-1] == (80, 80)
    assert calls == sorted(calls)
    (folder,) = store_folders(tmp_path / "cache")
    with (folder / "index.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == sorted(prepared.files)
    assert {path.name for path in folder.iterdir()} == {"images.npy", "index.csv", "store.json"}
    assert list((tmp_path / "cache" / "stores").glob("*.claim")) == []


def test_resizing_is_antialiased():
    """A fine chessboard becomes even grey; picking pixels would leave stripes or one colour."""
    board = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = decode(encoded(Image.fromarray(board)), 16)
    assert abs(small.astype(int) - 127.5).max() < 8


GREY = np.array([[0, 32768], [65535, 257]], dtype=np.uint16)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded(Image.new("L", (2, 2), 77)), (77, 77, 77)),
        (encoded(Image.new("1", (2, 2), 1)), (255, 255, 255)),
        (encoded(Image.new("LA", (2, 2), (100, 255))), (100, 100, 100)),
        (encoded(Image.new("RGBA", (2, 2), (10, 20, 30, 255))), (10, 20, 30)),
        (encoded(Image.new("RGBA", (2, 2), (200, 200, 200, 51))), (40, 40, 40)),
        (encoded(Image.new("RGBA", (2, 2), (200, 200, 200, 0))), (200, 200, 200)),
        (encoded(Image.new("RGB", (2, 2), (10, 20, 30)).quantize()), (10, 20, 30)),
        (encoded(Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "TIFF"), (255, 255, 255)),
        (encoded(Image.fromarray(np.full((2, 2), 25700, np.uint16))), (100, 100, 100)),
        (encoded(Image.fromarray(np.full((2, 2), 25700, np.int32)), "TIFF"), (100, 100, 100)),
    ],
    ids=["L", "1", "LA", "RGBA", "transparent", "wholly", "P", "CMYK", "16-bit", "32-bit"],
)
def test_every_mode_becomes_rgb(content, expected):
    assert np.array_equal(decode(content, 2), np.tile(np.reshape(expected, (3, 1, 1)), (1, 2, 2)))


def test_sixteen_bit_png_keeps_its_contrast():
    assert decode(encoded(Image.fromarray(GREY)), 2)[0].tolist() == [[0, 128], [255, 1]]


def test_the_camera_s_orientation_is_applied():
    image = Image.fromarray(noise(0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    turned = decode(encoded(image, exif=exif), 16)
    expected = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).transpose(2, 0, 1)
    assert np.array_equal(turned, expected)


def test_a_broken_exif_block_is_no_reason_to_refuse():
    image = Image.fromarray(noise(0, 16, 16))
    content = encoded(image, exif=b"Exif\0\0nonsense")
    assert np.array_equal(decode(content, 16), np.asarray(image).transpose(2, 0, 1))


def test_real_images(test_data, tmp_path):
    files = sorted((test_data / "isic2019" / "ISIC_2019_Training_Input").glob("*.jpg"))[:64]
    split = Split("none", ("a",), {}, {})
    prepared = Prepared(Photos(None, tmp_path), split, {path.stem: path for path in files})
    store = open_store(prepared, 64, tmp_path)
    for path, pixels in zip(files, store.pixels[store.rows(p.stem for p in files)], strict=True):
        assert np.array_equal(pixels.numpy(), resized(path, 64))


# Keys


def test_a_second_open_reads_no_image(photos, tmp_path):
    """Shown by changing bytes behind the back of size and time: a cost of not reading."""
    prepared = prepared_from(photos)
    digest = open_store(prepared, SIZE, tmp_path).digest
    path = photos / "p00.png"
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, (1e9, 1e9))
    calls = []
    again = open_store(prepared, SIZE, tmp_path, lambda *call: calls.append(call))
    assert again.digest == digest
    assert calls == []


def test_touched_files_keep_the_store(photos, tmp_path):
    prepared = prepared_from(photos)
    digest = open_store(prepared, SIZE, tmp_path).digest
    (folder,) = store_folders(tmp_path)
    made = (folder / "images.npy").stat().st_mtime_ns
    for path in photos.iterdir():
        os.utime(path)
    assert open_store(prepared, SIZE, tmp_path).digest == digest
    assert (folder / "images.npy").stat().st_mtime_ns == made


def test_other_bytes_ids_or_sizes_make_another_store(photos, tmp_path):
    prepared = prepared_from(photos)
    first = open_store(prepared, SIZE, tmp_path)
    other_size = open_store(prepared, SIZE + 1, tmp_path)
    Image.fromarray(noise(99)).save(photos / "p00.png")
    other_bytes = open_store(prepared, SIZE, tmp_path)
    renamed = {"q" + image[1:]: path for image, path in prepared.files.items()}
    other_ids = open_store(Prepared(prepared.dataset, prepared.split, renamed), SIZE, tmp_path)
    stores = [first, other_size, other_bytes, other_ids]
    assert len({store.digest for store in stores}) == 4
    assert len(store_folders(tmp_path)) == 4
    assert not torch.equal(first.pixels[0], other_bytes.pixels[0])
    assert torch.equal(first.pixels[1:], other_bytes.pixels[1:])


def test_the_digest_does_not_depend_on_where_files_lie(photos, tmp_path):
    moved = tmp_path / "moved"
    digest = open_store(prepared_from(photos), SIZE, tmp_path / "a").digest
    photos.rename(moved)
    assert open_store(prepared_from(moved), SIZE, tmp_path / "b").digest == digest


def test_a_damaged_record_of_known_files_is_ignored(photos, tmp_path):
    prepared = prepared_from(photos)
    digest = open_store(prepared, SIZE, tmp_path).digest
    (tmp_path / "stores" / "photos.files.csv").write_text("a,b\nc")
    assert open_store(prepared, SIZE, tmp_path).digest == digest


@pytest.mark.parametrize("damage", ["short", "long", "absent", "unmarked", "nonsense"])
def test_a_damaged_store_is_made_again(photos, tmp_path, damage):
    prepared = prepared_from(photos)
    expected = open_store(prepared, SIZE, tmp_path).pixels.clone()
    (folder,) = store_folders(tmp_path)
    images = folder / "images.npy"
    if damage in ("short", "long"):
        os.truncate(images, images.stat().st_size + (-1 if damage == "short" else 1))
    elif damage == "absent":
        images.unlink()
    elif damage == "unmarked":
        (folder / "store.json").unlink()
        images.write_bytes(images.read_bytes()[::-1])
    else:
        (folder / "store.json").write_text("[]")
    assert torch.equal(open_store(prepared, SIZE, tmp_path).pixels, expected)


# One store for every split


def some_of(prepared: Prepared, count: int) -> Prepared:
    files = dict(sorted(prepared.files.items())[:count])
    return Prepared(prepared.dataset, prepared.split, files)


def test_a_store_of_all_images_serves_a_split_of_them(photos, tmp_path):
    everything = prepared_from(photos)
    part = some_of(everything, 7)
    alone = open_store(part, SIZE, tmp_path / "alone")
    whole = open_store(everything, SIZE, tmp_path / "shared")
    served = open_store(part, SIZE, tmp_path / "shared")
    assert (alone.made, whole.made, served.made) == (True, True, False)
    assert served.folder == whole.folder
    assert len(store_folders(tmp_path / "shared")) == 1
    assert set(served.index) == set(part.files)
    ids = sorted(part.files)[::-1]
    assert torch.equal(served.pixels[served.rows(ids)], alone.pixels[alone.rows(ids)])


def test_the_digest_is_the_split_s_own_whatever_serves_it(photos, tmp_path):
    """Finished runs keep it: it is over recipe, size, and hash and id of the split's images."""
    part = some_of(prepared_from(photos), 7)
    lines = [f"lmdbench store 1, {SIZE} px"]
    for image in sorted(part.files):
        lines.append(f"{hashlib.sha256(part.files[image].read_bytes()).hexdigest()}\t{image}")
    expected = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
    assert open_store(part, SIZE, tmp_path / "alone").digest == expected
    open_store(prepared_from(photos), SIZE, tmp_path / "shared")
    assert open_store(part, SIZE, tmp_path / "shared").digest == expected


def test_a_store_serves_only_images_whose_file_is_as_it_was(photos, tmp_path):
    everything = prepared_from(photos)
    whole = open_store(everything, SIZE, tmp_path)
    Image.fromarray(noise(99)).save(photos / "p03.jpg")
    assert open_store(some_of(everything, 3), SIZE, tmp_path).folder == whole.folder
    other = open_store(some_of(everything, 4), SIZE, tmp_path)
    assert other.folder != whole.folder
    assert np.array_equal(other.pixels[3].numpy(), resized(photos / "p03.jpg"))


def test_a_damaged_store_of_all_images_serves_nothing(photos, tmp_path):
    whole = open_store(prepared_from(photos), SIZE, tmp_path)
    index = whole.folder / "index.csv"
    index.write_text(index.read_text().replace("p00,", "p00x,"))
    served = open_store(some_of(prepared_from(photos), 7), SIZE, tmp_path)
    assert served.folder != whole.folder


@pytest.mark.parametrize(
    ("name", "left"), [("index.csv", bytes(200_000)), ("images.npy", b""), ("store.json", b"")]
)
def test_a_store_of_which_a_crash_left_zeros_or_nothing_is_made_anew(photos, tmp_path, name, left):
    prepared = prepared_from(photos)
    whole = open_store(prepared, SIZE, tmp_path)
    pixels = whole.pixels.clone()
    (whole.folder / name).unlink()
    (whole.folder / name).write_bytes(left)
    again = open_store(prepared, SIZE, tmp_path)
    assert torch.equal(again.pixels, pixels)
    assert (again.folder / "index.csv").read_text().startswith("id,sha256")


def test_stores_of_data_sets_with_alike_names_are_kept_apart(photos, tmp_path):
    class More(Photos):
        name = "photos-20px"

    prepared = prepared_from(photos)
    more = Prepared(More(photos, photos), prepared.split, prepared.files)
    first = open_store(more, SIZE, tmp_path)
    second = open_store(prepared, SIZE, tmp_path)
    assert first.folder != second.folder
    assert first.digest == second.digest


# Going on where a preparation stopped

SPOILT = 77  # what a test writes over a row, to see whether that row was trusted


@pytest.fixture
def interrupt(monkeypatch):
    """``interrupt(prepared, cache, images)``: Ctrl-C once so many images were decoded; returns the
    folder that is left. Every few images are recorded as safe, not only every second."""
    monkeypatch.setattr(stored, "RECORD_SECONDS", -1.0)
    monkeypatch.setattr(hashing, "CHUNK", 4)

    def stop(prepared: Prepared, cache: Path, images: int = 10) -> Path:
        decoded = itertools.count()

        def decode_some(*what) -> np.ndarray:
            if next(decoded) >= images:
                raise KeyboardInterrupt
            return decode(*what)

        with monkeypatch.context() as patch:
            patch.setattr(store_module, "decode", decode_some)
            with pytest.raises(KeyboardInterrupt):
                open_store(prepared, SIZE, cache, workers=1)
        (folder,) = [f for f in store_folders(cache) if (f / ".progress.json").exists()]
        return folder

    return stop


def spoil(folder: Path, row: int) -> None:
    """Overwrite a row of a store, finished or not."""
    (path,) = [path for path in folder.iterdir() if path.suffix == ".npy"]
    pixels = np.load(path, mmap_mode="r+")
    pixels[row] = SPOILT
    pixels.flush()


def is_spoilt(pixels: torch.Tensor) -> bool:
    return bool((pixels == SPOILT).all())


def test_what_was_recorded_is_not_decoded_again(photos, tmp_path, interrupt):
    prepared = prepared_from(photos)
    folder = interrupt(prepared, tmp_path)
    assert not (folder / "store.json").exists()
    left = stored.read_unfinished(folder)
    assert left.done.sum() == 10
    first, others = int(np.flatnonzero(left.done)[0]), np.flatnonzero(~left.done)
    spoil(folder, first)
    spoil(folder, int(others[0]))
    calls = []
    store = open_store(prepared, SIZE, tmp_path, lambda *call: calls.append(call))
    assert calls[0] == (14, 40)
    assert calls[-1] == (40, 40)
    assert is_spoilt(store.pixels[first])
    for row, image in enumerate(sorted(prepared.files)):
        if row != first:
            assert np.array_equal(store.pixels[row].numpy(), resized(prepared.files[image]))
    assert {p.name for p in folder.iterdir()} == {"images.npy", "index.csv", "store.json"}


def test_interrupted_again_and_again_it_ends_with_the_same_bytes(photos, tmp_path, interrupt):
    prepared = prepared_from(photos)
    expected = open_store(prepared, SIZE, tmp_path / "undisturbed").folder
    for images in (5, 9, 20):
        interrupt(prepared, tmp_path / "cache", images)
    folder = open_store(prepared, SIZE, tmp_path / "cache").folder
    for name in ("images.npy", "index.csv", "store.json"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()


@pytest.mark.parametrize(
    "damage", ["decoder", "digest", "done", "file", "nonsense", "short", "header", "no index"]
)
def test_what_does_not_fit_is_not_trusted(photos, tmp_path, interrupt, damage):
    prepared = prepared_from(photos)
    folder = interrupt(prepared, tmp_path)
    for row in range(40):
        spoil(folder, row)
    (pixels,) = folder.glob(".images-*.npy")
    path = folder / ".progress.json"
    record = json.loads(path.read_text())
    if damage == "decoder":
        record["decoder"] = "Pillow 1.1.7"
    elif damage == "digest":
        record["digest"] = "0" * 64
    elif damage == "done":
        record["done"] = "ff"
    elif damage == "file":
        record["file"] = ".images-elsewhere.npy"
    elif damage == "short":
        os.truncate(pixels, pixels.stat().st_size - 1)
    elif damage == "header":
        pixels.write_bytes(pixels.read_bytes().replace(b"(40, 3", b"(4, 30"))
    elif damage == "no index":
        (folder / "index.csv").unlink()
    path.write_text("[]" if damage == "nonsense" else json.dumps(record))
    store = open_store(prepared, SIZE, tmp_path)
    for row, image in enumerate(sorted(prepared.files)):
        assert np.array_equal(store.pixels[row].numpy(), resized(prepared.files[image]))


def test_an_unreadable_image_costs_nothing_of_the_others(photos, tmp_path, interrupt):
    (photos / "p20.png").write_bytes(b"")
    with pytest.raises(UserError, match="1 of 40 images"):
        open_store(prepared_from(photos), SIZE, tmp_path)
    (folder,) = store_folders(tmp_path)
    assert not (folder / "store.json").exists()
    spoil(folder, 0)
    Image.fromarray(noise(20)).save(photos / "p20.png")
    store = open_store(prepared_from(photos), SIZE, tmp_path)
    assert is_spoilt(store.pixels[0])
    assert np.array_equal(store.pixels[20].numpy(), resized(photos / "p20.png"))
    assert store_folders(tmp_path) == [store.folder]  # what is left over is of no use now


def test_more_images_take_over_what_a_smaller_store_has(photos, tmp_path):
    everything = prepared_from(photos)
    small = open_store(some_of(everything, 5), SIZE, tmp_path)
    spoil(small.folder, 3)
    whole = open_store(everything, SIZE, tmp_path)
    assert [is_spoilt(pixels) for pixels in whole.pixels] == [row == 3 for row in range(40)]


def test_killed_just_before_it_is_marked_as_finished(photos, tmp_path, interrupt, monkeypatch):
    prepared = prepared_from(photos)
    interrupt(prepared, tmp_path)

    def write_json(path: Path, content: object) -> None:
        if path.name == "store.json":
            raise KeyboardInterrupt
        files.write_json(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(stored, "write_json", write_json)
        with pytest.raises(KeyboardInterrupt):
            open_store(prepared, SIZE, tmp_path)
    (folder,) = store_folders(tmp_path)
    assert (folder / "images.npy").exists()
    spoil(folder, 30)
    store = open_store(prepared, SIZE, tmp_path)
    assert [is_spoilt(pixels) for pixels in store.pixels] == [row == 30 for row in range(40)]
    assert {p.name for p in folder.iterdir()} == {"images.npy", "index.csv", "store.json"}


def test_another_size_or_split_leaves_what_can_go_on(photos, tmp_path, interrupt):
    prepared = prepared_from(photos)
    folder = interrupt(prepared, tmp_path)
    open_store(prepared, SIZE + 1, tmp_path)
    open_store(some_of(prepared, 1), SIZE, tmp_path)
    assert (folder / ".progress.json").exists()
    long_ago = time.time() - 8 * 86400
    os.utime(folder / ".progress.json", (long_ago, long_ago))
    open_store(prepared, SIZE + 2, tmp_path)
    assert not folder.exists()


def test_who_was_taken_over_spoils_nothing(photos, tmp_path, interrupt):
    """A process that seems dead, and then goes on while another has made the store."""
    prepared = prepared_from(photos)
    opened = []

    def progress(done: int, total: int) -> None:
        if done > 40 and not opened:
            (claim,) = (tmp_path / "stores").glob("*.claim")
            claim.unlink()
            opened.append(None)
            opened[0] = open_store(prepared, SIZE, tmp_path)

    store = open_store(prepared, SIZE, tmp_path, progress, workers=1)
    assert (store.folder, store.digest) == (opened[0].folder, opened[0].digest)
    for row, image in enumerate(sorted(prepared.files)):
        assert np.array_equal(store.pixels[row].numpy(), resized(prepared.files[image]))
    assert {p.name for p in store.folder.iterdir()} == {"images.npy", "index.csv", "store.json"}


# Bad input


def half_jpeg() -> bytes:
    content = encoded(Image.fromarray(noise(0, 64, 64)), "JPEG")
    return content[: len(content) // 2]


def damaged_png() -> bytes:
    content = bytearray(encoded(Image.fromarray(noise(0, 64, 64))))
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


BAD = {
    "empty.jpg": (b"", "empty file"),
    "half.jpg": (half_jpeg(), "truncated"),
    "cut.png": (encoded(Image.fromarray(noise(0)))[:500], "truncated"),
    "damaged.png": (damaged_png(), "broken"),
    "text.jpg": (b"<html>not found</html>", "not an image"),
}


def test_all_unreadable_images_are_named_at_once(photos, tmp_path):
    for name, (content, _) in BAD.items():
        (photos / name).write_bytes(content)
    files = {**prepared_from(photos).files, "gone": photos / "gone.jpg"}
    prepared = Prepared(Photos(None, tmp_path), Split("none", ("a",), {}, {}), files)
    with pytest.raises(UserError) as caught:
        open_store(prepared, SIZE, tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith("6 of 46 images of photos cannot be read: ")
    assert "\n" not in message
    listed = tmp_path / "cache" / "stores" / f"photos-{SIZE}px.unreadable.txt"
    assert message.count(" (") == store_module.NAMED_IN_ERROR + 1  # and what a sweep says
    text = listed.read_text()
    for name, (_, why) in BAD.items():
        assert why in text.split(f"{photos / name} (")[1].split(")")[0]
    assert f"{photos / 'gone.jpg'} (No such file" in text
    left = ["photos.files.csv", "photos.looks.csv", listed.name]
    assert sorted(p.name for p in (tmp_path / "cache" / "stores").iterdir()) == sorted(left)
    del files["gone"]
    with pytest.raises(UserError, match="5 of 45 images"):
        open_store(prepared, SIZE, tmp_path / "cache")
    assert sorted(p.name for p in (tmp_path / "cache" / "stores").iterdir()) == sorted(left)


def test_a_long_list_of_unreadable_images_goes_into_a_file(photos, tmp_path):
    for i in range(25):
        (photos / f"bad{i}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="and 22 more, all listed in ") as caught:
        open_store(prepared_from(photos), SIZE, tmp_path)
    path = tmp_path / "stores" / f"photos-{SIZE}px.unreadable.txt"
    assert str(path) in str(caught.value)
    assert len(path.read_text().splitlines()) == 25
    for i in range(25):
        (photos / f"bad{i}.jpg").unlink()
    open_store(prepared_from(photos), SIZE, tmp_path)
    assert not path.exists()


def test_the_bound_on_pixels_is_the_user_s(monkeypatch):
    content = encoded(Image.new("L", (50, 50)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow's own has no say
    with whole_images():
        decode(content, 8)
        monkeypatch.setenv("LMDBENCH_MAX_PIXELS", "2000")
        with pytest.raises(ValueError, match="50×50 pixels, more than 2,000; LMDBENCH_MAX_PIXELS"):
            decode(content, 8)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("text", ["many", "0", "-5", "1e9"])
def test_a_bound_that_is_none_is_told(photos, tmp_path, monkeypatch, text):
    monkeypatch.setenv("LMDBENCH_MAX_PIXELS", text)
    with pytest.raises(UserError, match=f"LMDBENCH_MAX_PIXELS={text}: give the most pixels"):
        open_store(prepared_from(photos), SIZE, tmp_path)


def test_every_format_offered_can_be_read():
    kinds = ["JPEG", "PNG", "TIFF", "BMP", "GIF", "PPM"]
    kinds += [kind for kind, name in (("WEBP", "webp"), ("JPEG2000", "jpg_2000"))
              if features.check(name)]  # fmt: skip
    for kind in kinds:
        decode(encoded(Image.fromarray(noise(0)), kind), 8)


def test_a_file_that_changed_unnoticed_is_found_out(photos, tmp_path):
    prepared = prepared_from(photos)
    open_store(prepared, SIZE, tmp_path)
    Image.fromarray(noise(99)).save(photos / "new.png")
    content = (photos / "new.png").read_bytes()
    path = photos / "p00.png"
    (photos / "new.png").unlink()
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    if len(content) != csv_size_of(tmp_path, path):
        pytest.skip("the new file happens to have another size")
    with pytest.raises(UserError, match=r"1 images of photos changed .*p00\.png; run the same"):
        open_store(prepared, SIZE + 1, tmp_path)
    store = open_store(prepared, SIZE + 1, tmp_path)
    assert np.array_equal(store.pixels[0].numpy(), resized(path, SIZE + 1))


def csv_size_of(cache: Path, path: Path) -> int:
    with (cache / "stores" / "photos.files.csv").open(newline="") as file:
        return next(int(size) for name, size, *_ in csv.reader(file) if name == str(path))


# The disk

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Opener:
    """Another process that opens the store, forked so that it need not import torch anew.

    ``calls``: what its progress says. It stops at the first image decoded until told to go on.
    """

    def __init__(self, photos: Path, cache: Path) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=self._open, args=(photos, cache, theirs))
        self.process.start()
        theirs.close()
        self.calls: list[tuple[int, int]] = []

    def _open(self, photos: Path, cache: Path, pipe) -> None:
        waited = False

        def progress(done: int, total: int) -> None:
            nonlocal waited
            pipe.send((done, total))
            if done > 40 and not waited:
                waited = pipe.recv()

        pipe.send(open_store(prepared_from(photos), SIZE, cache, progress, workers=1).digest)

    def until(self, done: int) -> None:
        while not self.calls or self.calls[-1][0] < done:
            assert self.pipe.poll(30)
            self.calls.append(self.pipe.recv())

    def finish(self) -> str:
        """The digest that it found."""
        while True:
            assert self.pipe.poll(30)
            message = self.pipe.recv()
            if isinstance(message, str):
                self.process.join()
                return message
            self.calls.append(message)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def test_killed_while_preparing_then_finished_by_the_next(photos, tmp_path):
    cache = tmp_path / "cache"
    killed = Opener(photos, cache)
    killed.until(41)
    killed.kill()
    (folder,) = store_folders(cache)
    assert [path.name[0] for path in folder.iterdir()] == ["."]
    Image.fromarray(noise(99)).save(photos / "p00.png")  # so that the next store is another
    store = open_store(prepared_from(photos), SIZE, cache)
    assert np.array_equal(store.pixels[0].numpy(), resized(photos / "p00.png"))
    (folder,) = store_folders(cache)
    assert {path.name for path in folder.iterdir()} == {"images.npy", "index.csv", "store.json"}
    assert {p.name for p in (cache / "stores").iterdir()} == {
        folder.name,
        "photos.files.csv",
        "photos.looks.csv",
    }


def test_two_processes_at_once_make_one_store(photos, tmp_path):
    first = Opener(photos, tmp_path)
    first.until(41)
    second = Opener(photos, tmp_path)
    second.until(0)
    assert second.process.is_alive()
    first.pipe.send(True)
    assert first.finish() == second.finish()
    assert set(second.calls) == {(0, 40)}  # it waited and decoded nothing
    assert len(store_folders(tmp_path)) == 1


def test_a_waiting_process_takes_over_from_one_that_is_killed(photos, tmp_path):
    first = Opener(photos, tmp_path)
    first.until(41)
    second = Opener(photos, tmp_path)
    second.until(0)
    first.kill()
    expected = second.finish()
    assert second.calls[-1] == (40, 40)
    assert open_store(prepared_from(photos), SIZE, tmp_path).digest == expected


@pytest.fixture
def mounted(tmp_path: Path):
    """Mounts a small file system in a folder; needs root."""
    folders = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"mounted{len(folders)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("a small file system can only be mounted as root")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_no_space_is_said_before_work_begins(photos, mounted):
    cache = mounted("size=1m")
    with pytest.raises(UserError, match=r"no space .* 17 MB needed, 1 MB free;.*LMDBENCH_CACHE"):
        open_store(prepared_from(photos), SIZE, cache)
    assert store_folders(cache) == []


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(photos, mounted):
    cache = mounted("size=20m")
    ballast = cache / "ballast"

    def fill(done: int, total: int) -> None:
        if done == 40 and not ballast.exists():
            ballast.write_bytes(b"")
        elif done > 40 and ballast.stat().st_size == 0:
            with ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)) == 4096:
                    pass

    big = 180  # 3.9 MB
    with pytest.raises((UserError, OSError), match=r"(?i)no space left"):
        open_store(prepared_from(photos), big, cache, fill, workers=1)
    ballast.unlink()
    assert not any(path.name == "store.json" for path in cache.rglob("*"))
    assert not any(path.suffix == ".npy" for path in cache.rglob("*"))
    open_store(prepared_from(photos), big, cache)


def test_a_cache_that_cannot_be_written_is_named(photos, tmp_path, mounted):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"the cache {tmp_path}/file/.*LMDBENCH_CACHE"):
        open_store(prepared_from(photos), SIZE, tmp_path / "file" / "cache")
    with pytest.raises(UserError, match=r"Read-only file system.*LMDBENCH_CACHE"):
        open_store(prepared_from(photos), SIZE, mounted("ro"))


def test_a_finished_store_in_a_read_only_cache_can_be_used(photos, mounted):
    cache = mounted("size=40m")
    digest = open_store(prepared_from(photos), SIZE, cache).digest
    subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
    assert open_store(prepared_from(photos), SIZE, cache).digest == digest
    for path in photos.iterdir():
        os.utime(path)
    assert open_store(prepared_from(photos), SIZE, cache).digest == digest


def test_store_json_says_what_it_is(photos, tmp_path):
    store = open_store(prepared_from(photos), SIZE, tmp_path)
    (folder,) = store_folders(tmp_path)
    assert folder.name == f"photos-{SIZE}px-{store.digest[:16]}"
    record = json.loads((folder / "store.json").read_text())
    assert (record["digest"], record["images"], record["size"]) == (store.digest, 40, SIZE)
