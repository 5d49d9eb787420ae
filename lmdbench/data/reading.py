"""A data set's table and split, looked at before anything uses them.

A plug-in's data set may be wrong in ways that would come out as wrong numbers, or as an error far
from their cause. Nothing else calls ``records`` and ``split`` of a data set.
"""

from __future__ import annotations

import json
import re
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.words import some
from lmdbench.data.dataset import PARTS, Dataset, GivenFolds, Part, Split
from lmdbench.data.lesions import known_lesions

T = TypeVar("T")

COLUMNS = ("label", "file", "group")
NEEDED = ("train", "test")  # parts that must have every class
NAMED = 3  # images that a message names
_some = partial(some, most=NAMED, shown=repr)


@lru_cache(maxsize=8)
def read_records(dataset: Dataset) -> pd.DataFrame:
    """``Dataset.records``, as texts in columns of Python objects; not to be changed.

    Raises UserError, naming the data set, the column and the first images, for a table that is not
    as ``Dataset.records`` says.
    """
    table = _called(dataset, "records", dataset.records)
    if not isinstance(table, pd.DataFrame):
        raise _wrong(dataset, f"records gives {type(table).__name__}, no pandas DataFrame")
    for column in COLUMNS:
        if column not in table.columns:
            raise _wrong(
                dataset, f"its table has no column {column!r}, but {list(map(str, table.columns))}"
            )
        if isinstance(table[column], pd.DataFrame):
            raise _wrong(dataset, f"its table has the column {column!r} twice")
    ids = table.index.tolist()
    if not ids:
        raise _wrong(dataset, "its table has no images")
    _check(dataset, "image ids (the table's index)", ids, ids, _is_name, "text")
    if repeated := _repeated(ids):
        raise _wrong(dataset, f"image ids come twice: {_some(repeated)}")
    columns = {column: table[column].tolist() for column in COLUMNS}
    _check(dataset, "column 'label'", ids, columns["label"], _is_class, "the name of a class")
    _check(dataset, "column 'file'", ids, columns["file"], _is_name, "a path, as text")
    _check(
        dataset,
        "column 'group'",
        ids,
        columns["group"],
        lambda group: isinstance(group, str),
        'text, "" where no lesion or patient is known',
    )
    index = pd.Index(ids, name=table.index.name, dtype=object)
    return pd.DataFrame(columns, index=index, dtype=object)


@lru_cache(maxsize=8)
def read_metadata(dataset: Dataset) -> pd.DataFrame:
    """``Dataset.metadata``, as texts in columns of Python objects, "" for what is missing; not to
    be changed. Raises UserError, naming the data set, for what is no such table."""
    table = _called(dataset, "metadata", dataset.metadata)
    if table is None:
        table = _called(dataset, "records", dataset.records)
        table = table.drop(columns=[name for name in COLUMNS if name in table])
    if not isinstance(table, pd.DataFrame):
        raise _wrong(dataset, f"metadata gives {type(table).__name__}, no pandas DataFrame")
    ids, names = table.index.tolist(), [str(name) for name in table.columns]
    if repeated := _repeated(ids):
        raise _wrong(dataset, f"images come twice in its metadata: {_some(repeated)}")
    if repeated := _repeated(names):
        raise _wrong(dataset, f"columns come twice in its metadata: {_some(repeated)}")
    cells = table.astype(object).where(table.notna(), "")
    texts = {name: [str(c).strip() for c in cells.iloc[:, k]] for k, name in enumerate(names)}
    return pd.DataFrame(texts, index=pd.Index(ids, dtype=object), dtype=object)


@lru_cache(maxsize=8)
def read_remarks(dataset: Dataset) -> tuple[str, ...]:
    """``Dataset.remarks``. Raises UserError for what are no lines of text."""
    remarks = _called(dataset, "remarks", lambda: dataset.remarks)
    if not isinstance(remarks, tuple) or not all(map(_is_name, remarks)):
        raise _wrong(dataset, f"remarks are {remarks!r}, no tuple of lines of text")
    return remarks if type(dataset).remarks is not Dataset.remarks else _unsaid(dataset)


def _unsaid(dataset: Dataset) -> tuple[str, ...]:
    """What a data set that remarks nothing should have said: words for "none" in its groups."""
    lesions = known_lesions(read_records(dataset)["group"].tolist())
    words = [f'"{word}" ({n:,} images)' for word, n in lesions.none.items() if word and n > 1]
    if not words:
        return ()
    return (f'lesions: {some(words, NAMED)} counts as one lesion; give "" where none is known',)


