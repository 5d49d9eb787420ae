"""Images of one's own as a ``dataset.toml`` describes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.data.dataset import DATASETS, Dataset, Split
from lmdbench.data.reading import read_split
from lmdbench.data.splits.availability import prepare_files
from lmdbench.data.splits.spec import SplitSpec, make_split

CODES = {"C43": 12, "D22.1": 10, "D22.9": 10, "L82": 6, "Z01": 4}  # code → images
CLASSES = """
[classes]
"D22.1" = "nevus"
"D22.9" = "nevus"
C43 = "melanoma"
L82 = "keratosis"
"""
TABLE = """
table = "export.csv"
image_folder = "photos"
image_suffix = ".png"
[columns]
image = "Filename"
label = "dx"
group = "patient"
"""


def folder(root: Path) -> Dataset:
    return DATASETS.get("folder")(root, root)


def labels_of(split: Split) -> dict[str, str]:
    return {
        image: split.classes[c]
        for part in split.parts.values()
        for image, c in zip(part.ids.tolist(), part.labels, strict=True)
    }


@pytest.fixture
def clinic(tmp_path: Path) -> Callable[[str], Path]:
    """Writes an export of 42 rows, two for each patient, and a description of it."""

    def make(text: str) -> Path:
        root = tmp_path / "clinic"
        root.mkdir(exist_ok=True)
        rows = [f"{code}/{n},{code}" for code, size in CODES.items() for n in range(size)]
        lines = [f"p{row // 2},{line},x" for row, line in enumerate(rows)]
        (root / "export.csv").write_text("\n".join(["patient,FILENAME,Dx,label", *lines]) + "\n")
        (root / "dataset.toml").write_text(text)
        return root

    return make


def test_a_table_with_its_own_columns(clinic: Callable[[str], Path]) -> None:
    root = clinic(TABLE)
    dataset = folder(root)
    split = dataset.split(None, 42)
    assert dataset.results_name == "folder-clinic"
    assert dataset.image_root == root / "photos"
    assert split.classes == tuple(CODES)
    assert labels_of(split) == {f"{c}/{n}.png": c for c in CODES for n in range(CODES[c])}
    group = dataset.records()["group"]
    assert group["C43/3.png"] == "p1"
    held = [set(group[part.ids]) for part in split.parts.values()]
    assert sum(map(len, held)) == len(set().union(*held)) == 21
    for name in labels_of(split):
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "photos" / name).touch()
    assert len(prepare_files(dataset, split, False).files) == 42


def test_all_columns_but_the_images_can_be_read(clinic: Callable[[str], Path]) -> None:
    dataset = folder(clinic(TABLE))
    found = dataset.metadata()
    assert list(found.columns) == ["patient", "Dx", "label"]  # as the header writes them
    assert found.loc["C43/3.png"].tolist() == ["p1", "C43", "x"]
    assert len(found) == 42
    assert dataset.group_unit == "patient"


def test_folders_have_no_columns(tmp_path: Path) -> None:
    for label in ("nevus", "melanoma"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").touch()
    with pytest.raises(UserError, match="its images are listed in no table"):
        folder(tmp_path).metadata()


def test_the_class_attributes_stay_as_they_are(clinic: Callable[[str], Path]) -> None:
    described = folder(clinic('title = "Mine"\n' + TABLE + "[defaults]\nimage_size = 64\n"))
    assert (described.title, described.image_size) == ("Mine", 64)
    plain = folder(clinic(TABLE))
    assert (plain.title, plain.image_size, plain.backbone) == ("Your own images", 224, "resnet18")
    assert plain.group_source == "the column 'patient' of export.csv"


def test_grades_and_costs_are_those_of_the_classes(clinic: Callable[[str], Path]) -> None:
    head = 'other_classes = "drop"\nordered_classes = ["nevus", "melanoma"]\n'
    costs = "[costs]\nmelanoma = { nevus = 5, keratosis = 2.5 }\n"
    dataset = folder(clinic(head + TABLE + CLASSES + costs))
    read_split(dataset, None, 42)
    assert dataset.ordered_classes == ("nevus", "melanoma")
    assert dataset.costs == {"melanoma": {"nevus": 5, "keratosis": 2.5}}


def test_codes_become_classes_merged_and_dropped(clinic: Callable[[str], Path]) -> None:
    dataset = folder(clinic('other_classes = "drop"' + TABLE + CLASSES))
    split = dataset.split(None, 42)
    assert split.classes == ("melanoma", "nevus", "keratosis")  # as C43, D22, L82
    names = {"C43": "melanoma", "D22.1": "nevus", "D22.9": "nevus", "L82": "keratosis"}
    expected = {f"{c}/{n}.png": name for c, name in names.items() for n in range(CODES[c])}
    assert labels_of(split) == dataset.records()["label"].to_dict() == expected
    assert (sum(map(len, split.parts.values())), split.counts("test").tolist()) == (38, [2, 4, 2])


@pytest.mark.parametrize(
    ("above", "below", "problem"),
    [
        ("", CLASSES, r"\[classes\] has no 'Z01', which images have; name it there"),
        ("", '[classes]\nC43 = "melanoma"', r"has no 'D22\.1', 'D22\.9', 'L82', 'Z01', which"),
        (
            'other_classes = "drop"',
            CLASSES + '"D22.3" = "nevus"',
            r"unknown code in \[classes\] 'D22\.3'\. Did you mean D22",
        ),
        ('class_order = ["C43"]', "", r"class_order has no 'D22\.1', 'D22\.9', 'L82', 'Z01'; it"),
        ('class_order = ["C44"]', "", r"unknown class in class_order 'C44'\. Did you mean C43"),
        (
            'other_classes = "drop"\nclass_order = ["nevus", "C43", "keratosis"]',
            CLASSES,
            "unknown class in class_order 'C43'. Known: melanoma, nevus, keratosis",
        ),
        (
            'ordered_classes = ["C43", "C44"]',
            "",
            r"in ordered_classes 'C44'\. Did you",
        ),
        ("", "[costs]\nC43 = { C44 = 2 }", r"class in \[costs\] 'C44'\. Did you mean C43"),
        ("", '[groups]\nhead = ["C44"]', r"unknown class in .*dataset\.toml: groups 'C44'"),
        ("", '[groups]\nhead = ["C43"]\ntail = ["C43"]', "groups: class 'C43' is in head and in"),
        ('groups = "count:5"', "", r"dataset\.toml: groups 'count:5': give rank, rank:2,3,3"),
        ('groups = "rank:1,1,1"', "", "groups 'rank:1,1,1': these are 3 classes, here are 5"),
    ],
)
def test_codes_classes_and_groups_that_do_not_fit(
    clinic: Callable[[str], Path], above: str, below: str, problem: str
) -> None:
    root = clinic(f"{above}\n{TABLE}\n{below}")
    with pytest.raises(UserError, match=problem) as error:
        folder(root).split(None, 42)
    assert str(root / "dataset.toml") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("role", ["image", "label", "group", "split"])
def test_a_column_that_the_table_lacks(clinic: Callable[[str], Path], role: str) -> None:
    root = clinic(
        f'table = "export.csv"\n[columns]\nimage = "filename"\n{role} = "patent"\n'
        if role != "image"
        else 'table = "export.csv"\n[columns]\nimage = "patent"\n'
    )
    problem = (
        rf"dataset\.toml: columns\.{role}: unknown column of export\.csv 'patent'\. "
        r"Did you mean patient\? Known: patient, filename, dx, label"
    )
    with pytest.raises(UserError, match=problem):
        folder(root).split(None, 42)


def test_the_order_of_classes_is_free_and_no_part_of_the_split(
    clinic: Callable[[str], Path],
) -> None:
    usual = folder(clinic('other_classes = "drop"' + TABLE + CLASSES)).split(None, 42)
    order = ("keratosis", "nevus", "melanoma")
    top = f'other_classes = "drop"\nclass_order = {json.dumps(order)}'
    split = folder(clinic(top + TABLE + CLASSES)).split(None, 42)
    assert split.classes == order
    assert labels_of(split) == labels_of(usual)
    assert split.fingerprint == usual.fingerprint


def test_groups_by_list_and_by_rule(clinic: Callable[[str], Path]) -> None:
    lists = '[groups]\nhead = ["D22.1", "C43"]\ntail = ["Z01", "L82", "D22.9"]\n'
    dataset = folder(clinic(TABLE + lists))
    split = dataset.split(None, 42)
    assert split.groups == {"head": ("D22.1", "C43"), "tail": ("Z01", "L82", "D22.9")}
    assert split.group_rule == "as listed"
    split = folder(clinic('groups = "count:7,3"' + TABLE)).split(None, 42)
    counts = dict(zip(split.classes, split.counts("train").tolist(), strict=True))
    assert all(counts[c] >= 7 for c in split.groups["head"])
    assert all(counts[c] < 3 for c in split.groups["tail"])
    assert split.group_rule == "by training images, head from 7, tail below 3"
    asked = make_split(dataset, SplitSpec(groups="rank:1,1,3"))  # --groups goes before
    assert [len(members) for members in asked.groups.values()] == [1, 1, 3]


def test_a_group_may_be_torn_where_it_is_left_out(clinic: Callable[[str], Path]) -> None:
    """Only images that take part can leak."""
    root = clinic('table = "t.csv"\nother_classes = "drop"\n[classes]\na = "a"\nb = "b"\n')
    rows = ["a1,a,,train", "a2,a,,test", "b1,b,p,train", "b2,b,,test", "z,z,p,test"]
    (root / "t.csv").write_text("\n".join(["image,label,group,split", *rows]) + "\n")
    assert folder(root).split(None, 42).name == "given"
    (root / "dataset.toml").write_text('table = "t.csv"')
    with pytest.raises(UserError, match=r"p \(train, test\)"):
        folder(root).split(None, 42)


def test_folders_with_codes(tmp_path: Path) -> None:
    for code in ("0-normal", "1-early", "2-late"):
        for n in range(5):
            path = tmp_path / "scans" / code / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "two-grades.toml").write_text(
        'name = "Two grades"\nimages = "scans"\n'
        '[classes]\n0-normal = "normal"\n1-early = "ill"\n2-late = "ill"\n'
    )
    dataset = folder(tmp_path / "two-grades.toml")
    split = dataset.split(None, 42)
    assert dataset.results_name == "folder-Two-grades"
    assert dataset.image_root == tmp_path / "scans"
    assert (split.classes, split.counts("train").tolist()) == (("normal", "ill"), [3, 7])
    assert prepare_files(dataset, split, False).split is split


def test_real_folders_with_classes_merged(tmp_path: Path, test_data: Path) -> None:
    images = test_data / "hyper-kvasir/labeled-images/lower-gi-tract/pathological-findings"
    grades = [path.name for path in images.iterdir() if path.name.startswith("ulcerative")]
    names = "\n".join(f'{grade} = "ulcerative-colitis"' for grade in grades)
    (tmp_path / "dataset.toml").write_text(
        f'images = "{images}"\nother_classes = "drop"\n[classes]\npolyps = "polyps"\n{names}\n'
    )
    dataset = folder(tmp_path)
    split = dataset.split(None, 42)
    assert dataset.records()["label"].value_counts().to_dict() == {
        "polyps": 1028,
        "ulcerative-colitis": 443 + 201 + 133 + 35 + 28 + 11,
    }
    assert len(prepare_files(dataset, split, False).files) == 1879


def test_a_description_of_nothing_new_changes_nothing(tmp_path: Path, toy_folder: Path) -> None:
    (tmp_path / "dataset.toml").write_text(f'table = "{toy_folder}/labels.csv"\n')
    plain, described = folder(toy_folder).split(None, 42), folder(tmp_path).split(None, 42)
    assert described.fingerprint == plain.fingerprint
    assert (described.classes, described.groups) == (plain.classes, plain.groups)


@pytest.fixture
def described_toy(toy_folder: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a description of the toy folder, with defaults that make a run quick."""

    def make(text: str = "") -> Path:
        path = tmp_path / "toy.toml"
        path.write_text(
            f'table = "{toy_folder}/labels.csv"\n{text}\n'
            '[defaults]\nimage_size = 24\nbackbone = "small"\nweights = "none"\n'
        )
        return path

    return make


