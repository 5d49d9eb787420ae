"""A description of a user's own images: a TOML file, read and checked key by key."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lmdbench.core.schema import (
    Check,
    Document,
    flag,
    is_line,
    is_lines,
    is_number,
    line,
    lines,
    read_document,
    table,
    wanted,
    whole,
)
from lmdbench.data.definition import are_costs
from lmdbench.data.folder.walk import is_image
from lmdbench.data.groups import NAMES
from lmdbench.data.written import Written, is_encoding, is_separator

DESCRIPTION = "dataset.toml"
SMALLEST, LARGEST = 16, 2048  # pixels of an image's side

Kind = Literal["table", "npz", "images", "vectors"]
KINDS: tuple[Kind, ...] = ("table", "npz", "images")
COLUMNS = ("image", "label", "group", "split", "fold")
FACTS = ("title", "source", "licence")
OF_A_TABLE = ("columns", "image_folder", "image_suffix", "no_group", "separator", "encoding")
OF_CLASSES = ("ordered_classes", "costs")
DEPTHS = ("bit_depth", "intensity_range")  # of pictures of more than 8 bits, one of them


def _grades(value: Any) -> tuple[str, ...]:
    if is_lines(value) and 1 < len(value) == len(set(value)):
        return tuple(value)
    raise ValueError('a list of the classes that are grades, the lowest first, as ["mild", "bad"]')


# Key → what it has to be.
KEYS: Mapping[str, Check] = {
    "name": line,
    **dict.fromkeys((*FACTS, *KINDS), line),
    "columns": table,
    "image_folder": wanted(
        "a folder, or a list of several in which to look for images",
        lambda value: is_line(value) or is_lines(value),
    ),
    "image_suffix": wanted(
        'the end of the images\' names, such as ".jpg"',
        lambda value: is_line(value) and is_image(f"name{value}"),
    ),
    "separator": wanted('the character between columns, such as ";" or "\\t"', is_separator),
    "encoding": wanted('how letters are written, such as "cp1252" or "utf-16"', is_encoding),
    "merge_spellings": flag,
    "classes": table,
    "other_classes": wanted('"drop" where it is given', lambda value: value == "drop"),
    "class_order": lines,
    "ordered_classes": _grades,
    "costs": wanted(
        "tables of numbers from 0 on, such as melanoma = { nevus = 5 } under [costs]", are_costs
    ),
    "groups": wanted(
        'a rule such as "count:500,100", or a table of the lists head, medium and tail',
        lambda value: is_line(value) or isinstance(value, dict),
    ),
    "no_group": wanted(
        'a list of the words that stand for no lesion or patient, such as ["NA"]; [] for none',
        lambda value: isinstance(value, list) and all(isinstance(word, str) for word in value),
    ),
    "bit_depth": whole(1, 16, of="of bits "),
    "intensity_range": wanted(
        "two numbers, what is black and the larger that is white, such as [-1000, 400]",
        lambda value: (
            isinstance(value, list)
            and len(value) == 2
            and all(is_number(end, -math.inf, math.inf) for end in value)
            and value[0] < value[1]
        ),
    ),
    "defaults": table,
}
DEFAULTS: Mapping[str, Check] = {
    "image_size": whole(SMALLEST, LARGEST, of="of pixels "),
    "backbone": line,
    "weights": line,
}


def _label(value: Any) -> Any:
    """A column of labels, or columns of 0 and 1."""
    if isinstance(value, list) and len(value) > 1:
        return lines(value)
    if is_line(value):
        return value
    raise ValueError('a column, or a list of columns of 0 and 1, such as ["MEL", "NV"]')


@dataclass(frozen=True)
class Description:
    """Images of one's own: where they are listed, and what else is known of them."""

    path: Path  # of the description itself, or of what holds the images where there is none
    name: str
    kind: Kind
    holder: Path  # the table, the .npz, or the folder with a sub-folder a class
    folder: Path  # that image paths are relative to; of several, the one that holds them all
    folders: tuple[Path, ...] = ()  # where there are several; each image lies in one of them
    suffix: str = ""  # behind the table's image names
    columns: Mapping[str, str] = field(default_factory=dict)  # of the table, those called otherwise
    label_columns: tuple[str, ...] = ()  # of 0 and 1, one a class, instead of one of labels
    separator: str = ""  # between these; empty: as it looks
    encoding: str = ""  # of the table; empty: UTF-8, or what its first bytes say
    classes: Mapping[str, str] = field(default_factory=dict)  # code → class; empty: codes are names
    drops_others: bool = False  # images of other codes, or of none, are left out
    merges_spellings: bool | None = None  # alike classes are one; None: are refused
    no_group: frozenset[str] | None = None  # words for "no group"; None: those that are known
    class_order: tuple[str, ...] = ()
    groups: str | Mapping[str, list[str]] = ""  # a rule, or group → classes
    attributes: Mapping[str, Any] = field(default_factory=dict)  # of the data set, those it sets

    @property
    def settings(self) -> str:
        """Where keys of a description go, for messages that advise one."""
        if self.path != self.holder:
            return self.path.name
        holder = "." if self.kind == "images" else self.holder.name
        key = self.kind
        if key == "vectors":
            key = "npz" if self.holder.suffix.lower() == ".npz" else "table"
        return f'a {DESCRIPTION} beside it, with {key} = "{holder}"'

    @property
    def written(self) -> Written:
        return Written(self.separator, self.encoding, self.settings)


