"""Standard output and error as commands need them: for readers that go away, and for terminals that
know fewer signs than we print."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from typing import Any

# Sign → what stands for it where the encoding has none: a minus must never get lost.
ASCII = {
    "−": "-",
    "–": "-",
    "—": "-",
    "·": "-",
    "…": "...",
    "→": "->",
    "←": "<-",
    "×": "x",
    "±": "+-",
    "≈": "~",
    "≤": "<=",
    "≥": ">=",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "\u00a0": " ",
    "\u202f": " ",
}
IN_ASCII = "lmdbench.in_ascii"  # a handler of encoding errors


def prepare_streams() -> None:
    """Let a reader go away, as in ``lmdbench compare | head``, without the command's taking note:
    it does what it has to do, and its exit code is of that. And print what can't be encoded in
    other words, not as question marks."""
    codecs.register_error(IN_ASCII, in_ascii)
    sys.stdout, sys.stderr = (_prepared(stream) for stream in (sys.stdout, sys.stderr))


def in_ascii(error: UnicodeError) -> tuple[str, int]:
    """``ASCII``, else the escapes of JSON and of many languages: \\u4e2d."""
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    return "".join(ASCII.get(one) or _escaped(one) for one in characters), error.end


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[k : k + 2].hex()}" for k in range(0, len(units), 2))


def _prepared(stream: Any) -> Any:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if not _is_pipe(stream):
        stream.reconfigure(errors=IN_ASCII)
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=IN_ASCII,
        line_buffering=stream.line_buffering,
    )


def _is_pipe(stream: io.TextIOWrapper) -> bool:
    mode = os.fstat(stream.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class _Pipe(io.FileIO):
    """One whose reader may go away: what is written then goes nowhere."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)
