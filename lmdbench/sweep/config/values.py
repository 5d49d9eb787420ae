"""What values in a sweep file may be, as ``core.schema`` checks them."""

from __future__ import annotations

import re
from typing import Any

from lmdbench.core.schema import wanted
from lmdbench.sweep.config.sbatch import mebibytes, minutes

AUTO = "auto"
MOST_SEEDS = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def texts(value: Any) -> tuple[str, ...]:
    """A text of several lines, or a list of texts."""
    lines = value.splitlines() if isinstance(value, str) else value
    if isinstance(lines, list) and all(isinstance(line, str) for line in lines):
        return tuple(lines)
    raise ValueError("a text in quotes, or a list of them")


option = wanted(
    "a text of one line, a whole number, or true or false",
    lambda value: isinstance(value, str | int) and "\n" not in str(value),
)


alone_option = wanted(
    "1, or leave it out: a job is one process on one node; its cores are cpus_per_task",
    lambda value: value is False or (not isinstance(value, bool) and str(value) in ("", "1")),
)
memory_option = wanted(
    'an amount of memory such as "32G", or 0 for all of a node',
    lambda value: (
        value is False
        or (type(value) is int and value >= 0)
        or (isinstance(value, str) and (value in ("", "0") or mebibytes(value) is not None))
    ),
)


def duration(value: Any) -> int:
    if isinstance(value, str) or type(value) is int:
        try:
            return minutes(value)
        except ValueError:
            pass
    raise ValueError('a time such as "8h", "1-12:00:00", "90m" or a number of minutes')


def duration_or_auto(value: Any) -> int | str:
    if value == AUTO:
        return AUTO
    try:
        return duration(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "auto" for what estimates say') from None


def gpus(value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and value and all(type(n) is int and n >= 0 for n in value):
        return tuple(dict.fromkeys(value))
    raise ValueError("a list of GPU numbers such as [0, 1]")


def seeds(value: Any) -> tuple[int, ...]:
    """One number, a list of them, or a text such as 0-4 or 0,2,5."""
    found: list[int] = []
    words = value if isinstance(value, list) else str(value).split(",")
    for word in [] if isinstance(value, bool | float) else words:
        match = re.fullmatch(r"\s*(\d{1,10})(?:-(\d{1,10}))?\s*", str(word))
        if match is None or (isinstance(value, list) and type(word) is not int):
            break
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < 2**31 or last - first >= MOST_SEEDS:
            break
        found.extend(range(first, last + 1))
    else:
        if 0 < len(found) <= MOST_SEEDS:
            if len(set(found)) < len(found):
                raise ValueError("each seed once")
            return tuple(found)
    raise ValueError(
        f'up to {MOST_SEEDS} numbers from 0 to {2**31 - 1}, such as "0-4", [0, 1, 2] or 3'
    )
