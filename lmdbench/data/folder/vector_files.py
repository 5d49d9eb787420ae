"""A user's own feature file: an ``.npz``, a CSV or a Parquet file of ids, labels and vectors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, some
from lmdbench.data.dataset import GivenFolds
from lmdbench.data.folder.description import Description
from lmdbench.data.folder.image_index import ImageIndex
from lmdbench.data.folder.medmnist import DAMAGE
from lmdbench.data.folder.parts import FOLD_NAMES
from lmdbench.data.folder.table import known_groups
from lmdbench.data.splits.divide import PART_NAMES
from lmdbench.data.tables import read_table
from lmdbench.data.vectors import Vectors

NEEDED = ("ids", "labels", "features")
# What a file may have beside these → how its array or column may be called
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "groups": ("groups", "group", "patient"),
    "parts": ("parts", "part", "split"),
    "folds": FOLD_NAMES,
}
UNITS = ("lesion", "lesion_id", "patient_id", "subject_id")  # that keep no images together
NAME = "name"  # of the encoder, one text
PARQUET = ".parquet"
INSTALL = 'pip install "lmdbench[parquet]"'
NUMBERED = re.compile(r"([vf])(\d+)")  # a column of one of the numbers of a vector
NAMED = 3  # things that an error or a remark names


@dataclass(frozen=True)
class VectorFile:
    """``vectors`` of N images with their labels, groups (lesion or patient, "" where unknown),
    parts and folds; the classes in their order. ``columns``: all that the file says of the images
    beside class and vector, by its name there."""

    path: Path
    vectors: Vectors
    labels: Sequence[str]
    classes: tuple[str, ...]
    groups: Sequence[str]
    parts: Sequence[str] | None
    folds: GivenFolds | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Columns:
    """What a file has, as it is written. ``others``: what it says of the images beside id, label
    and vector; ``called``: which of these are groups, parts and folds, "" for none."""

    ids: Sequence[str]
    labels: Sequence[str]
    features: np.ndarray
    others: Mapping[str, Sequence[str]]
    called: Mapping[str, str]
    name: str = ""
    numbered: bool = False  # the labels are whole numbers
    remarks: tuple[str, ...] = ()

    def of(self, role: str) -> Sequence[str] | None:
        """The groups, parts or folds; None where the file says none."""
        return self.others[self.called[role]] if self.called[role] else None


def read_vectors(described: Description) -> VectorFile:
    """A feature file, checked. Raises UserError, naming the file and what is wrong, for arrays of
    other shapes or types, features that are not finite, and ids that are empty or there twice."""
    path = described.holder
    found = _READERS.get(path.suffix.lower(), _of_csv)(described)
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
        _folds(path, found),
        found.others,
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
        folds=content.folds,
        remarks=content.remarks,
    )


def _of_npz(described: Description) -> _Columns:
    path = described.holder
    arrays = _arrays(path)
    lacking = [name for name in NEEDED if name not in arrays]
    if lacking:
        raise UserError(
            f"{path}: no array {' and no '.join(lacking)}; a feature file has {', '.join(NEEDED)}, "
            f"here is {', '.join(sorted(arrays))}"
        )
    called = {role: _called(path, arrays, names) for role, names in OPTIONAL.items()}
    others = {own: _texts(path, own, arrays[own]) for own in called.values() if own}
    left = [own for own in arrays if own not in (*NEEDED, NAME, *others)]
    kept = [own for own in left if _is_column(arrays[own], arrays["ids"].shape)]
    name = str(arrays[NAME]) if NAME in arrays and arrays[NAME].ndim == 0 else ""
    if NAME in arrays and not name.strip():
        raise UserError(f"{path}: {NAME} must be one text, the name of the encoder")
    return _Columns(
        _texts(path, "ids", arrays["ids"]),
        _texts(path, "labels", arrays["labels"]),
        arrays["features"],
        others | {own: [_cell(value) for value in arrays[own].tolist()] for own in kept},
        called,
        name,
        arrays["labels"].dtype.kind in "iu",
        _unused(own for own in left if own not in kept),
    )


def _is_column(array: np.ndarray, ids: tuple[int, ...]) -> bool:
    """Whether it says something of each image in a text or a number."""
    return array.shape == ids and array.dtype.kind in "Uiufb"


def _cell(value: Any) -> str:
    """A text or a number as a table has it: "" for none, and 45 for 45.0."""
    if pd.isna(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


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
    wanted = _numbered(path, table.columns)
    places = [table.columns.index(column) for column in wanted]
    rows = [
        _numbers(table.line(r), wanted, [cells[p] for p in places])
        for r, cells in enumerate(table.rows)
    ]
    with np.errstate(over="ignore"):  # what becomes infinite is told with the others
        numbers = np.array(rows, dtype=np.float64).astype(np.float32)
    left = [own for own in table.columns if own and own not in ("id", "label", *wanted)]
    return _Columns(
        table["id"],
        table["label"],
        numbers,
        {own: table[own] for own in left},
        {role: _called(path, left, names) for role, names in OPTIONAL.items()},
    )


def _numbered(path: Path, columns: Iterable[str]) -> list[str]:
    """The columns of a vector's numbers, in order."""
    numbered = {c: m for c in columns if (m := NUMBERED.fullmatch(c))}
    letters = {match[1] for match in numbered.values()}
    wanted = [f"{letter}{n}" for letter in letters for n in range(len(numbered))]
    if len(letters) != 1 or sorted(numbered) != sorted(wanted):
        raise UserError(
            f"{path}: the columns of a vector must be v0, v1 … or f0, f1 …, without a gap; here "
            f"are {some(numbered, NAMED) or 'none'}"
        )
    return wanted


