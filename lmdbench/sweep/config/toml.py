"""A TOML file whose parts are checked one by one; every error names the line."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.sweep.config.lines import KeyPath, lines_of
from lmdbench.sweep.config.values import Check


class Document:
    """A parsed file. ``source``: how errors name it; ``folder``: what its paths are relative to."""

    def __init__(self, source: str, text: str, folder: Path) -> None:
        self.source = source
        self.folder = folder
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
        self.lines = lines_of(text)

    def line(self, path: KeyPath) -> int:
        """Where it stands, or else the nearest that it is part of."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def place(self, path: KeyPath) -> str:
        return f"{self.source}:{self.line(path)}"

    def error(self, path: KeyPath, what: object) -> UserError:
        return UserError(f"{self.place(path)}: {what}")

    def known(
        self, path: KeyPath, table: Mapping[str, Any], keys: Sequence[str], kind: str
    ) -> None:
        for key in table:
            if key not in keys:
                raise self.error((*path, key), unknown(kind, key, list(keys)))

    def check(self, path: KeyPath, value: Any, wanted: Check) -> Any:
        try:
            return wanted(value)
        except ValueError as problem:
            raise self.error(path, f"{path[-1]} is {_shown(value)}; give {problem}") from None

    def table(self, path: KeyPath, value: Any) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        raise self.error(path, f"{path[-1]} is {_shown(value)}; make it a table, [{path[-1]}]")

    def axis(self, path: KeyPath, value: Any, wanted: Check) -> list[Any]:
        """The values of a list, or the one value."""
        if not isinstance(value, list):
            return [self.check(path, value, wanted)]
        if not value:
            raise self.error(path, f"{path[-1]} is an empty list; give values, or leave it out")
        checked: list[Any] = []
        for position, item in enumerate(value):
            try:
                one = wanted(item)
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
        return Path(os.path.abspath(self.folder / Path(written).expanduser()))


def _shown(value: Any) -> str:
    """A value as the file has it, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
