"""Which images a command's words name, and which class a label is."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lmdbench.core.errors import UserError
from lmdbench.data.splits.spec import SplitSpec
from lmdbench.runs.prediction_sets import SetOptions, match_labels, open_target, parse_map

PIXEL = Image.new("RGB", (8, 8), (200, 100, 50))


def draw(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIXEL.save(folder / name)
    return folder


def target_of(*words, cache=Path("unused"), said=None, **choice):
    say = said.append if said is not None else (lambda _: None)
    return open_target([str(word) for word in words], SetOptions(**choice), cache, say)


def test_sub_folders_are_labels(tmp_path):
    folder = draw(tmp_path / "skin", "mel/a.png", "mel/deep/b.png", "nv/c.jpg", "nv/.hidden.png")
    target = target_of(folder)
    assert target.ids == ("mel/a.png", "mel/deep/b.png", "nv/c.jpg")
    assert target.labels == ("mel", "mel", "nv")
    assert target.files[0] == folder / "mel" / "a.png"
    assert (target.name, target.labelled, target.data_set) == ("skin", 3, "folder-skin")


def test_images_beside_sub_folders_have_no_labels(tmp_path):
    target = target_of(draw(tmp_path / "skin", "a.png", "patient 1/b.png"))
    assert target.ids == ("a.png", "patient 1/b.png")
    assert target.labelled == 0
    assert (
        target.note == "a.png lies beside the sub-folders, so their names are not taken as labels"
    )
    parts = target_of(draw(tmp_path / "parts", *(f"test/{n}.png" for n in ("a", "b", "mel/c"))))
    assert parts.note.startswith("test/a.png and 1 more lie beside the sub-folders")
    assert target_of(draw(tmp_path / "flat", "a.png", "b.png")).note == ""


def test_what_is_no_image_is_remarked_and_links_are_followed(tmp_path):
    folder = draw(tmp_path / "skin", "mel/a.png", "nv/b.gif")
    (folder / "nv" / "c.heic").touch()
    draw(tmp_path / "disk", "d.png")
    (folder / "nv" / "patient").symlink_to(tmp_path / "disk")
    (folder / "nv" / "gone").symlink_to("/nowhere/at/all")
    target = target_of(folder)
    assert target.ids == ("mel/a.png", "nv/b.gif", "nv/patient/d.png")
    assert target.remarks == (
        f"not read: 1 file in {folder}: 1 .heic, such as nv/c.heic; "
        "convert or rename those that are images",
        "not there: 1 link to nothing, such as nv/gone",
    )
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "x.svs").touch()
    with pytest.raises(UserError, match=r"only: no images in it, at any depth, only 1 \.svs"):
        target_of(tmp_path / "only")


def test_labels_can_be_left_aside(tmp_path):
    folder = draw(tmp_path / "skin", "patient 1/a.png", "patient 2/b.png")
    assert target_of(folder, unlabelled=True).labels == ("", "")
    draw(folder, "stray.png")
    assert target_of(folder, unlabelled=True).note == ""


def test_a_table_of_images_alone(tmp_path):
    draw(tmp_path, "x/a.png", "x/b.png", "x/c.png")
    table = tmp_path / "t.csv"
    table.write_text("image\nx/a.png\nx/b.png\n")
    target = target_of(table, unlabelled=True)
    assert (target.ids, target.labels) == (("x/a.png", "x/b.png"), ("", ""))
    assert target.files[0] == tmp_path / "x" / "a.png"
    table.write_text(
        "image,label,group,split\nx/a.png,,p,test\nx/b.png,mel,q,test\nx/c.png,,,train"
    )
    target = target_of(table, unlabelled=True)
    assert (target.ids, target.labels) == (("x/a.png", "x/b.png"), ("", ""))
    assert target.groups == ("p", "q")
    with pytest.raises(UserError, match="2 rows of 3 without a label, in line 2, 4; "):
        target_of(table)


def test_of_a_folder_that_is_split_the_test_images(tmp_path):
    folder = draw(tmp_path / "skin", "train/mel/a.png", "test/mel/b.png", "val/nv/c.png")
    target = target_of(folder)
    assert (target.ids, target.labels) == (("test/mel/b.png",), ("mel",))
    everything = target_of(folder, part="all")
    assert everything.labels == ("mel", "mel", "nv")
    assert target_of(folder / "test").labels == ("mel",)


def test_a_table_with_groups_and_parts(tmp_path):
    draw(tmp_path / "skin", "x/a.png", "x/b.png", "x/c.png")
    table = tmp_path / "skin" / "labels.csv"
    table.write_text("image,label,group,split\nx/a.png,mel,p1,train\nx/b.png,nv,p2,test\n")
    for word in (table, table.parent):
        target = target_of(word)
        assert (target.ids, target.labels, target.groups) == (("x/b.png",), ("nv",), ("p2",))
    assert target_of(table, part="all").groups == ("p1", "p2")
    table.write_text("image,label,split\nx/a.png,mel,train\nx/b.png,nv,val\n")
    with pytest.raises(UserError, match="none of its images is for testing; --part all"):
        target_of(table)


def test_a_table_without_parts_is_taken_whole_unless_a_split_is_asked_for(toy_folder, tmp_path):
    lines = (toy_folder / "labels.csv").read_text().splitlines()
    whole = tmp_path / "whole.csv"
    rows = [line.rpartition(",")[0] for line in lines]
    whole.write_text("\n".join([rows[0], *(f"{toy_folder}/{row}" for row in rows[1:])]))
    everything = target_of(whole)
    assert len(everything) == len(lines) - 1
    some = target_of(whole, part="test")
    assert 0 < len(some) < len(everything)
    assert some.split["name"] == "random"
    other = target_of(whole, split=SplitSpec(seed=7), part="validation")
    assert other.split["seed"] == 7
    assert set(other.ids) < set(everything.ids)


def test_a_description_says_what_codes_mean(tmp_path):
    draw(tmp_path / "skin", "photos/1.png", "photos/2.png", "photos/3.png")
    (tmp_path / "skin" / "t.csv").write_text("file,code\n1,C43\n2,D22\n3,Z00\n")
    (tmp_path / "skin" / "dataset.toml").write_text(
        'table = "t.csv"\nimage_folder = "photos"\nimage_suffix = ".png"\n'
        'other_classes = "drop"\n[columns]\nimage = "file"\nlabel = "code"\n'
        '[classes]\nC43 = "melanoma"\nD22 = "nevus"\n'
    )
    target = target_of(tmp_path / "skin")
    assert target.labels == ("melanoma", "nevus")
    assert [file.name for file in target.files] == ["1.png", "2.png"]


def test_a_medmnist_file(tmp_path):
    rng = np.random.default_rng(0)
    content = {}
    for piece, n in (("train", 6), ("val", 3), ("test", 4)):
        content[f"{piece}_images"] = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        content[f"{piece}_labels"] = (np.arange(n) % 3)[:, None]
    np.savez(tmp_path / "x.npz", **content)
    target = target_of(tmp_path / "x.npz", cache=tmp_path / "cache")
    assert target.labels == ("0", "1", "2", "0")
    assert np.array_equal(np.asarray(Image.open(target.files[1])), content["test_images"][1])


def test_image_files(tmp_path):
    draw(tmp_path, "a b.png", "c.png")
    one = target_of(tmp_path / "a b.png")
    assert (one.ids, one.labels, one.name) == ((str(tmp_path / "a b.png"),), ("",), "a-b")
    assert target_of(*[tmp_path / "c.png"] * 2, tmp_path / "a b.png").name == "2-images"


def test_a_data_set_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    said: list[str] = []
    target = target_of("demo", cache=tmp_path / "cache", said=said, part="validation")
    assert len(target) == 120
    assert target.title == "demo drawn-if100, validation images"
    assert target.name == "demo-drawn-if100-validation"
    assert target.parts == ("validation",)
    assert "./demo would be what is here by that name" in said[0]
    assert len(target_of("demo", cache=tmp_path / "cache", part="all")) > 1500


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such"], "no-such: no such file or folder, and unknown data set 'no-such'"),
        (["dmeo"], "Did you mean demo"),
        (["empty"], "empty: no images in it, at any depth"),
        (["isic2019"], "needs --data-root"),
        (["a.png", "none.png"], "none.png: no such file"),
        (["a.png", "empty"], "empty is no image file: give a folder"),
        (["a.png", "demo"], "demo is no image file"),
        (["gone.csv"], "1 of 2 images of gone.csv are missing, such as .*--allow-missing"),
        (["all-gone.csv"], "is this where they lie"),
        (["pipe.png"], "pipe.png: neither a file nor a folder"),
        (["a.png", "pipe.png"], r"missing, such as pipe.png \(there, but no file\); add them"),
        (["two"], r"several \.npz files"),
    ],
)
def test_what_names_no_images_is_told_in_one_line(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path, "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name in "xy":
        np.savez(tmp_path / "two" / f"{name}.npz", a=1)
    Path("gone.csv").write_text("image,label\na.png,mel\nb.png,nv\n")
    Path("all-gone.csv").write_text("image,label\nb.png,nv\n")
    with pytest.raises(UserError, match=message) as caught:
        target_of(*words)
    assert "\n" not in str(caught.value)


def test_missing_images_can_be_left_out(tmp_path):
    draw(tmp_path, "a.png")
    (tmp_path / "t.csv").write_text("image,label,group\nb.png,nv,p\na.png,mel,q\n")
    target = target_of(tmp_path / "t.csv", allow_missing=True)
    assert (target.ids, target.labels, target.groups) == (("a.png",), ("mel",), ("q",))
    assert target.missing == 1


def test_parts_are_not_of_image_files(tmp_path):
    draw(tmp_path, "a.png")
    with pytest.raises(UserError, match="--part are for data sets"):
        target_of(tmp_path / "a.png", part="test")


def test_a_name_with_a_line_break_is_refused(tmp_path):
    draw(tmp_path / "skin", "a\nb.png")
    with pytest.raises(UserError, match="has a line break"):
        target_of(tmp_path / "skin")


def test_the_run_s_own_folder_gives_the_run_s_own_images(toy_folder, tmp_path):
    """Copied elsewhere under the same name: what tells is the name."""
    copy = shutil.copytree(toy_folder, tmp_path / toy_folder.name)
    assert target_of(copy).data_set == target_of(toy_folder).data_set


# Labels and classes

CLASSES = ("MEL", "NV", "round-plain", "Basal cell")


def test_labels_by_name_however_written_and_as_asked():
    labels = ["MEL", "nv", "Round_Plain", "basal-cell", "naevus", ""]
    matched = match_labels(labels, CLASSES, {"naevus": "NV"})
    assert matched.codes.tolist() == [0, 1, 2, 3, 1, -1]
    assert matched.renamed == {
        "Round_Plain": "round-plain",
        "basal-cell": "Basal cell",
        "naevus": "NV",
        "nv": "NV",
    }
    assert matched.ignored == {}


def test_signs_tell_classes_apart():
    matched = match_labels(["her2-", "HER2 +", "HER2"], ("HER2+", "HER2-"), {})
    assert matched.codes.tolist() == [1, 0, -1]


def test_spellings_in_a_table_stay_to_be_matched(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    (tmp_path / "labels.csv").write_text("image,label\na.png,mel\nb.png,MEL\n")
    assert target_of(tmp_path / "labels.csv").labels == ("mel", "MEL")


def test_what_is_asked_for_comes_first():
    assert match_labels(["MEL"], CLASSES, {"MEL": "NV"}).codes.tolist() == [1]


def test_what_is_asked_for_may_be_written_in_another_way():
    labels = ["Basal Cell Ca", "basal_cell_ca", "nevus"]
    matched = match_labels(labels, CLASSES, {"basal-cell ca": "Basal cell", "Nevus": "NV"})
    assert matched.codes.tolist() == [3, 3, 1]
    exact = match_labels(["mole", "Mole"], CLASSES, {"mole": "NV", "Mole": "MEL"})
    assert exact.codes.tolist() == [1, 0]
    with pytest.raises(UserError, match="--map: MOLE is given twice, as NV and MEL"):
        match_labels(["MOLE"], CLASSES, {"mole": "NV", "Mole": "MEL"})


def test_the_very_name_comes_before_one_that_looks_like_it():
    assert match_labels(["nv", "NV", "n v"], ("NV", "nv"), {"n v": "NV"}).codes.tolist() == [
        *(1, 0, 0)
    ]


def test_a_name_that_looks_like_two_classes_is_neither():
    with pytest.raises(UserError, match="N-V"):
        match_labels(["N-V"], ("NV", "nv"), {})


def test_unknown_labels_are_named_with_images_and_near_classes():
    labels = ["melanoma", "melanoma", "SCC"]
    with pytest.raises(UserError) as caught:
        match_labels(labels, CLASSES, {})
    text = str(caught.value)
    assert "SCC (1 image)" in text
    assert "melanoma (2 images; MEL?)" in text
    assert "Its classes: MEL, NV, round-plain, Basal cell" in text
    assert "--map 'SCC=CLASS,…'" in text
    assert "--ignore-unknown" in text
    assert "\n" not in text
    matched = match_labels(labels, CLASSES, {}, ignore_unknown=True)
    assert matched.codes.tolist() == [-1, -1, -1]


def test_labels_of_which_some_are_classes_stop_nothing():
    matched = match_labels(["NV", "melanoma", "melanoma", "SCC"], CLASSES, {})
    assert matched.codes.tolist() == [1, -1, -1, -1]
    assert matched.ignored == {"SCC": 1, "melanoma": 2}
    assert matched.near == {"melanoma": "MEL"}
    assert matched.in_words == ["SCC (1 image)", "melanoma (2 images; MEL?)"]


def test_folders_that_are_no_labels_are_hinted_at():
    with pytest.raises(UserError, match="--unlabelled, if the names are no labels"):
        match_labels(["patient 1", "patient 2"], CLASSES, {})
    many = [f"p{n}" for n in range(100)]
    with pytest.raises(UserError, match="and 92 more"):
        match_labels(many, CLASSES, {})


def test_what_is_asked_for_must_be_there():
    with pytest.raises(UserError, match=r"--map: unknown label 'nevos'\. Did you mean nevus"):
        match_labels(["nevus"], CLASSES, {"nevos": "NV"})
    with pytest.raises(UserError, match=r"nevus=MELL: unknown class 'MELL'\. Did you mean MEL"):
        match_labels(["nevus"], CLASSES, {"nevus": "MELL"})


@given(st.permutations(CLASSES), st.lists(st.sampled_from(CLASSES)))
def test_a_class_is_found_wherever_it_stands(classes, labels):
    codes = match_labels(labels, classes, {}).codes
    assert [classes[code] for code in codes] == labels


def test_pairs_from_words_and_files(tmp_path):
    file = tmp_path / "map.txt"
    file.write_text("# theirs = ours\nbasal cell, superficial = BCC\n\nnevus=NV\n")
    assert parse_map(["melanoma=MEL, mole=NV", str(file)]) == {
        "melanoma": "MEL",
        "mole": "NV",
        "basal cell, superficial": "BCC",
        "nevus": "NV",
    }
    assert parse_map([]) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("melanoma", "neither label=CLASS nor a file"),
        ("a=", "'a=' is no pair"),
        ("a=B,", "'' is no pair"),
        ("a=B,a=C", "a is given twice, as B and C"),
    ],
)
def test_what_is_no_pair(text, message):
    with pytest.raises(UserError, match=message):
        parse_map([text])
