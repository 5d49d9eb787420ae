"""The folder data set on MedMNIST files, up to whole runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, PARTS, Dataset
from lmdbench.data.splits.availability import prepare_files

SIZES = {"train": 60, "val": 24, "test": 36}
CLASSES = 12  # "10" and "11" come after "9"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMDBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, times: int = 1, **replaced: Any) -> Path:
    """A file of 28×28 grey images, ``times`` as many as usual; None leaves an array out."""
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {}
    for piece, n in SIZES.items():
        content[f"{piece}_images"] = rng.integers(0, 256, (n * times, 28, 28), dtype=np.uint8)
        content[f"{piece}_labels"] = (np.arange(n * times) % CLASSES)[:, None].astype(np.uint8)
    content |= replaced
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return path


def folder(root: Path, cache: Path) -> Dataset:
    return DATASETS.get("folder")(root, cache)


def run(lmdbench: Callable[..., Any], root: Path, *words: object) -> Any:
    return lmdbench(*command(root), *words)


def command(root: Path) -> list[object]:
    return [
        *("run", "--method", "ce", "--dataset", "folder", "--data-root", root),
        *("--backbone", "small", "--image-size", 28, "--set", "epochs=1"),
        *("--results", root.parent / "results"),
    ]


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_its_split_is_given_and_its_classes_are_numbers_in_order(tmp_path: Path) -> None:
    dataset = folder(write(tmp_path / "bloodmnist.npz"), tmp_path / "cache")
    split = dataset.split(None, 42)
    assert (dataset.results_name, split.label) == ("folder-bloodmnist", "given")
    assert split.classes == tuple(map(str, range(CLASSES)))
    assert [split.counts(part).tolist() for part in PARTS] == [[5] * 12, [2] * 12, [3] * 12]
    assert split.parts["validation"].ids[:2].tolist() == ["val/000000", "val/000001"]
    assert split.parts["validation"].labels.tolist() == [n % CLASSES for n in range(24)]
    assert dataset.records()["file"]["train/000007"] == "train/000007.png"
    assert folder(tmp_path, tmp_path).results_name == "folder-bloodmnist"
    assert not (tmp_path / "cache").exists()


def test_validation_is_carved_where_there_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "x.npz", 2, val_images=None, val_labels=None)
    split = folder(path, tmp_path).split(None, 7)
    assert split.label == "given-split7"
    assert [split.counts(part).tolist() for part in PARTS] == [[9] * 12, [1] * 12, [6] * 12]


@pytest.mark.parametrize(
    ("replaced", "problem"),
    [
        ({"test_labels": np.zeros((36, 1), np.uint8)}, "no test image of 1, 2, 3, .*, 10, 11"),
        (
            {f"{p}_labels": np.zeros(n, np.uint8) for p, n in SIZES.items()},
            "only one class, '0'; it takes two",
        ),
        (
            {f"{p}_labels": np.zeros(0, np.uint8) for p in SIZES}
            | {f"{p}_images": np.zeros((0, 9, 9), np.uint8) for p in SIZES},
            "no images; it takes two",
        ),
    ],
)
def test_labels_that_make_no_data_set(
    tmp_path: Path, replaced: dict[str, Any], problem: str
) -> None:
    path = write(tmp_path / "x.npz", **replaced)
    with pytest.raises(UserError, match=problem) as error:
        folder(path, tmp_path).split(None, 42)
    assert str(error.value).startswith(f"{path}: ")


def test_a_description_names_its_classes(tmp_path: Path) -> None:
    write(tmp_path / "x.npz")
    names = "\n".join(f'{n} = "grade {"low" if n < 10 else "high"}"' for n in (11, *range(11)))
    (tmp_path / "dataset.toml").write_text(f'npz = "x.npz"\nname = "grades"\n[classes]\n{names}')
    dataset = folder(tmp_path, tmp_path / "cache")
    split = dataset.split(None, 42)
    assert (dataset.results_name, split.classes) == ("folder-grades", ("grade low", "grade high"))
    assert split.counts("train").tolist() == [50, 10]
    assert len(prepare_files(dataset, split, False).files) == sum(SIZES.values())


def test_images_are_written_once_and_a_missing_one_again(tmp_path: Path) -> None:
    said: list[str] = []
    dataset = folder(write(tmp_path / "x.npz"), tmp_path / "cache")
    dataset.materialise(said.append)
    assert said == ["writing the 120 images of x.npz into the cache, once"]
    before = contents(dataset.image_root)
    assert set(before) == set(dataset.records()["file"])
    times = {path: path.stat().st_mtime_ns for path in dataset.image_root.rglob("*")}
    folder(tmp_path / "x.npz", tmp_path / "cache").materialise(said.append)
    assert {path: path.stat().st_mtime_ns for path in dataset.image_root.rglob("*")} == times
    assert len(said) == 1
    (dataset.image_root / "val/000003.png").unlink()
    dataset.materialise(said.append)
    assert contents(dataset.image_root) == before


def test_other_content_under_the_same_name_gets_other_images(tmp_path: Path) -> None:
    first = folder(write(tmp_path / "x.npz"), tmp_path / "cache")
    first.materialise()
    before = contents(first.image_root)
    status = (tmp_path / "x.npz").stat()
    write(tmp_path / "x.npz", train_images=np.zeros((60, 28, 28), np.uint8))
    os.utime(tmp_path / "x.npz", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (tmp_path / "x.npz").stat().st_size == status.st_size
    second = folder(tmp_path / "x.npz", tmp_path / "cache")
    second.materialise()
    assert second.image_root != first.image_root
    assert contents(first.image_root) == before
    assert contents(second.image_root)["train/000000.png"] != before["train/000000.png"]
    assert contents(second.image_root)["test/000000.png"] == before["test/000000.png"]


def test_damage_found_while_writing_leaves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "x.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"train_images.npy") + 500] ^= 1
    path.write_bytes(content)
    dataset = folder(path, tmp_path / "cache")
    dataset.split(None, 42)
    with pytest.raises(UserError, match=r"x\.npz: damaged, or no \.npz \(Bad CRC-32"):
        dataset.materialise()
    assert list((tmp_path / "cache" / "medmnist").iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_a_run_from_start_to_end(lmdbench: Callable[..., Any], tmp_path: Path) -> None:
    path = write(tmp_path / "x.npz")
    shown = lmdbench("datasets", "show", "folder", "--data-root", path)
    assert shown.code == 0
    assert "images     made on first use" in shown.out
    planned = run(lmdbench, path, "--dry-run")
    assert planned.code == 0
    assert not (tmp_path / "cache").exists()
    outcome = run(lmdbench, path)
    assert outcome.code == 0, outcome.err
    assert "writing the 120 images of x.npz into the cache, once" in outcome.err
    (directory,) = (tmp_path / "results" / "folder-x" / "given" / "ce").iterdir()
    predicted = np.load(directory / "predictions.npz", allow_pickle=False)
    assert any("test/000035" in predicted[name].tolist() for name in predicted.files)
    again = run(lmdbench, path)
    assert (again.code, "writing" in again.err) == (0, False)

    write(path, test_images=np.zeros((36, 28, 28), np.uint8))
    changed = run(lmdbench, path)
    assert changed.code == 2
    assert "the images have changed since this run" in changed.err


def test_a_file_that_cannot_be_used_is_one_line(
    lmdbench: Callable[..., Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "x.npz", train_labels=np.zeros((60, 14), np.uint8))
    outcome = run(lmdbench, path)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "train_labels is (60, 14) uint8, but wants one whole number an image" in outcome.err


def test_killed_while_writing_then_as_if_it_had_not_been(
    lmdbench: Callable[..., Any], tmp_path: Path, cache: Path
) -> None:
    path = write(tmp_path / "x.npz", 30)
    words = [sys.executable, "-m", "lmdbench", *map(str, command(path))]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(cache.glob("medmnist/.folder-x-*/train/*.png")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(cache.glob("medmnist/folder-x-*/train"))

    dataset = folder(path, cache)
    dataset.materialise()
    undisturbed = folder(path, tmp_path / "other")
    undisturbed.materialise()
    assert contents(dataset.image_root) == contents(undisturbed.image_root)
    assert [entry.name for entry in (cache / "medmnist").iterdir()] == [dataset.image_root.name]
    outcome = run(lmdbench, path, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)[0]["state"] == "finished"


def test_several_processes_at_once_write_one_set(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "x.npz", 10)
    code = (
        "import sys; from pathlib import Path; from lmdbench.data.dataset import DATASETS; "
        "DATASETS.get('folder')(*map(Path, sys.argv[1:])).materialise()"
    )
    words = [sys.executable, "-c", code, str(path), str(cache)]
    processes = [subprocess.Popen(words) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    (made,) = (cache / "medmnist").iterdir()
    assert len(contents(made)) == 10 * sum(SIZES.values())
