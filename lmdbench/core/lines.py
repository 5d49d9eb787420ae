"""On which line every key of a TOML text stands, which the standard library does not tell."""

from __future__ import annotations

import re
import tomllib

KeyPath = tuple[str | int, ...]  # keys and positions in lists, from the top of the file

STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{1,2})?'
    r"|'''.*?'''(?:'{1,2})?"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
BARE = re.compile(r"[A-Za-z0-9_-]+")
SCALAR = re.compile(r"[^,\]}#\n]+")  # a number, a date or a truth value
BLANK = re.compile(r"(?:\s|#[^\n]*)*")
INDENT = re.compile(r"[ \t]*")
MARK = re.compile(r"[ \t]*([.=]?)[ \t]*")  # behind a key: none before a bracket


def lines_of(text: str) -> dict[KeyPath, int]:
    """Path → line, counted from 1, of every key and list item of a valid TOML text."""
    return _Scanner(text).lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.last: dict[KeyPath, int] = {}  # array of tables → position of its latest table
        table: KeyPath = ()
        self.blank()
        while self.at < len(text):
            if text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            self.blank()

    def blank(self) -> None:
        match = BLANK.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def note(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self.text.count("\n", 0, self.at) + 1)

    def header(self) -> KeyPath:
        brackets = 2 if self.text.startswith("[[", self.at) else 1
        opening = INDENT.match(self.text, self.at + brackets)
        assert opening is not None
        keys, end = self.keys(opening.end())
        path: KeyPath = ()
        for number, key in enumerate(keys, start=1):
            path += (key,)
            self.note(path)
            if number == len(keys) and brackets == 2:
                self.last[path] = self.last.get(path, -1) + 1
            if path in self.last:
                path += (self.last[path],)
                self.note(path)
        self.at = end + brackets
        return path

    def keys(self, at: int) -> tuple[list[str], int]:
        """A dotted key, and where what follows it (and its equals sign) begins."""
        keys: list[str] = []
        while True:
            match = STRING.match(self.text, at) or BARE.match(self.text, at)
            assert match is not None
            keys += tomllib.loads(f"{match[0]} = 0")
            mark = MARK.match(self.text, match.end())
            assert mark is not None
            at = mark.end()
            if mark[1] != ".":
                return keys, at

    def pair(self, table: KeyPath) -> None:
        keys, end = self.keys(self.at)
        for number in range(len(keys)):
            self.note((*table, *keys[: number + 1]))
        self.at = end
        self.value((*table, *keys))

    def value(self, path: KeyPath) -> None:
        opening = self.text[self.at]
        if opening in "[{":
            self.at += 1
            self.items(path, "]" if opening == "[" else "}")
            return
        match = STRING.match(self.text, self.at) or SCALAR.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def items(self, path: KeyPath, closing: str) -> None:
        number = 0
        self.blank()
        while self.text[self.at] != closing:
            if closing == "]":
                self.note((*path, number))
                self.value((*path, number))
            else:
                self.pair(path)
            number += 1
            self.blank()
            if self.text[self.at] == ",":
                self.at += 1
                self.blank()
        self.at += 1