def run(lmdbench: Callable[..., Any], root: Path, *words: object) -> Any:
    return lmdbench(
        *("run", "--method", "ce", "--dataset", "folder", "--data-root", root),
        *("--set", "epochs=1", "--results", root.parent / "results", *words),
    )


def test_a_run_takes_its_defaults(
    lmdbench: Callable[..., Any], described_toy: Callable[[str], Path]
) -> None:
    root = described_toy('groups = "rank:1,1,2"')
    outcome = run(lmdbench, root)
    assert outcome.code == 0, outcome.err
    (record,) = (root.parent / "results" / "folder-toy" / "given" / "ce").glob("*/run.json")
    made = json.loads(record.read_text())
    spec = made["spec"]
    assert (spec["image_size"], spec["backbone"], spec["weights"]) == (24, "small", "none")
    assert [len(members) for members in made["groups"].values()] == [1, 1, 2]


def test_a_file_of_weights_is_used(
    lmdbench: Callable[..., Any], described_toy: Callable[[str], Path], tmp_path: Path
) -> None:
    run(lmdbench, described_toy())
    (model,) = (tmp_path / "results").glob("*/*/ce/*/model.safetensors")
    path = described_toy()
    path.write_text(path.read_text().replace('"none"', '"mine.safetensors"'))
    (tmp_path / "mine.safetensors").write_bytes(model.read_bytes())
    outcome = run(lmdbench, path, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "small, weights sha256:" in outcome.err


def test_classes_in_another_order_do_not_meet_the_runs_that_are_there(
    lmdbench: Callable[..., Any], described_toy: Callable[[str], Path]
) -> None:
    """The id does not tell the order of the classes, but logits have it."""
    assert run(lmdbench, described_toy()).code == 0
    order = 'class_order = ["striped", "dotted", "rare", "round"]'
    for words in ((), ("--accept-changed",), ("--dry-run",)):
        outcome = run(lmdbench, described_toy(order), *words)
        assert outcome.code == 2
        assert "its classes stand in another order, dotted, rare, round, striped;" in outcome.err
    assert run(lmdbench, described_toy(f'name = "other"\n{order}')).code == 0
    assert run(lmdbench, described_toy()).code == 0


def test_a_mistake_is_one_line_of_the_command(
    lmdbench: Callable[..., Any], described_toy: Callable[[str], Path]
) -> None:
    outcome = run(lmdbench, described_toy("nam = 1"))
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "toy.toml:2: unknown key 'nam'. Did you mean name" in outcome.err
    image = Image.fromarray(np.zeros((4, 4), np.uint8))
    image.save(described_toy().parent / "x.png")
    outcome = lmdbench(
        "datasets", "show", "folder", "--data-root", described_toy().parent / "x.png"
    )
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)


@pytest.mark.parametrize("word", ["NA", "nan", "None", "unknown"])
def test_a_word_for_no_patient_is_none_and_counted(tmp_path: Path, word: str) -> None:
    rows = [f"{n}.png,{'ab'[n % 2]},{word if n % 3 == 0 else n // 2}" for n in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,group", *rows]) + "\n")
    dataset = folder(tmp_path / "t.csv")
    assert list(dataset.records()["group"])[:4] == ["", "0", "1", ""]
    assert dataset.remarks == (f'lesions: 20 images have none ("{word}": 20)',)
    described = tmp_path / "dataset.toml"
    described.write_text('table = "t.csv"\nno_group = []\n')
    assert list(folder(tmp_path).records()["group"])[:4] == [word, "0", "1", word]
    assert folder(tmp_path).remarks == ()
    described.write_text('table = "t.csv"\nno_group = ["absent"]\n')
    with pytest.raises(UserError, match="no_group has 'absent', but no image's group is"):
        folder(tmp_path).records()
    described.write_text('table = "t.csv"\nno_group = "NA"\n')
    with pytest.raises(UserError, match=r'give a list of the words .* such as ."NA".; .. for none'):
        folder(tmp_path).records()
