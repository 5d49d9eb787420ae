"""A CSV of image ids and a column a class, from any code, to the predictions of a split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, listed, some
from lmdbench.data.image_names import Matches, match
from lmdbench.data.splits.divide import named_parts
from lmdbench.data.tables import Table, read_table
from lmdbench.evaluation.metrics import ROUNDED_SUM
from lmdbench.evaluation.predictions import Predictions
from lmdbench.sharing.columns import class_columns, other_columns
from lmdbench.sharing.own_labels import OwnColumn, compare_decisions, compare_truth
from lmdbench.sharing.setting import SharedContext
from lmdbench.sharing.values import Values, as_logits

EXAMPLES = 3
# How files end that hold predictions, but not as CSV
NO_TABLES = re.compile(
    r"\.(npz|npy|parquet|feather|pkl|pickle|pth?|h5|hdf5|mat|jsonl?|xlsx?|zip)", re.IGNORECASE
)


@dataclass(frozen=True)
class TablePredictions:
    """What came of the files: predictions by part, what their values were, how many zeros were put
    in place of (of probabilities), and what a reader should know, a sentence each."""

    parts: Mapping[str, Predictions]
    values: str
    zeros: int
    notes: tuple[str, ...]


def read_predictions(
    files: Sequence[Path], setting: SharedContext, values: Values
) -> TablePredictions:
    """Predictions of all test images, and of all validation images or none, from CSV files.

    A file has a column with the images' ids and one for each class, in any order; the part of an
    image follows from the split, and a column ``part`` is checked against it. Probabilities are
    stored as their logarithms. Raises UserError, naming file and images, for images that are
    missing, unknown or there twice, for columns that are no classes, and for what is no number.
    """
    known = {str(image): part for part, images in setting.parts.items() for image in images.ids}
    rows: dict[str, np.ndarray] = {}
    notes: list[str] = []
    for path in files:
        found = _read(path, setting, known, notes)
        twice = sorted(rows.keys() & found.keys())
        if twice:
            raise UserError(f"{path}: {some(twice, EXAMPLES)} is there already, in a file before")
        rows |= found
    parts = _complete(rows, setting, ", ".join(map(str, files)))
    images = [str(image) for part in parts for image in setting.parts[part].ids]
    given = np.stack([rows[image] for image in images])
    logits, kind, zeros = as_logits(given, values, images)
    sums = given.sum(axis=1)
    if kind == "probabilities" and np.abs(sums - 1).max() > ROUNDED_SUM:
        between = f"{sums.min():.4g} to {sums.max():.4g}"
        notes.append(f"rows add up to {between}: each is divided by its sum, except to rank")
    predictions = {}
    for part in parts:
        there = setting.parts[part]
        own, logits = logits[: len(there)], logits[len(there) :]
        ids, labels = np.asarray(there.ids, str), np.asarray(there.labels, np.int64)
        predictions[part] = Predictions(ids, labels, own, setting.units_of(part))
    return TablePredictions(predictions, kind, zeros, tuple(notes))


def _read(
    path: Path, setting: SharedContext, known: Mapping[str, str], notes: list[str]
) -> dict[str, np.ndarray]:
    """Image → values (C,) float64, of the validation and test images in a file."""
    if NO_TABLES.fullmatch(path.suffix):
        raise UserError(
            f"{path}: predictions are read from CSV files (or .csv.gz): write one with a column "
            f"image and one for each of {listed(setting.classes)}"
        )
    table = read_table(path, ())
    names, how = class_columns(table, setting.classes)
    if how:
        notes.append(f"{path.name}: {how}")
    columns = other_columns(table, names)
    if columns.ignored:
        notes.append(f"{path.name}: other columns are ignored: {listed(columns.ignored)}")
    said = named_parts(table, columns.part) if columns.part else None
    written = table.filled(columns.image)
    # Training images are left out, by the column where the split's are not known.
    only_said = said if said is not None and "train" not in setting.parts else [""] * len(table)
    kept = [row for row in range(len(table)) if only_said[row] != "train"]
    matched, matches = _match([written[row] for row in kept], known)
    if matches.found:
        notes.append(f"{path.name}: image names differ from the split's in {matches.told()}")
    unknown = [written[row] for row, image in zip(kept, matched, strict=True) if image is None]
    if unknown:
        train = "" if "train" in setting.parts else "; leave training images out"
        raise UserError(
            f"{path}: {count(len(unknown), 'image')} of it {_are(unknown)} in no part of "
            f"{setting.title}: {some(unknown, EXAMPLES)}{_meant(unknown, known, matches)}{train}"
        )
    found = {}
    trained = len(table) - len(kept)
    of = [(row, str(image)) for row, image in zip(kept, matched, strict=True)]
    if said is not None:
        parts = [(image, said[row]) for row, image in of]
        # One that is left out as a training image, but is of another part and not there otherwise.
        others = [name for name, part in zip(written, only_said, strict=True) if part == "train"]
        left_out = {name for name in _match(others, known)[0] if name}
        parts += [(name, "train") for name in sorted(left_out.difference(matched))]
        _refuse_other_parts(f"{path}: {columns.part}", parts, known)
    times = Counter(image for _, image in of)
    twice = [image for image, n in times.items() if n > 1]
    if twice:
        raise UserError(f"{path}: {some(twice, EXAMPLES)} {_are(twice)} there more than once")
    _compare_labels(table, columns.truth, names, of, setting, notes)
    for row, image in of:
        if known[image] == "train":
            trained += 1
        else:
            found[image] = row
    if trained:
        notes.append(f"{path.name}: {count(trained, 'training image')} left out")
    numbers = _numbers(table, list(found.values()), names)
    for column in columns.decision:
        own = _own_column(table, column, names, list(found.values()), list(found), setting)
        _note(table, compare_decisions(own, numbers), notes)
    return dict(zip(found, numbers, strict=True))


def _compare_labels(
    table: Table,
    truth: Sequence[str],
    names: Sequence[str],
    of: Sequence[tuple[int, str]],
    setting: SharedContext,
    notes: list[str],
) -> None:
    """Compare what a table's columns say of its images' true classes with the split."""
    labels = {
        str(image): int(label)
        for part in setting.parts.values()
        for image, label in zip(part.ids, part.labels, strict=True)
    }
    rows, images = [row for row, _ in of], [image for _, image in of]
    for column in truth:
        own = _own_column(table, column, names, rows, images, setting)
        _note(table, compare_truth(own, [labels[image] for image in images]), notes)


def _own_column(
    table: Table,
    column: str,
    names: Sequence[str],
    rows: Sequence[int],
    images: Sequence[str],
    setting: SharedContext,
) -> OwnColumn:
    cells = table[column]
    places = [table.columns.index(name) for name in names]
    order = sorted(range(len(names)), key=lambda code: places[code])
    where = f"{table.path}: {column}"
    return OwnColumn(where, images, [cells[row] for row in rows], setting.classes, order)


def _note(table: Table, note: str, notes: list[str]) -> None:
    if note:
        notes.append(note.replace(str(table.path), table.path.name, 1))


def _meant(unknown: Sequence[str], known: Iterable[str], matches: Matches) -> str:
    """What the first image that is no part's could be, where its name comes near others."""
    name = unknown[0]
    if name in matches.unclear:
        return f" ({name} could be {' or '.join(matches.unclear[name][:EXAMPLES])})"
    taken = match([name], list(known)).found
    return f" (is {name} the image {taken[name]}, which has a row already?)" if taken else ""


