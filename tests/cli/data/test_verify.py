"""``lmdbench data verify``: what is right, and every kind of thing that can be wrong."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

IMAGES = "ISIC_2019_Training_Input"
COUNT = 60  # real images that are there


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def isic(test_data: Path, tmp_path: Path) -> Path:
    """A root with the official tables, the released split and some of the images."""
    root = tmp_path / "isic2019"
    (root / IMAGES).mkdir(parents=True)
    for table in ("GroundTruth", "Metadata"):
        name = f"ISIC_2019_Training_{table}.csv"
        (root / name).symlink_to(test_data / "isic2019" / name)
    for image in sorted((test_data / "isic2019" / IMAGES).iterdir())[:COUNT]:
        (root / IMAGES / image.name).symlink_to(image)
    (root / "released-split").symlink_to(test_data / "published-splits" / "ISIC2019LT")
    return root


@pytest.fixture
def toy(toy_folder: Path, tmp_path: Path) -> Path:
    """A copy of the toy folder to do harm to."""
    root = tmp_path / "toy"
    root.mkdir()
    for path in toy_folder.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    return root


@pytest.fixture
def checks(lmdbench):
    """``checks("isic2019", root, ...)``: exit code, and check → finding (the last of that name)."""

    def run(name: str, root: Path | None, *words: object):
        where = ("--data-root", root) if root else ()
        outcome = lmdbench("data", "verify", name, *where, *words, "--json")
        facts = json.loads(outcome.out)
        problems = sum(finding["state"] == "problem" for finding in facts["checks"])
        assert facts["problems"] == problems
        assert outcome.code == (1 if problems else 0)
        return outcome.code, {finding["check"]: finding for finding in facts["checks"]}

    return run


def snapshot(*folders: Path) -> dict[Path, tuple[int, int]]:
    paths = (path for folder in folders if folder.exists() for path in folder.rglob("*"))
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


def test_what_is_right(checks, lmdbench, toy, cache, tmp_path):
    assert lmdbench("data", "prepare", "folder", "--data-root", toy, "--image-size", 24).code == 0
    before = snapshot(toy, cache)
    code, found = checks("folder", toy)
    assert code == 0
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert list(found) == ["classes", "images", "other files", "decoding", "store"]
    assert found["classes"]["counts"] == {"round": 25, "striped": 13, "dotted": 9, "rare": 6}
    assert found["decoding"]["tried"] == found["store"]["compared"] == 53
    assert snapshot(toy, cache) == before


def test_real_tables_split_and_images(checks, isic, cache):
    before = snapshot(isic)
    code, found = checks("isic2019", isic, "--sample", "20")
    assert code == 1
    assert found["tables"]["state"] == found["classes"]["state"] == "ok"
    assert found["tables"]["official"] is True
    assert found["released split"]["state"] == "ok"
    assert found["released split"]["split"] == "published-if100"
    images = found["images"]
    assert images["state"] == "problem"
    assert (images["present"], images["missing"]) == (COUNT, 25331 - COUNT)
    assert sum(images["missing_of"].values()) == 25331 - COUNT
    assert (found["decoding"]["tried"], found["decoding"]["of"]) == (20, COUNT)
    # These copies are 224 × 224: not the official files.
    assert found["resolution"]["state"] == "problem"
    assert (found["resolution"]["shortest"], found["resolution"]["outside"]) == (224, 20)
    assert found["store"]["state"] == "note"
    assert snapshot(isic) == before
    assert not cache.exists()


def test_images_of_the_official_size_are_within_the_range(checks, isic):
    for path in sorted((isic / IMAGES).iterdir()):
        path.unlink()
    for name, size in (("ISIC_0000000", (600, 450)), ("ISIC_0000001", (1024, 1024))):
        Image.new("RGB", size).save(isic / IMAGES / f"{name}.jpg")
    assert checks("isic2019", isic)[1]["resolution"]["state"] == "ok"
    Image.new("RGB", (1025, 700)).save(isic / IMAGES / "ISIC_0000001.jpg")
    resolution = checks("isic2019", isic)[1]["resolution"]
    assert (resolution["state"], resolution["longest"], resolution["outside"]) == (
        "problem",
        1025,
        1,
    )


def test_the_released_tables_of_hyper_kvasir(checks, test_data, tmp_path):
    root = tmp_path / "hyper-kvasir"
    (root / "labeled-images").mkdir(parents=True)
    table = "labeled-images/image-labels.csv"
    (root / table).symlink_to(test_data / "hyper-kvasir" / table)
    (root / "released-split").mkdir()
    for path in (test_data / "published-splits" / "hyper-kvasir").glob("*.csv"):
        (root / "released-split" / path.name).write_bytes(path.read_bytes())
    _, found = checks("hyper-kvasir", tmp_path)
    assert found["released split"]["state"] == "ok"
    assert "resolution" not in found
    validation = root / "released-split" / "validation.csv"
    rows = validation.read_text().splitlines(keepends=True)
    validation.write_text("".join(rows[:-2]))
    _, found = checks("hyper-kvasir", tmp_path)
    assert found["released split"]["state"] == "problem"
    assert found["released split"]["differing"] == {
        "validation": "lacks 0 of validation.csv and has 2 more"
    }


def test_other_tables_are_not_the_official_ones(checks, isic):
    truth = isic / "ISIC_2019_Training_GroundTruth.csv"
    table = pd.read_csv(truth)
    truth.unlink()
    table[table["image"] != "ISIC_0000000"].to_csv(truth, index=False)
    _, found = checks("isic2019", isic)
    assert found["tables"]["state"] == "problem"
    assert found["tables"]["official"] is False
    assert found["classes"]["differing"] == {"NV": [12874, 12875]}
    assert found["released split"]["state"] == "problem"
    assert set(found["released split"]["differing"]) == {"train", "validation", "test"}


def test_tables_alone(checks, test_data, cache):
    code, found = checks("isic-archive", test_data)
    assert code == 1
    assert found["tables"]["state"] == "ok"
    assert found["images"]["present"] == 0
    assert "decoding" not in found
    assert "released split" not in found  # its tables are the released split


def test_images_that_are_made_on_first_use_are_not_missing(checks):
    code, found = checks("demo", None)
    assert code == 0
    assert found["images"]["state"] == "note"
    assert found["images"]["present"] == 0


def test_unknown_files_and_unreadable_images_are_named(checks, toy):
    (toy / "more").mkdir()
    (toy / "more" / "stranger.PNG").write_bytes(b"")
    (toy / ".hidden.png").write_bytes(b"")
    (toy / "notes.txt").write_text("not an image")
    (toy / "round-0.png").write_bytes((toy / "round-0.png").read_bytes()[:200])
    code, found = checks("folder", toy)
    assert code == 1
    assert found["other files"]["state"] == "note"
    assert found["other files"]["unknown"] == 1
    assert found["other files"]["examples"] == [str(toy / "more" / "stranger.PNG")]
    assert found["decoding"]["unreadable"].keys() == {str(toy / "round-0.png")}
    assert "truncated" in found["decoding"]["text"]


def test_absolute_paths_elsewhere_are_no_reason_to_search_the_disk(checks, toy, tmp_path):
    table = tmp_path / "table" / "mine.csv"
    table.parent.mkdir()
    rows = (toy / "labels.csv").read_text().splitlines()
    table.write_text("\n".join([rows[0], *(f"{toy}/{row}" for row in rows[1:])]))
    (toy / "stranger.png").write_bytes(b"")
    (tmp_path / "beside.png").write_bytes(b"")
    _, found = checks("folder", table)
    assert found["other files"]["examples"] == [str(toy / "stranger.png")]


def test_sample_or_all(checks, toy):
    assert checks("folder", toy, "--sample", "7")[1]["decoding"]["tried"] == 7
    (toy / "round-0.png").write_bytes(b"")
    assert checks("folder", toy, "--sample", "all")[1]["decoding"]["tried"] == 53
    assert checks("folder", toy)[1]["decoding"]["tried"] == 53


def test_every_damaged_image_is_found(lmdbench, checks, toy):
    bad = [f"round-{n}.png" for n in range(5)]
    for name in bad:
        (toy / name).write_bytes(b"<html>404</html>")
    _, found = checks("folder", toy)
    assert found["decoding"]["unreadable"] == {str(toy / name): "not an image" for name in bad}
    outcome = lmdbench("data", "verify", "folder", "--data-root", toy)
    assert "5 of the 53 tried cannot be read" in outcome.out
    assert "(not an image) and 2 more, all listed by --json" in outcome.out
    assert "decoding images: 100 %" in outcome.err


def test_what_is_no_file_is_missing_and_never_opened(lmdbench, toy):
    """Pipes wait for ever for who writes to them."""
    for name in ("round-0.png", "round-1.png", "round-2.png"):
        (toy / name).unlink()
    os.mkfifo(toy / "round-0.png")
    (toy / "round-1.png").mkdir()
    (toy / "round-2.png").symlink_to("/nowhere/at/all.png")
    outcome = lmdbench("data", "verify", "folder", "--data-root", toy)
    assert "50 of 53 are there" in outcome.out
    refused = lmdbench("data", "prepare", "folder", "--data-root", toy)
    assert "3 of 53 images are missing" in refused.err
    for told in ("0.png (there, but no file)", "1.png (a folder)", "2.png (a link to nothing)"):
        assert f"round-{told}" in refused.err
    allowed = lmdbench(
        *("data", "prepare", "folder", "--data-root", toy, "--image-size", 16, "--allow-missing")
    )
    assert "50 images of 53, 3 are missing" in allowed.out


# Stores


@pytest.fixture
def store(lmdbench, toy: Path) -> Path:
    words = ("--data-root", toy, "--image-size", 24, "--json")
    outcome = lmdbench("data", "prepare", "folder", *words)
    return Path(json.loads(outcome.out)["stores"][0]["folder"])


def test_other_pixels_in_a_store_are_found(checks, toy, store):
    pixels = np.load(store / "images.npy", mmap_mode="r+")
    pixels[5, 0, 0, 0] ^= 1
    pixels.flush()
    code, found = checks("folder", toy)
    assert code == 1
    assert found["store"]["other_pixels"] == 1
    assert f"remove {store}, it is damaged" in found["store"]["text"]


def test_files_that_changed_since_are_found(checks, toy, store):
    (toy / "rare-0.png").write_bytes((toy / "round-0.png").read_bytes())
    (toy / "rare-1.png").write_bytes(b"")
    code, found = checks("folder", toy)
    assert code == 1
    assert (found["store"]["other_files"], found["store"]["other_pixels"]) == (2, 0)
    assert "made from other content" in found["store"]["text"]


def test_a_store_of_some_images_says_so(checks, toy, store):
    rows = (toy / "labels.csv").read_text().splitlines()
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(toy / "new.png")
    (toy / "labels.csv").write_text("\n".join([*rows, "new.png,rare,train"]))
    code, found = checks("folder", toy)
    assert code == 0
    assert found["store"]["text"].endswith(
        "has 53 of the 54 images there, 53 compared, all equal to their files"
    )


@pytest.mark.parametrize(
    ("harm", "state", "text"),
    [
        ("short", "problem", "damaged"),
        ("unmarked", "note", "unfinished, 0 images decoded"),
    ],
)
def test_a_store_that_is_not_whole(checks, toy, store, harm, state, text):
    if harm == "short":
        content = (store / "images.npy").read_bytes()
        (store / "images.npy").write_bytes(content[:-1])
    else:
        (store / "store.json").unlink()
    code, found = checks("folder", toy)
    assert code == (state == "problem")
    assert found["store"]["state"] == state
    assert text in found["store"]["text"]


def test_the_sizes_asked_for(checks, toy, store):
    assert checks("folder", toy, "--image-size", 24)[0] == 0
    code, found = checks("folder", toy, "--image-size", 24, "--image-size", 48)
    assert code == 1
    assert found["store"]["image_size"] == 48
    assert "none at 48 px; `lmdbench data prepare folder` makes it" in found["store"]["text"]


# As a user sees it


def test_lines_for_people(lmdbench, toy, store):
    outcome = lmdbench("data", "verify", "folder", "--data-root", toy, "--sample", 10)
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * 5
    assert lines[3] == "ok       decoding        10 of 53 images tried, each is whole"
    assert lines[-1] == "folder-toy: no problems"
    (toy / "rare-0.png").unlink()
    outcome = lmdbench("data", "verify", "folder", "--data-root", toy)
    assert outcome.code == 1
    assert "problem  images          52 of 53 are there; missing: rare 1 of 6" in outcome.out
    assert outcome.out.splitlines()[-1] == "folder-toy: 1 problem"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--sample", "some"), "--sample 'some': give a number of images, or all"),
        (("--sample", "0"), "--sample '0'"),
        (("--image-size", "8"), "--image-size '8'"),
        (("--data-root", "/no/such"), "/no/such does not exist"),
    ],
)
def test_mistakes_are_one_line(lmdbench, toy_folder, words, complaint):
    outcome = lmdbench("data", "verify", "folder", "--data-root", toy_folder, *words)
    assert outcome.code == 2
    assert complaint in outcome.err
    assert (outcome.out, outcome.err.count("\n")) == ("", 1)
