"""What a user's table of images says, row by row."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.core.words import some
from lmdbench.data.folder.description import COLUMNS, Description
from lmdbench.data.folder.image_index import ImageIndex
from lmdbench.data.folder.labels import LINES, labelled_rows, left_out, read_labels
from lmdbench.data.folder.parts import FOLD_NAMES, read_places
from lmdbench.data.lesions import UNIT_COLUMNS, alike, known_lesions, merged, outstanding
from lmdbench.data.tables import Table, read_table


def list_table(described: Description, *, labelled: bool = True) -> ImageIndex:
    """The rows of a CSV, without labels if not ``labelled``. Raises UserError, naming file and
    line, as ``read_table`` and for an image that is listed twice or a part of another name."""
    path = described.holder
    column = {role: described.columns.get(role, role).lower() for role in COLUMNS}
    usual = [] if "image" in described.columns else ["image"]
    table = read_table(
        path,
        usual,
        any_case=True,
        written=described.written,
        optional=lambda columns: _optional(columns, column, described),
    )
    for role, name in described.columns.items():
        if name.lower() not in table.columns:
            missing = unknown(f"column of {path.name}", name, table.columns)
            raise UserError(f"{described.path}: columns.{role}: {missing}")
    labels: Sequence[str] = [""] * len(table)
    classes: Sequence[str] = [""]
    remarks = _of_short(table)
    if labelled:
        found = read_labels(table, described, column["label"], list(column.values()))
        rows = labelled_rows(table, found, described)
        table, labels, classes = table.only(rows), [found.labels[r] for r in rows], found.classes
        remarks += (*found.remarks, *left_out(found))
    images = _images(table, column["image"], described)
    groups: Sequence[str] = [""] * len(table)
    if column["group"] in table.columns:
        groups, told = known_groups(table[column["group"]], described)
        remarks += told
    else:
        remarks += _ungrouped(table, described)
    places = read_places(table, described, column, images)
    return ImageIndex(
        images,
        labels,
        groups,
        places.parts,
        tuple(classes),
        folds=places.folds,
        remarks=remarks,
    )


def read_columns(described: Description) -> pd.DataFrame:
    """The columns of a CSV as its header names them, but for that of the images, whose ids are the
    index. Raises UserError as ``list_table``."""
    column = {role: described.columns.get(role, role).lower() for role in COLUMNS}
    table = read_table(
        described.holder,
        [column["image"]],
        any_case=True,
        written=described.written,
        optional=lambda columns: _optional(columns, column, described),
    )
    images = _images(table, column["image"], described)
    columns = {
        header: table[name]
        for header, name in zip(table.header, table.columns, strict=False)
        if name not in (column["image"], "")
    }
    return pd.DataFrame(columns, index=pd.Index(images, name="image"), dtype=object)


def _images(table: Table, column: str, described: Description) -> list[str]:
    """The ids of the images, row by row. Raises UserError for one that is listed twice."""
    images = [
        _normal_path(image + described.suffix, described.folders or (described.folder,))
        for image in table.filled(column)
    ]
    table.refuse_repeats(column, images)
    return images


def _optional(
    columns: Sequence[str], column: Mapping[str, str], described: Description
) -> Collection[str]:
    """The columns that say neither image, class, part nor fold."""
    classes = [name.lower() for name in described.label_columns]
    if not classes and column["label"] not in columns:
        return ()  # any may be a class
    used = {*classes, *FOLD_NAMES, *(name for role, name in column.items() if role != "group")}
    return [name for name in columns if name not in used]


def _of_short(table: Table) -> tuple[str, ...]:
    if not table.short:
        return ()
    lines, are = some(table.short, LINES), "are" if len(table.short) > 1 else "is"
    return (
        f"rows: {len(table.short):,} of {len(table):,} {are} shorter than the header (line "
        f"{lines}); what they lack at their end is taken as empty",
    )


def known_groups(cells: Sequence[str], described: Description) -> tuple[list[str], tuple[str, ...]]:
    """Lesions or patients, and what to say of them. Raises UserError for a word for none that is
    not there."""
    found = known_lesions(cells, described.no_group)
    for word in sorted(described.no_group or ()):
        if word not in found.none:
            raise UserError(
                f"{described.path}: no_group has {word!r}, but no image's group is called so"
            )
    told = [*found.remarks]
    if described.no_group is None:
        told += outstanding(found, described.settings)
    if described.merges_spellings:
        found, said = merged(found)
        return found.groups, (*told, *said)
    if described.merges_spellings is None:
        told += alike(found, described.settings)
    return found.groups, tuple(told)


def _ungrouped(table: Table, described: Description) -> tuple[str, ...]:
    """A line that names a column of patients, else of lesions, that have several images each, where
    none is given as the groups."""
    for kind in ("patient", "lesion"):
        for name in UNIT_COLUMNS[kind]:
            if name not in table.columns:
                continue
            known = list(filter(None, known_lesions(table[name]).groups))
            if len(set(known)) < len(known):
                return (
                    f"groups: none, so images of one {kind} count as of several, and may be in "
                    f'training and test; group = "{name}" under [columns] in {described.settings} '
                    "keeps them together",
                )
    return ()


def _normal_path(image: str, folders: Sequence[Path]) -> str:
    """One spelling a file: relative to the folder where it lies inside, with forward slashes."""
    path = posixpath.normpath(Path(image).as_posix())
    for folder in folders:
        inside = folder.as_posix().rstrip("/") + "/"
        if path.startswith(inside):
            return path.removeprefix(inside)
    return path
