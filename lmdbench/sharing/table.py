"""A CSV of image ids and a column a class, from any code, to the predictions of a split."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.words import count, listed, some
from lmdbench.data.splits.divide import named_parts
from lmdbench.data.tables import Table, read_table
from lmdbench.evaluation.predictions import Predictions
from lmdbench.sharing.setting import SharedContext

Values = Literal["auto", "logits", "probabilities"]
IMAGE_COLUMNS = (
    *("image", "image_id", "image_name", "isic_id", "id", "file", "filename", "file_name", "path"),
)
PART_COLUMNS = ("part", "split")
IMAGE_ENDING = re.compile(r"\.(jpe?g|png|tiff?|bmp|webp|gif|dcm)$", re.IGNORECASE)
SUM_TOLERANCE = 0.01  # of probabilities that were rounded when they were written
ROUNDED = 0.05  # the same, where they are said to be probabilities
EXAMPLES = 3

# How the names of images may differ from the split's, in the order in which it is tried.
FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("", lambda name: name),
    ("matched without their folders", lambda name: re.split(r"[/\\]", name)[-1]),
    (
        "matched without their folders and endings",
        lambda name: IMAGE_ENDING.sub("", re.split(r"[/\\]", name)[-1]),
    ),
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
    if kind == "probabilities" and np.abs(sums - 1).max() > SUM_TOLERANCE:
        between = f"{sums.min():.4g} to {sums.max():.4g}"
        notes.append(f"rows add up to {between}: each is divided by its sum")
    predictions = {}
    for part in parts:
        there = setting.parts[part]
        own, logits = logits[: len(there)], logits[len(there) :]
        ids, labels = np.asarray(there.ids, str), np.asarray(there.labels, np.int64)
        predictions[part] = Predictions(ids, labels, own, setting.units_of(part))
    return TablePredictions(predictions, kind, zeros, tuple(notes))


def as_logits(
    values: np.ndarray, kind: Values, images: Sequence[str]
) -> tuple[np.ndarray, Literal["logits", "probabilities"], int]:
    """Values (N, C) float64 as logits (N, C) float32, what they were, and how many zeros.

    Probabilities lie in [0, 1] and add up to 1 in each row, but for rounding; their logits are the
    logarithms of their shares in that sum. For the logarithm a zero counts as 2.2e-16, as in
    scikit-learn's log loss, or as the smallest value that is no zero, if that is less. Raises
    UserError, naming an image, for percentages, for probabilities that are none, and for values of
    which it can't be told.
    """
    sums = values.sum(axis=1)
    if kind != "logits" and (values >= 0).all() and abs(np.median(sums) - 100) <= 100 * ROUNDED:
        raise UserError(
            f"no value is below 0 and rows add up to about 100 (image {images[0]}: {sums[0]:.4g}), "
            "as percentages do: divide them by 100, or say --values logits"
        )
    inside = (values >= 0).all() and (values <= 1 + 1e-6).all()
    off = np.abs(sums - 1)
    worst = int(off.argmax())
    total = f"image {images[worst]}: {sums[worst]:.4g}"
    if kind == "auto":
        if inside and off[worst] > SUM_TOLERANCE:
            advice = (
                "say --values probabilities if they are, rounded: each row is divided by its sum"
                if off[worst] <= ROUNDED
                else "say --values logits if softmax is to be taken of them; scores of a sigmoid "
                "are better given as they were before it"
            )
            raise UserError(
                f"all values lie in [0, 1], but not all rows add up to 1 ({total}): {advice}"
            )
        kind = "probabilities" if inside else "logits"
    if kind == "logits":
        return values.astype(np.float32), kind, 0
    if not inside:
        row = int(np.flatnonzero(((values < 0) | (values > 1 + 1e-6)).any(axis=1))[0])
        raise UserError(
            f"--values probabilities: those of image {images[row]} are not all in [0, 1]; "
            "leave --values out, or give logits"
        )
    if off[worst] > ROUNDED:
        raise UserError(
            f"--values probabilities: they don't add up to 1 ({total}); say --values logits if "
            "softmax is to be taken of them"
        )
    shares = values / sums[:, None]
    zero = shares == 0
    floor = min(np.finfo(np.float64).eps, shares[~zero].min())
    return np.log(np.where(zero, floor, shares)).astype(np.float32), kind, int(zero.sum())


def _read(
    path: Path, setting: SharedContext, known: Mapping[str, str], notes: list[str]
) -> dict[str, np.ndarray]:
    """Image → values (C,) float64, of the validation and test images in a file."""
    table = read_table(path, ())
    names = _class_columns(table, setting.classes)
    image_column, part_column, ignored = _other_columns(table, names)
    if ignored:
        notes.append(f"{path.name}: other columns are ignored: {listed(ignored)}")
    said = named_parts(table, part_column) if part_column else None
    written = table.filled(image_column)
    # Training images are left out, by the column where the split's are not known.
    only_said = said if said is not None and "train" not in setting.parts else [""] * len(table)
    kept = [row for row in range(len(table)) if only_said[row] != "train"]
    matched, how = _match([written[row] for row in kept], known)
    if how:
        notes.append(f"{path.name}: image names are {how}")
    unknown = [written[row] for row, image in zip(kept, matched, strict=True) if image is None]
    if unknown:
        train = "" if "train" in setting.parts else "; leave training images out"
        raise UserError(
            f"{path}: {count(len(unknown), 'image')} of it {_are(unknown)} in no part of "
            f"{setting.title}: {some(unknown, EXAMPLES)}{train}"
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
        _refuse_other_parts(f"{path}: {part_column}", parts, known)
    times = Counter(image for _, image in of)
    twice = [image for image, n in times.items() if n > 1]
    if twice:
        raise UserError(f"{path}: {some(twice, EXAMPLES)} {_are(twice)} there more than once")
    for row, image in of:
        if known[image] == "train":
            trained += 1
        else:
            found[image] = row
    if trained:
        notes.append(f"{path.name}: {count(trained, 'training image')} left out")
    numbers = _numbers(table, list(found.values()), names)
    return dict(zip(found, numbers, strict=True))


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


def _class_columns(table: Table, classes: Sequence[str]) -> list[str]:
    """The column of each class, by its name; case, blanks, - and _ don't matter if need be."""
    if set(classes) <= set(table.columns):
        return list(classes)
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
        taken = {column for columns in found.values() for column in columns}
        others = [column for column in table.columns if column not in taken]
        near = {name: difflib.get_close_matches(name, others, n=1, cutoff=0.5) for name in missing}
        hints = [f"{match[0]!r} for {name!r}" for name, match in near.items() if match]
        meant = f" (is {listed(hints)}?)" if hints else ""
        raise UserError(
            f"{table.path}: no column for the class{'es' * (len(missing) > 1)} "
            f"{listed(missing, repr)}{meant}; it needs one for each of "
            f"{listed(classes)}, and has {listed(table.columns, repr)}"
        )
    return [found[name][0] for name in classes]