def read_given_folds(dataset: Dataset) -> GivenFolds | None:
    """``Dataset.given_folds``. Raises UserError for what are none."""
    folds = _called(dataset, "given_folds", lambda: dataset.given_folds)
    if folds is not None and not isinstance(folds, GivenFolds):
        raise _wrong(dataset, f"given_folds is {folds!r}, no GivenFolds and not None")
    return folds


def read_split(dataset: Dataset, imbalance_factor: float | None, seed: int) -> Split:
    """``Dataset.split``. Raises UserError for one that is not of the data set's own images and
    labels, or that an imbalance factor asked for does nothing to."""
    labels = read_records(dataset)["label"]  # first: a wrong table is why a split breaks
    split = _called(dataset, "split", dataset.split, imbalance_factor, seed)
    if not isinstance(split, Split):
        raise _wrong(dataset, f"split gives {type(split).__name__}, no Split")
    _check_facts(dataset, split)
    _check_classes(dataset, split)
    _check_parts(dataset, split, dict(zip(labels.index, labels, strict=True)))
    if imbalance_factor is not None:
        _check_factor(dataset, split, imbalance_factor, seed)
    if all(p.ids.dtype.kind == "U" and p.labels.dtype == np.int64 for p in split.parts.values()):
        return split
    parts = {
        name: Part(part.ids.astype(str), part.labels.astype(np.int64))
        for name, part in split.parts.items()
    }
    return replace(split, parts=parts)


def image_root(dataset: Dataset) -> Path:
    """``Dataset.image_root``. Raises UserError where that is no path."""
    if dataset.root is None and type(dataset).image_root is Dataset.image_root:
        raise _wrong(
            dataset, "it has no --data-root, and says no image_root: where do its files lie?"
        )
    root = dataset.image_root
    if not isinstance(root, Path):
        raise _wrong(dataset, f"image_root is {root!r}, but must be a pathlib.Path")
    return root


def _check_facts(dataset: Dataset, split: Split) -> None:
    """What names a folder, and what is written to ``run.json``."""
    for what, name in (
        ("results_name", dataset.results_name),
        ("the name of its split", split.name),
    ):
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*", name):
            raise _wrong(dataset, f"{what} is {name!r}, but names a folder: letters, digits, . _ -")
    if split.seed is not None and type(split.seed) is not int:
        raise _wrong(dataset, f"the seed of its split is {split.seed!r}, but must be int or None")
    if split.imbalance_factor is not None and type(split.imbalance_factor) not in (int, float):
        factor = split.imbalance_factor
        raise _wrong(dataset, f"imbalance_factor of its split is {factor!r}, but must be a float")
    if not isinstance(split.notes, tuple) or not all(isinstance(n, str) for n in split.notes):
        raise _wrong(dataset, f"notes of its split are {split.notes!r}, no tuple of texts")
    if not isinstance(split.group_rule, str):
        raise _wrong(dataset, f"group_rule of its split is {split.group_rule!r}, but must be text")
    try:
        json.dumps(dict(split.details))
    except (TypeError, ValueError) as error:
        raise _wrong(
            dataset, f"details of its split can't be written to run.json: {error}"
        ) from None


def _check_classes(dataset: Dataset, split: Split) -> None:
    classes = split.classes
    if not isinstance(classes, tuple) or not all(map(_is_name, classes)):
        raise _wrong(dataset, f"classes of its split are {classes!r}, but must be a tuple of texts")
    if repeated := _repeated(classes):
        raise _wrong(dataset, f"classes of its split come twice: {_some(repeated)}")
    if len(classes) < 2:
        raise _wrong(dataset, f"its split has only the classes {classes!r}; it takes two or more")
    if not isinstance(split.groups, Mapping) or any(
        isinstance(labels, str) for labels in split.groups.values()
    ):
        raise _wrong(
            dataset,
            f"groups of its split are {split.groups!r}, but must be group → a tuple of classes",
        )
    costs = dataset.costs
    for what, named in (
        ("ordered_classes", [*dataset.ordered_classes]),
        ("costs", [*costs, *(label for row in costs.values() for label in row)]),
    ):
        if strangers := [label for label in named if label not in classes]:
            raise _wrong(dataset, f"{what} name no classes of its split: {_some(strangers)}")
    members = [label for labels in split.groups.values() for label in labels]
    if strangers := [label for label in members if label not in classes]:
        raise _wrong(dataset, f"groups of its split name no classes of it: {_some(strangers)}")
    if repeated := _repeated(members):
        raise _wrong(dataset, f"classes are in two groups of its split: {_some(repeated)}")


