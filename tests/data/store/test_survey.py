"""What is particular about a data set's pictures: found once, told, and part of what a store is."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import open_dataset
from lmdbench.data.splits.availability import prepare_files
from lmdbench.data.splits.spec import SplitSpec, make_split
from lmdbench.data.store.scale import USUAL, Scale, of_bits
from lmdbench.data.store.store import open_images, open_store
from lmdbench.data.store.survey import remembered_survey

from .handmade import dicom, png16

SIZE = 16
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LMDBENCH_RESULTS", str(tmp_path / "results"))
    return tmp_path / "cache"


def written(folder: Path, contents: dict[str, bytes | Image.Image]) -> Path:
    """The folder with files, last changed long ago."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content) if isinstance(content, bytes) else content.save(path)
        os.utime(path, (1e9, 1e9))
    return folder


def deep(folder: Path, bits: int, images: int = 6) -> Path:
    """Two classes of grey pictures of so many bits, in PNG of 16; the largest value is there."""

    def picture() -> bytes:
        values = RANDOM.integers(0, 2**bits, (SIZE, SIZE)).astype(np.uint16)
        values[0, :2] = 0, 2**bits - 1
        return png16(values)

    return written(folder, {f"{c}/{n}.png": picture() for c in "ab" for n in range(images)})


def eight(number: int = 0) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) // (number + 1))


def opened(folder: Path, cache: Path, name: str = "mine", **options):
    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    return open_images(name, files, SIZE, cache, **options)


def digest_by_hand(folder: Path, marks: dict[str, str] | None = None) -> str:
    """As stores have been told apart since their first version, with marks behind a SHA-256."""
    import hashlib

    files = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    text = f"lmdbench store 1, {SIZE} px\n"
    for image in sorted(files):
        sha256 = hashlib.sha256(files[image].read_bytes()).hexdigest()
        text += f"{sha256}{(marks or {}).get(image, '')}\t{image}\n"
    return hashlib.sha256(text.encode()).hexdigest()


# What a store is


def test_the_usual_keeps_its_digest_and_full_sixteen_bits_keep_theirs(tmp_path, cache):
    partly = eight().convert("RGBA")
    partly.putpixel((0, 0), (1, 2, 3, 0))
    usual = written(tmp_path / "usual", {"a.png": eight(), "b.jpg": eight(), "c.png": partly})
    assert opened(usual, cache).digest == digest_by_hand(usual)
    full = opened(deep(tmp_path / "full", 16), cache)
    assert full.digest == digest_by_hand(tmp_path / "full")
    assert full.survey.scale == USUAL


def test_a_depth_is_part_of_what_a_store_is(tmp_path, cache):
    folder = deep(tmp_path / "deep", 12, images=1)
    found = opened(folder, cache)
    marks = dict.fromkeys(["a/0.png", "b/0.png"], "+0..4095")
    assert found.digest == digest_by_hand(folder, marks)
    assert len(np.unique(found.pixels.numpy())) > 100
    taken = {found.digest}
    for asked in (of_bits(14), of_bits(16), Scale(0, 100, clips=True)):
        other = opened(folder, cache, asked=asked)
        assert other.made
        taken.add(other.digest)
    assert len(taken) == 4
    again = opened(folder, cache)
    assert not again.made
    assert np.array_equal(again.pixels.numpy(), found.pixels.numpy())


def test_pictures_that_state_nothing_unusual_keep_theirs_beside_deep_ones(tmp_path, cache):
    folder = deep(tmp_path / "mixed", 10, images=1)
    written(folder, {"c.png": eight()})
    marks = dict.fromkeys(["a/0.png", "b/0.png"], "+0..1023")
    assert opened(folder, cache).digest == digest_by_hand(folder, marks)