def _other_columns(table: Table, of_classes: Iterable[str]) -> tuple[str, str | None, list[str]]:
    """The column of image ids, that of parts if there is one, and the others."""
    taken = set(of_classes)
    others = {column.lower(): column for column in table.columns if column not in taken}
    part = next((others.pop(name) for name in PART_COLUMNS if name in others), None)
    image = next((others[name] for name in IMAGE_COLUMNS if name in others), None)
    if image is None and len(others) == 1:
        (image,) = others.values()
    if image is None:
        raise UserError(
            f"{table.path}: no column with the images' ids; call it image (its columns are "
            f"{', '.join(map(repr, table.columns))})"
        )
    return image, part, [column for column in others.values() if column != image and column]


def _match(written: Sequence[str], known: Iterable[str]) -> tuple[list[str | None], str]:
    """The split's name of each image, None where it has none; and how they were matched.

    The first form in which most are found; forms in which two images of the split are alike don't
    count.
    """
    best: tuple[int, list[str | None], str] = (-1, [], "")
    names = list(known)
    for how, form in FORMS:
        own = {form(name): name for name in names}
        if len(own) < len(names):
            continue
        matched = [own.get(form(name)) for name in written]
        found = sum(name is not None for name in matched)
        if found > best[0]:
            best = found, matched, how
    return best[1], best[2]


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


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