def _check_parts(dataset: Dataset, split: Split, labels: Mapping[str, str]) -> None:
    if not isinstance(split.parts, Mapping) or set(split.parts) != set(PARTS):
        given = list(split.parts) if isinstance(split.parts, Mapping) else split.parts
        raise _wrong(dataset, f"parts of its split are {given!r}, but must be {', '.join(PARTS)}")
    home: dict[str, str] = {}
    for name, part in split.parts.items():
        where = f"part {name!r} of its split"
        if not isinstance(part, Part) or not all(
            isinstance(values, np.ndarray) and values.ndim == 1
            for values in (part.ids, part.labels)
        ):
            raise _wrong(dataset, f"{where} is no Part of two arrays, ids (N,) and labels (N,)")
        if len(part.ids) != len(part.labels):
            raise _wrong(dataset, f"{where} has {len(part.ids)} ids, but {len(part.labels)} labels")
        if len(part) and part.labels.dtype.kind not in "iu":
            raise _wrong(dataset, f"{where} has labels of {part.labels.dtype}, but must have int64")
        ids, codes = part.ids.tolist(), part.labels.tolist()
        if strangers := [image for image in ids if image not in labels]:
            raise _wrong(dataset, f"{where} has images that its table lacks: {_some(strangers)}")
        if repeated := _repeated(ids):
            raise _wrong(dataset, f"{where} has images twice: {_some(repeated)}")
        if torn := [image for image in ids if image in home]:
            raise _wrong(dataset, f"images are in {home[torn[0]]!r} and in {name!r}: {_some(torn)}")
        home |= dict.fromkeys(ids, name)
        for image, code in zip(ids, codes, strict=True):
            label = split.classes[code] if 0 <= code < len(split.classes) else code
            if label != labels[image]:
                raise _wrong(
                    dataset,
                    f"{where} has {image!r} as {label!r}, but its table as {labels[image]!r}",
                )
    for name in NEEDED:
        counts = split.counts(name).tolist()
        empty = [label for label, n in zip(split.classes, counts, strict=True) if not n]
        if empty:
            raise _wrong(dataset, f"part {name!r} of its split has no images of {_some(empty)}")


def _check_factor(dataset: Dataset, split: Split, factor: float, seed: int) -> None:
    """Two data sets that no factor changes must not look like two results."""
    if split.imbalance_factor != factor:
        raise _wrong(
            dataset,
            f"its split says nothing of --imbalance-factor {factor:g}; leave it out (one that "
            "follows it says so: Split(…, imbalance_factor=imbalance_factor))",
        )
    if factor == dataset.default_imbalance_factor:
        return
    counts = split.counts("train")
    as_asked = abs(counts.min() - counts.max() / factor) <= 1  # nothing was left to cut
    if not as_asked and dataset.split(None, seed).fingerprint == split.fingerprint:
        raise _wrong(
            dataset,
            f"--imbalance-factor {factor:g} changes nothing in its split; leave it out (its split "
            "must not say imbalance_factor where it does not cut)",
        )


def _called(dataset: Dataset, name: str, call: Callable[..., T], *words: Any) -> T:
    try:
        return call(*words)
    except UserError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[1]  # where in the data set it broke
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        where = f"{frame.filename}, line {frame.lineno}"
        raise _wrong(dataset, f"{name} fails with {reason} ({where})") from error


def _check(
    dataset: Dataset,
    what: str,
    ids: Sequence[Any],
    values: Sequence[Any],
    is_right: Callable[[Any], bool],
    wanted: str,
) -> None:
    wrong = [
        (image, value) for image, value in zip(ids, values, strict=True) if not is_right(value)
    ]
    if not wrong:
        return
    image, value = wrong[0]
    kind = "" if isinstance(value, str) else f" ({type(value).__name__})"
    of = "" if image is value else f" for {image!r}"
    more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
    raise _wrong(dataset, f"{what}: {value!r}{kind}{of}{more}, but must be {wanted}")


def _is_name(value: Any) -> bool:
    """Text that can stand as a line: ids and classes are hashed so."""
    return isinstance(value, str) and bool(value.strip()) and "\n" not in value


def _is_class(value: Any) -> bool:
    """A name that can stand in tables: without tabs and other control characters."""
    return _is_name(value) and not any(unicodedata.category(c) in ("Cc", "Cs") for c in value)


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, n in Counter(values).items() if n > 1]


def _wrong(dataset: Dataset, problem: str) -> UserError:
    return UserError(f"data set {dataset.name!r}: {problem}")
