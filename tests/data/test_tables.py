"""Tables as people and programs write them: the same rows, however they are written."""

import gzip
from pathlib import Path

import pytest

from lmdbench.core.errors import UserError
from lmdbench.data.tables import read_table
from lmdbench.data.written import Written, is_encoding, is_separator

ROWS = [["ä.png", "Müller, A.", "54,5"], ["b.png", "x", ""]]
COMMAS = 'image,name,age\nä.png,"Müller, A.","54,5"\nb.png,x,\n'
SEMICOLONS = "image;name;age\nä.png;Müller, A.;54,5\nb.png;x;\n"
TABS = SEMICOLONS.replace(";", "\t")


def read(tmp_path: Path, content: bytes, written: Written = Written()) -> list[list[str]]:  # noqa: B008
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    return read_table(path, ["image", "name", "age"], written=written).rows


@pytest.mark.parametrize(
    "text",
    [
        COMMAS,
        SEMICOLONS,
        TABS,
        SEMICOLONS.replace(";", "|"),
        "sep=;\n" + SEMICOLONS,
        "SEP=;\r\n" + SEMICOLONS.replace("\n", "\r\n"),
        "sep=;;;\n" + SEMICOLONS,
        "sep=,\n" + COMMAS,
        "sep=\t\n" + TABS,
        COMMAS.replace("\n", "\r"),
        SEMICOLONS.replace("\n", ";;\n"),
        SEMICOLONS + ";;\n;;\n  ; ;\n\n",
        SEMICOLONS.replace("b.png;x;", "b.png;x;;;"),
        "\ufeff" + COMMAS,
        COMMAS.replace("b.png", "\ufeffb.png"),
        COMMAS.replace(",x,", ",\u00a0x ,"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_same_rows_however_they_are_written(tmp_path: Path, text: str, encoding: str) -> None:
    assert read(tmp_path, text.encode(encoding)) == ROWS
    assert read(tmp_path, gzip.compress(text.encode(encoding))) == ROWS


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "mac-roman", "utf-16-le", "cp437"])
def test_an_encoding_that_is_said(tmp_path: Path, encoding: str) -> None:
    written = Written(separator=";", encoding=encoding)
    assert read(tmp_path, SEMICOLONS.encode(encoding), written) == ROWS


def test_a_separator_that_is_said(tmp_path: Path) -> None:
    text = SEMICOLONS.replace(";age", ";age, years")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    table = read_table(tmp_path / "t.csv", ["image"], written=Written(separator=";"))
    assert (table.header, table.rows) == (["image", "name", "age, years"], ROWS)


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('sep=;\n\nimage;name\na;"x\ny"\n;;\nb;z\n')
    table = read_table(tmp_path / "t.csv", ["image"])
    assert (table["name"], table.lines) == (["x\ny", "z"], [5, 7])


def test_cells_of_any_length_are_read(tmp_path: Path) -> None:
    outline = "12 7 " * 100_000
    table = COMMAS.replace("x,", f"x,{outline}")
    assert read(tmp_path, table.encode())[1] == ["b.png", "x", outline.strip()]


def test_a_value_behind_the_last_named_column_is_kept_for_the_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("image,name,age,\na,b,c,\nd,e,f,g\n")
    assert read_table(tmp_path / "t.csv", ["image"]).rows == [["a", "b", "c", ""], [*"defg"]]
    (tmp_path / "t.csv").write_text("image,name,age\na,b,c,\nd,e,f,g\n")
    with pytest.raises(UserError, match="line 3: 4 values where the header has 3 columns"):
        read_table(tmp_path / "t.csv", ["image"])


@pytest.mark.parametrize(
    ("content", "encoding", "problem"),
    [
        (SEMICOLONS.encode("cp1252"), "", r"not a CSV in UTF-8 \(line 2: .*\); save it as UTF-8"),
        (SEMICOLONS.encode(), "cp1252", "is in UTF-8; leave out encoding = .cp1252"),
        (SEMICOLONS.encode("utf-8-sig"), "cp1252", "begins as utf-8 does; leave out encoding"),
        (SEMICOLONS.encode("utf-16"), "utf-8", "begins as utf-16 does; leave out encoding"),
        (SEMICOLONS.encode("cp1252"), "ascii", "not in ascii, as encoding says: line 2"),
        (SEMICOLONS.encode("utf-16-le"), "", 'UTF-16.*encoding = "utf-16-le" in dataset.toml'),
        (SEMICOLONS.encode("utf-16-be"), "", 'UTF-16.*encoding = "utf-16-be" in dataset.toml'),
        (b"PK\x03\x04 and more", "", "is a workbook .*no CSV; save the table as CSV"),
        (b"\xd0\xcf\x11\xe0 and more", "", "old Excel workbook"),
        (gzip.compress(COMMAS.encode(), mtime=0)[:40], "", "damaged, not a whole gzip file"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, content: bytes, encoding: str, problem: str
) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        read(tmp_path, content, Written(encoding=encoding, settings="dataset.toml"))
    assert "\n" not in str(caught.value)
    assert "t.csv: " in str(caught.value)
    if encoding == "" and content[:5] == b"image":
        assert 'encoding = "cp1252" in dataset.toml' in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (COMMAS.encode() + bytes(512), "zero bytes in line 4, as in a file that was not written"),
        (COMMAS.encode().replace(b"54,5", bytes(4)), "zero bytes in line 2"),
        (COMMAS.encode() + b'c.png,"x,1\nd.png,y,2\n', "row that begins in line 4 has a quote"),
    ],
)
def test_a_table_that_was_half_written_is_told_with_the_line(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    with pytest.raises(UserError, match=f"t.csv: .*{problem}"):
        read(tmp_path, content)


def test_keys_of_a_description() -> None:
    assert all(map(is_separator, ";\t|,: ^"))
    assert not any(map(is_separator, ["", ";;", "a", "1", "\n", '"', ".", "/", 3]))
    assert all(
        map(is_encoding, ["utf-8", "cp1252", "Latin-1", "utf-16", "mac-roman", "windows-1252"])
    )
    assert not any(map(is_encoding, ["", "german", "base64", 3]))