def test_wholly_transparent_pictures_are_marked(tmp_path, cache):
    blank = eight().convert("RGBA")
    blank.putalpha(0)
    folder = written(tmp_path / "some", {"a.png": blank, "b.png": eight()})
    found = opened(folder, cache)
    assert found.digest == digest_by_hand(folder, {"a.png": "+opaque"})
    assert found.pixels[found.index["a.png"]].float().std() > 20
    assert found.survey.lines == ("1 picture transparent everywhere, read without alpha: a.png",)


def test_every_split_has_the_scale_of_the_whole_data_set(tmp_path, cache):
    folder = deep(tmp_path / "deep", 10)
    written(folder, {"a/0.png": png16(np.full((SIZE, SIZE), 4000, np.uint16))})
    data = open_dataset("folder", folder, cache)
    scales = set()
    for seed in range(6):
        split = make_split(data, SplitSpec(seed=seed))
        prepared = prepare_files(data, split, allow_missing=False)
        part = {i: f for i, f in prepared.files.items() if i != "a/0.png"}
        smaller = type(prepared)(data, split, part)
        scales.add(open_store(smaller, SIZE, cache).survey.scale)
        remembered = remembered_survey(data, part, cache)
        assert remembered is not None
        scales.add(remembered.scale)
    assert scales == {of_bits(12)}


def test_pictures_are_looked_at_once(tmp_path, cache, monkeypatch):
    from lmdbench.data.store import looking

    folder = deep(tmp_path / "deep", 12, images=2)
    first = opened(folder, cache)
    monkeypatch.setattr(looking, "look", lambda _: pytest.fail("looked again"))
    assert opened(folder, cache).digest == first.digest


@pytest.mark.parametrize("damage", [b"", b"nonsense\n", b'"a","{"\n', b"a,[1]\n", b"\xff\xfe"])
def test_a_damaged_memory_is_ignored(tmp_path, cache, damage):
    folder = deep(tmp_path / "deep", 12, images=2)
    digest = opened(folder, cache).digest
    (cache / "stores" / "mine.looks.csv").write_bytes(damage)
    assert opened(folder, cache).digest == digest


# What a user is told


DEPTH = "12 pictures of more than 8 bits hold values from 0 to 4,095, read as 12 bits: "


def test_the_depth_is_said_by_every_command(lmdbench, tmp_path, cache):
    folder = deep(tmp_path / "deep", 12)
    words = ("folder", "--data-root", folder)
    before = lmdbench("datasets", "show", *words).out
    assert "bit depth, alpha and contrast are not looked at yet: `lmdbench data prepare" in before
    assert DEPTH in lmdbench("data", "verify", *words).out
    assert not list(cache.rglob("*.looks.csv"))  # verify writes nothing
    assert DEPTH in lmdbench("data", "prepare", *words, "--image-size", SIZE).out
    for command in ("datasets show", "data verify", "data audit"):
        told = lmdbench(*command.split(), *words).out
        assert told.count(DEPTH) == 1, command
    shown = json.loads(lmdbench("datasets", "show", *words, "--json").out)
    assert shown["pictures"][0].startswith(DEPTH)


TRAIN = (
    "--method",
    "ce",
    "--dataset",
    "folder",
    "--backbone",
    "small",
    "--image-size",
    SIZE,
    "--set",
    "epochs=1",
    "--device",
    "cpu",
)


