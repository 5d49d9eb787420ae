"""Head, medium and tail: which classes belong to which, and by what rule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.core.words import MOST_NAMES, listed, some

IN_GROUP = 3  # classes of a group that are named where there are many
NAMES = ("head", "medium", "tail")
FORMS = (
    "rank, rank:2,3,3 (classes in each, largest first), count:500,100 (head from 500 training "
    "images on, tail below 100), or a list such as 'head=NV,MEL;tail=DF'"
)


@dataclass(frozen=True)
class Groups:
    """``members``: group → class names, a class in one group at most. ``rule`` says how they came
    to be, in words."""

    members: Mapping[str, tuple[str, ...]]
    rule: str


def by_rank(
    classes: Sequence[str], counts: Sequence[int] | np.ndarray, sizes: Sequence[int] | None = None
) -> Groups:
    """The classes sorted by training images ``counts`` (C,), cut by rank into head, medium, tail.

    ``sizes``: classes in each; by default thirds: the head takes the first C // 3, the tail starts
    at 2C // 3 (8 classes: 2, 3, 3), two classes are a head and a tail. Equal counts keep the order
    of ``classes``; a group without classes is left out.
    """
    order = [classes[c] for c in np.argsort(-np.asarray(counts), kind="stable")]
    if sizes is None:
        head = max(1, len(order) // 3)
        tail = max(head, 2 * len(order) // 3)
        sizes = (head, tail - head, len(order) - tail)
    ends = np.cumsum(sizes)
    members = {
        name: tuple(order[end - size : end])
        for name, size, end in zip(NAMES, sizes, ends, strict=True)
        if size
    }
    return Groups(members, f"by rank of training images, {'/'.join(map(str, sizes))} classes")


def by_count(
    classes: Sequence[str], counts: Sequence[int] | np.ndarray, head_from: int, tail_below: int
) -> Groups:
    """Head: classes with ``head_from`` training images or more; tail: with fewer than
    ``tail_below``; medium: the others. ``counts`` (C,). A group without classes is left out."""
    members: dict[str, list[str]] = {name: [] for name in NAMES}
    for label, n in zip(classes, counts, strict=True):
        group = "head" if n >= head_from else "tail" if n < tail_below else "medium"
        members[group].append(label)
    rule = f"by training images, head from {head_from:,}, tail below {tail_below:,}"
    return Groups({name: tuple(labels) for name, labels in members.items() if labels}, rule)


def parse_groups(
    text: str, classes: Sequence[str], counts: Sequence[int] | np.ndarray, where: str = "--groups"
) -> Groups:
    """Groups as ``--groups`` and data-set descriptions give them; ``FORMS`` says how.

    ``counts`` (C,): training images. Raises UserError, beginning with ``where``, for anything else,
    an unknown class and one that is named twice.
    """
    kind, _, rest = text.strip().partition(":")
    if "=" in text:
        return from_lists(_lists(text, where), classes, where)
    if kind == "rank" and not rest:
        return by_rank(classes, counts)
    numbers = [int(word) for word in rest.split(",")] if re.fullmatch(r"\d+(,\d+)*", rest) else []
    if kind == "rank" and len(numbers) == len(NAMES):
        if sum(numbers) != len(classes):
            raise UserError(
                f"{where} {text!r}: these are {sum(numbers)} classes, here are {len(classes)}"
            )
        return by_rank(classes, counts, numbers)
    if kind == "count" and len(numbers) == 2:
        if numbers[0] < numbers[1]:
            raise UserError(f"{where} {text!r}: the head's bound must not be below the tail's")
        return by_count(classes, counts, *numbers)
    raise UserError(f"{where} {text!r}: give {FORMS}")


def from_lists(lists: Mapping[str, Sequence[str]], classes: Sequence[str], where: str) -> Groups:
    """Groups as listed. Raises UserError as ``parse_groups``; classes may be left out."""
    seen: dict[str, str] = {}
    for group, labels in lists.items():
        for label in labels:
            if label not in classes:
                raise unknown(f"class in {where}", label, list(classes))
            if label in seen:
                raise UserError(f"{where}: class {label!r} is in {seen[label]} and in {group}")
            seen[label] = group
    empty = [group for group, labels in lists.items() if not labels]
    if empty or not lists:
        raise UserError(f"{where}: no classes in {' and '.join(empty) or 'any group'}")
    left = [label for label in classes if label not in seen]
    rule = "as listed" + (f", without {listed(left)}" if left else "")
    return Groups({group: tuple(labels) for group, labels in lists.items()}, rule)


def _lists(text: str, where: str) -> dict[str, list[str]]:
    lists: dict[str, list[str]] = {}
    for piece in filter(str.strip, text.split(";")):
        group, equals, labels = piece.partition("=")
        group = group.strip()
        if not equals or not re.fullmatch(r"[\w-]+", group) or group == "all":
            raise UserError(f"{where} {piece.strip()!r}: give {FORMS}")
        if group in lists:
            raise UserError(f"{where}: the group {group} is given twice")
        lists[group] = [label.strip() for label in labels.split(",") if label.strip()]
    return lists


def in_words(members: Mapping[str, Sequence[str]], rule: str = "") -> str:
    """The groups with their classes, for people: ``head NV, MEL; tail DF (by rank …)``; of many
    classes how many they are and some of them: ``head 33 classes (A, B, C and 30 more); …``."""
    many = sum(map(len, members.values())) > MOST_NAMES
    named = _counted if many else ", ".join
    text = "; ".join(f"{group} {named(labels)}" for group, labels in members.items())
    return f"{text} ({rule})" if rule else text


def _counted(labels: Sequence[str]) -> str:
    return f"{len(labels):,} class{'es' * (len(labels) != 1)} ({some(labels, IN_GROUP)})"
