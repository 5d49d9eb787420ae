"""The label of each row of a user's table: from a column, or from a column of 0 and 1 a class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.core.words import count, some
from lmdbench.data.folder.description import Description
from lmdbench.data.folder.spelling import spelling
from lmdbench.data.lesions import is_no_word, plain_word
from lmdbench.data.tables import Table

# What programs write where a cell is empty. Any may be a class, so it is one unless rows without a
# label are to be dropped; "none" and "unknown" often are.
NO_LABEL = frozenset(["na", "n/a", "n.a", "#n/a", "#na", "nan", "nat", "null", "\\n"])
TRUTHS = {
    **dict.fromkeys(["0", "false", "no", "n"], False),
    **dict.fromkeys(["1", "true", "yes", "y", "x"], True),
}
JOINTS = re.compile(r"[|;,/+&]")  # between the labels of an image that has several
LINES = 5  # that an error names
WORDS = 8  # that an error or a remark names
ROUNDED = 0.02  # by which probabilities may miss 1


@dataclass(frozen=True)
class Labels:
    """The label of each row, "" where it has none; the classes in their order."""

    labels: Sequence[str]
    classes: Sequence[str]
    none: Mapping[str, int]  # what stood where there is no label → rows
    remarks: tuple[str, ...] = ()


def read_labels(
    table: Table, described: Description, column: str, others: Collection[str]
) -> Labels:
    """The labels of a table: of ``column`` where it has that, else of one-hot columns, among those
    that are none of ``others``. Raises UserError, naming file and line, where there are neither."""
    if described.label_columns:
        return _one_hot(table, _positions(table, described), described)
    free = [p for p, name in enumerate(table.columns) if name and name not in others]
    of_truths = [p for p in free if _of_truths([row[p] for row in table.rows])]
    if column in table.columns:
        found = _of_column(table[column], described)
        if "label" not in described.columns:
            _refuse_contradiction(table, found.labels, of_truths, described)
        return found
    if len(of_truths) < 2:
        raise _no_label(table, free, column, described)
    return _one_hot(table, of_truths, described)


def labelled_rows(table: Table, found: Labels, described: Description) -> list[int]:
    """The rows that have a label. Raises UserError, naming the lines, for others, unless the
    description drops these."""
    lacking = [row for row, label in enumerate(found.labels) if not label]
    if lacking and not described.drops_others:
        words = "" if set(found.none) == {""} else f" ({_counted(found.none)})"
        lines = some([table.lines[row] for row in lacking], LINES)
        raise UserError(
            f"{table.path}: {count(len(lacking), 'row')} of {len(table):,} without a label{words}, "
            f"in line {lines}; fill in the column, or leave the images out by "
            f'other_classes = "drop" in {described.settings}'
        )
    return [row for row, label in enumerate(found.labels) if label]


def left_out(found: Labels) -> tuple[str, ...]:
    """A line of the rows without a label, if there are any."""
    n = sum(found.none.values())
    return (f"left out: {count(n, 'image')} without a label ({_counted(found.none)})",) * bool(n)


def _of_column(cells: Sequence[str], described: Description) -> Labels:
    sizes = Counter(cells)
    free = [cell for cell in sizes if cell not in described.classes]
    values = {cell for cell in free if plain_word(cell) in NO_LABEL}
    none = {cell: sizes[cell] for cell in free if not cell or cell in values}
    if not described.drops_others:
        none = {cell: n for cell, n in none.items() if not cell}
    labels = ["" if cell in none else cell for cell in cells]
    doubtful = sorted(cell for cell in free if cell not in none and is_no_word(cell))
    told = _doubts(doubtful, values - set(none), sizes, described) + _several(sizes, described)
    return Labels(labels, sorted(set(labels) - {""}), none, () if described.classes else told)


def _doubts(
    doubtful: Sequence[str], values: Collection[str], sizes: Counter[str], described: Description
) -> tuple[str, ...]:
    """A line of labels that may stand for no label, if there are any."""
    if not doubtful:
        return ()
    named = some([f'"{cell}" ({count(sizes[cell], "image")})' for cell in doubtful], WORDS)
    line = f"classes: {named} taken as a class like any other"
    if values:
        left = some([f'"{cell}"' for cell in sorted(values)], WORDS)
        line += f'; other_classes = "drop" in {described.settings} leaves {left} out'
    return (line,)


def _several(sizes: Counter[str], described: Description) -> tuple[str, ...]:
    """A line of labels that are several others joined, if there are any."""
    spellings = {spelling(cell) for cell in sizes} - {""}
    joined = [
        f'"{cell}" ({count(n, "image")})'
        for cell, n in sorted(sizes.items())
        if len(parts := JOINTS.split(cell)) > 1 and all(spelling(p) in spellings for p in parts)
    ]
    if not joined:
        return ()
    return (
        f"classes: {some(joined, WORDS)} taken as a class of its own, though it joins others; an "
        f"image has one class: [classes] in {described.settings} says which, or leaves these "
        'images out with other_classes = "drop"',
    )


def _one_hot(table: Table, positions: Sequence[int], described: Description) -> Labels:
    """The class of each row from columns of 0 and 1. Raises UserError, naming lines, for other
    cells and for rows of two classes."""
    names = [table.header[p] for p in positions]
    labels, several = [], []
    for row, line in enumerate(table.lines):
        ones = [name for name, p in zip(names, positions, strict=True) if _is_one(table, row, p)]
        labels.append(ones[0] if ones else "")
        if len(ones) > 1:
            several.append(f"line {line} ({' and '.join(ones)})")
    if several:
        listed = ", ".join(f'"{name}"' for name in names[:3])
        raise UserError(
            f"{table.path}: {count(len(several), 'row')} with 1 in several of the columns "
            f"{some(names, WORDS)}: {some(several, 3)}; an image has one class: mend them, or list "
            f"the columns of classes, label = [{listed}, ...] under [columns] in "
            f"{described.settings}"
        )
    there = set(labels)
    classes = [name for name in names if name in there]
    told = f"labels: from the columns of 0 and 1 {some(classes, WORDS)}"
    if empty := [name for name in names if name not in there]:
        told += f"; no class, as 0 in every row: {some(empty, WORDS)}"
    none = {"0 in each column": labels.count("")} if "" in there else {}
    return Labels(labels, classes, none, (told,))


def _refuse_contradiction(
    table: Table, labels: Sequence[str], of_truths: Sequence[int], described: Description
) -> None:
    """Raises UserError, naming lines, where columns of 0 and 1 that are called as the labels say
    another class than these."""
    place = {spelling(table.header[p]): p for p in of_truths}
    codes = described.classes
    own = [place.get(spelling(a), place.get(spelling(codes.get(a, a)))) for a in labels]
    if len(set(own) - {None}) < 2:
        return  # a name in common says little
    wrong = [
        f"line {line} ({label})"
        for label, p, row, line in zip(labels, own, table.rows, table.lines, strict=True)
        if p is not None and not _truth(row[p])
    ]
    if wrong:
        names = [table.header[p] for p in of_truths if p in own]
        listed = ", ".join(f'"{name}"' for name in names[:3])
        more = ", …" if len(names) > 3 else ""
        raise UserError(
            f"{table.path}: {count(len(wrong), 'row')} of {len(table):,} whose label contradicts "
            f"the columns of 0 and 1: {some(wrong, 3)}; mend them, or say which counts, "
            f'label = "label" or label = [{listed}{more}], under [columns] in {described.settings}'
        )


def _positions(table: Table, described: Description) -> list[int]:
    for name in described.label_columns:
        if name.lower() not in table.columns:
            missing = unknown(f"column of {table.path.name}", name, list(table.header))
            raise UserError(f"{described.path}: columns.label: {missing}")
    return [table.columns.index(name.lower()) for name in described.label_columns]


def _is_one(table: Table, row: int, position: int) -> bool:
    cell = table.rows[row][position]
    truth = _truth(cell) if cell else False
    if truth is None:
        raise UserError(
            f"{table.line(row)}: {table.header[position]} is {cell!r}; columns of classes hold 0 "
            "and 1, a single 1 a row"
        )
    return truth


def _of_truths(cells: Sequence[str]) -> bool:
    """Whether there are 0 and 1 alone, or nothing instead of 0."""
    return any(cells) and all(not cell or _truth(cell) is not None for cell in cells)


def _truth(cell: str) -> bool | None:
    """Of 0, 1, 0.0, 1,0, true, yes or x; None for anything else."""
    number = _number(cell)
    return TRUTHS.get(cell.lower()) if number is None else TRUTHS.get(f"{number:g}")


def _number(cell: str) -> float | None:
    try:
        return float(cell.replace(",", ".", 1))
    except ValueError:
        return None


def _no_label(table: Table, free: Sequence[int], column: str, described: Description) -> UserError:
    """The error for a table without labels, and what it looks like."""
    there = f"its columns are {some(table.header, 2 * WORDS, repr)}"
    if shares := _probabilities(table, free):
        return UserError(
            f"{table.path}: no column {column!r}, but {some(shares, WORDS)} look like "
            "probabilities of classes; training needs one label an image: give a column label, or "
            "columns of 0 and 1"
        )
    return UserError(
        f"{table.path}: no column {column!r}; {there}; say which it is, as label = "
        f'"diagnosis", or the columns of 0 and 1, as label = ["MEL", "NV"], under [columns] in '
        f"{described.settings}"
    )


def _probabilities(table: Table, free: Sequence[int]) -> list[str]:
    """The columns whose numbers add up to 1 in each row; none if there are no such."""
    numbers = {p: [_number(row[p]) for row in table.rows] for p in free}
    inside = {
        p: values
        for p, values in numbers.items()
        if all(value is not None and 0 <= value <= 1 for value in values)
    }
    rows = zip(*inside.values(), strict=True)
    sums = [sum(value or 0 for value in row) for row in rows]
    whole = len(inside) > 1 and all(abs(total - 1) <= ROUNDED for total in sums)
    return [table.header[p] for p in inside] if whole else []


def _counted(none: Mapping[str, int]) -> str:
    words = [f'"{word}": {n:,}' if word else f"empty: {n:,}" for word, n in none.items()]
    return some(words, WORDS)
