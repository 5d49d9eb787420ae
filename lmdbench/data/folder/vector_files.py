"""A user's own feature file: an ``.npz`` or a CSV of ids, labels and vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, some
from lmdbench.data.folder.description import Description
from lmdbench.data.folder.image_index import ImageIndex
from lmdbench.data.folder.medmnist import DAMAGE
from lmdbench.data.folder.table import known_groups
from lmdbench.data.splits.divide import PART_NAMES
from lmdbench.data.tables import read_table
from lmdbench.data.vectors import Vectors

NEEDED = ("ids", "labels", "features")
# What a file may have beside these → how its array or column may be called
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "groups": ("groups", "group", "patient"),
    "parts": ("parts", "part", "split"),
}
NAME = "name"  # of the encoder, one text
NUMBERED = re.compile(r"([vf])(\d+)")  # a column of one of the numbers of a vector
NAMED = 3  # things that an error or a remark names


@dataclass(frozen=True)
class VectorFile:
    """``vectors`` of N images with their labels, groups (lesion or patient, "" where unknown) and
    parts; the classes in their order."""

    path: Path
    vectors: Vectors
    labels: Sequence[str]
    classes: tuple[str, ...]
    groups: Sequence[str]
    parts: Sequence[str] | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Columns:
    """What a file has, as it is written."""

    ids: Sequence[str]
    labels: Sequence[str]
    features: np.ndarray
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name: str = ""
    numbered: bool = False  # the labels are whole numbers
    remarks: tuple[str, ...] = ()


def read_vectors(described: Description) -> VectorFile:
    """A feature file, checked. Raises UserError, naming the file and what is wrong, for arrays of
    other shapes or types, features that are not finite, and ids that are empty or there twice."""
    path = described.holder
    found = _of_npz(path) if path.suffix.lower() == ".npz" else _of_csv(described)
    rows, told = _as_float32(path, found.features)
    for what, values in (("id", found.ids), ("label", found.labels)):
        if len(values) != len(rows):
            raise UserError(f"{path}: {len(values):,} {what}s but {len(rows):,} rows of features")
        if "" in values:
            raise UserError(f"{path}: the {what} of row {list(values).index('')} is empty")
    repeated = [image for image, n in Counter(found.ids).items() if n > 1]
    if repeated:
        raise UserError(f"{path}: ids that are there twice: {some(repeated, NAMED, repr)}")
    groups, said = _groups(found, described)
    classes = sorted(set(found.labels), key=int if found.numbered else None)
    name = re.sub(r"[^\w.+-]+", "-", found.name or path.stem, flags=re.ASCII)
    return VectorFile(
        path,
        Vectors(name, tuple(found.ids), rows),
        found.labels,
        tuple(classes),
        groups,
        _parts(path, found),
        (
            f"features: {len(rows):,} × {rows.shape[1]:,} by {name}, in place of images",
            *found.remarks,
            *told,
            *said,
        ),
    )


def list_vectors(content: VectorFile) -> ImageIndex:
    """The images of a feature file."""
    return ImageIndex(
        content.vectors.ids,
        content.labels,
        content.groups,
        content.parts,
        content.classes,
        remarks=content.remarks,
    )


def _of_npz(path: Path) -> _Columns:
    arrays = _arrays(path)
    lacking = [name for name in NEEDED if name not in arrays]
    if lacking:
        raise UserError(
            f"{path}: no array {' and no '.join(lacking)}; a feature file has {', '.join(NEEDED)}, "
            f"here is {', '.join(sorted(arrays))}"
        )
    used = {role: _called(path, arrays, names) for role, names in OPTIONAL.items()}
    known = {*NEEDED, NAME, *used.values()}
    name = str(arrays[NAME]) if NAME in arrays and arrays[NAME].ndim == 0 else ""
    if NAME in arrays and not name.strip():
        raise UserError(f"{path}: {NAME} must be one text, the name of the encoder")
    return _Columns(
        _texts(path, "ids", arrays["ids"]),
        _texts(path, "labels", arrays["labels"]),
        arrays["features"],
        {role: _texts(path, own, arrays[own]) for role, own in used.items() if own},
        name,
        arrays["labels"].dtype.kind in "iu",
        _unused(name for name in arrays if name not in known),
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``. No pickle is ever loaded."""
    arrays: dict[str, np.ndarray] = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"{path}: {name or 'it'} is of Python objects, which are never loaded; save ids "
                "and labels by astype(str), and features of one width by astype('float32')"
            ) from error
        raise UserError(f"{path}: damaged, or no .npz ({error}); write it again") from error
    return arrays


