"""The images of a table in subgroups, by what a column of the data set's table says of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol

from lmdbench.comparison.columns import Column
from lmdbench.comparison.samples import Sample
from lmdbench.comparison.types import Cell, MethodResult, ResultTable, Subgroup, Subgroups
from lmdbench.core.errors import UserError
from lmdbench.core.words import count, listed, some
from lmdbench.data.lesions import NEGATIVE, plain_word

NOT_RECORDED = "not recorded"
# What stands for it, in lower case, without brackets around it or dots behind it
MISSING = frozenset(
    ["", "na", "n/a", "n.a", "#n/a", "nan", "nat", "null", "unknown", "unk", "missing", "-", "?"]
    + [f"not {word}" for word in ("available", "known", "given", "specified", "recorded")]
)
AGE_BANDS = (40.0, 60.0)  # years at which bands begin, unless said otherwise
MOST = 20  # subgroups of a column
NAMED = 4  # values that a line names


class Score(Protocol):
    def __call__(self, sample: Sample, *, subgroup: str) -> ResultTable: ...


@dataclass(frozen=True)
class Division:
    """Subgroup → its images, in the order they are shown. ``banded``: whether these are bands of
    numbers; ``note``: how many images have no value, and the words for it, if there are any."""

    images: Mapping[str, frozenset[str]]
    banded: bool
    note: str = ""


def check_bands(bands: Sequence[float]) -> None:
    """Raise UserError for what are no borders between bands."""
    finite = all(math.isfinite(border) for border in bands)
    if not finite or any(b <= a for a, b in pairwise(bands)):
        raise UserError("--bands: give numbers that rise, at which bands begin, such as 40,60")


def divide(column: Column, images: Sequence[str], bands: Sequence[float] = ()) -> Division:
    """Divide images by what a column says of them.

    Ages are divided in bands, and so are other numbers where ``bands`` says at which numbers these
    begin; all else value by value, the most frequent first. What has no value comes last. Raises
    UserError where no image has a value, where there are too many values, and for a value that is
    no number among those that are to be divided in bands.
    """
    values = {image: column.values.get(image, "") for image in images}
    absent = {image for image, value in values.items() if plain_word(value) in MISSING}
    numbers = {image: _number(value) for image, value in values.items() if image not in absent}
    if not any(n is not None and n < 0 and not _filler(values[i]) for i, n in numbers.items()):
        absent |= {image for image in numbers if _filler(values[image])}
    there = {image: value for image, value in values.items() if image not in absent}
    if not there:
        state = "has none of these images" if not set(images) & set(column.values) else "is empty"
        raise UserError(f"--by {column.asked}: the column {column.name!r} of the table {state}")
    any_number = any(numbers[image] is not None for image in there)
    borders = (bands if any_number else ()) or (AGE_BANDS if column.is_age else ())
    found = _in_bands(column, there, borders) if borders else _by_value(column, there)
    if absent:
        found[NOT_RECORDED] = frozenset(absent)
    return Division(found, bool(borders), _absent_note([values[image] for image in absent]))


def _filler(value: str) -> bool:
    """Whether a number is one that programs write for none, such as -1 and -999."""
    return bool(NEGATIVE.fullmatch(value))


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _in_bands(
    column: Column, values: Mapping[str, str], borders: Sequence[float]
) -> dict[str, frozenset[str]]:
    numbers = {}
    for image, value in values.items():
        number = _number(value)
        if number is None:
            raise UserError(
                f"--by {column.asked}: the column {column.name!r} of the table has {value!r} for "
                f"{image}, but bands take numbers; mend it, or leave the cell empty"
            )
        numbers[image] = number
    whole = borders[0] > 0 and all(n >= 0 and n == int(n) for n in (*numbers.values(), *borders))
    names = _band_names(borders, whole=whole)
    found: dict[str, set[str]] = {name: set() for name in names}
    for image, number in numbers.items():
        found[names[sum(number >= border for border in borders)]].add(image)
    return {name: frozenset(members) for name, members in found.items() if members}


def _band_names(borders: Sequence[float], *, whole: bool) -> list[str]:
    """What the bands are called: ``0–39``, ``40–59``, ``60+`` of whole numbers."""
    if whole:
        starts = [0, *map(int, borders)]
        inner = [
            f"{start}–{end - 1}" if end - 1 > start else f"{start}"
            for start, end in pairwise(starts)
        ]
        return [*inner, f"{starts[-1]}+"]
    inner = [f"{a:g} to below {b:g}" for a, b in pairwise(borders)]
    return [f"below {borders[0]:g}", *inner, f"{borders[-1]:g} and more"]


def _by_value(column: Column, values: Mapping[str, str]) -> dict[str, frozenset[str]]:
    sizes = Counter(values.values())
    if len(sizes) > MOST:
        numbers = all(_number(value) is not None for value in sizes)
        advice = "say --bands, such as 40,60" if numbers else "choose a column of fewer"
        raise UserError(
            f"--by {column.asked}: the column {column.name!r} of the table has {len(sizes):,} "
            f"values, more than {MOST} subgroups; {advice}"
        )
    ordered = sorted(sizes, key=lambda value: (-sizes[value], value))
    return {
        value: frozenset(image for image, own in values.items() if own == value)
        for value in ordered
    }


def _absent_note(cells: Sequence[str]) -> str:
    words = Counter(cell for cell in cells if cell)
    if not cells:
        return ""
    named = some([f'"{word}": {n:,}' for word, n in words.most_common()], NAMED)
    return f"{NOT_RECORDED}: {count(len(cells), 'image')}" + f" ({named})" * bool(words)


# Scored


def scored_by(column: Column, division: Division, table: ResultTable, score: Score) -> Subgroups:
    """The scores of each subgroup of a table's images, with what a reader must know of them."""
    parts = []
    for name, images in division.images.items():
        found = score(replace(table.sample, within=images), subgroup=f"{column.asked} {name}")
        parts.append(Subgroup(name, exploratory(found)))
    absent = (f"{division.note[0].upper()}{division.note[1:]}.",) if division.note else ()
    undivided = ("It does not divide these images.",) if len(parts) == 1 else ()
    notes = (*undivided, *absent, *_in_several(parts, table))
    return Subgroups(column.asked, column.name, tuple(parts), notes, _lacking(parts))


