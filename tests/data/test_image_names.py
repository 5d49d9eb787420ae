"""Names of images that went through spreadsheets, other machines and other programs."""

import pytest

from lmdbench.data.image_names import match

FILES = [f"{n:05}.png" for n in range(1, 41)]


@pytest.mark.parametrize("form", ["{}.png", "{}", "{}.0", "{}.0.png", "0{}.PNG", " {}.png"])
def test_lost_zeros_are_found(form: str) -> None:
    found = match([form.format(n) for n in range(1, 41)], FILES)
    assert list(found.found.values()) == FILES
    assert "zeros" in found.usual
    assert found.told().endswith(f"{form.format(1)} → 00001.png (40 of 40 like this)")


@pytest.mark.parametrize(
    ("written", "meant", "kinds"),
    [
        ("1.23E+02", "00123.png", "ending zeros"),
        ("1.2e+01.png", "012.png", "zeros"),
        ("7/1.png", "007/1.png", "zeros"),
        (r"a\1.png", "a/1.png", "spelling"),
        ("a%20b.png", "a b.png", "spelling"),
        ("e\u0301.png", "\u00e9.png", "spelling"),
        ("a//1.png", "a/1.png", "spelling"),
        ("1", "1.png", "ending"),
        ("1.JPG", "1.jpg", "ending"),
        ("1.jpeg", "1.jpg", "ending"),
        ("1.jpg.jpg", "1.jpg", "ending"),
        ("1.jpg", "1.png", "format"),
        ("IMG_1.png", "img_1.png", "case"),
        ("Photos/1.png", "photos/1.png", "case"),
        ("1.png", "part_2/1.png", "folder"),
        ("a/1.png", "part_2/a/1.png", "folder"),
        ("ISIC_1", "part_2/ISIC_1.jpg", "ending folder"),
        ("/mnt/x/images/a/1.png", "a/1.png", "path"),
        (r"C:\data\images\1.png", "images/1.png", "path"),
        ("b/1.png", "a/1.png", "path"),
    ],
)
def test_how_names_differ(written: str, meant: str, kinds: str) -> None:
    found = match([written], ["0.png", meant, "x/2.png"])
    assert found.found == {written: meant}
    assert found.kinds[written] == tuple(kinds.split())


@pytest.mark.parametrize("written", ["2.png", "x", "0123.png", "1.2345E+02", "a 1.png", "1a.png"])
def test_other_names_stay_unknown(written: str) -> None:
    assert match([written], ["1.png", "00122.png", "a1.png"]).found == {}


def test_what_could_be_several_is_unclear() -> None:
    found = match(["1", "5.png"], ["1.png", "1.jpg", "a/5.png", "b/5.png"])
    assert found.found == {}
    assert found.unclear == {"1": ("1.jpg", "1.png"), "5.png": ("a/5.png", "b/5.png")}


def test_the_nearest_is_meant() -> None:
    assert match(["1"], ["01.png", "1.png", "001.png"]).found == {"1": "1.png"}
    assert match(["/m/a/1.png"], ["a/1.png", "b/1.png"]).found == {"/m/a/1.png": "a/1.png"}
    both = match(["D:/train/1.png", "D:/test/1.png"], ["test/1.png"])
    assert both.found == {"D:/test/1.png": "test/1.png"}


def test_one_of_many_alike_is_found_by_its_folder() -> None:
    files = [f"data/p{n}/image.png" for n in range(3000)]
    found = match([f"p{n}/image" for n in range(3000)], files)
    assert list(found.found.values()) == files
    assert match(["image.png"], files).found == {}
