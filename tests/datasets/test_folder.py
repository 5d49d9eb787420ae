import os
from pathlib import Path

import numpy as np
import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset, Split, open_dataset
from lmdbench.data.splits.availability import prepare_files


def folder(root: Path) -> Dataset:
    return DATASETS.get("folder")(root, root)


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")


def labels_of(split: Split) -> dict[str, dict[str, str]]:
    return {
        name: {i: split.classes[c] for i, c in zip(part.ids.tolist(), part.labels, strict=True)}
        for name, part in split.parts.items()
    }


def counts(split: Split) -> dict[str, list[int]]:
    return {name: split.counts(name).tolist() for name in split.parts}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"pictures/{c}{n}.png,{c}" for c, size in (("b", 40), ("a", 20)) for n in range(size)]
    return write(tmp_path / "mine.csv", "image,label", *rows)


def test_csv_without_split(table: Path) -> None:
    dataset = folder(table)
    split = dataset.split(None, 42)
    assert dataset.results_name == "folder-mine"
    assert split.label == "random"
    assert split.classes == ("a", "b")
    assert counts(split) == {"train": [14, 28], "validation": [2, 4], "test": [4, 8]}
    assert split.groups == {"head": ("b",), "tail": ("a",)}
    for part in labels_of(split).values():
        assert all(Path(image).name[0] == label for image, label in part.items())
    assert dataset.image_root == table.parent
    assert split.fingerprint == dataset.split(None, 42).fingerprint
    assert split.fingerprint != dataset.split(None, 43).fingerprint
    assert dataset.split(None, 43).label == "random-split43"


def test_the_same_images_in_another_order_have_the_same_split(table: Path) -> None:
    split = folder(table).split(5, 42)
    header, *rows = table.read_text().splitlines()
    write(table, header, *reversed(rows))
    assert folder(table).split(5, 42).fingerprint == split.fingerprint


def test_header_in_any_case_with_bom_blanks_and_absolute_paths(tmp_path: Path) -> None:
    table = write(
        tmp_path / "set" / "labels.csv",
        "Label, IMAGE ,Extra",
        "x,./a.png,1",
        f"x,{tmp_path}/set/sub/b.png,2",
        "",
        f'"y, or z",{tmp_path}/c.png,3',
        '"y, or z",../d.png,4',
        encoding="utf-8-sig",
    )
    for root in (table, table.parent):
        dataset = folder(root)
        assert dataset.results_name == "folder-set"
        assert dataset.records()["label"].to_dict() == {
            "a.png": "x",
            "sub/b.png": "x",
            f"{tmp_path}/c.png": "y, or z",
            "../d.png": "y, or z",
        }
        touch(tmp_path, "set/a.png", "set/sub/b.png", "c.png", "d.png")
        assert len(prepare_files(dataset, dataset.split(None, 1), False).files) == 4


def test_labels_that_look_like_nothing_stay_labels(tmp_path: Path) -> None:
    rows = [f"{label}{n}.png,{label}" for label in ("NA", "None", "007") for n in range(5)]
    split = folder(write(tmp_path / "t.csv", "image,label", *rows)).split(None, 42)
    assert split.classes == ("007", "NA", "None")


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [f"{n}.png,{'x' if n % 60 < 40 else 'y'},p{n // 3}" for n in range(120)]
    dataset = folder(write(tmp_path / "t.csv", "image,label,group", *rows))
    split = dataset.split(None, 42)
    group = dataset.records()["group"]
    held = [set(group[part.ids]) for part in split.parts.values()]
    assert sum(map(len, held)) == len(set().union(*held)) == 40
    assert split.counts("train").tolist() == pytest.approx([56, 28], abs=4)


def test_patients_that_are_no_groups_are_told(tmp_path: Path) -> None:
    """Only where some have several images, and no column is given as the groups."""
    rows = [f"{n}.png,{'xy'[n % 2]},p{n // 3},{n},L{n // 2}" for n in range(60)]
    header = "image,label,Patient_ID,subject_id,lesion"
    table = write(tmp_path / "t.csv", header, *rows)
    line = (
        "groups: none, so images of one patient count as of several, and may be in training and "
        'test; group = "patient_id" under [columns] in a dataset.toml beside it, with table = '
        '"t.csv" keeps them together'
    )
    assert folder(table).remarks == (line,)
    description = tmp_path / "d.toml"
    description.write_text('table = "t.csv"\n[columns]\ngroup = "patient_id"\n')
    assert folder(description).remarks == ()
    assert folder(write(table, header.replace("lesion", "group"), *rows)).remarks == ()
    (line,) = folder(write(table, header.replace("Patient_ID", "ward"), *rows)).remarks
    assert line.startswith("groups: none, so images of one lesion count as of several, and may be")
    alone = [f"{n}.png,{'xy'[n % 2]},p{n}" for n in range(9)] + ["a.png,x,", "b.png,x,"]
    assert folder(write(table, "image,label,patient", *alone)).remarks == ()


