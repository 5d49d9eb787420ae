"""MedMNIST files: what is read, what is written, and every way a file can be wrong."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.data.folder.medmnist import read_medmnist, write_images

SIZES = {"train": 6, "val": 2, "test": 3}


def arrays(**replaced: Any) -> dict[str, np.ndarray]:
    """Arrays of a small file; None leaves one out."""
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {}
    for piece, n in SIZES.items():
        content[f"{piece}_images"] = rng.integers(0, 256, (n, 5, 4, 3), dtype=np.uint8)
        content[f"{piece}_labels"] = (np.arange(n) % 2)[:, None].astype(np.uint8)
    content |= replaced
    return {name: array for name, array in content.items() if array is not None}


def save(path: Path, content: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(path, **content)  # type: ignore[arg-type]
    return path


def pixels_below(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.relative_to(folder).with_suffix("").as_posix(): np.asarray(Image.open(path))
        for path in folder.rglob("*.png")
    }


def write(path: Path) -> dict[str, np.ndarray]:
    """Pixels of every image as they come back from the written files."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(read_medmnist(path), Path(folder), lambda _: None)
        return pixels_below(Path(folder))


def test_labels_and_ids(tmp_path: Path) -> None:
    content = read_medmnist(save(tmp_path / "x.npz", arrays()))
    assert content.labels == {"train": [0, 1, 0, 1, 0, 1], "val": [0, 1], "test": [0, 1, 0]}
    assert content.ids("val") == ["val/000000", "val/000001"]


images = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: st.sampled_from([shape, (*shape, 3)]).flatmap(
        lambda shape: hnp.arrays(np.uint8, shape)
    )
)
label_types = st.sampled_from([np.uint8, np.int64, ">i4", np.uint64])


