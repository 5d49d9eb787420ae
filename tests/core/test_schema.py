"""Checks of TOML values, and the errors of a document: file, line, key, value, what is wanted."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core import schema
from lmdbench.core.errors import UserError
from lmdbench.core.schema import Document, read_document

TEXT = 'name = "a"\n[part]\nsize = 3\n[[rows]]\nsize = 4\n[[rows]]\nsize = 5\n'


@pytest.fixture
def doc() -> Document:
    return Document("x.toml", TEXT, Path("folder"))


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (schema.text, ["a", "a\nb"], ["", " ", 3, None]),
        (schema.line, ["a"], ["", "a\nb", 3]),
        (schema.flag, [True, False], [1, "true"]),
        (schema.table, [{}, {"a": 1}], [[], 3]),
        (schema.tables, [[], [{}]], [{}, [3]]),
        (schema.lines, [["a"], ["a", "b"]], [[], ["a", "a"], ["a", 3], "a"]),
        (schema.whole(2, 4), [2, 4], [1, 5, 3.0, True, "3"]),
        (schema.number(0), [0.0, 1e300], [-1, math.inf, math.nan, True, "1"]),
        (schema.one_of("a", "b"), ["a", "b"], ["c", 3, ["a"]]),
    ],
)
def test_checks(check, right, wrong):
    assert [check(value) for value in right] == right
    for value in wrong:
        with pytest.raises(ValueError, match=r"."):
            check(value)


@given(st.integers(), st.integers(), st.integers())
def test_whole_numbers_within_their_ends(low, high, value):
    check = schema.whole(low, high)
    if low <= value <= high:
        assert check(value) == value
    else:
        with pytest.raises(ValueError, match=f"a whole number from {low} to {high}"):
            check(value)


def test_a_number_is_a_float_afterwards():
    assert type(schema.number(1)(3)) is float


def test_fields_are_looked_up_by_their_path(doc):
    size = {"size": schema.whole(3, 4)}
    assert doc.fields(("part",), size) == {"size": 3}
    assert doc.fields(("rows", 0), size) == {"size": 4}
    assert doc.fields(("none",), size) == doc.table(("name", "x")) == {}
    with pytest.raises(UserError, match=r"^x\.toml:7: size is 5; give a whole number from 3 to 4$"):
        doc.fields(("rows", 1), size)
    with pytest.raises(UserError, match=r"^x\.toml:3: unknown key of \[part\] 'size'"):
        doc.fields(("part",), {"sizes": schema.text})
    with pytest.raises(UserError, match=r"^x\.toml:4: label is missing; add it$"):
        doc.fields(("rows", 0), {**size, "label": schema.text}, needed=["label"])
    with pytest.raises(UserError, match=r'^x\.toml:1: name is "a"; make it a table, \[name\]$'):
        doc.table(("name",))


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "x.toml"
    with pytest.raises(UserError, match=r"x\.toml: cannot be read: No such file"):
        read_document(path)
    path.write_bytes("a = 'Ä'".encode("latin-1"))
    with pytest.raises(UserError, match=r"x\.toml: no text in UTF-8; save it as such"):
        read_document(path)
    path.write_text("a = 1\nb = =")
    with pytest.raises(UserError, match=r"^this:2: no valid TOML: .*; mend this line"):
        read_document(path, "this")
    path.write_text("\ufeffa = 1", encoding="utf-8")
    assert read_document(path).content == {"a": 1}