def test_a_folder_that_is_given_as_a_data_set_is_told_how(tmp_path: Path) -> None:
    message = f"unknown data set '{tmp_path}'; .* --dataset folder --data-root {tmp_path}$"
    with pytest.raises(UserError, match=message):
        open_dataset(str(tmp_path), None, tmp_path)


def given_rows(validation: bool) -> list[str]:
    words = ["train"] * 32 + ["Testing"] * 8 + (["VAL"] * 4 if validation else [])
    return [f"{c}{n}.png,{c},{word}" for c in "ab" for n, word in enumerate(words)]


def test_given_split(tmp_path: Path) -> None:
    rows = given_rows(validation=True)
    split = folder(write(tmp_path / "t.csv", "image,label,split", *rows)).split(None, 7)
    assert (split.name, split.seed, split.label) == ("given", None, "given")
    assert counts(split) == {"train": [32, 32], "validation": [4, 4], "test": [8, 8]}
    for row in rows:
        image, label, word = row.split(",")
        part = {"train": "train", "Testing": "test", "VAL": "validation"}[word]
        assert labels_of(split)[part][image] == label


def test_given_split_without_validation(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "image,label,split", *given_rows(validation=False))
    split = folder(table).split(None, 7)
    assert counts(split) == {"train": [28, 28], "validation": [4, 4], "test": [8, 8]}
    assert split.label == "given-split7"
    assert split.fingerprint != folder(table).split(None, 8).fingerprint
    tests = [folder(table).split(None, seed).parts["test"].fingerprint for seed in (7, 8)]
    assert tests[0] == tests[1]


def test_carved_validation_keeps_groups_together(tmp_path: Path) -> None:
    rows = [f"{n}.png,{'xy'[n % 2]},p{n // 4},train" for n in range(160)]
    rows += [f"t{n}.png,{'xy'[n % 2]},q,test" for n in range(4)]
    dataset = folder(write(tmp_path / "t.csv", "image,label,group,split", *rows))
    split, group = dataset.split(None, 42), dataset.records()["group"]
    assert split.counts("validation").tolist() == [10, 10]
    assert not set(group[split.parts["train"].ids]) & set(group[split.parts["validation"].ids])


def test_imbalance_factor_cuts_whole_classes_before_the_division(table: Path) -> None:
    split = folder(table).split(10, 42)  # 40 and 20 images become 40 and 4
    assert counts(split) == {"train": [3, 28], "validation": [0, 4], "test": [1, 8]}
    assert split.label == "random-if10"


def test_imbalance_factor_cuts_only_the_training_part_of_a_given_split(tmp_path: Path) -> None:
    table = write(tmp_path / "t.csv", "image,label,split", *given_rows(validation=True))
    split = folder(table).split(8, 42)
    assert counts(split) == {"train": [32, 4], "validation": [4, 4], "test": [8, 8]}
    assert (split.seed, split.imbalance_factor, split.measured_imbalance) == (42, 8, 8)
    uncut = folder(table).split(None, 42)
    assert set(split.parts["train"].ids) < set(uncut.parts["train"].ids)


@pytest.mark.parametrize(("factor", "named"), [(1, "2 to 39.9"), (41, "2 to 39.9")])
def test_impossible_factor(table: Path, factor: float, named: str) -> None:
    with pytest.raises(UserError, match=f"mine.csv: imbalance factor.*possible here: {named}"):
        folder(table).split(factor, 42)


