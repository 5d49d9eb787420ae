"""How a CSV is written: from bytes to its text, and the character between its columns."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.files import patiently

SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'"}  # beside the comma → in words
# First bytes → what a file is that is no CSV.
OTHERS = {
    b"PK\x03\x04": "a workbook (.xlsx, .ods) or an archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls)",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"{\\rtf": "a text document (.rtf)",
}
# First bytes → the codec that writes them, longest first.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Written:
    """What is known of how a CSV is written; empty where it is seen from the file itself.

    ``settings``: where the user may say it, in words; empty where nothing takes it."""

    separator: str = ""
    encoding: str = ""
    settings: str = ""

    def way(self, key: str, value: str) -> str:
        """The advice to say it; empty where that is not possible."""
        return f', or say {key} = "{value}" in {self.settings}' if self.settings else ""


def is_separator(value: object) -> bool:
    return isinstance(value, str) and len(value) == 1 and value not in '"\r\n' and not _wordy(value)


def is_encoding(value: object) -> bool:
    """Whether Python reads text by that name."""
    try:
        return isinstance(value, str) and isinstance("a".encode(value), bytes)
    except (LookupError, UnicodeError, ValueError):
        return False


def read_text(path: Path, written: Written) -> str:
    """The text of a CSV, also of one in gzip. Raises UserError, naming the file, for one that can't
    be read, is of another kind or in another encoding."""
    try:
        content = patiently(path.read_bytes)
        if content.startswith(b"\x1f\x8b") or path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged, not a whole gzip file ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    for first, kind in OTHERS.items():
        if content.startswith(first):
            raise UserError(f"{path}: is {kind}, no CSV; save the table as CSV in UTF-8")
    text = _decoded(path, content, written).replace("\ufeff", "")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(
            f"{path}: zero bytes in line {line}, as in a file that was not written or copied to "
            "its end; copy or export it once more"
        )
    return text


def separator_of(lines: Sequence[str], written: Written) -> tuple[str, bool]:
    """The character between columns: as said, as Excel's line above the header says (then True), or
    as the header shows that has no comma."""
    first = next((line.strip(" \r\n") for line in lines if line.strip()), "")
    excel = re.fullmatch(r'"?sep=([^"])"?[,;\s]*', first, re.IGNORECASE)
    if excel:
        return written.separator or excel[1], True
    if written.separator:
        return written.separator, False
    unquoted = re.sub(r'"[^"]*"', "", first)
    seen = [one for one in SEPARATORS if one in unquoted and "," not in unquoted]
    return (seen or [","])[0], False


def _decoded(path: Path, content: bytes, written: Written) -> str:
    said = written.encoding
    marked = next((codec for mark, codec in MARKS.items() if content.startswith(mark)), "")
    family = marked.removesuffix("-sig")
    if said and not codecs.lookup(said).name.startswith(family):
        raise UserError(f'{path}: begins as {family} does; leave out encoding = "{said}"')
    if said and not marked and not codecs.lookup(said).name.startswith("utf") and _is_utf8(content):
        raise UserError(f'{path}: is in UTF-8; leave out encoding = "{said}"')
    encoding = marked or said or "utf-8"
    if encoding == "utf-8" and b"\0" in content[:4]:
        way = written.way("encoding", _guess(content))
        raise UserError(f"{path}: looks like UTF-16, no UTF-8; save it as UTF-8{way}")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = f"line {line}: {error.reason}"
        if said:
            raise UserError(f"{path}: not in {said}, as encoding says: {where}") from error
        way = written.way("encoding", _guess(content))
        raise UserError(f"{path}: not a CSV in UTF-8 ({where}); save it as UTF-8{way}") from error


def _is_utf8(content: bytes) -> bool:
    """Whether it has letters beyond ASCII that are written in UTF-8: by chance none are."""
    try:
        return not content.decode("utf-8").isascii()
    except UnicodeDecodeError:
        return False


def _guess(content: bytes) -> str:
    if b"\0" not in content[:100]:
        return "cp1252"
    return "utf-16-be" if content.startswith(b"\0") else "utf-16-le"


def _wordy(character: str) -> bool:
    return character.isalnum() or character in "._-/\\"
