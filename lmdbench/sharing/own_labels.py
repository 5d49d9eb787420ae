"""What a table of predictions says itself of its images' classes, against the split and its values.

Rows that lost their order, as those of a shuffled loader written beside a list of names, show here.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, some

# How columns of true and of predicted classes are called, lower-case, without blanks, - and _
TRUTH = re.compile(
    r"(y|gt|true|ground|target|actual|real|reference)?(label|class|target|truth|true|diagnosis|dx)"
    r"(e?s)?(id|idx|index|name|code|true)?|y|gt|actual|reference"
)
DECISION = re.compile(
    r"(label|class|y)?(pred|preds|predicted|predictions?|hat|argmax|top1)(label|class|target)?"
    r"(id|idx|index|name|code)?"
)
WHOLE = re.compile(r"(-?\d+)(?:\.0+)?")
NAMED = 3


@dataclass(frozen=True)
class OwnColumn:
    """A column of a table that says classes: of each image ``said``, empty where it says none.

    ``classes``: the split's, in its order; ``order``: theirs among the table's columns.
    """

    where: str  # file and column, for messages
    images: Sequence[str]
    said: Sequence[str]
    classes: Sequence[str]
    order: Sequence[int]


def is_truth(column: str) -> bool:
    return TRUTH.fullmatch(_plain_column(column)) is not None


def is_decision(column: str) -> bool:
    return DECISION.fullmatch(_plain_column(column)) is not None


def _plain_column(column: str) -> str:
    return re.sub(r"[\s_.-]+", "", column).lower()


def compare_truth(column: OwnColumn, labels: Sequence[int]) -> str:
    """A note of how true classes agree with the split's ``labels`` (N,), class indices.

    Numbers are indices of classes, from 0 or 1, by the split's order or that of the columns. Raises
    UserError, with the number and the first image, where any contradicts; and for names that are no
    classes and go with these in neither direction.
    """
    rows = [row for row, cell in enumerate(column.said) if cell]
    if not rows:
        return ""
    said, truth = [column.said[row] for row in rows], [labels[row] for row in rows]
    best = _best(column, said, [{label} for label in truth])
    if best is None:
        return _of_other_names(column, said, truth)
    codes, how = best
    wrong = [k for k, label in enumerate(truth) if codes[k] != label]
    if not wrong:
        return f"{column.where} agrees with the split ({count(len(rows), 'image')}{how})"
    k = wrong[0]
    here, there = column.classes[codes[k]], column.classes[truth[k]]
    told = f" ({said[k]})" * (said[k] != here)
    raise UserError(
        f"{column.where}: {len(wrong):,} of {count(len(rows), 'label')} "
        f"({len(wrong) / len(rows):.0%}) contradict the split{how}, e.g. "
        f"{column.images[rows[k]]}: {here}{told} here, {there} there; "
        f"{_why(codes, truth, wrong)} Mend the file, or leave the column out if it is wrong"
    )


def compare_decisions(column: OwnColumn, values: np.ndarray) -> str:
    """A note of how predicted classes agree with the largest of the ``values`` (N, C); of equal
    ones each may be meant. Raises UserError, with the number and the first image, where one is
    another."""
    rows = [row for row, cell in enumerate(column.said) if cell]
    said = [column.said[row] for row in rows]
    largest = values == values.max(axis=1, keepdims=True)
    allowed = [set(np.flatnonzero(largest[row]).tolist()) for row in rows]
    best = _best(column, said, allowed)
    if best is None:
        return f"{column.where} is not compared: {said[0]!r} is no class" if said else ""
    codes, how = best
    wrong = [k for k, most in enumerate(allowed) if codes[k] not in most]
    if not wrong:
        return f"{column.where} agrees with the largest values ({count(len(rows), 'image')}{how})"
    k = wrong[0]
    here, there = column.classes[codes[k]], column.classes[min(allowed[k])]
    raise UserError(
        f"{column.where}: {len(wrong):,} of {count(len(rows), 'image')} "
        f"({len(wrong) / len(rows):.0%}) have their largest value in another class{how}, e.g. "
        f"{column.images[rows[k]]}: {here} here, {there} by the values; are the columns of the "
        "classes mixed up? Mend the file, or leave this column out if another rule chose"
    )


def _why(codes: Sequence[int], truth: Sequence[int], wrong: Sequence[int]) -> str:
    if Counter(codes) == Counter(truth):
        return "as many images of each class in both: are its rows out of order?"
    if len(wrong) > len(truth) / 5:
        return "are its rows out of order, or is it of another split?"
    return "were labels changed since?"


def _best(
    column: OwnColumn, said: Sequence[str], allowed: Sequence[set[int]]
) -> tuple[list[int], str] | None:
    """The reading of cells as class indices that most fits what is ``allowed``, with words of how;
    None where they are neither names nor numbers of classes."""
    readings = list(_readings(column, said))
    if not readings:
        return None
    return max(readings, key=lambda one: sum(c in a for c, a in zip(one[0], allowed, strict=True)))


def _readings(column: OwnColumn, said: Sequence[str]) -> Iterator[tuple[list[int], str]]:
    """By name, which leaves no other; else as numbers, the likelier first."""
    names = _by_name(column.classes)
    if all(_plain(cell) in names for cell in said):
        yield [names[_plain(cell)] for cell in said], ""
        return
    numbers = [WHOLE.fullmatch(cell) for cell in said]
    if not all(numbers):
        return
    found = [int(number.group(1)) for number in numbers if number]
    orders = {"the classes": list(range(len(column.classes))), "the columns": list(column.order)}
    if orders["the columns"] == orders["the classes"]:
        del orders["the columns"]
    for what, order in orders.items():
        for first in (0, 1):
            if all(0 <= number - first < len(order) for number in found):
                codes = [order[number - first] for number in found]
                first_name = column.classes[order[0]]
                yield codes, f"; numbers by the order of {what}, {first} = {first_name}"


def _by_name(classes: Sequence[str]) -> dict[str, int]:
    """Class index by name; case, blanks, - and _ don't matter where no two classes differ in
    nothing else."""
    plain = {_plain(name): code for code, name in enumerate(classes)}
    if len(plain) < len(classes):
        return {name: code for code, name in enumerate(classes)}
    return plain


def _plain(name: str) -> str:
    number = WHOLE.fullmatch(name)
    return number.group(1) if number else re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _of_other_names(column: OwnColumn, said: Sequence[str], truth: Sequence[int]) -> str:
    """Of names that are no classes: codes of these, finer or coarser ones may well be right."""
    of_name: dict[str, set[int]] = defaultdict(set)
    of_class: dict[int, set[str]] = defaultdict(set)
    for name, code in zip(said, truth, strict=True):
        of_name[name].add(code)
        of_class[code].add(name)
    torn = [name for name, codes in of_name.items() if len(codes) > 1]
    strange = [name for name in of_name if _plain(name) not in _by_name(column.classes)]
    if torn and any(len(names) > 1 for names in of_class.values()):
        classes = some([column.classes[code] for code in sorted(of_name[torn[0]])], NAMED)
        raise UserError(
            f"{column.where}: {some(strange, NAMED, repr)} {_are(strange)} no class, and its "
            f"labels contradict the split, e.g. {torn[0]!r} stands for {classes}; are its rows out "
            "of order? Write the names of the classes, or leave the column out"
        )
    return f"{column.where} is not compared with the split: {some(strange, NAMED, repr)} " + (
        f"{_are(strange)} no class"
    )


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
