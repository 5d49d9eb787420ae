"""A folder of images with tables beside: which is taken is said."""

from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset
from lmdbench.data.folder import taken


def folder(root: Path) -> Dataset:
    return DATASETS.get("folder")(root, root / "unused-cache")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Two class folders with four images each."""
    for label in "ab":
        (tmp_path / "mine" / label).mkdir(parents=True)
        for n in range(4):
            (tmp_path / "mine" / label / f"{n}.png").touch()
    return tmp_path / "mine"


ROWS = "image,label\n" + "".join(f"{label}/{n}.png,{label}\n" for label in "ab" for n in range(3))


def test_a_table_is_taken_before_sub_folders(mine: Path) -> None:
    (mine / "labels.csv").write_text(ROWS)
    (line,) = folder(mine).remarks
    assert line == "taken: labels.csv; 2 images in sub-folders in no row of it, such as a/3.png"
    assert folder(mine / "labels.csv").remarks == ()  # given by name, nothing else is meant
    (mine / "labels.csv").write_text(f"{ROWS}a/3.png,a\n{mine}/b/3.png,b\n")
    assert folder(mine).remarks == ()


def test_links_to_nothing_are_no_matter_of_a_table(mine: Path) -> None:
    (mine / "labels.csv").write_text(ROWS)
    (mine / "latest").symlink_to("/nowhere/at/all")
    assert len(folder(mine).remarks) == 1
    assert len(folder(mine).records()) == 6


def test_a_description_is_taken_before_labels_and_sub_folders(mine: Path) -> None:
    (mine / "labels.csv").write_text("image,label\n")
    (mine / "export.csv").write_text(ROWS)
    (mine / "dataset.toml").write_text('table = "export.csv"\n')
    (line,) = folder(mine).remarks
    assert line.startswith("taken: export.csv, as dataset.toml says; 2 images in sub-folders")


def test_sub_folders_are_taken_before_tables_of_other_names(mine: Path) -> None:
    assert folder(mine).remarks == ()
    for name in ("z.csv", "HAM.csv", "x.npz", ".hidden.csv"):
        (mine / name).touch()
    (line,) = folder(mine).remarks
    assert line == (
        "taken: the sub-folders, not HAM.csv, x.npz, z.csv beside them; to take a table, give it: "
        f"--data-root {mine}/HAM.csv"
    )


@pytest.mark.parametrize("inner", [None, "photos"])
def test_tables_without_class_folders_are_named(tmp_path: Path, inner: str | None) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_text(ROWS)
    if inner:
        (tmp_path / inner).mkdir()
        (tmp_path / inner / "1.png").touch()
    with pytest.raises(UserError, match=r"but a\.csv, b\.csv; give .* --data-root .*/a\.csv$"):
        folder(tmp_path).split(None, 42)


def test_large_folders_are_not_looked_through(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / "labels.csv").write_text(ROWS)
    monkeypatch.setattr(taken, "LOOKED_AT", 4)
    (line,) = folder(mine).remarks
    assert "at least 1 image in sub-folders" in line
