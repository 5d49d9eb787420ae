"""What a user's table of images says, row by row."""

from __future__ import annotations

import posixpath
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.data.folder.description import COLUMNS, Description
from lmdbench.data.folder.image_index import ImageIndex
from lmdbench.data.splits.divide import named_parts
from lmdbench.data.tables import read_table


def list_table(described: Description, *, labelled: bool = True) -> ImageIndex:
    """The rows of a CSV, without labels if not ``labelled``. Raises UserError, naming file and
    line, as ``read_table`` and for an image that is listed twice or a part of another name."""
    path = described.holder
    column = {role: described.columns.get(role, role).lower() for role in COLUMNS}
    needed = ("image", "label") if labelled else ("image",)
    usual = [role for role in needed if role not in described.columns]
    table = read_table(path, usual, any_case=True)
    for role, name in described.columns.items():
        if name.lower() not in table.columns:
            missing = unknown(f"column of {path.name}", name, table.columns)
            raise UserError(f"{described.path}: columns.{role}: {missing}")
    images = [
        _normal_path(image + described.suffix, described.folder)
        for image in table.filled(column["image"])
    ]
    table.refuse_repeats(column["image"], images)
    labels = table.filled(column["label"]) if labelled else [""] * len(table)
    has_groups = column["group"] in table.columns
    groups = table[column["group"]] if has_groups else [""] * len(table)
    parts = named_parts(table, column["split"]) if column["split"] in table.columns else None
    return ImageIndex(images, labels, groups, parts, tuple(sorted(set(labels))))


def _normal_path(image: str, folder: Path) -> str:
    """One spelling a file: relative to the folder where it lies inside, with forward slashes."""
    path = posixpath.normpath(Path(image).as_posix())
    inside = folder.as_posix().rstrip("/") + "/"
    return path.removeprefix(inside)
