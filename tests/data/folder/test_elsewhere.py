"""Images of a table that are not where it says: found, or told what they may be called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset
from lmdbench.data.splits.availability import locate, prepare_files, record_files

NAMES = [f"{n:05}.png" for n in range(1, 21)]
Make = Callable[..., Dataset]


@pytest.fixture
def folder(tmp_path: Path) -> Make:
    """A table of images, of which empty files of some names are there."""

    def make(files: Sequence[str], written: Sequence[str], toml: str = "") -> Dataset:
        root = tmp_path / "mine"
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        rows = [f"{name},{'ab'[row % 2]}" for row, name in enumerate(written)]
        (root / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
        if toml:
            (root / "dataset.toml").write_text('table = "labels.csv"\n' + toml)
        return DATASETS.get("folder")(root, tmp_path)

    return make


@pytest.mark.parametrize(
    ("files", "written"),
    [
        ("x/{}.png", r"x\{}.png"),
        ("a b{}.png", "a%20b{}.png"),
        ("\u00e9{}.png", "e\u0301{}.png"),
        ("{}.png", "{}"),
        ("{}.jpg", "{}.JPG"),
        ("{}.jpeg", "{}.jpg"),
        ("photos/{}.png", "{}.png"),
        ("photos/a/{}.jpg", "a/{}"),
    ],
)
def test_what_leaves_no_doubt_is_found_and_told(folder: Make, files: str, written: str) -> None:
    stems = [name[:-4] for name in NAMES]
    dataset = folder([files.format(s) for s in stems], [written.format(s) for s in stems])
    ids = dataset.records().index.tolist()
    assert ids == [written.format(s) for s in stems]  # as the table has them, wherever files lie
    said: list[str] = []
    prepared = prepare_files(dataset, dataset.split(None, 42), False, said.append)
    assert all(file.is_file() for file in prepared.files.values())
    assert len(said) == 1
    assert said[0].startswith("found 20 images though names differ in ")
    assert "(20 of 20 like this)" in said[0]


@pytest.mark.parametrize(
    ("files", "written", "told"),
    [
        ("{:05}.png", "{}.png", "leading zeros, as spreadsheets drop them: 1.png → 00001.png (20"),
        ("{:05}.png", "{}.0", "the ending and leading zeros, as spreadsheets drop them: 1.0 →"),
        ("img{}.png", "IMG{}.png", "capitals: IMG1.png → img1.png (20 of 20 like this); write"),
        ("{}.png", "{}.jpg", "the format in the ending: 1.jpg → 1.png (20 of 20 like this)"),
        ("img/{}.png", "/mnt/x/img/{}.png", "the folders: /mnt/x/img/1.png → img/1.png (20 of 20"),
        ("img/{}.png", r"C:\x\img\{}.png", r"the folders: C:\x\img\1.png → img/1.png (20 of 20"),
        ("b/{}.png", "../a/{}.png", "the folders: ../a/1.png → b/1.png (20 of 20 like this)"),
    ],
)
@pytest.mark.parametrize("allow_missing", [False, True])
def test_what_could_be_another_image_is_told(
    folder: Make, files: str, written: str, told: str, allow_missing: bool
) -> None:
    numbers = range(1, 21)
    dataset = folder([files.format(n) for n in numbers], [written.format(n) for n in numbers])
    with pytest.raises(UserError) as error:
        prepare_files(dataset, dataset.split(None, 42), allow_missing)
    assert "20 of 20 images are missing" in str(error.value)
    assert told in str(error.value)


def test_two_folders_are_found_where_they_hold_all(folder: Make) -> None:
    """As HAM10000 is published: one table, images in two folders."""
    files = [f"part_{n % 2}/{name}" for n, name in enumerate(NAMES)]
    dataset = folder(files, [name[:-4] for name in NAMES])
    located = locate(dataset, record_files(dataset))
    assert not located.missing
    assert 'image_folder = ["part_0", "part_1"] in a dataset.toml with table =' in located.told
    assert dataset.remarks == ()  # they are no images in no row


@pytest.mark.parametrize("said", ["", 'image_folder = ["part_0"]\n', 'image_folder = "part_0"\n'])
def test_the_advice_keeps_the_folders_of_the_others(folder: Make, said: str) -> None:
    home = "part_0/" if said else ""
    files = [f"{home if n % 2 else 'part_1/'}{name}" for n, name in enumerate(NAMES)]
    dataset = folder(files, NAMES, said)
    told = locate(dataset, record_files(dataset)).told
    line = f'image_folder = ["{home[:-1] or "."}", "part_1"]'
    assert line in told
    advised = folder(files, NAMES, line + "\n")
    located = locate(advised, record_files(advised))
    assert (len(located.there), located.told) == (20, "")


def test_of_a_part_of_them_it_is_told_where_they_lie(folder: Make) -> None:
    """What is not there yet could be meant as well."""
    dataset = folder([f"part_1/{name}" for name in NAMES[:-1]], NAMES)
    located = locate(dataset, record_files(dataset))
    assert len(located.missing) == 20
    assert 'part_1/00001.png (19 of 20 like this); say image_folder = "part_1"' in located.told


def test_a_list_of_folders(folder: Make) -> None:
    files = [f"part_{n % 2}/{name}" for n, name in enumerate(NAMES[:-1])]
    toml = 'image_folder = ["part_0", "part_1"]\n'
    dataset = folder(files, NAMES, toml)
    located = locate(dataset, record_files(dataset))
    assert list(located.missing) == NAMES[-1:]
    whole = folder([*files, "part_1/00020.png"], NAMES, toml)
    assert not locate(whole, record_files(whole)).missing
    plain = folder(NAMES, NAMES)
    assert whole.split(None, 42).fingerprint == plain.split(None, 42).fingerprint
    assert dataset.split(None, 42).fingerprint == plain.split(None, 42).fingerprint
    both = folder(["part_0/00020.png"], NAMES, toml)
    with pytest.raises(
        UserError, match=r"00020.png is in two of the image_folder: .*part_0.*part_1"
    ):
        both.records()


def test_an_image_in_two_folders_is_named(folder: Make) -> None:
    dataset = folder([f"{part}/{name}" for part in "xy" for name in NAMES], NAMES)
    located = locate(dataset, record_files(dataset))
    assert len(located.missing) == 20
    assert "such as 00001.png: x/00001.png or y/00001.png; take the others away" in located.told


def test_one_image_under_two_names_is_named(folder: Make) -> None:
    dataset = folder(NAMES, [*NAMES, "00001.PNG"])
    located = locate(dataset, record_files(dataset))
    assert list(located.missing) == ["00001.PNG"]
    assert "is 00001.PNG the image 00001.png, which is listed, too?" in located.told
    with pytest.raises(
        UserError, match=r"line 22: image '00001.png' is listed twice, before in line 2"
    ):
        folder(NAMES, [*NAMES, "./00001.png"]).records()


def test_nothing_is_looked_for_where_all_are_there(
    folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmdbench.datasets.folder.look_for", None)
    dataset = folder(NAMES, NAMES)
    assert not locate(dataset, record_files(dataset)).told
