"""Arrays as a folder: what is written is what was given, and what is none is told."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import open_dataset
from lmdbench.data.folder.arrays import image_array, write_arrays
from lmdbench.data.store.decoding import decode


def drawn(n, *shape):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def test_the_images_and_labels_of_a_folder_are_those_given(tmp_path):
    images = drawn(8, 16, 16, 3)
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    parts = {"train": (images[:4], labels[:4]), "test": (images[4:], labels[4:])}
    root = write_arrays(parts, tmp_path, "two", ["nv", "mel"])
    data = open_dataset("folder", root, tmp_path)
    assert data.results_name == "folder-two"
    records = data.records()
    assert list(records["label"]) == ["nv", "mel"] * 4
    split = data.split(None, 42)
    assert split.classes == ("nv", "mel")
    assert len(split.parts["test"]) == 4
    for file, image in zip(records["file"], images, strict=True):
        pixels = decode((root / file).read_bytes(), 16)
        assert np.array_equal(pixels, image.transpose(2, 0, 1))


def test_they_are_written_once_and_others_lie_beside(tmp_path):
    images, labels = drawn(20, 8, 8), [0, 1] * 10
    first = write_arrays({"train": (images, labels)}, tmp_path, "some")
    (marked,) = first.glob("*/000000.png")
    written = marked.stat().st_mtime_ns
    assert write_arrays({"train": (images, labels)}, tmp_path, "some") == first
    assert marked.stat().st_mtime_ns == written
    images[0, 0, 0] ^= 1
    assert write_arrays({"train": (images, labels)}, tmp_path, "some") != first
    swapped = write_arrays({"train": (images, labels)}, tmp_path, "some", ["b", "a"])
    assert open_dataset("folder", swapped, tmp_path).split(None, 42).classes == ("b", "a")


def test_groups_are_kept(tmp_path):
    root = write_arrays({"train": (drawn(4, 8, 8), [0, 1, 0, 1], [7, 7, 8, ""])}, tmp_path, "some")
    records = open_dataset("folder", root, tmp_path).records()
    assert list(records["group"]) == ["7", "7", "8", ""]


def test_groups_are_what_they_say(tmp_path):
    """A patient 0 is one, however many images there are; no id is none."""
    images, labels = drawn(40, 8, 8), [0, 1] * 20
    patients = np.where(np.arange(40) < 20, 0, np.arange(40))
    root = write_arrays({"train": (images, labels, patients)}, tmp_path, "some")
    data = open_dataset("folder", root, tmp_path)
    assert list(data.records()["group"]) == [str(patient) for patient in patients]
    assert data.remarks == ()
    for none in (None, float("nan"), "", -1, "NA"):
        groups = [none if n % 2 else n // 4 for n in range(40)]
        data = open_dataset(
            "folder", write_arrays({"train": (images, labels, groups)}, tmp_path, "b"), tmp_path
        )
        assert list(data.records()["group"])[:3] == ["0", "", "0"]
        assert "20 images have none" in data.remarks[0]


def test_a_description_of_an_earlier_version_is_written_anew(tmp_path):
    part = (drawn(40, 8, 8), [0, 1] * 20, [n // 30 for n in range(40)])
    root = write_arrays({"train": part}, tmp_path, "some")
    (root / "dataset.toml").write_text('table = "labels.csv"\nclass_order = ["000", "001"]\n')
    assert "30 images have none" in open_dataset("folder", root, tmp_path).remarks[0]
    assert write_arrays({"train": part}, tmp_path, "some") == root
    assert open_dataset("folder", root, tmp_path).remarks == ()


def test_spellings_of_labels(tmp_path):
    images = drawn(40, 8, 8)
    labels = ["mel", "Mel", "nv", "nv "] * 10
    with pytest.raises(UserError, match=r"'Mel' \(10 images\); make them one, or give classes"):
        write_arrays({"train": (images, labels)}, tmp_path, "some")
    root = write_arrays({"train": (images, labels)}, tmp_path, "some", ["mel", "Mel", "nv "])
    assert open_dataset("folder", root, tmp_path).split(None, 42).classes == ("mel", "Mel", "nv")


IMAGE = drawn(1, 5, 4, 3)[0]


@pytest.mark.parametrize(
    "image", [IMAGE, IMAGE.transpose(2, 0, 1), torch.from_numpy(IMAGE).permute(2, 0, 1)]
)
def test_channels_may_come_first_or_last(image):
    assert np.array_equal(image_array(image, "it"), IMAGE)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(4, 9), st.integers(4, 9))))
def test_grey_images_stay_what_they_are(image):
    for shaped in (image, image[None], image[:, :, None]):
        assert np.array_equal(image_array(shaped, "it"), image)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "no training images"),
        ({"test": (IMAGE[None], [0])}, "no training images: test is given"),
        ({"train": (IMAGE[None],)}, "train: give (images, labels)"),
        ({"train": (IMAGE[None], [0]), "val": (IMAGE[None], [0])}, "part 'val': there are train"),
        ({"train": (IMAGE[None], [0, 1])}, "train: 1 images but 2 labels"),
        ({"train": (IMAGE[None], [0], ["a", "b"])}, "train: 1 images but 2 groups"),
        ({"train": (IMAGE[None] / 255, [0])}, "train image 0: its numbers are float64, not uint8"),
        ({"train": (IMAGE[None, :, :, :2], [0])}, "train image 0: its shape is (5, 4, 2)"),
        ({"train": (drawn(1, 4), [0])}, "train image 0: its shape is (4,)"),
        ({"train": (IMAGE[None], [-1])}, "the label -1 is not the index of a class"),
        ({"train": (IMAGE[None], [2])}, "the label 2 is not the index of a class"),
        ({"train": (IMAGE[None], ["x"])}, "the label 'x' is none of the classes"),
        ({"train": (IMAGE[None], [0.5])}, "the label 0.5 is neither a class index nor a name"),
        ({"train": (IMAGE[None], [True])}, "the label True is neither a class index nor a name"),
        ({"train": (IMAGE[None], np.eye(2)[:1])}, "give one an image, (N,)"),
    ],
)
def test_what_are_no_images_or_labels_is_one_line(parts, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        write_arrays(parts, tmp_path, "some", ["a", "b"])
    assert "\n" not in str(caught.value)
