"""``lmdbench data prepare``: as a user calls it, killed or not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmdbench.data.store.store import open_images

SIZE = 32


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def facts(outcome) -> dict:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_every_size_is_made_once_for_all_images(lmdbench, toy_folder, cache):
    words = ("data", "prepare", "folder", "--data-root", toy_folder)
    sizes = ("--image-size", 24, "--image-size", 16, "--image-size", 24)
    first = facts(lmdbench(*words, *sizes, "--json"))
    assert (first["images"], first["missing"]) == (53, 0)
    assert [(s["image_size"], s["images"], s["made"]) for s in first["stores"]] == [
        (24, 53, True),
        (16, 53, True),
    ]
    for store in first["stores"]:
        pixels = np.load(Path(store["folder"]) / "images.npy")
        assert pixels.shape == (53, 3, store["image_size"], store["image_size"])
        assert store["bytes"] == pixels.nbytes
    outcome = lmdbench(*words, *sizes)
    assert outcome.code == 0
    assert outcome.out.startswith("folder-toy")
    assert outcome.out.count("there already") == 2


def test_the_default_size_is_the_data_set_s(lmdbench, toy_folder):
    made = facts(lmdbench("data", "prepare", "folder", "--data-root", toy_folder, "--json"))
    assert [(s["image_size"], s["images"]) for s in made["stores"]] == [(224, 53)]


def test_real_images_where_some_are_missing(lmdbench, test_data, tmp_path):
    root = tmp_path / "isic2019"
    (root / "ISIC_2019_Training_Input").mkdir(parents=True)
    truth = "ISIC_2019_Training_GroundTruth.csv"
    (root / truth).symlink_to(test_data / "isic2019" / truth)
    images = sorted((test_data / "isic2019" / "ISIC_2019_Training_Input").iterdir())[:100]
    for image in images:
        (root / "ISIC_2019_Training_Input" / image.name).symlink_to(image)
    words = ("data", "prepare", "isic2019", "--data-root", root, "--image-size", 64)
    outcome = lmdbench(*words)
    assert outcome.code == 2
    assert "25,231 of 25,331 images are missing" in outcome.err
    assert "allow_missing = true) to go on with the 100 that are there" in outcome.err
    made = facts(lmdbench(*words, "--allow-missing", "--json"))
    assert (made["images"], made["missing"]) == (100, 25231)
    pixels = np.load(Path(made["stores"][0]["folder"]) / "images.npy")
    with Image.open(images[7]) as image:
        expected = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
    assert np.array_equal(pixels[7], expected.transpose(2, 0, 1))


def test_all_unreadable_images_are_named(lmdbench, toy_folder, tmp_path):
    root = tmp_path / "toy"
    root.mkdir()
    for path in toy_folder.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    (root / "round-3.png").write_bytes(b"")
    (root / "dotted-2.png").write_bytes(b"<html>")
    outcome = lmdbench("data", "prepare", "folder", "--data-root", root, "--allow-missing")
    assert outcome.code == 2
    assert "2 of 53 images of folder-toy cannot be read" in outcome.err
    assert f"{root / 'dotted-2.png'} (not an image)" in outcome.err
    assert f"{root / 'round-3.png'} (empty file)" in outcome.err
    (complaint,) = [line for line in outcome.err.splitlines() if line.startswith("lmdbench:")]
    assert complaint.endswith(
        "mend or fetch them again, remove them, or pass --skip-damaged (in a sweep: "
        "skip_damaged = true) to go on without them"
    )
    words = ("data", "prepare", "folder", "--data-root", root, "--skip-damaged")
    outcome = lmdbench(*words, "--image-size", 24, "--image-size", 32)
    assert outcome.code == 0
    assert "51 images of 53, 2 are damaged and left out" in outcome.out
    assert "damaged    dotted-2.png (not an image)" in outcome.out
    again = facts(lmdbench(*words, "--image-size", 24, "--json"))
    assert again["damaged"] == {"dotted-2.png": "not an image", "round-3.png": "empty file"}
    assert [store["made"] for store in again["stores"]] == [False]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--image-size", "huge"), "--image-size 'huge': give a number of pixels"),
        (("--workers", "0"), "--workers '0': give a number of threads from 1 to 256"),
        (("--workers", "-1"), "--workers '-1': give a number of threads"),
        (("--data-root", "/no/such"), "--data-root /no/such does not exist"),
    ],
)
def test_mistakes_are_one_line(lmdbench, toy_folder, words, complaint):
    outcome = lmdbench("data", "prepare", "folder", "--data-root", toy_folder, *words)
    assert outcome.code == 2
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1


def test_finished_runs_stay_valid_whichever_store_serves_them(
    lmdbench, toy_run, toy_folder, tmp_path, cache
):
    """A run made its split's own store; later all images were prepared and that one removed."""
    split = tmp_path / "some.csv"
    rows = (toy_folder / "labels.csv").read_text().splitlines()
    split.write_text("\n".join([rows[0], *(row for row in rows[1:] if "round-1" not in row)]))
    run = ("ce", "--split", split, "--set", "epochs=1")
    assert toy_run(*run).code == 0
    (own,) = (path for path in (cache / "stores").iterdir() if path.is_dir())
    made = facts(
        lmdbench(
            *("data", "prepare", "folder", "--data-root", toy_folder, "--image-size", 24, "--json")
        )
    )
    for path in own.iterdir():
        path.unlink()
    own.rmdir()
    again = toy_run(*run)
    assert again.code == 0
    assert "finished" in again.err
    assert toy_run(*run, "--force").code == 0
    (left,) = (path for path in (cache / "stores").iterdir() if path.is_dir())
    assert str(left) == made["stores"][0]["folder"]