def test_a_run_says_and_records_it_and_predicts_by_it(lmdbench, tmp_path):
    folder = deep(tmp_path / "deep", 12)
    outcome = lmdbench(
        "run", "--method", "ce", "--dataset", "folder", "--data-root", folder, *TRAIN
    )
    assert outcome.code == 0, outcome.err
    assert DEPTH in outcome.out + outcome.err
    (record,) = (tmp_path / "results").rglob("run.json")
    assert json.loads(record.read_text())["intensity_scale"] == "0..4095"

    from lmdbench.api import predict

    values = RANDOM.integers(0, 1024, (SIZE, SIZE)).astype(np.uint16)
    paths = written(tmp_path / "new", {"dark.png": png16(values), "beyond.png": png16(values * 64)})
    dark = paths / "dark.png"
    as_read = Image.fromarray((values / 4095 * 255).round().astype(np.uint8))
    as_read.save(tmp_path / "as-read.png")
    with pytest.warns(UserWarning, match=r"0 becomes black, 1,023 white.*are dark; rescale them"):
        both = predict(record.parent, [dark, tmp_path / "as-read.png"], logits=True)
    assert np.allclose(both.iloc[0, 2:].astype(float), both.iloc[1, 2:].astype(float), atol=1e-5)
    with (
        pytest.warns(UserWarning, match="beyond the run's 4,095 can't be read; rescale them"),
        pytest.raises(UserError, match=r"values from \d+ to \d+, beyond 0\.\.4095"),
    ):
        predict(record.parent, [paths / "beyond.png"])
    told = lmdbench("predict", record.parent, dark, "--device", "cpu")
    assert "read as 12 bits: 0 becomes black, 4,095 white (as those of the run were)" in told.out
    assert "by their own values: read as the run's they are dark" in told.out


def test_a_usual_run_records_nothing_of_it(lmdbench, tmp_path):
    folder = deep(tmp_path / "deep", 16)
    outcome = lmdbench(
        "run", "--method", "ce", "--dataset", "folder", "--data-root", folder, *TRAIN
    )
    assert outcome.code == 0, outcome.err
    (record,) = (tmp_path / "results").rglob("run.json")
    assert "intensity_scale" not in json.loads(record.read_text())


def test_a_description_says_the_depth_or_the_range(lmdbench, tmp_path, cache):
    folder = deep(tmp_path / "deep", 12)
    words = ("data", "prepare", "folder", "--data-root", folder, "--image-size", SIZE)
    toml = folder / "dataset.toml"
    toml.write_text('images = "."\nbit_depth = 14\n')
    assert "read as 14 bits: 0 becomes black, 16,383 white (as the data set says)" in (
        lmdbench(*words).out
    )
    toml.write_text('images = "."\nintensity_range = [-100, 2000.5]\n')
    assert "-100 becomes black, 2,000.5 white, what is beyond is cut" in lmdbench(*words).out
    toml.write_text('images = "."\nbit_depth = 10\n')
    outcome = lmdbench(*words)
    assert outcome.code != 0
    assert re.search(r"a/0\.png.* values beyond the 0 to 1,023 of its bit_depth", outcome.err)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("bit_depth = 17", "a whole number of bits from 1 to 16"),
        ("bit_depth = true", "a whole number of bits from 1 to 16"),
        ("intensity_range = [5, 5]", "two numbers, what is black and the larger that is white"),
        ("intensity_range = [0, inf]", "two numbers"),
        ("intensity_range = 5", "two numbers"),
        ("bit_depth = 12\nintensity_range = [0, 5]", "give bit_depth or intensity_range, not both"),
    ],
)
def test_a_description_that_makes_no_sense_is_told(lmdbench, tmp_path, line, why):
    folder = written(tmp_path / "mine", {"a/0.png": eight(), "b/0.png": eight()})
    (folder / "dataset.toml").write_text(f'images = "."\n{line}\n')
    outcome = lmdbench("datasets", "show", "folder", "--data-root", folder)
    assert outcome.code == 2
    assert why in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_all_kinds_are_told_a_line_each(tmp_path, cache):
    blank = eight().convert("RGBA")
    blank.putalpha(0)
    shades = [Image.new("RGB", (SIZE, SIZE), shade) for shade in ("red", "blue")]
    values = RANDOM.integers(0, 4096, (SIZE, SIZE)).astype(np.uint16)
    folder = written(
        tmp_path / "all",
        {
            "alpha.png": blank,
            "flat.png": Image.new("RGB", (SIZE, SIZE), (200, 90, 10)),
            "white.dcm": dicom(values, 12, PhotometricInterpretation="MONOCHROME1"),
            "window.dcm": dicom(values, 12, WindowCenter=2000, WindowWidth=4000),
        },
    )
    eight().save(folder / "several.gif", save_all=True, append_images=shades)
    assert opened(folder, cache).survey.lines == (
        "2 DICOM files, rescaled as each says, each in its own window (1 different one), 1 without "
        "a window, over all their bits can hold",
        "1 picture transparent everywhere, read without alpha: alpha.png",
        "1 picture whose low values are white, inverted: white.dcm",
        "1 picture with more pictures in the file, of which the first is read: several.gif",
        "1 of 5 pictures nearly constant, within 20 of 256 grey levels at 16 px (blank, or of "
        "fewer bits than they are read as): flat.png",
    )