@given(images, label_types, st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_every_pixel_and_label_comes_back(
    train: np.ndarray, label_type: Any, flat: bool, by_columns: bool, compressed: bool
) -> None:
    labels = np.arange(len(train)).astype(label_type)
    stored = np.asfortranarray(train) if by_columns else train
    content = arrays(train_images=stored, train_labels=labels if flat else labels[:, None])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npz")
        (np.savez_compressed if compressed else np.savez)(path, **content)  # type: ignore[arg-type]
        assert read_medmnist(path).labels["train"] == list(range(len(train)))
        written = write(path)
    assert len(written) == len(train) + SIZES["val"] + SIZES["test"]
    for piece in SIZES:
        for number, pixels in enumerate(content[f"{piece}_images"]):
            assert np.array_equal(written[f"{piece}/{number:06}"], pixels)


def test_the_identity_follows_the_content_alone(tmp_path: Path) -> None:
    identity = read_medmnist(save(tmp_path / "a.npz", arrays())).identity
    np.savez(tmp_path / "b.npz", **arrays())  # type: ignore[arg-type]
    assert read_medmnist(tmp_path / "b.npz").identity == identity
    for name in arrays():
        changed = arrays()[name].copy()
        changed.flat[-1] ^= 1
        other = read_medmnist(save(tmp_path / "c.npz", arrays(**{name: changed})))
        assert other.identity != identity, name


@pytest.mark.parametrize("val", [np.zeros((0, 5, 4), np.uint8), None])
def test_val_may_be_absent_or_empty(tmp_path: Path, val: np.ndarray | None) -> None:
    labels = None if val is None else np.zeros((0, 1), np.uint8)
    content = read_medmnist(save(tmp_path / "x.npz", arrays(val_images=val, val_labels=labels)))
    assert sum(map(len, content.labels.values())) == SIZES["train"] + SIZES["test"]
    assert len(write(tmp_path / "x.npz")) == SIZES["train"] + SIZES["test"]


N = SIZES["train"]


@pytest.mark.parametrize(
    ("replaced", "problem"),
    [
        ({"test_images": None, "test_labels": None}, "no array test_images and no test_labels;"),
        ({"val_labels": None}, "no array val_labels; a MedMNIST file has train_images"),
        ({"val_images": None}, "no array val_images"),
        (
            {"train_images": np.zeros((N, 8, 8, 8), np.uint8)},
            r"train_images is \(6, 8, 8, 8\) uint8",
        ),
        ({"train_images": np.zeros((N, 8, 8, 4), np.uint8)}, "wants .* in uint8; volumes cannot"),
        ({"train_images": np.zeros((N, 8), np.uint8)}, r"is \(6, 8\) uint8, but wants"),
        ({"train_images": np.zeros((N, 0, 8), np.uint8)}, r"is \(6, 0, 8\) uint8, but wants"),
        ({"train_images": np.zeros((N, 8, 8))}, r"is \(6, 8, 8\) float64, but wants"),
        ({"train_images": np.zeros((N, 8, 8), np.uint16)}, r"is \(6, 8, 8\) uint16, but wants"),
        (
            {"train_labels": np.zeros((N, 14), np.uint8)},
            r"\(6, 14\) uint8.*several labels an image",
        ),
        (
            {"train_labels": np.zeros((N, 1, 1), np.uint8)},
            r"\(6, 1, 1\) uint8, but wants one whole",
        ),
        ({"train_labels": np.zeros((N, 1))}, "float64, but wants one whole number"),
        ({"train_labels": np.array(["a"] * N)}, "but wants one whole number"),
        ({"train_labels": np.uint8(3)}, r"is \(\) uint8, but wants one whole"),
        ({"train_labels": np.array([{"a": 1}] * N, dtype=object)}, "object, but wants one whole"),
        ({"train_images": np.array([{"a": 1}] * N, dtype=object)}, r"is \(6,\) object, but wants"),
        ({"train_labels": np.zeros((5, 1), np.uint8)}, "6 train_images but 5 train_labels"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, replaced: dict[str, Any], problem: str) -> None:
    path = save(tmp_path / "x.npz", arrays(**replaced))
    with pytest.raises(UserError, match=problem) as error:
        read_medmnist(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def content_of(content: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **content)  # type: ignore[arg-type]
    return file.getvalue()


WHOLE = content_of(arrays())


@pytest.mark.parametrize("content", [b"", b"PK", WHOLE[:-40], WHOLE[:200], b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz: damaged, or no \.npz \(.*\); fetch it again"):
        read_medmnist(tmp_path / "x.npz")


def test_an_array_shorter_than_it_says(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, arrays()["train_images"])
    with zipfile.ZipFile(save(tmp_path / "x.npz", arrays(train_images=None)), "a") as archive:
        archive.writestr("train_images.npy", whole.getvalue()[:-1])
    with pytest.raises(UserError, match="train_images is not as long as its shape"):
        read_medmnist(tmp_path / "x.npz")


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), max_size=3),
    st.integers(0, len(WHOLE)),
)
@example([], len(WHOLE))
@settings(max_examples=400)
def test_damage_is_noticed(flips: list[tuple[int, int]], length: int) -> None:
    """Whatever bytes change: one line that names the file, or the same images and labels."""
    content = bytearray(WHOLE)
    for position, bits in flips:
        content[position] ^= bits
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npz")
        path.write_bytes(content if flips else content[:length])
        labels, written, problem = {}, {}, ""
        try:
            labels, written = read_medmnist(path).labels, write(path)
        except UserError as error:
            problem = str(error)
        assert (str(path) in problem and "\n" not in problem) or (labels and not problem)
        for piece in labels:
            expected = arrays()
            assert labels[piece] == expected[f"{piece}_labels"].ravel().tolist()
            for number, pixels in enumerate(expected[f"{piece}_images"]):
                assert np.array_equal(written[f"{piece}/{number:06}"], pixels)


def test_a_file_replaced_between_reading_and_writing(tmp_path: Path) -> None:
    content = read_medmnist(save(tmp_path / "x.npz", arrays()))
    save(tmp_path / "x.npz", arrays(train_labels=np.ones((N, 1), np.uint8)))
    with pytest.raises(UserError, match=r"x\.npz: changed while it was read"):
        write_images(content, tmp_path, lambda _: None)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.npz: cannot be read: No such file"):
        read_medmnist(tmp_path / "x.npz")
