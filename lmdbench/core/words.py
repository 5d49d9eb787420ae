"""Numbers and names in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

Row = TypeVar("Row")


def count(number: int, noun: str) -> str:
    """'1 image', '2,000 images'."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def pixels(side: int) -> str:
    """'224 px', of the images of a run; of one on features, which has none, 'no images'."""
    return f"{side} px" if side else "no images"


def some(names: Collection[Any], most: int, shown: Callable[[Any], str] = str) -> str:
    """Names in a row, up to ``most`` of them; with semicolons between where one has a comma."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    words = [shown(name) for name in list(names)[:most]]
    return ("; " if any("," in word for word in words) else ", ").join(words) + more


MOST_NAMES = 40  # that a sentence can hold
FEW_NAMES = 6  # of more, as many are named


def listed(names: Collection[Any], shown: Callable[[Any], str] = str) -> str:
    """Names in a row, all of them unless there are so many that nobody would read them."""
    return some(names, MOST_NAMES if len(names) <= MOST_NAMES else FEW_NAMES, shown)


def both_ends(rows: Sequence[Row], gap: Callable[[int], Row]) -> list[Row]:
    """The rows of a table that people read; of more than ``MOST_NAMES`` the first and the last half
    of as many, and between them ``gap`` of how many are left out."""
    left_out = len(rows) - MOST_NAMES
    if left_out <= 0:
        return list(rows)
    half = MOST_NAMES // 2
    return [*rows[:half], gap(left_out), *rows[-half:]]


def size(count: float) -> str:
    """Bytes, such as 9.1 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit in ("bytes", "kB") else f"{count:.3g} {unit}"


# NAME:PASSWORD@ in an address, with or without its scheme
SECRET = re.compile(r"""(?<=//)[^\s'"]*@|[^\s/'"]*:[^\s/'"]*@""")


def no_secrets(text: str) -> str:
    """A text whose addresses have no name and password any more."""
    return SECRET.sub("…@", text)