FOUR = ("a.png,x", "b.png,x", "c.png,y", "d.png,y")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["image,diagnosis", "a.png,x"], "no column 'label'; its columns are 'image', 'diagnosis'"),
        (["a.png,x", "b.png,y"], "no column 'image'; its columns are 'a.png'"),
        (["image,label"], "no rows"),
        (["image,label", *FOUR, "e.png,"], "1 row of 5 without a label, in line 6; fill"),
        (["image,label", *FOUR, " ,x"], "line 6: image is empty"),
        (["image,label", *FOUR, "e.png"], "line 6: 1 values"),
        (["image,label", *FOUR, "./a.png,x"], "line 6: image 'a.png' is listed twice.* line 2"),
        (["image,label", *FOUR, "a.png,y"], "line 6: image 'a.png' is listed twice"),
        (
            ["image,label,split", "a.png,x,train", "", "b.png,x,held-out"],
            "line 4: split 'held-out'",
        ),
        (["image,label,split", "a.png,x,train", "b.png,x,"], "line 3: split ''"),
        (["image,label,label", "a,x,x"], "column 'label' is there twice"),
        (
            ["image;label;age, years", "a.png;x;1,5"],
            "separated by ';'. save it with commas, or say separator = \";\" in a dataset.toml",
        ),
        (["image;label;age", "a.png;x;1;5"], r"4 values where .* 3 columns .a value with a semic"),
        (["image,label", *FOUR, "image,label", "e.png,x"], "line 6: the header again"),
        (["image,label", "a.png,x", "b.png,x"], "only one class, 'x'"),
        (["image,label", *FOUR, "e.png,z"], "class 'z' has 1 image"),
        (
            ["image,label,split", "a,x,train", "b,x,test", "c,y,train", "d,z,test"],
            "no train image of z and no test image of y",
        ),
        (
            [
                "image,label,group,split",
                "a,x,p1,train",
                "b,x,p1,test",
                "c,y,p2,train",
                "d,y,p3,test",
            ],
            r"more than one part: p1 \(train, test\); mend",
        ),
        (["image,label", '"a.png,x'], "not a readable CSV"),
    ],
)
def test_broken_tables(tmp_path: Path, lines: list[str], problem: str) -> None:
    table = write(tmp_path / "t.csv", *lines)
    with pytest.raises(UserError, match=problem) as error:
        folder(table).split(None, 42)
    assert "t.csv" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        ("image,label\nnärvus.png,x\n".encode("latin-1"), "not a CSV in UTF-8"),
        ("image,label\na.png,x\n".encode("utf-16-le"), "looks like UTF-16"),
        (b"PK\x03\x04...", "is a workbook .*save the table as CSV in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a CSV in UTF-8"),
    ],
)
def test_files_that_are_no_tables(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=problem):
        folder(tmp_path / "t.csv").split(None, 42)


def test_a_folder_a_class(tmp_path: Path) -> None:
    root = tmp_path / "skin lesions"
    touch(root, *(f"mole/{n}.JPG" for n in range(10)), *(f"wart/p{n}/i.webp" for n in range(5)))
    touch(root, "mole/notes.txt", "mole/.hidden.png", ".git/x.png", "__MACOSX/y.png", "stray.png")
    dataset = folder(root)
    split = dataset.split(None, 42)
    assert dataset.results_name == "folder-skin-lesions"
    assert counts(split) == {"train": [7, 3], "validation": [1, 1], "test": [2, 1]}
    everything = {i: c for part in labels_of(split).values() for i, c in part.items()}
    assert everything["mole/3.JPG"] == "mole"
    assert everything["wart/p2/i.webp"] == "wart"
    assert prepare_files(dataset, split, allow_missing=False).split is split


def test_a_folder_a_part_and_class(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"{p}/{c}/{n}.png" for p in ("Train", "val", "test") for c in "ab" for n in "12"),
    )
    touch(tmp_path, "docs/readme.txt")
    split = folder(tmp_path).split(None, 42)
    assert split.label == "given"
    assert counts(split) == {"train": [2, 2], "validation": [2, 2], "test": [2, 2]}
    for name, word in (("train", "Train"), ("validation", "val"), ("test", "test")):
        assert set(labels_of(split)[name]) == {f"{word}/{c}/{n}.png" for c in "ab" for n in "12"}
        assert all(image.split("/")[1] == c for image, c in labels_of(split)[name].items())


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], "neither a labels.csv nor a sub-folder"),
        (["a/1.png", "a/2.png", "b/readme.txt"], "class folder 'b' has no images"),
        (["a/1.png", "b/1.heic", "b/2.heic"], "'b' has no images .*, only 2 .heic, such as 1.heic"),
        (["train/a/1.svs", "test/a/2.svs"], "no images in the class folders .*, only 2 .svs"),
        (["a/1.png", "a/2.png"], "only one class, 'a'"),
        (["a/1.png", "b/1.png", "b/2.png"], "class 'a' has 1 image"),
        (["train/a/1.png", "train/b/1.png", "val/a/1.png"], "has train, val but no folder test"),
        (["train/1.png", "test/2.png"], "no images in the class folders of"),
        (["train/a/1.png", "test/a/2.png", "train/b/1.png"], "no test image of b"),
        (["train/a/1.png", "test/a/2.png", "more/a/3.png"], "'more' holds images"),
        (["train/a/1.png", "test/a/2.png", "testing/a/3.png"], "more than one folder for test"),
    ],
)
def test_folders_that_make_no_data_set(tmp_path: Path, files: list[str], problem: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=problem) as error:
        folder(tmp_path).split(None, 42)
    assert str(tmp_path) in str(error.value)