def read_description(path: Path) -> Description:
    """A TOML description. Paths in it are relative to its folder.

    Raises UserError, naming file and key, for a file that cannot be read, an unknown key (with
    those that come near), a value of the wrong type, and keys that do not go together.
    """
    doc = read_document(path)
    content = doc.fields((), KEYS)
    columns = doc.fields(("columns",), {**dict.fromkeys(COLUMNS, line), "label": _label})
    doc.fields(("classes",), dict.fromkeys(content.get("classes", {}), line))
    if isinstance(content.get("groups"), dict):
        doc.fields(("groups",), dict.fromkeys(NAMES, lines))
    defaults = doc.fields(("defaults",), DEFAULTS)
    given = [kind for kind in KINDS if kind in content]
    if len(given) != 1:
        raise doc.error(
            (given[-1],) if given else (),
            'give one of table = "labels.csv", npz = "images.npz" and images = "folder" '
            f"(with a sub-folder a class); here is {' and '.join(given) or 'none'}",
        )
    (kind,) = given
    holder = _inside(path, content[kind])
    if not (os.path.isdir if kind == "images" else os.path.isfile)(holder):
        what = "folder" if kind == "images" else "file"
        raise doc.error((kind,), f"{kind} is {content[kind]!r}, but there is no {what} {holder}")
    for key in OF_A_TABLE:
        if key in content and kind != "table":
            raise doc.error((key,), f"{key} is about a table, but here is {kind}; leave it out")
    if all(key in content for key in DEPTHS):
        raise doc.error(("bit_depth",), "give bit_depth or intensity_range, not both")
    if "other_classes" in content and not content.get("classes") and kind != "table":
        raise doc.error(
            ("other_classes",), "other_classes is about codes not in [classes], but there is none"
        )
    folder = holder if kind == "images" else holder.parent
    given_folders = content.get("image_folder", ())
    folders: tuple[Path, ...] = ()
    if isinstance(given_folders, str):
        folder = _inside(path, given_folders)
    elif given_folders:
        folders = tuple(_inside(path, one) for one in given_folders)
        folder = folders[0] if len(folders) == 1 else Path(os.path.commonpath(folders))
    return Description(
        path=path,
        name=content.get("name", path.parent.name if path.name == DESCRIPTION else path.stem),
        kind=kind,
        holder=holder,
        folder=folder,
        folders=folders,
        suffix=content.get("image_suffix", ""),
        columns={role: name for role, name in columns.items() if isinstance(name, str)},
        label_columns=tuple(label) if isinstance(label := columns.get("label"), list) else (),
        separator=content.get("separator", ""),
        encoding=content.get("encoding", ""),
        classes=content.get("classes", {}),
        drops_others="other_classes" in content,
        merges_spellings=content.get("merge_spellings"),
        no_group=None if "no_group" not in content else _words(content["no_group"]),
        class_order=tuple(content.get("class_order", ())),
        groups=content.get("groups", ""),
        attributes={
            **{key: content[key] for key in (*FACTS, *DEPTHS, *OF_CLASSES) if key in content},
            **_defaults(doc, path, defaults),
        },
    )


def _inside(path: Path, relative: str) -> Path:
    return Path(os.path.normpath(path.parent / relative))


def _words(listed: Sequence[str]) -> frozenset[str]:
    return frozenset(word.strip() for word in listed)


def _defaults(doc: Document, path: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of runs, checked as far as that needs no images."""
    checked = dict(defaults)
    if "backbone" in defaults:
        from lmdbench.models.backbones import get_backbone  # torch: only where it is needed

        with doc.told_of(("defaults", "backbone")):
            get_backbone(defaults["backbone"])
    weights = defaults.get("weights", "none")
    if weights not in ("none", "imagenet", "pretrained"):
        file = _inside(path, weights)
        if not os.path.isfile(file):
            raise doc.error(
                ("defaults", "weights"),
                f"weights is {weights!r}, but there is no file {file}; "
                "give none, imagenet, pretrained or a file of weights",
            )
        checked["weights"] = str(file)
    return checked