def _texts(path: Path, name: str, array: np.ndarray) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "Uiu":
        raise UserError(
            f"{path}: {name} is {array.shape} {array.dtype}, but wants one text or whole number an "
            "image, (N,)"
        )
    return [str(value).strip() for value in array.tolist()]


def _of_csv(described: Description) -> _Columns:
    path = described.holder
    table = read_table(path, ["id", "label"], any_case=True, written=described.written)
    numbered = {c: m for c in table.columns if (m := NUMBERED.fullmatch(c))}
    letters = {match[1] for match in numbered.values()}
    wanted = [f"{letter}{n}" for letter in letters for n in range(len(numbered))]
    if len(letters) != 1 or sorted(numbered) != sorted(wanted):
        raise UserError(
            f"{path}: the columns of a vector must be v0, v1 … or f0, f1 …, without a gap; here "
            f"are {some(numbered, NAMED)}"
        )
    places = [table.columns.index(column) for column in wanted]
    rows = [
        _numbers(table.line(r), wanted, [cells[p] for p in places])
        for r, cells in enumerate(table.rows)
    ]
    with np.errstate(over="ignore"):  # what becomes infinite is told with the others
        numbers = np.array(rows, dtype=np.float64).astype(np.float32)
    used = {role: _called(path, table.columns, names) for role, names in OPTIONAL.items()}
    known = {"id", "label", *wanted, *used.values()}
    return _Columns(
        table["id"],
        table["label"],
        numbers,
        {role: table[own] for role, own in used.items() if own},
        remarks=_unused(name for name in table.columns if name not in known),
    )


def _numbers(line: str, columns: Sequence[str], cells: Sequence[str]) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        for column, cell in zip(columns, cells, strict=True):
            try:
                float(cell)
            except ValueError:
                raise UserError(f"{line}: {column} is {cell!r}, and wants a number") from None
        raise


def _called(path: Path, there: Iterable[str], names: Sequence[str]) -> str:
    """Which of the names is there; empty for none. Raises UserError for two."""
    found = [name for name in names if name in there]
    if len(found) > 1:
        raise UserError(f"{path}: {' and '.join(found)} say the same thing; keep one of them")
    return found[0] if found else ""


def _unused(names: Iterable[str]) -> tuple[str, ...]:
    left = sorted(filter(None, names))
    return (f"not used: {some(left, NAMED, repr)}",) if left else ()


def _as_float32(path: Path, features: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features (N, D) float32, and what to say of how they became that."""
    if features.ndim != 2 or 0 in features.shape:
        raise UserError(
            f"{path}: features is {features.shape} {features.dtype}, but wants one vector an "
            "image, (N, D)"
        )
    if features.dtype.kind != "f":
        raise UserError(
            f"{path}: features are {features.dtype}, but wants floats; save them by "
            "astype('float32')"
        )
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(features, dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise UserError(
            f"{path}: features of {count(len(broken), 'image')} are not finite (NaN, infinite, or "
            f"beyond float32), the first in row {broken[0]}; mend or leave out these rows"
        )
    if features.dtype.itemsize > rows.itemsize:
        return rows, (f"features: {features.dtype}, rounded to float32",)
    return rows, ()


def _groups(found: _Columns, described: Description) -> tuple[Sequence[str], tuple[str, ...]]:
    if "groups" not in found.others:
        return [""] * len(found.ids), ()
    _same_number(described.holder, "groups", found)
    return known_groups(found.others["groups"], described)


def _parts(path: Path, found: _Columns) -> list[str] | None:
    if "parts" not in found.others:
        return None
    _same_number(path, "parts", found)
    words = found.others["parts"]
    for row, word in enumerate(words):
        if word.lower() not in PART_NAMES:
            raise UserError(
                f"{path}: the part of row {row} is {word!r}, but must be train, validation or test"
            )
    return [PART_NAMES[word.lower()] for word in words]


def _same_number(path: Path, what: str, found: _Columns) -> None:
    if (there := len(found.others[what])) != len(found.ids):
        raise UserError(f"{path}: {there:,} {what} but {len(found.ids):,} ids")
