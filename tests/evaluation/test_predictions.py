"""The predictions file: whole or absent, the same bytes for the same content, no pickles."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.evaluation.predictions import Predictions, load_predictions, save_predictions


def some(images: int = 3, classes: int = 2, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        np.array([f"ISIC_{n:07}_é" for n in range(images)]),
        rng.integers(0, classes, images),
        rng.normal(size=(images, classes)).astype(np.float32),
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    parts = {"validation": some(2), "test": some(5, seed=1), "empty": some(0)}
    save_predictions(path, parts)
    loaded = load_predictions(path)
    assert set(loaded) == set(parts)
    for name, part in parts.items():
        assert loaded[name].ids.tolist() == part.ids.tolist()
        assert loaded[name].labels.tolist() == part.labels.tolist()
        assert np.array_equal(loaded[name].logits, part.logits)
        assert loaded[name].labels.dtype == np.int64
        assert loaded[name].logits.dtype == np.float32
    assert set(load_predictions(path, ["test"])) == {"test"}
    assert list(tmp_path.iterdir()) == [path]


def test_format_is_plain_arrays_by_part(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    part = some()
    save_predictions(path, {"test": Predictions(part.ids.astype(object), part.labels, part.logits)})
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {"test_ids", "test_labels", "test_logits"}
        assert arrays["test_ids"].dtype.kind == "U"


def test_units_are_kept_where_known(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    known = replace(some(), units=np.array(["IL_1", "", "IL_1"]))
    save_predictions(path, {"test": known, "validation": some()})
    loaded = load_predictions(path)
    assert loaded["validation"].units is None
    assert loaded["test"].units is not None
    assert loaded["test"].units.tolist() == ["IL_1", "", "IL_1"]
    with pytest.raises(ValueError, match="units"):
        replace(some(), units=np.array(["IL_1"]))


def test_a_run_keeps_the_units_of_its_data_set(
    toy_folder: Path, tmp_path: Path, lmdbench: Callable[..., Any]
) -> None:
    folder = tmp_path / "with-lesions"
    shutil.copytree(toy_folder, folder)
    header, *rows = (folder / "labels.csv").read_text().splitlines()
    # Two of the three test images of a class are one patient's.
    groups = [
        f"{row.split(',')[1]}-{k % 2}" if row.endswith("test") else "" for k, row in enumerate(rows)
    ]
    listed = [f"{row},{group}" for row, group in zip(rows, groups, strict=True)]
    (folder / "labels.csv").write_text("\n".join([f"{header},group", *listed]) + "\n")
    outcome = lmdbench(
        *("run", "--method", "ce", "--dataset", "folder", "--data-root", folder),
        *("--backbone", "small", "--image-size", 24, "--set", "epochs=1"),
        *("--results", tmp_path / "results"),
    )
    assert outcome.code == 0, outcome.err
    (path,) = (tmp_path / "results").glob("*/*/ce/*/predictions.npz")
    loaded = load_predictions(path)
    units = loaded["test"].units
    assert units is not None
    expected = {row.split(",")[0]: group for row, group in zip(rows, groups, strict=True)}
    assert dict(zip(loaded["test"].ids, units, strict=True)) == {
        image: expected[image] for image in loaded["test"].ids
    }
    assert loaded["validation"].units is None


def test_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_predictions(tmp_path / f"{name}.npz", {"test": some()})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "predictions.npz"
    save_predictions(path, {"test": some()})
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="no space left on"):
        save_predictions(path, {"test": some(seed=1)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.npz"
    monkeypatch.setattr(
        "lmdbench.core.files.temporary_path", lambda _path: tmp_path / ".predictions.npz"
    )
    (tmp_path / ".predictions.npz").symlink_to("/dev/full")
    with pytest.raises(UserError, match="no space left on"):
        save_predictions(path, {"test": some()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "text", "empty", "array", "pickle"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "predictions.npz"
    save_predictions(path, {"test": some(50)})
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "array":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        with path.open("wb") as file:
            np.savez(file, test_ids=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"predictions\.npz: ") as problem:
        load_predictions(path, ["test"])
    assert "\n" not in str(problem.value)


def test_a_missing_file_and_a_missing_array_are_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    with pytest.raises(UserError, match=r"predictions\.npz: no such file"):
        load_predictions(path)
    np.savez(path, test_ids=np.array(["a"]), test_labels=np.array([0]))
    with pytest.raises(UserError, match="lacks the array test_logits"):
        load_predictions(path)
    with pytest.raises(UserError, match="lacks the array validation_ids"):
        load_predictions(path, ["validation"])


@pytest.mark.parametrize(
    "change",
    [
        {"test_labels": np.array([0, 2])},
        {"test_labels": np.array([0, -1])},
        {"test_labels": np.array([0])},
        {"test_ids": np.array(["a"])},
        {"test_logits": np.zeros((3, 2))},
        {"test_logits": np.zeros(2)},
        {"test_labels": np.array([0.0, 1.0])},
        {"test_logits": np.array([["a", "b"]] * 2)},
        {"test_units": np.array(["a"])},
        {"test_units": np.array([1, 2])},
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "predictions.npz"
    arrays = {
        "test_ids": np.array(["a", "b"]),
        "test_labels": np.array([0, 1]),
        "test_logits": np.zeros((2, 2)),
    }
    np.savez(path, **{**arrays, **change})
    with pytest.raises(UserError, match=r"predictions\.npz: damaged"):
        load_predictions(path)
