"""What the columns of a table of predictions are: image ids, classes, parts and what else."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lmdbench.core.errors import UserError
from lmdbench.core.words import listed, some
from lmdbench.data.tables import Table
from lmdbench.sharing.own_labels import is_decision, is_truth

IMAGE_COLUMNS = (
    *("image", "image_id", "image_name", "isic_id", "id", "file", "filename", "file_name", "path"),
)
PART_COLUMNS = ("part", "split")
EXAMPLES = 3


def class_columns(table: Table, classes: Sequence[str]) -> tuple[list[str], str]:
    """The column of each class, by its name; and a note where all have the same words around it.

    Case, blanks, - and _ don't matter if need be. Raises UserError, with what comes near, for a
    class without a column.
    """
    if set(classes) <= set(table.columns):
        return list(classes), ""
    by_plain: dict[str, list[str]] = {}
    for column in table.columns:
        by_plain.setdefault(_plain(column), []).append(column)
    found = {name: by_plain.get(_plain(name), []) for name in classes}
    for name, columns in found.items():
        if len(columns) > 1:
            raise UserError(
                f"{table.path}: the class {name!r} could be any of the columns "
                f"{listed(columns, repr)}; name it as in the data set"
            )
    missing = [name for name, columns in found.items() if not columns]
    if missing:
        return _between_words(table, classes, found, missing)
    return [columns[0] for columns in found.values()], ""


def _between_words(
    table: Table, classes: Sequence[str], found: Mapping[str, list[str]], missing: Sequence[str]
) -> tuple[list[str], str]:
    """The columns that are the classes' names with the same words around them, as prob_MEL."""
    alike = list(_with_words(table.columns, classes))
    if len(alike) == 1:
        return alike[0], f"the columns of the classes are {some(alike[0], EXAMPLES, repr)}"
    if alike:
        which = " or ".join(repr(columns[0]) for columns in alike[:EXAMPLES])
        raise UserError(
            f"{table.path}: the columns of the classes could be those like {which}; leave the "
            "others out"
        )
    raise UserError(
        f"{table.path}: no column for the class{'es' * (len(missing) > 1)} {listed(missing, repr)}"
        f"{_meant(table, classes, found, missing)}; it needs one for each of "
        f"{listed(classes)}, and has {listed(table.columns, repr)}"
    )


def _with_words(columns: Sequence[str], classes: Sequence[str]) -> Iterator[list[str]]:
    plain = {_plain(column): column for column in columns}
    names = [_plain(name) for name in classes]
    for column in plain:
        for before, after in (
            (column.removesuffix(names[0]), ""),
            ("", column.removeprefix(names[0])),
        ):
            found = [plain.get(f"{before}{name}{after}", "") for name in names]
            word = before + after
            if column not in (word, names[0]) and all(found) and not _says_truth(word):
                yield found


def _says_truth(word: str) -> bool:
    """Whether columns are named so that hold the truth, one-hot."""
    bare = re.sub(r"[^a-z]+", "", word)
    return bare != "class" and is_truth(bare)


def _meant(
    table: Table, classes: Sequence[str], found: Mapping[str, list[str]], missing: Sequence[str]
) -> str:
    """Columns that come near the missing classes, or are the numbers of all classes."""
    taken = {column for columns in found.values() for column in columns}
    others = [column for column in table.columns if column not in taken]
    numbers = {int(n.group(1)): c for c in others if (n := re.fullmatch(r"\D*(\d+)\D*", c))}
    for first in (0, 1):
        if sorted(numbers) == list(range(first, first + len(classes))) and not taken:
            own = some([numbers[number] for number in sorted(numbers)], EXAMPLES, repr)
            return f" ({own} are numbers: name them as the classes, in your code's order)"
    near = {name: difflib.get_close_matches(name, others, n=1, cutoff=0.5) for name in missing}
    hints = [f"{match[0]!r} for {name!r}" for name, match in near.items() if match]
    return f" (is {some(hints, EXAMPLES)}?)" if hints else ""


@dataclass(frozen=True)
class OtherColumns:
    """The columns of a table beside those of the classes."""

    image: str
    part: str | None
    truth: list[str]  # of true classes
    decision: list[str]  # of predicted ones
    ignored: list[str]


def other_columns(table: Table, of_classes: Iterable[str]) -> OtherColumns:
    """The columns beside those of the classes. Raises UserError where none has image ids."""
    taken = set(of_classes)
    others = {column.lower(): column for column in table.columns if column not in taken}
    part = next((others.pop(name) for name in PART_COLUMNS if name in others), None)
    truth = [column for column in others.values() if is_truth(column)]
    decision = [column for column in others.values() if is_decision(column)]
    rest = {k: v for k, v in others.items() if v not in (*truth, *decision)}
    image = next((rest[name] for name in IMAGE_COLUMNS if name in rest), None)
    if image is None and len(rest) == 1:
        (image,) = rest.values()
    if image is None:
        raise UserError(
            f"{table.path}: no column with the images' ids; call it image (its columns are "
            f"{listed(table.columns, repr)})"
        )
    ignored = [column for column in rest.values() if column != image and column]
    return OtherColumns(image, part, truth, decision, ignored)


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
