"""Labels and classes of a user's own images as people write them."""

import re
from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset


def folder(root: Path) -> Dataset:
    return DATASETS.get("folder")(root, root)


def write(root: Path, header: str, rows: list[str], *described: str) -> Path:
    text = "\n".join([header, *(f"{n}.png,{row}" for n, row in enumerate(rows))])
    (root / "t.csv").write_text(text + "\n", encoding="utf-8")
    (root / "dataset.toml").write_text("\n".join(['table = "t.csv"', *described]) + "\n")
    return root


def classes(root: Path) -> dict[str, int]:
    dataset = folder(root)
    split = dataset.split(None, 42)
    sizes = dataset.records()["label"].value_counts().to_dict()
    assert set(split.classes) == set(sizes)
    return {label: sizes[label] for label in split.classes}


def refused(root: Path, problem: str) -> str:
    with pytest.raises(UserError, match=problem) as caught:
        folder(root).split(None, 42)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


TYPED = ["melanoma", "nevus", "melanoma", "Nevus", "Melanoma", "nevus "] * 10
SPELLINGS = "classes that differ in spelling only: .*'melanoma' .20 images., 'Melanoma' .10 images."


def test_classes_that_differ_in_spelling_are_refused_with_the_way(tmp_path: Path) -> None:
    root = write(tmp_path, "image,label", TYPED)
    told = refused(root, SPELLINGS)
    assert "'nevus' (20 images), 'Nevus' (10 images)" in told
    assert "merge_spellings = true in dataset.toml makes one class of each, false" in told
    (root / "dataset.toml").unlink()
    (root / "t.csv").rename(root / "labels.csv")
    assert 'a dataset.toml beside it, with table = "labels.csv"' in refused(root, SPELLINGS)


def test_they_are_merged_into_the_commonest_or_kept_apart(tmp_path: Path) -> None:
    root = write(tmp_path, "image,label", TYPED, "merge_spellings = true")
    assert classes(root) == {"melanoma": 30, "nevus": 30}
    (told,) = folder(root).remarks
    assert told == "classes: 'Melanoma' (10) as 'melanoma', 'Nevus' (10) as 'nevus', spelt alike"
    write(tmp_path, "image,label", TYPED, "merge_spellings = false")
    assert list(classes(root)) == ["Melanoma", "Nevus", "melanoma", "nevus"]
    assert "kept apart, as merge_spellings says" in folder(root).remarks[0]
    write(tmp_path, "image,label", ["a", "b"] * 10, "merge_spellings = true")
    assert (classes(root), folder(root).remarks) == ({"a": 10, "b": 10}, ())


def test_codes_named_in_full_are_as_named_and_others_alike_are_not_dropped(tmp_path: Path) -> None:
    labels = ["D22"] * 10 + ["d22"] * 5 + ["C43"] * 10
    named = ["[classes]", 'D22 = "nevus"', 'C43 = "melanoma"']
    root = write(tmp_path, "image,label", labels, 'other_classes = "drop"', *named)
    refused(root, "spelling only: .*'D22' .10 images., 'd22' .5 images.")
    write(tmp_path, "image,label", labels, *named, 'd22 = "nevus"')
    assert classes(root) == {"melanoma": 10, "nevus": 15}
    write(tmp_path, "image,label", labels, "merge_spellings = true", *named)
    assert classes(root) == {"melanoma": 10, "nevus": 15}
    write(
        tmp_path, "image,label", labels, 'other_classes = "drop"', "merge_spellings = false", *named
    )
    assert classes(root) == {"melanoma": 10, "nevus": 10}
    assert 'left out: 5 images of other codes ("d22": 5)' in folder(root).remarks
    write(tmp_path, "image,label", labels, *named, 'd22 = "Nevus"')
    refused(root, "spelling only: .*'nevus' .10 images., 'Nevus' .5 images.")


