from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import Dataset, Part, Split
from lmdbench.data.splits.availability import prepare_files


class FewImages(Dataset):
    """Three classes with four images each, in two folders: two to train on, one to test on."""

    name = "few"

    def records(self) -> pd.DataFrame:
        ids = [f"{label}{n}" for label in "abc" for n in range(4)]
        return pd.DataFrame(
            {
                "label": [i[0] for i in ids],
                "file": [f"odd/{i}.jpg" if int(i[1]) % 2 else f"even/{i}.jpg" for i in ids],
                "group": "",
            },
            index=ids,
        )

    def split(self, imbalance_factor: float | None, seed: int) -> Split:  # noqa: ARG002
        def part(*numbers: int) -> Part:
            ids = np.array([f"{label}{n}" for n in numbers for label in "abc"])
            return Part(ids, np.array(["abc".index(i[0]) for i in ids]))

        return Split(
            name="given",
            classes=tuple("abc"),
            parts={"train": part(3, 0), "validation": part(1), "test": part(2)},
            groups={"head": ("a",), "medium": ("b",), "tail": ("c",)},
        )


@pytest.fixture
def few(tmp_path: Path) -> FewImages:
    few = FewImages(tmp_path, tmp_path)
    for file in few.records()["file"]:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return few


def remove(few: FewImages, *images: str) -> None:
    assert few.root
    for image in images:
        (few.root / few.records()["file"][image]).unlink()


@pytest.mark.parametrize("allow_missing", [False, True])
def test_complete_images_leave_the_split_alone(few: FewImages, allow_missing: bool) -> None:
    split = few.split(None, 42)
    prepared = prepare_files(few, split, allow_missing)
    assert prepared.split is split
    assert list(prepared.files)[:3] == ["a3", "b3", "c3"]
    assert len(prepared.files) == 12
    assert all(path.is_file() and path.stem == image for image, path in prepared.files.items())


def test_missing_images_stop_unless_allowed(few: FewImages) -> None:
    remove(few, "a0", "b1", "c2", "c3")
    with pytest.raises(UserError) as error:
        prepare_files(few, few.split(None, 42), allow_missing=False)
    message = str(error.value)
    assert (
        f"4 of 12 images are missing under {few.root}, for example odd/c3.jpg, even/a0.jpg"
        in message
    )
    assert "--allow-missing (in a sweep: allow_missing = true) to go on with the 8 that" in message
    assert "\n" not in message


def test_allow_missing_drops_classes_and_numbers_labels_anew(few: FewImages) -> None:
    remove(few, "b2", "c0", "a1")  # b has no test image left
    prepared = prepare_files(few, few.split(None, 42), allow_missing=True)
    split = prepared.split
    assert split.classes == ("a", "c")
    assert split.groups == {"head": ("a",), "tail": ("c",)}
    assert split.partial is not None
    assert (split.partial.missing, split.partial.total) == (3, 12)
    assert split.partial.dropped_classes == ("b",)
    assert split.label == "given-partial"
    assert split.parts["train"].ids.tolist() == ["a3", "c3", "a0"]
    assert split.parts["train"].labels.tolist() == [0, 1, 0]
    assert split.parts["train"].labels.dtype == np.int64
    assert split.parts["validation"].ids.tolist() == ["c1"]
    assert split.parts["test"].labels.tolist() == [0, 1]
    assert set(prepared.files) == {"a3", "c3", "a0", "c1", "a2", "c2"}
    for part in split.parts.values():
        assert [split.classes[label] for label in part.labels] == [i[0] for i in part.ids]


def test_a_class_without_validation_images_stays(few: FewImages) -> None:
    remove(few, "b1")
    split = prepare_files(few, few.split(None, 42), allow_missing=True).split
    assert split.classes == ("a", "b", "c")
    assert split.counts("validation").tolist() == [1, 0, 1]


def test_too_little_is_an_error_even_if_allowed(few: FewImages) -> None:
    remove(few, "b2", "c2")
    with pytest.raises(UserError, match="only 1 of the classes"):
        prepare_files(few, few.split(None, 42), allow_missing=True)


def test_no_image_at_all(few: FewImages, tmp_path: Path) -> None:
    empty = FewImages(tmp_path / "elsewhere", tmp_path)
    with pytest.raises(UserError, match=r"12 of 12 images are missing.*none is there"):
        prepare_files(empty, empty.split(None, 42), allow_missing=True)


def test_a_folder_or_dead_link_is_no_image(few: FewImages) -> None:
    remove(few, "a0", "a1")
    assert few.root
    (few.root / "even" / "a0.jpg").mkdir()
    (few.root / "odd" / "a1.jpg").symlink_to(few.root / "nowhere.jpg")
    (few.root / "odd" / "itself").symlink_to("itself")
    with pytest.raises(UserError, match="2 of 12 images"):
        prepare_files(few, few.split(None, 42), allow_missing=False)