def _of_parquet(described: Description) -> _Columns:
    """Columns as a CSV has them, or as the arrays of an ``.npz``: ``features`` has a list of floats
    in each row then."""
    path = described.holder
    frame = _frame(path)
    ids, labels = (_called(path, frame.columns, (f"{one}s", one)) for one in ("id", "label"))
    if not (ids and labels):
        lacking = " and no ".join(one for one, own in (("id", ids), ("label", labels)) if not own)
        raise UserError(
            f"{path}: no column {lacking}; a Parquet file is read as one of features, with the "
            "columns id, label and features, or v0, v1 …; save a table of images as CSV"
        )
    if "features" in frame.columns:
        numbers, features = ["features"], _stacked(path, frame["features"])
    else:
        numbers = _numbered(path, frame.columns)
        features = frame[numbers].to_numpy()
    left = [own for own in frame.columns if own not in (ids, labels, *numbers)]
    kept = [own for own in left if frame[own].map(pd.api.types.is_scalar).all()]
    cells = {own: [_cell(value) for value in frame[own].tolist()] for own in (ids, labels, *kept)}
    return _Columns(
        cells.pop(ids),
        cells.pop(labels),
        features,
        cells,
        {role: _called(path, kept, names) for role, names in OPTIONAL.items()},
        numbered=frame[labels].dtype.kind in "iu",
        remarks=_unused(own for own in left if own not in kept),
    )


def _frame(path: Path) -> pd.DataFrame:
    """A Parquet file, its columns in lower case, the index left out."""
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except ImportError as error:
        raise UserError(
            f"{path}: Parquet takes pyarrow: {INSTALL}; or save it as .npz or CSV"
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise UserError(f"{path}: damaged, or no Parquet file ({reason})") from error
    frame = frame.rename(columns=lambda name: str(name).strip().lower())
    if repeated := frame.columns[frame.columns.duplicated()].tolist():
        raise UserError(f"{path}: the column {repeated[0]!r} is there twice")
    return frame


def _stacked(path: Path, rows: pd.Series[Any]) -> np.ndarray:
    """Features (N, D) of a column of lists."""
    try:
        return np.stack(rows.to_list())
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path}: features wants a list of floats in each row, all of one length"
        ) from error


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
    groups = found.of("groups")
    if groups is None:
        told = tuple(
            f"{own!r} keeps no images together; call it groups where those of one must not be in "
            "two parts"
            for own in UNITS
            if own in found.others
        )
        return [""] * len(found.ids), told
    _same_number(described.holder, "groups", groups, found)
    return known_groups(groups, described)


def _parts(path: Path, found: _Columns) -> list[str] | None:
    words = found.of("parts")
    if words is None:
        return None
    _same_number(path, "parts", words, found)
    for row, word in enumerate(words):
        if word.lower() not in PART_NAMES:
            raise UserError(
                f"{path}: the part of row {row} is {word!r}, but must be train, validation or "
                "test; call it fold if these are folds"
            )
    return [PART_NAMES[word.lower()] for word in words]


def _folds(path: Path, found: _Columns) -> GivenFolds | None:
    words = found.of("folds")
    if words is None:
        return None
    _same_number(path, "folds", words, found)
    source = f"{found.called['folds']!r} of {path.name}"
    return GivenFolds(source, dict(zip(found.ids, words, strict=True)))


def _same_number(path: Path, what: str, values: Sequence[str], found: _Columns) -> None:
    if len(values) != len(found.ids):
        raise UserError(f"{path}: {len(values):,} {what} but {len(found.ids):,} ids")


# How a file's name ends → what reads it; others are CSVs
_READERS: Mapping[str, Callable[[Description], _Columns]] = {
    ".npz": _of_npz,
    PARQUET: _of_parquet,
}
