"""Numbers and names in words, and errors that are told of a thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import DiskError, UserError, told_of
from lmdbench.core.words import both_ends, count, listed, pixels, size, some


def test_counts():
    assert [count(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]


def test_some_of_many_names():
    assert some(["a", "b"], 2) == "a, b"
    assert some([f"n{k}" for k in range(2000)], 2, repr) == "'n0', 'n1' and 1,998 more"
    assert some({"a": 1}.keys(), 3) == "a"


@given(st.lists(st.text("abc", min_size=1)), st.integers(1, 9))
def test_some_names_and_how_many_more(names, most):
    shown, _, more = some(names, most).partition(" and ")
    listed = shown.split(", ") if shown else []
    assert listed == names[:most]
    assert int(more.removesuffix(" more") or 0) == len(names) - len(listed)


def test_names_with_commas_stand_apart():
    assert some(["mild", "moderate, late"], 3) == "mild; moderate, late"


def test_pixels():
    assert pixels(224) == "224 px"
    assert pixels(0) == "no images"


def test_bytes():
    assert [size(n) for n in (0, 999, 1000, 139_100, 9.1e9, 2e12)] == [
        *("0 bytes", "999 bytes", "1 kB", "139 kB", "9.1 GB"),
        "2e+03 GB",
    ]


def test_an_error_is_told_of_a_thing_and_stays_what_it_is():
    with pytest.raises(UserError, match=r"^x\.toml:3: wrong$"), told_of("x.toml:3"):
        raise UserError("wrong")
    with pytest.raises(DiskError, match=r"^no space$"), told_of("x.toml:3"):
        raise DiskError("no space")
    with pytest.raises(ValueError, match=r"^else$"), told_of("x.toml:3"):
        raise ValueError("else")


def test_names_are_all_listed_unless_nobody_would_read_them():
    names = [f"n{k}" for k in range(1000)]
    assert listed(names[:40]) == ", ".join(names[:40])
    assert listed(names) == "n0, n1, n2, n3, n4, n5 and 994 more"


def test_of_a_long_table_both_ends_are_shown():
    rows = list(range(1000))
    assert both_ends(rows[:40], lambda n: -n) == rows[:40]
    assert both_ends(rows, lambda n: -n) == [*rows[:20], -960, *rows[-20:]]
