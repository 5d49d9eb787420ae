"""Files below folders: which are images, what links lead to, what is left out and told."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.folder.walk import (
    class_folders,
    ending,
    folders_in,
    images_below,
    look_below,
    remarks,
)
from lmdbench.data.store.decoding import readable_endings


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def touch(*names: str, root: str = "mine") -> Path:
        for name in names:
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return tmp_path / root

    return touch


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def test_every_ending_that_is_decoded_is_an_image_in_any_case(make) -> None:
    names = [f"{n}{end}" for n, end in enumerate(sorted(readable_endings()))]
    names += ["x.JFIF", "y.Gif", "z.JP2", "deep/er/v.PgM"]
    assert images_below(make(*names)) == sorted(names)
    assert {".jpg", ".jfif", ".jpe", ".gif", ".jp2", ".j2k", ".ppm", ".pgm"} <= readable_endings()


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("a.heic", ".heic"),
        ("a.HEIC", ".heic"),
        ("brain.nii.gz", ".nii.gz"),
        ("v1.2.svs", ".svs"),
        ("IM00001", ""),
        ("1.2.840.10008.5", ""),  # a DICOM file named by its UID
        (".hidden", ""),
    ],
)
def test_endings(name: str, end: str) -> None:
    assert ending(name) == end


def test_what_is_not_read_is_counted_by_ending(make) -> None:
    others = ["h.heic", "i.HEIC", "IM1", "IM2", "IM3", "s.svs", "v.nii.gz", "a.npy"]
    beside = ["Thumbs.db", "desktop.ini", "notes.txt", "t.csv", "b.json", "x.xml", "README"]
    beside += [".DS_Store", "._1.png", "@eaDir/1.png/SYNOPHOTO_THUMB.jpg", "__MACOSX/2.png"]
    root = make("1.png", *others, *beside)
    found = look_below(root)
    assert found.images == ["1.png"]
    assert found.others == sorted(others)
    assert remarks({"b": found}) == (
        "not read: 8 files in class folders: 3 without ending, 2 .heic, 1 .nii.gz, 1 .npy, 1 .svs, "
        "such as b/IM1; convert or rename those that are images",
    )
    assert remarks({"b": look_below(make("1.png", *beside, root="other"))}) == ()


def test_names_that_cannot_be_printed_are_told(make) -> None:
    root = make("1.png", "2.png ", "x.heic\x1b[2J")
    (root / os.fsdecode(b"n\xe4vus.heic")).touch()
    (line,) = remarks({"a": look_below(root)})
    assert line.isprintable()
    assert "1 '.png '" in line
    line.encode()


def test_links_to_folders_are_followed(make) -> None:
    root = make("a/own/1.png")
    make("p1/1.png", "p1/in/2.png", "p2/3.png", root="disk")
    link(root / "a/p1", "../../disk/p1")
    link(root / "a/p2.png", "../../disk/p2")  # a folder, whatever it is called
    found = look_below(root / "a")
    assert found.images == ["own/1.png", "p1/1.png", "p1/in/2.png", "p2.png/3.png"]
    assert remarks({"a": found}) == ()


@pytest.mark.parametrize("target", ["..", ".", "../..", "/", "../b/../../mine", "self"])
def test_links_that_lead_back_end(make, target: str) -> None:
    root = make("a/1.png", "b/2.png")
    link(root / "a/self", target)
    found = look_below(root / "a")
    assert found.images == ["1.png"]
    told = remarks({"a": found})
    assert len(told) == 1
    assert "link" in told[0]
    assert "a/self" in told[0]


def test_links_that_lead_back_by_a_detour_end(make, tmp_path) -> None:
    root = make("a/1.png", "b/2.png")
    make("p/3.png", root="disk")
    link(root / "a/p", "../../disk/p")
    link(tmp_path / "disk/p/home", "../../mine")
    link(tmp_path / "disk/p/class", "../../mine/a")
    link(tmp_path / "disk/p/up", "..")
    assert look_below(root / "a").images == ["1.png", "p/3.png"]


def test_many_folders_that_link_to_each_other_are_looked_into_once(make) -> None:
    root = make(*(f"a/p{n}/{n}.png" for n in range(12)))
    for n in range(12):
        for other in range(12):
            link(root / f"a/p{n}/to{other}", f"../p{other}")
    assert look_below(root / "a").images == sorted(f"p{n}/{n}.png" for n in range(12))


def test_a_folder_that_is_linked_twice_is_taken_once_a_class_and_told(make) -> None:
    root = make("a/own/1.png", "b/2.png")
    make("p/x/3.png", root="disk")
    for place in ("a/first", "a/second", "b/first"):
        link(root / place, "../../disk/p")
    found = {name: look_below(root / name) for name in "ab"}
    assert found["a"].images == ["first/x/3.png", "own/1.png"]
    assert found["b"].images == ["2.png", "first/x/3.png"]
    assert remarks(found) == (
        "taken once: a/second (the same folder as a/first)",
        "taken twice, by links: b/first is a/first; remove one, they are the same",
    )


def test_what_lies_there_goes_before_a_link_to_it(make) -> None:
    root = make("a/z/1.png")
    link(root / "a/b", "z")
    assert look_below(root / "a").images == ["z/1.png"]


def test_links_to_nothing_are_told(make) -> None:
    root = make("a/1.png")
    link(root / "a/p9", "/mnt/gone/p9")
    link(root / "a/2.png", "/mnt/gone/2.png")  # listed, so that it counts as missing
    link(root / "a/x", "y")
    link(root / "a/y", "x")
    found = look_below(root / "a")
    assert found.images == ["1.png", "2.png"]
    assert remarks({"a": found}) == ("not there: 3 links to nothing, such as a/p9",)


def test_a_class_that_is_a_link(make) -> None:
    root = make("a/1.png")
    make("2.png", root="disk")
    link(root / "b", "../disk")
    link(root / "self", ".")
    assert folders_in(root) == ["a", "b"]
    link(root / "c", "/mnt/gone/c")
    assert folders_in(root) == ["a", "b"]
    with pytest.raises(UserError, match=r"mine/c: a link to nothing \(/mnt/gone/c\)"):
        class_folders(root)


def test_pipes_and_sockets_are_not_opened(make) -> None:
    root = make("1.png")
    os.mkfifo(root / "pipe.png")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(root / "socket"))
    found = look_below(root)
    assert found.images == ["1.png", "pipe.png"]
    assert found.others == ["pipe", "socket"]
