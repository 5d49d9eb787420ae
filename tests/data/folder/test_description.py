"""Descriptions in TOML: what is read, and the line that each mistake is answered with."""

from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.folder.description import read_description

IMAGES = 'images = "pictures"\n'
WHOLE = """
name = "clinic"
title = "Skin lesions"
source = "Two clinics"
licence = "internal"
table = "tables/export.csv"
image_folder = "photos/../pictures"
image_suffix = ".JPG"
other_classes = "drop"
class_order = ["nevus", "melanoma"]
ordered_classes = ["melanoma", "nevus"]

[columns]
image = "filename"
label = "dx"
group = "patient"
split = "part"

[classes]
"D22.9" = "nevus"
7 = "melanoma"

[groups]
head = ["nevus"]
tail = ["melanoma"]

[costs]
melanoma = { nevus = 5 }

[defaults]
image_size = 96
backbone = "resnet34"
weights = "weights.pt"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder called 'mine' with everything that a description can name."""
    folder = tmp_path / "mine"
    for name in ("tables/export.csv", "labels.csv", "x.npz", "weights.pt", "pictures/a/1.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key(folder: Path) -> None:
    described = read_description(write(folder / "dataset.toml", WHOLE))
    assert (described.name, described.kind) == ("clinic", "table")
    assert described.holder == folder / "tables/export.csv"
    assert described.folder == folder / "pictures"
    assert described.suffix == ".JPG"
    assert described.columns == {
        "image": "filename",
        "label": "dx",
        "group": "patient",
        "split": "part",
    }
    assert described.classes == {"D22.9": "nevus", "7": "melanoma"}
    assert described.drops_others
    assert described.class_order == ("nevus", "melanoma")
    assert described.groups == {"head": ["nevus"], "tail": ["melanoma"]}
    assert described.attributes == {
        "title": "Skin lesions",
        "source": "Two clinics",
        "licence": "internal",
        "ordered_classes": ("melanoma", "nevus"),
        "costs": {"melanoma": {"nevus": 5}},
        "image_size": 96,
        "backbone": "resnet34",
        "weights": str(folder / "weights.pt"),
    }


@pytest.mark.parametrize(
    ("text", "kind", "holder", "images"),
    [
        ('table = "labels.csv"', "table", "labels.csv", "."),
        ('table = "tables/export.csv"', "table", "tables/export.csv", "tables"),
        ('npz = "x.npz"', "npz", "x.npz", "."),
        ('images = "pictures"', "images", "pictures", "pictures"),
        ('images = "."', "images", ".", "."),
    ],
)
def test_what_is_left_out_has_a_default(
    folder: Path, text: str, kind: str, holder: str, images: str
) -> None:
    described = read_description(write(folder / "dataset.toml", text))
    assert (described.name, described.kind) == ("mine", kind)
    assert (described.holder, described.folder) == (folder / holder, folder / images)
    assert (described.attributes, described.classes, described.groups) == ({}, {}, "")
    assert read_description(write(folder / "other.toml", text)).name == "other"


def test_absolute_paths_and_a_bom(folder: Path, tmp_path: Path) -> None:
    text = f'\ufefftable = "{folder}/labels.csv"\r\nimage_folder = "/data"\r\n'
    described = read_description(write(tmp_path / "dataset.toml", text))
    assert (described.holder, described.folder) == (folder / "labels.csv", Path("/data"))


TABLE = 'table = "labels.csv"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", 'give one of table = "labels.csv", npz .* here is none'),
        ('title = "x"', "here is none"),
        (TABLE + 'npz = "x.npz"', "here is table and npz"),
        ('table = "absent.csv"', "table is 'absent.csv', but there is no file .*mine/absent.csv"),
        ('table = "pictures"', "table is 'pictures', but there is no file"),
        ('npz = "absent.npz"', "npz is 'absent.npz', but there is no file"),
        ('images = "labels.csv"', "images is 'labels.csv', but there is no folder"),
        (TABLE + 'nmae = "x"', "unknown key 'nmae'. Did you mean name or .* Known: name, title, "),
        (TABLE + "[class]", "unknown key 'class'. Did you mean classes"),
        (
            TABLE + '[columns]\nlabels = "dx"',
            r"unknown key of \[columns\] 'labels'. Did you mean la",
        ),
        (
            TABLE + '[groups]\nmiddle = ["a"]',
            r"unknown key of \[groups\] 'middle'.*head, medium, ta",
        ),
        (
            TABLE + "[defaults]\nsize = 3",
            r"unknown key of \[defaults\] 'size'. Did you mean image_s",
        ),
        (TABLE + "name = 3", "name is 3; give a line of text in quotes"),
        (TABLE + 'name = " "', 'name is " "; give a line of text'),
        (TABLE + 'title = """a\nb"""', r'title is "a\\nb"; give a line of text'),
        ("table = true", "table is true; give a line of text"),
        (TABLE + 'columns = "dx"', 'columns is "dx"; give a table of its own'),
        (TABLE + "[columns]\nimage = 1", "image is 1; give a line of text"),
        (TABLE + "classes = 3", "classes is 3; give a table of its own"),
        (TABLE + "[classes]\nnv = 3", "nv is 3; give a line of text"),
        (TABLE + '[classes]\nD22.9 = "x"', 'D22 is {"9": "x"}; give a line of text'),
        (TABLE + 'other_classes = "keep"', 'other_classes is "keep"; give "drop"'),
        (IMAGES + 'other_classes = "drop"', "other_classes is about codes .*there is none"),
        (TABLE + 'class_order = "a"', 'class_order is "a"; give a list of different texts'),
        (TABLE + "class_order = []", r"class_order is \[\]; give a list"),
        (
            TABLE + 'class_order = ["a", "a"]',
            r'class_order is \["a", "a"\]; give a list of di',
        ),
        (
            TABLE + 'class_order = ["a", 1]',
            "class_order is .*; give a list of different texts",
        ),
        (TABLE + 'ordered_classes = ["a"]', r'ordered_classes is \["a"\]; give a list of the cl'),
        (TABLE + 'ordered_classes = ["a", "a"]', "ordered_classes is .*; give a list of the cl"),
        (TABLE + "costs = 3", "costs is 3; give tables of numbers from 0 on"),
        (TABLE + "[costs]\na = { b = -1 }", "costs is .*; give tables of numbers from 0 on"),
        (TABLE + "[costs]\na = 1", "costs is .*; give tables of numbers from 0 on"),
        (TABLE + "groups = 3", 'groups is 3; give a rule such as "count:500,100"'),
        (TABLE + '[groups]\nhead = "a"', 'head is "a"; give a list'),
        (TABLE + 'image_suffix = "jpg"', 'image_suffix is "jpg"; give the end of .*".jpg"'),
        (TABLE + 'image_suffix = ".csv"', 'image_suffix is ".csv"; give the end'),
        (TABLE + "[defaults]\nimage_size = 8", "image_size is 8; give .* 16 to 2048"),
        (TABLE + "[defaults]\nimage_size = true", "image_size is true; give"),
        (TABLE + '[defaults]\nimage_size = "64"', 'image_size is "64"; give a whole'),
        (TABLE + '[defaults]\nbackbone = "resnt18"', "unknown .*mean resnet18"),
        (
            TABLE + '[defaults]\nweights = "imagnet"',
            "weights is 'imagnet', but there is no",
        ),
        ('npz = "x.npz"\nimage_folder = "y"', "image_folder is about a table, but here is npz"),
        (
            'images = "."\nimage_suffix = ".png"',
            "image_suffix is about a table, but here is images",
        ),
        ('npz = "x.npz"\n[columns]\nimage = "y"', "columns is about a table, but here is npz"),
        ("table = labels.csv", r"dataset.toml:1: no valid TOML"),
        (TABLE + TABLE, r"dataset.toml:2: no valid TOML"),
        ("[classes]\nnv = 'a'\n" + TABLE + "[classes]", "no valid TOML"),
    ],
)
def test_mistakes(folder: Path, text: str, problem: str) -> None:
    path = write(folder / "dataset.toml", text)
    with pytest.raises(UserError, match=problem) as error:
        read_description(path)
    assert str(error.value).startswith(f"{path}:")
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(folder: Path) -> None:
    (folder / "dataset.toml").write_bytes("title = 'Ä'".encode("latin-1"))
    with pytest.raises(UserError, match=r"dataset\.toml: no text in UTF-8"):
        read_description(folder / "dataset.toml")
    with pytest.raises(UserError, match=r"gone\.toml: cannot be read: No such file"):
        read_description(folder / "gone.toml")