# Killed

COUNT = 120
# The command, which records often what it has done.
PREPARE = """
import sys
from lmdbench.cli.main import main
from lmdbench.data.store import files
files.RECORD_SECONDS = 0.1
sys.argv[0] = "lmdbench"
main()
"""


@pytest.fixture(scope="session")
def big_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images that take a while to decode: large JPEGs, each another piece of one drawing."""
    folder = tmp_path_factory.mktemp("big")
    rng = np.random.default_rng(0)
    drawing = Image.fromarray(rng.integers(0, 256, (150, 150, 3), dtype=np.uint8))
    drawing = drawing.resize((1600, 1600), Image.Resampling.BICUBIC)
    for label in ("a", "b"):
        (folder / label).mkdir()
    for i in range(COUNT):
        piece = drawing.crop((i, 2 * i, i + 1100, 2 * i + 1100))
        piece.save(folder / "ab"[i % 2] / f"{i:03}.jpg", quality=80)
    return folder


def start(folder: Path, cache: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [
            *(sys.executable, "-c", PREPARE, "data", "prepare", "folder", "--workers", "1"),
            *("--data-root", str(folder), "--image-size", str(SIZE)),
        ],
        env={**os.environ, "LMDBENCH_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stores(cache: Path) -> list[Path]:
    return [path for path in (cache / "stores").glob(f"*-{SIZE}px-*") if path.is_dir()]


def recorded(cache: Path) -> np.ndarray:
    """Rows that are recorded as safe, (COUNT,) bool."""
    for folder in stores(cache):
        try:
            record = json.loads((folder / ".progress.json").read_text())
        except FileNotFoundError:
            continue
        bits = np.frombuffer(bytes.fromhex(record["done"]), dtype=np.uint8)
        return np.unpackbits(bits, count=COUNT).astype(bool)
    return np.zeros(COUNT, dtype=bool)


def wait_until(process: subprocess.Popen, condition) -> bool:
    """Whether the condition holds while the process still works."""
    deadline = time.monotonic() + 60
    while process.poll() is None:
        if condition():
            return True
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return False


def test_killed_at_several_moments_it_goes_on_and_ends_with_the_same_bytes(big_photos, cache):
    moments = (
        lambda: bool(stores(cache)),  # nothing is recorded yet
        lambda: recorded(cache).any(),
        lambda: recorded(cache).sum() > before.sum(),
    )
    before = np.zeros(COUNT, dtype=bool)
    for reached in moments:
        process = start(big_photos, cache)
        killed = wait_until(process, reached)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if not killed:
            pytest.skip("this machine decodes too quickly to be stopped in between")
        assert not list((cache / "stores").glob("*/store.json"))
        now = recorded(cache)
        assert now[before].all()
        before = now
    assert 0 < before.sum() < COUNT
    process = start(big_photos, cache)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    first = int(err.split("px: ")[1].split(" %")[0])
    assert first >= 100 * before.sum() // COUNT  # it began where the others stopped

    names = {f"{c}/{i:03}.jpg" for i in range(COUNT) for c in "ab"[i % 2]}
    files = {name: big_photos / name for name in names}
    undisturbed = open_images(f"folder-{big_photos.name}", files, SIZE, cache / "undisturbed")
    (folder,) = stores(cache)
    assert folder.name == undisturbed.folder.name
    assert {path.name for path in folder.iterdir()} == {"images.npy", "index.csv", "store.json"}
    for path in folder.iterdir():
        assert path.read_bytes() == (undisturbed.folder / path.name).read_bytes()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_says_how_to_go_on(big_photos, cache, stop):
    process = start(big_photos, cache)
    if not wait_until(process, lambda: recorded(cache).any()):
        pytest.skip("this machine decodes too quickly to be stopped in between")
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == (
        "lmdbench: stopped; what was decoded is kept: the same command goes on from there"
    )
    assert recorded(cache).any()
    assert not list((cache / "stores").glob("*.claim"))