def test_twelve_bits_that_are_taken_for_sixteen_are_told(lmdbench, tmp_path):
    folder = deep(tmp_path / "deep", 12)
    (folder / "dataset.toml").write_text('images = "."\nbit_depth = 16\n')
    words = ("folder", "--data-root", folder)
    assert "12 of 12 pictures nearly constant" in lmdbench("data", "verify", *words).out
    lmdbench("data", "prepare", *words, "--image-size", SIZE)
    for command in ("datasets show", "data verify", "data audit"):
        assert "12 of 12 pictures nearly constant" in lmdbench(*command.split(), *words).out


def test_a_store_of_an_earlier_version_is_looked_at_once(tmp_path, cache):
    flat = Image.new("RGB", (SIZE, SIZE), "red")
    folder = written(tmp_path / "some", {"a.png": eight(), "b.png": flat})
    mark = opened(folder, cache).folder / "store.json"
    content = json.loads(mark.read_text())
    assert content.pop("nearly_constant") == ["b.png"]
    mark.write_text(json.dumps(content))
    assert opened(folder, cache).survey.constant == ["b.png"]
    assert json.loads(mark.read_text())["nearly_constant"] == ["b.png"]


def test_floats_without_a_range_are_refused_in_a_line_that_says_the_way(lmdbench, tmp_path):
    from .handmade import tiff

    values = RANDOM.random((SIZE, SIZE)).astype(np.float32) * 900
    folder = written(
        tmp_path / "mine", {f"{c}/{n}.tif": tiff(values, bits=32) for c in "ab" for n in range(3)}
    )
    words = ("folder", "--data-root", folder)
    outcome = lmdbench("data", "prepare", *words, "--image-size", SIZE)
    assert outcome.code == 2
    assert "say which values are black and white by intensity_range" in outcome.err
    assert "intensity_range" in outcome.err.strip().splitlines()[-1]
    assert "problem  pictures" in lmdbench("data", "verify", *words).out
    assert "intensity_range" in lmdbench("datasets", "show", *words).out
    (folder / "dataset.toml").write_text('images = "."\nintensity_range = [0, 900]\n')
    assert lmdbench("data", "prepare", *words, "--image-size", SIZE).code == 0


def test_near_duplicates_are_searched_in_pictures_as_they_are_read(lmdbench, tmp_path):
    folder = deep(tmp_path / "deep", 10)
    words = ("folder", "--data-root", folder, "--near-duplicates")
    outcome = lmdbench("data", "audit", *words)
    assert "read as 10 bits" in outcome.out
    assert "near-duplicate pairs in two parts: none" in outcome.out
    written(folder, {"a/0.png": b"no image"})
    assert "1 picture could not be read" in lmdbench("data", "audit", *words).out


def test_the_contact_sheet_shows_deep_pictures_as_they_are_read(tmp_path):
    from lmdbench.reporting.plots.dataset import example_tiles

    folder = deep(tmp_path / "deep", 12, images=1)
    (tile,) = example_tiles([folder / "a/0.png"], of_bits(12))
    assert tile.max() > 200
    assert tile.std() > 20
