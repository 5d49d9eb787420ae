"""The part of each image and its fold, as columns of a user's table give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmdbench.core.errors import UserError
from lmdbench.core.words import some
from lmdbench.data.dataset import GivenFolds
from lmdbench.data.folder.description import Description
from lmdbench.data.splits.divide import named_parts
from lmdbench.data.splits.given import fold_number
from lmdbench.data.tables import Table

# How people call a column of folds, where no description says it.
FOLD_NAMES = (
    "fold",
    *("folds", "kfold", "k_fold", "k-fold", "cv", "cv_fold", "cvfold", "fold_id", "foldid"),
    *("kfold_id", "fold_nr", "fold_no", "fold_number"),
)
FEWEST = 4  # numbers in a column split, from which on they can't be train, validation and test


@dataclass(frozen=True)
class Places:
    """The part of each row, where the table says it, and the folds, where it gives some."""

    parts: Sequence[str] | None
    folds: GivenFolds | None


def read_places(
    table: Table, described: Description, column: Mapping[str, str], images: Sequence[str]
) -> Places:
    """The parts and folds of a table's images. Raises UserError, naming file and line, for a part
    of another name."""
    split = column["split"] if column["split"] in table.columns else ""
    fold = _fold_column(table, described, column)
    if not fold and split and _are_numbers(table[split]):
        _refuse_few(table, described, split)
        return Places(None, _folds(table, split, images))
    parts = named_parts(table, split) if split and split != fold else None
    return Places(parts, _folds(table, fold, images) if fold else None)


def _fold_column(table: Table, described: Description, column: Mapping[str, str]) -> str:
    """Its name; empty if there is none."""
    if "fold" in described.columns:
        return column["fold"]
    taken = [name for role, name in column.items() if role != "fold"]
    there = [name for name in FOLD_NAMES if name in table.columns and name not in taken]
    return there[0] if there else ""


def _are_numbers(words: Sequence[str]) -> bool:
    return all(fold_number(word) is not None for word in words)


def _refuse_few(table: Table, described: Description, split: str) -> None:
    """Raises UserError for numbers that may as well be train, validation and test."""
    words = sorted(set(table[split]))
    if len(words) < FEWEST:
        raise UserError(
            f"{table.path}: the column {split!r} has {some(words, FEWEST)}; write train, "
            f'validation and test there, or say fold = "{split}" under [columns] in '
            f"{described.settings} if these are folds"
        )


def _folds(table: Table, column: str, images: Sequence[str]) -> GivenFolds:
    name = table.header[table.columns.index(column)]
    words = dict(zip(images, table[column], strict=True))
    return GivenFolds(f"column {name!r} of {table.path.name}", words)
