"""What values may be: by type, and in TOML files by checks, with errors that name file and line.

A check takes a value as TOML has it and returns it as it is used; for a wrong one it raises
ValueError, whose text says what is wanted.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from lmdbench.core.errors import UserError, told_of
from lmdbench.core.files import patiently
from lmdbench.core.folders import expanded
from lmdbench.core.lines import KeyPath, lines_of
from lmdbench.core.registry import unknown

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

Check = Callable[[Any], Any]


def fits(hint: Any, value: Any) -> bool:
    """Whether a value, of a setting or from JSON, is of a type; whole numbers are numbers, too."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(one, value) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is list:
        return isinstance(value, list) and all(fits(inner[0], item) for item in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(fits(inner[1], item) for item in value.values())
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return hint is Any or type(value) is hint


def type_name(hint: Any) -> str:
    """A type in words."""
    origin = get_origin(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(hint))
    if origin in (Union, UnionType):
        return " or ".join(type_name(arg) for arg in get_args(hint))
    names = {
        int: "a whole number",
        float: "a finite number",
        bool: "true or false",
        str: "text",
        type(None): "none",
    }
    return names.get(hint, str(hint))


def wanted(words: str, holds: Callable[[Any], bool]) -> Check:
    """A check by a test of the value, which it leaves as it is."""

    def check(value: Any) -> Any:
        if holds(value):
            return value
        raise ValueError(words)

    return check


def is_line(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value.splitlines()) == 1


def is_lines(value: Any) -> bool:
    """Whether it is a list of different lines of text."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(map(is_line, value))
        and len(set(value)) == len(value)
    )


text = wanted("a text in quotes", lambda value: isinstance(value, str) and bool(value.strip()))
line = wanted("a line of text in quotes", is_line)
flag = wanted("true or false", lambda value: isinstance(value, bool))
table = wanted("a table of its own", lambda value: isinstance(value, dict))
tables = wanted(
    "tables, in double brackets",
    lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
)
lines = wanted('a list of different texts, such as ["a", "b"]', is_lines)


def whole(low: int, high: int = 2**31 - 1, of: str = "") -> Check:
    return wanted(
        f"a whole number {of}from {low} to {high}",
        lambda value: type(value) is int and low <= value <= high,  # True is an int, too
    )


def is_number(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def number(low: float) -> Check:
    check = wanted(f"a number from {low:g} on", lambda value: is_number(value, low, math.inf))
    return lambda value: float(check(value))


def one_of(*words: str) -> Check:
    return wanted(
        " or ".join(f'"{word}"' for word in words),
        lambda value: isinstance(value, str) and value in words,
    )


class Document:
    """A parsed file. ``source``: how errors name it; ``folder``: what its paths are relative to."""

    def __init__(self, source: str, text: str, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.text = text
        try:
            self.content: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            reason = str(error)
            match = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", reason)
            line = text.count("\n") + 1
            if match is not None:
                reason, line = match[1], int(match[2] or line)
            raise UserError(
                f"{source}:{line}: no valid TOML: {reason}; mend this line (text stands in quotes)"
            ) from None

    @cached_property
    def lines(self) -> dict[KeyPath, int]:
        return lines_of(self.text)

    def line(self, path: KeyPath) -> int:
        """Where it stands, or else the nearest that it is part of."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: KeyPath) -> str:
        return f"{self.source}:{self.line(path)}"

    def told_of(self, path: KeyPath) -> AbstractContextManager[None]:
        """What is wrong inside is told of what stands there."""
        return told_of(self.place(path))

    def error(self, path: KeyPath, what: object) -> UserError:
        return UserError(f"{self.place(path)}: {what}")

    def known(self, path: KeyPath, table: Mapping[str, Any], keys: Collection[str]) -> None:
        """Raises UserError for the first key that is none of these."""
        kind = f"key of {_header(path)}" if path else "key"
        for key in table:
            if key not in keys:
                raise self.error((*path, key), unknown(kind, key, list(keys)))

    def check(self, path: KeyPath, value: Any, check: Check) -> Any:
        try:
            return check(value)
        except ValueError as problem:
            raise self.error(path, f"{path[-1]} is {_shown(value)}; give {problem}") from None

    def table(self, path: KeyPath) -> dict[str, Any]:
        """What stands there, empty where nothing does."""
        value: Any = self.content
        for step in path:
            if isinstance(value, dict):
                value = value.get(str(step), {})
            else:
                found = isinstance(value, list) and isinstance(step, int)
                value = value[step] if found else {}
        if isinstance(value, dict):
            return value
        raise self.error(path, f"{path[-1]} is {_shown(value)}; make it a table, {_header(path)}")

    def fields(
        self, path: KeyPath, checks: Mapping[str, Check], needed: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The values of a table, each as its key's check gives it."""
        found = self.table(path)
        self.known(path, found, checks)
        for key in needed:
            if key not in found:
                raise self.error(path, f"{key} is missing; add it")
        return {key: self.check((*path, key), one, checks[key]) for key, one in found.items()}

    def axis(self, path: KeyPath, value: Any, check: Check) -> list[Any]:
        """The values of a list, or the one value."""
        if not isinstance(value, list):
            return [self.check(path, value, check)]
        if not value:
            raise self.error(path, f"{path[-1]} is an empty list; give values, or leave it out")
        checked: list[Any] = []
        for position, item in enumerate(value):
            try:
                one = check(item)
            except ValueError as problem:
                raise self.error(
                    (*path, position), f"{path[-1]} has {_shown(item)}; give {problem}"
                ) from None
            if one in checked:
                raise self.error(
                    (*path, position), f"{path[-1]} has {_shown(item)} twice; leave one out"
                )
            checked.append(one)
        return checked

    def items(self, key: str, example: str) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
        """The tables of ``methods`` or ``datasets``; a name alone is a table that has only that."""
        value = self.content.get(key)
        if value is None:
            raise self.error((), f'no {key}; add {key} = ["{example}"]')
        if not isinstance(value, list) or not value:
            raise self.error((key,), f'{key} is {_shown(value)}; give a list, as in ["{example}"]')
        for position, item in enumerate(value):
            path = (key, position)
            if isinstance(item, str):
                item = {"name": item}
            if not isinstance(item, dict):
                raise self.error(path, f"{key} has {_shown(item)}; give a name or a table")
            if not isinstance(item.get("name"), str):
                where = (*path, "name") if "name" in item else path
                raise self.error(where, f'each of {key} has one name; give name = "{example}"')
            yield path, item

    def resolved(self, written: str) -> Path:
        """A path in the file, relative to it."""
        return Path(os.path.abspath(self.folder / expanded(written)))


def read_document(path: Path | Traversable, source: str = "") -> Document:
    """Raises UserError for a file that cannot be read or is no TOML. ``source``: else its path."""
    try:
        text = patiently(lambda: path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UserError(f"{path}: no text in UTF-8; save it as such") from None
    return Document(source or str(path), text, path.parent if isinstance(path, Path) else Path())


def _header(path: KeyPath) -> str:
    return f"[{'.'.join(step for step in path if isinstance(step, str))}]"


def _shown(value: Any) -> str:
    """A value as the file has it, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