def _in_several(parts: Sequence[Subgroup], table: ResultTable) -> tuple[str, ...]:
    """That lesions or patients have images in several subgroups, if some have."""
    more = sum(_scored_in(part.table) for part in parts) - _scored_in(table)
    if not more:
        return ()
    return (
        f"A {table.sample.counted} with images in several subgroups is scored in each by its "
        f"images there: {more:,} more in all.",
    )


def _scored_in(table: ResultTable) -> int:
    return table.images[table.part]["all"]


def exploratory(table: ResultTable) -> ResultTable:
    """The table with intervals alone: nothing in it is tested, marked, or the best."""
    return replace(table, rows=tuple(_unmarked(row) for row in table.rows))


def _unmarked(row: MethodResult) -> MethodResult:
    return replace(row, cells={name: _plain(cell) for name, cell in row.cells.items()})


def _plain(cell: Cell) -> Cell:
    difference = cell.difference
    if difference is not None:
        nan = math.nan
        difference = replace(
            difference,
            p=nan,
            detectable=nan,
            detectable_more_seeds=nan,
            equal_within=nan,
            equal=False,
        )
    return replace(cell, difference=difference, p_corrected=None, mark="", best=False, second=False)


def _lacking(parts: Sequence[Subgroup]) -> tuple[str, ...]:
    """Which subgroups are without images of which classes."""
    notes = []
    lacking: dict[tuple[str, ...], list[str]] = {}
    for part in parts:
        absent = tuple(name for name, cell in part.table.rows[0].recalls.items() if not cell.n)
        if absent:
            lacking.setdefault(absent, []).append(part.name)
    for absent, names in lacking.items():
        whole = len(parts[0].table.record.classes)
        notes.append(
            f"{', '.join(names)}: no {parts[0].table.counted} of {listed(absent)}; averages over "
            f"classes are over the other {whole - len(absent)}."
        )
    if lacking:
        notes.append("Averages over other classes are not to be compared between subgroups.")
    return tuple(notes)