def _refuse_other_parts(
    where: str, parts: Sequence[tuple[str, str]], known: Mapping[str, str]
) -> None:
    """Raise UserError for images, with the part that a table says, of which the split says
    another."""
    wrong = [(part, known[image]) for image, part in parts if known[image] != part]
    if wrong:
        here, there = wrong[0]
        images = [image for image, part in parts if (part, known[image]) == wrong[0]]
        raise UserError(
            f"{where} says {here}, the split says {there} of {count(len(images), 'image')}: "
            f"{some(images, EXAMPLES)}; is it of another split?"
        )


def _numbers(table: Table, rows: Sequence[int], names: Sequence[str]) -> np.ndarray:
    """(N, C) float64 of the rows. Raises UserError, naming the line, for what is no number."""
    positions = [table.columns.index(name) for name in names]
    values = np.empty((len(rows), len(names)))
    for k, row in enumerate(rows):
        cells = [table.rows[row][position] for position in positions]
        try:
            values[k] = [float(cell) for cell in cells]
        except ValueError:
            values[k] = np.nan
    with np.errstate(over="ignore"):
        broken = np.flatnonzero(~np.isfinite(values.astype(np.float32)).all(axis=1))
    if len(broken):
        row = rows[int(broken[0])]
        for name, position in zip(names, positions, strict=True):
            cell = table.rows[row][position]
            if not _is_number(cell):
                more = f" (and in {count(len(broken) - 1, 'row')} more)" * (len(broken) > 1)
                raise UserError(
                    f"{table.line(row)}: {name} is {cell!r}, which is no finite number{more}"
                )
    return values


def _is_number(cell: str) -> bool:
    try:
        return abs(float(cell)) <= float(np.finfo(np.float32).max)
    except ValueError:
        return False


def _match(written: Sequence[str], known: Iterable[str]) -> tuple[list[str | None], Matches]:
    """The split's name of each image, None where it has none; and how the others were matched."""
    names = set(known)
    others = [name for name in written if name not in names]
    matches = match(others, sorted(names.difference(written)) if others else ())
    return [name if name in names else matches.found.get(name) for name in written], matches


def _complete(rows: Mapping[str, np.ndarray], setting: SharedContext, files: str) -> list[str]:
    """The parts whose images are all there. Raises UserError for one that is not whole."""
    whole = []
    for part in ("test", "validation"):
        images = [str(image) for image in setting.parts[part].ids] if part in setting.parts else []
        missing = [image for image in images if image not in rows]
        if len(missing) < len(images) and not missing:
            whole.append(part)
        elif part == "test" or len(missing) < len(images):
            validation = "give all of them, or none"
            also = validation if part == "validation" else "is it of another split, or cut short?"
            raise UserError(
                f"{files}: {len(missing):,} of the {len(images):,} {part} images of "
                f"{setting.title} {_are(missing)} missing: {some(missing, EXAMPLES)}; {also}"
            )
    return whole


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