def test_what_is_left_out_of_class_folders_is_remarked(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{n}.png" for c in "ab" for n in range(4)), "b/1.heic", "b/IM2")
    touch(tmp_path, "stray.png", "notes.txt")
    assert folder(tmp_path).remarks == (
        "not read: 2 files in class folders: 1 without ending, 1 .heic, such as b/1.heic; "
        "convert or rename those that are images",
        "not used: 1 image beside the class folders, such as stray.png",
    )


def test_what_is_left_out_of_parts_is_remarked(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"{part}/{c}/{n}.png" for part in ("train", "test") for c in "ab" for n in "12")
    )
    touch(tmp_path, "test/b/x.svs", "train/stray.png")
    (tmp_path / "test" / "a" / "train").symlink_to("../../train/a")
    assert folder(tmp_path).remarks == (
        "not read: 1 file in class folders: 1 .svs, such as test/b/x.svs; "
        "convert or rename those that are images",
        "taken twice, by links: train/a is test/a/train; remove one, they are the same",
        "not used: 1 image beside the class folders, such as train/stray.png",
    )


def test_class_folders_that_are_links(tmp_path: Path) -> None:
    touch(tmp_path / "disk", *(f"{c}/{n}.png" for c in "ab" for n in range(4)))
    root = tmp_path / "mine"
    root.mkdir()
    for name in "ab":
        (root / name).symlink_to(tmp_path / "disk" / name)
    (root / "self").symlink_to(".")
    (tmp_path / "linked").symlink_to("mine")
    for path in (root, tmp_path / "linked"):
        assert folder(path).split(None, 42).classes == ("a", "b")
    (root / "c").symlink_to(tmp_path / "unmounted" / "c")
    with pytest.raises(UserError, match=r"mine/c: a link to nothing .*unmounted/c"):
        folder(root).split(None, 42)


def test_names_that_are_nearly_the_same_are_different_images(tmp_path: Path) -> None:
    names = ["1.png", "1.PNG", "\u00e9.png", "e\u0301.png", f"{'x' * 251}.png", " 1.png"]
    touch(tmp_path, *(f"{c}/{name}" for c in "ab" for name in names))
    dataset = folder(tmp_path)
    split = dataset.split(None, 42)
    assert len(dataset.records()) == 12
    assert prepare_files(dataset, split, allow_missing=False).split is split


@pytest.mark.parametrize("name", [b"n\xe4vus.png", b"two\nlines.png"])
def test_names_that_cannot_be_hashed(tmp_path: Path, name: bytes) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "b/1.png", "b/2.png")
    (tmp_path / "b" / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(UserError, match="line break or is not UTF-8") as error:
        folder(tmp_path).split(None, 42)
    assert "\n" not in str(error.value).encode().decode()


def test_one_training_image_in_a_class_is_enough(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", *(f"b/{n}.png" for n in range(20)))
    assert counts(folder(tmp_path).split(None, 42))["train"] == [1, 14]


@pytest.mark.parametrize(
    ("factor", "seed", "fingerprint"),
    [
        (None, 42, "a49d8e65651c1a6a46f8f7ce01cadf8e825cdfa71f8b1674b69a59694b975dd6"),
        (10, 7, "e1badaf46a3980a8a7beb82825ec1d6345557bc400f08c08973863189d22652d"),
    ],
)
def test_splits_are_the_same_as_ever(
    table: Path, factor: float | None, seed: int, fingerprint: str
) -> None:
    """Runs are identified by this; a change would orphan them."""
    assert folder(table).split(factor, seed).fingerprint == fingerprint


def test_the_order_of_a_given_list_of_folders_and_files(tmp_path: Path) -> None:
    """A description comes before a table, a table before folders, folders before a .npz."""
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"x\.npz: no array train_images"):
        folder(tmp_path).split(None, 42)
    touch(tmp_path, "docs/readme.txt")
    with pytest.raises(UserError, match=r"x\.npz: no array train_images"):
        folder(tmp_path).split(None, 42)
    np.savez(tmp_path / "y.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"several \.npz files \(x\.npz, y\.npz\); name one"):
        folder(tmp_path)
    (tmp_path / "docs" / "readme.txt").unlink()
    (tmp_path / "docs").rmdir()
    touch(tmp_path, *(f"{c}/{n}.png" for c in "ab" for n in "123"))
    assert set(folder(tmp_path).records().index) == {f"{c}/{n}.png" for c in "ab" for n in "123"}
    write(tmp_path / "labels.csv", "image,label", *FOUR)
    assert set(folder(tmp_path).records().index) == {"a.png", "b.png", "c.png", "d.png"}
    write(tmp_path / "dataset.toml", 'images = "."')
    assert set(folder(tmp_path).records().index) == {f"{c}/{n}.png" for c in "ab" for n in "123"}
