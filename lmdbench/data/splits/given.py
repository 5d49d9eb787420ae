"""Folds that a data set's tables give, so that others' folds can be taken as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, some
from lmdbench.data.dataset import Dataset, GivenFolds, open_dataset
from lmdbench.data.lesions import is_no_word
from lmdbench.data.reading import read_given_folds
from lmdbench.data.splits.divide import PART_NAMES

DEFAULT_FOLDS = 5
MOST_FOLDS = 100
FOLD = re.compile(r"(?:(?:folds?|k|cv|split|f)[\s_.-]*)?(\d{1,6})(?:\.0+)?", re.IGNORECASE)
NAMED = 3  # lesions, and images, that an error names


@dataclass(frozen=True)
class Folds:
    """``of``: image → fold, counted from 0, of those that have one. ``names``: what the folds are
    called, in their order; ``source``: where, in words."""

    of: Mapping[str, int]
    names: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.names)

    @property
    def note(self) -> str:
        """Where they are from, and what they are called where that is not 0, 1, 2 …"""
        counted = [str(number) for number in range(len(self))]
        called = "" if list(self.names) == counted else f" ({', '.join(self.names)})"
        return f"folds: {self.source}, {len(self)} folds{called}; the seed draws validation alone"


def fold_number(word: str) -> int | None:
    """The number of 3, 3.0, fold3 or cv_3; None for other words."""
    found = FOLD.fullmatch(word)
    return int(found[1]) if found else None


@lru_cache(maxsize=8)
def folds_of(dataset: Dataset) -> Folds | None:
    """The folds that its tables give, if they do. Raises UserError for words that name no fold, and
    fewer than two folds or more than 100."""
    given = read_given_folds(dataset)
    return None if given is None else _numbered(given)


def number_of_folds(name: str, data_root: Path | None, cache: Path) -> int:
    """How many folds a k-fold split of the data set has where none are asked for."""
    try:
        given = folds_of(open_dataset(name, data_root, cache))
    except UserError:  # told where the split is made
        return DEFAULT_FOLDS
    return len(given) if given else DEFAULT_FOLDS


def refuse_torn(folds: Folds, groups: Sequence[str], home: np.ndarray) -> None:
    """Raises UserError for lesions or patients in two folds: ``groups`` and ``home`` (N,) are of
    the images."""
    homes: dict[str, set[int]] = {}
    for group, fold in zip(groups, home.tolist(), strict=True):
        if group:
            homes.setdefault(group, set()).add(fold)
    torn = [
        f"{group} ({', '.join(folds.names[fold] for fold in sorted(held))})"
        for group, held in sorted(homes.items())
        if len(held) > 1
    ]
    if torn:
        raise UserError(
            f"{folds.source}: {count(len(torn), 'lesion')} or patients in more than one fold: "
            f"{some(torn, NAMED)}; mend the column, or leave the group column out if images of one "
            "group may be in several"
        )


def _numbered(given: GivenFolds) -> Folds:
    words = {image: word for image, word in given.words.items() if word and not is_no_word(word)}
    numbers = {word: fold_number(word) for word in set(words.values())}
    strange = [
        f"{word!r} (image {image})" for image, word in words.items() if numbers[word] is None
    ]
    if strange and {word.lower() for word in words.values()} <= set(PART_NAMES):
        raise UserError(
            f"{given.source}: {some(strange, NAMED)} names a part, no fold; call the column split"
        )
    if strange:
        raise UserError(
            f"{given.source}: {some(strange, NAMED)} names no fold; give numbers such as 0 or "
            "fold1, or give the column another name if it is about something else"
        )
    called = {number: word for word, number in sorted(numbers.items()) if number is not None}
    if not 2 <= len(called) <= MOST_FOLDS:
        raise UserError(
            f"{given.source}: {count(len(called), 'fold')}; a k-fold split has 2 to {MOST_FOLDS}"
        )
    place = {number: fold for fold, number in enumerate(sorted(called))}
    of = {image: place[numbers[word] or 0] for image, word in words.items()}
    names = tuple(str(number) if _is_plain(called[number]) else called[number] for number in place)
    return Folds(of, names, given.source)


def _is_plain(word: str) -> bool:
    return word.partition(".")[0].isdigit()