@pytest.mark.parametrize("folders", [("Melanoma", "melanoma", "nevus"), ("a b", "a_b", "c")])
def test_class_folders_are_looked_at_too(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
        for n in range(3):
            (tmp_path / name / f"{n}.png").touch()
    told = refused(
        tmp_path, f"spelling only: .*{folders[0]!r} .3 images., {folders[1]!r} .3 images"
    )
    assert 'a dataset.toml beside it, with images = "."' in told
    (tmp_path / "dataset.toml").write_text('images = "."\nmerge_spellings = true\n')
    assert classes(tmp_path) == {folders[0]: 6, folders[2]: 3}


def test_a_class_that_one_part_spells_otherwise(tmp_path: Path) -> None:
    for name in ("train/Melanoma", "train/nevus", "test/melanoma", "test/nevus"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").touch()
    refused(tmp_path, "spelling only: .*'Melanoma' .1 image., 'melanoma' .1 image.")


@pytest.mark.parametrize("label", ["a\tb", "a\x1bb", "a\x7f", '"a\nb"', "a\u2028b"])
def test_control_characters_in_a_class_are_refused_as_they_are_read(
    tmp_path: Path, label: str
) -> None:
    root = write(tmp_path, "image,label", [label, "c"] * 10)
    told = refused(root, "the class .* .10 images. has a line break, a tab or another control")
    assert "\x1b" not in told
    code = ascii(label.strip('"'))[1:-1].replace("\\x", "\\u00")
    described = f'table = "t.csv"\n[classes]\nc = "c"\n"{code}" = "ab"'
    (root / "dataset.toml").write_text(described)
    assert set(classes(root)) == {"ab", "c"}


def test_rows_without_a_label_are_refused_with_their_lines_or_dropped(tmp_path: Path) -> None:
    labels = ["a", "b", "", "", "a", "b", "a", "b", "", "a", "b", "", "", ""]
    root = write(tmp_path, "image,label", labels)
    told = refused(root, "6 rows of 14 without a label, in line 4, 5, 10, 13, 14 and 1 more; ")
    assert 'other_classes = "drop" in dataset.toml' in told
    labels[3], labels[8], labels[11] = "nan", "NA", "N/A"
    write(tmp_path, "image,label", labels, 'other_classes = "drop"')
    assert classes(root) == {"a": 4, "b": 4}
    assert folder(root).remarks == (
        'left out: 6 images without a label (empty: 3, "nan": 1, "NA": 1, "N/A": 1)',
    )
    write(tmp_path, "image,label", labels[3:8], "[classes]", 'nan = "c"', 'a = "a"', 'b = "b"')
    assert set(folder(root).records()["label"]) == {"a", "b", "c"}


def test_labels_that_join_others_are_told(tmp_path: Path) -> None:
    """As the findings of chest X-rays are written."""
    labels = ["Mass", "Effusion", "Mass|Effusion", "effusion; Mass", "and/or", "Mass|Nodule"]
    root = write(tmp_path, "image,label", [*labels * 4])
    (told,) = folder(root).remarks
    assert told.startswith(
        'classes: "Mass|Effusion" (4 images), "effusion; Mass" (4 images) taken as a class of its'
    )
    assert "an image has one class: [classes] in dataset.toml says which" in told
    drop = 'other_classes = "drop"'
    write(tmp_path, "image,label", labels * 4, drop, "[classes]", 'Mass = "m"', 'Effusion = "e"')
    assert classes(root) == {"m": 4, "e": 4}
    assert not any("joins others" in line for line in folder(root).remarks)


def test_a_class_that_may_stand_for_unknown_is_told(tmp_path: Path) -> None:
    root = write(tmp_path, "image,label", ["none", "polyp"] * 10)
    assert classes(root) == {"none": 10, "polyp": 10}
    assert folder(root).remarks == ('classes: "none" (10 images) taken as a class like any other',)
    write(tmp_path, "image,label", ["nan", "polyp", "none"] * 10)
    assert set(classes(root)) == {"nan", "polyp", "none"}
    (told,) = folder(root).remarks
    assert '"nan" (10 images), "none" (10 images) taken' in told
    assert 'other_classes = "drop" in dataset.toml leaves "nan" out' in told


ISIC = ["1.0,0.0,0.0,0.0", "0.0,1.0,0.0,0.0", "0.0,0.0,1.0,0.0"] * 8


@pytest.mark.parametrize(
    "rows",
    [
        ISIC,
        [row.replace(".0", "") for row in ISIC],
        [row.replace("1.0", "True").replace("0.0", "False") for row in ISIC],
        [re.sub(r"(\d)\.(\d)", r'"\1,\2"', row) for row in ISIC],
    ],
    ids=["0.0", "0", "True", "0,0"],
)
def test_one_hot_tables(tmp_path: Path, rows: list[str]) -> None:
    root = write(tmp_path, "image,MEL,NV,Bcc,UNK", rows)
    assert classes(root) == {"MEL": 8, "NV": 8, "Bcc": 8}  # in the order of the columns
    assert folder(root).remarks == (
        "labels: from the columns of 0 and 1 MEL, NV, Bcc; no class, as 0 in every row: UNK",
    )


def test_one_hot_beside_other_columns(tmp_path: Path) -> None:
    rows = [f"{row},{n % 2},p{n},{n}.5" for n, row in enumerate(ISIC)]
    root = write(tmp_path, "image,MEL,NV,BCC,UNK,smoker,group,age", rows)
    told = refused(
        root, "12 rows with 1 in several of the columns MEL, NV, BCC, UNK, smoker: line 3"
    )
    assert "line 3 (NV and smoker)" in told
    assert "under [columns]" in told
    columns = ["[columns]", 'label = ["mel", "NV", "BCC"]']
    write(tmp_path, "image,MEL,NV,BCC,UNK,smoker,group,age", rows, *columns)
    assert classes(root) == {"MEL": 8, "NV": 8, "BCC": 8}
    write(tmp_path, "image,MEL,NV", ["1,0", "0,1", "0,0"], *columns)
    refused(root, "columns.label: unknown column of t.csv 'BCC'. ")
    write(tmp_path, "image,MEL,NV,BCC", ["1,0,0", "0,1,0", "0,0.5,0.5"], *columns)
    refused(root, "line 4: NV is '0.5'; columns of classes hold 0 and 1")


@pytest.mark.parametrize("cells", [("1", ""), ("x", ""), ("yes", "no"), ("Y", "N")])
def test_one_hot_tables_by_hand(tmp_path: Path, cells: tuple[str, str]) -> None:
    one, zero = cells
    rows = [",".join(one if n % 3 == c else zero for c in range(3)) for n in range(24)]
    assert classes(write(tmp_path, "image,MEL,NV,BCC", rows)) == {"MEL": 8, "NV": 8, "BCC": 8}


def test_labels_that_contradict_columns_of_0_and_1(tmp_path: Path) -> None:
    labels = ["mel", "NV", "BCC"] * 8
    rows = [f"{label},{row}" for label, row in zip(labels, ISIC, strict=True)]
    header = "image,label,MEL,NV,BCC,UNK"
    assert classes(write(tmp_path, header, rows)) == {"BCC": 8, "NV": 8, "mel": 8}
    rows[:2] = [f"NV,{ISIC[0]}", f"mel,{ISIC[1]}"]
    told = refused(write(tmp_path, header, rows), "2 rows of 24 whose label contradicts the col")
    assert "line 2 (NV), line 3 (mel); mend them, or say which counts" in told
    codes = ["[classes]", 'mel = "melanoma"', 'NV = "nevus"', 'BCC = "bcc"']
    refused(write(tmp_path, header, rows, *codes), "2 rows of 24 whose label contradicts")
    columns = ["[columns]", 'label = "label"']
    assert classes(write(tmp_path, header, rows, *columns)) == {"BCC": 8, "NV": 8, "mel": 8}
    columns = ["[columns]", 'label = ["MEL", "NV", "BCC"]']
    assert classes(write(tmp_path, header, rows, *columns)) == {"MEL": 8, "NV": 8, "BCC": 8}


def test_columns_that_only_share_a_name_with_a_label_are_none(tmp_path: Path) -> None:
    rows = [f"{('scar', 'nevus')[n % 2]},{n // 2 % 2},{n // 3 % 2}" for n in range(20)]
    assert classes(write(tmp_path, "image,label,scar,smoker", rows)) == {"nevus": 10, "scar": 10}


def test_one_hot_rows_without_a_class(tmp_path: Path) -> None:
    rows = [*ISIC, "0.0,0.0,0.0,0.0"]
    root = write(tmp_path, "image,MEL,NV,BCC,UNK", rows)
    refused(root, r"1 row of 25 without a label \(\"0 in each column\": 1\), in line 26; fill")
    write(tmp_path, "image,MEL,NV,BCC,UNK", rows, 'other_classes = "drop"')
    assert sum(classes(root).values()) == 24
    assert 'left out: 1 image without a label ("0 in each column": 1)' in folder(root).remarks


def test_tables_that_look_like_something_else(tmp_path: Path) -> None:
    root = write(tmp_path, "image,MEL,NV", ["0.9,0.1", "0.25,0.75"])
    refused(root, "no column 'label', but MEL, NV look like probabilities of classes; training")
    write(tmp_path, "image,malignant", ["0", "1"])
    told = refused(root, "no column 'label'; its columns are 'image', 'malignant'; say which it is")
    assert "under [columns] in dataset.toml" in told
    write(tmp_path, "path,malignant", ["0", "1"])
    told = refused(root, "no column 'image'; its columns are 'path', 'malignant'")
    assert told.endswith('if one is the image, say image = "…" under [columns] in dataset.toml')


def test_rows_that_excel_cut_short(tmp_path: Path) -> None:
    """It leaves out separators behind the last filled cell, of some rows."""
    rows = [f"{'ab'[n % 2]},p{n // 2},x" for n in range(20)]
    header = "image,label,group,note"
    root = write(tmp_path, header, rows)
    whole = folder(root).split(None, 42).fingerprint
    write(tmp_path, header, [rows[0], *(row[:-2] for row in rows[1:3]), *rows[3:]])
    assert folder(root).split(None, 42).fingerprint == whole
    (told,) = folder(root).remarks
    assert told.startswith("rows: 2 of 20 are shorter than the header (line 3, 4); what they lack")
    write(tmp_path, header, ["a", *rows[1:]])
    assert "lesions: 1 image has none (empty: 1)" in folder(root).remarks
    for header in ("image,group,label,note", "image,group,note,split", "image,note,group,fold"):
        write(tmp_path, header, ["p0", *rows[1:]])
        refused(root, "line 2: 2 values where the header has 4 columns")


@pytest.mark.parametrize(
    "names",
    [("a/b", "..", "c|d"), ("$x_1$", "<b>", "100 %"), ("=1+1", "-", "é, ü"), ("CON", "a;b", "痣")],
)
def test_names_of_any_letters_are_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = write(tmp_path, "image,label", [f'"{name}"' for name in names] * 10)
    assert classes(root) == dict.fromkeys(sorted(names), 10)
