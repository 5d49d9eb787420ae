"""A description of a user's own images: a TOML file, read and checked key by key."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.data.groups import NAMES

DESCRIPTION = "dataset.toml"
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
SMALLEST, LARGEST = 16, 2048  # pixels of an image's side

Kind = Literal["table", "npz", "images"]
KINDS: tuple[Kind, ...] = ("table", "npz", "images")
COLUMNS = ("image", "label", "group", "split")
FACTS = ("title", "source", "licence")
OF_A_TABLE = ("columns", "image_folder", "image_suffix")


@dataclass(frozen=True)
class Description:
    """Images of one's own: where they are listed, and what else is known of them."""

    path: Path  # of the description itself, or of what holds the images where there is none
    name: str
    kind: Kind
    holder: Path  # the table, the .npz, or the folder with a sub-folder a class
    folder: Path  # that image paths are relative to
    suffix: str = ""  # behind the table's image names
    columns: Mapping[str, str] = field(default_factory=dict)  # of the table, those called otherwise
    classes: Mapping[str, str] = field(default_factory=dict)  # code → class; empty: codes are names
    drops_others: bool = False  # images of other codes are left out
    class_order: tuple[str, ...] = ()
    groups: str | Mapping[str, list[str]] = ""  # a rule, or group → classes
    attributes: Mapping[str, Any] = field(default_factory=dict)  # of the data set, those it sets


def read_description(path: Path) -> Description:
    """A TOML description. Paths in it are relative to its folder.

    Raises UserError, naming file and key, for a file that cannot be read, an unknown key (with
    those that come near), a value of the wrong type, and keys that do not go together.
    """
    content = _load(path)
    _check_keys(path, content)
    given = [kind for kind in KINDS if kind in content]
    if len(given) != 1:
        raise UserError(
            f'{path}: give one of table = "labels.csv", npz = "images.npz" and images = "folder" '
            f"(with a sub-folder a class); here is {' and '.join(given) or 'none'}"
        )
    (kind,) = given
    holder = _inside(path, content[kind])
    if not (os.path.isdir if kind == "images" else os.path.isfile)(holder):
        what = "folder" if kind == "images" else "file"
        raise UserError(f"{path}: {kind} is {content[kind]!r}, but there is no {what} {holder}")
    for key in OF_A_TABLE:
        if key in content and kind != "table":
            raise UserError(f"{path}: {key} is about a table, but here is {kind}; leave it out")
    if "other_classes" in content and not content.get("classes"):
        raise UserError(f"{path}: other_classes is about codes not in [classes], but there is none")
    folder = holder if kind == "images" else holder.parent
    if "image_folder" in content:
        folder = _inside(path, content["image_folder"])
    return Description(
        path=path,
        name=content.get("name", path.parent.name if path.name == DESCRIPTION else path.stem),
        kind=kind,
        holder=holder,
        folder=folder,
        suffix=content.get("image_suffix", ""),
        columns=content.get("columns", {}),
        classes=content.get("classes", {}),
        drops_others="other_classes" in content,
        class_order=tuple(content.get("class_order", ())),
        groups=content.get("groups", ""),
        attributes={
            **{key: content[key] for key in FACTS if key in content},
            **_defaults(path, content.get("defaults", {})),
        },
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error


def _inside(path: Path, relative: str) -> Path:
    return Path(os.path.normpath(path.parent / relative))


def _defaults(path: Path, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of runs, checked as far as that needs no images."""
    checked = dict(defaults)
    if "backbone" in defaults:
        from lmdbench.models.backbones import get_backbone  # torch: only where it is needed

        try:
            get_backbone(defaults["backbone"])
        except UserError as error:
            raise UserError(f"{path}: defaults.backbone: {error}") from None
    weights = defaults.get("weights", "none")
    if weights not in ("none", "imagenet"):
        file = _inside(path, weights)
        if not os.path.isfile(file):
            raise UserError(
                f"{path}: defaults.weights is {weights!r}, but there is no file {file}; "
                "give none, imagenet or a file of weights"
            )
        checked["weights"] = str(file)
    return checked


# What a value has to be: in words, and as a test.
Wanted = tuple[str, Callable[[Any], bool]]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value.splitlines()) == 1


def _is_list(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(map(_is_text, value))
        and len(set(value)) == len(value)
    )


def _is_suffix(value: Any) -> bool:
    return _is_text(value) and Path(f"name{value}").suffix.lower() in EXTENSIONS


def _is_size(value: Any) -> bool:
    return type(value) is int and SMALLEST <= value <= LARGEST  # True is an int, too


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


TEXT: Wanted = ("a line of text in quotes", _is_text)
LIST: Wanted = ('a list of different texts, such as ["a", "b"]', _is_list)
TABLE: Wanted = ("a table of its own", _is_table)

# Key → what it has to be.
KEYS: Mapping[str, Wanted] = {
    "name": TEXT,
    **dict.fromkeys(FACTS, TEXT),
    **dict.fromkeys(KINDS, TEXT),
    "columns": TABLE,
    "image_folder": TEXT,
    "image_suffix": ('the end of the images\' names, such as ".jpg"', _is_suffix),
    "classes": TABLE,
    "other_classes": ('"drop" where it is given', lambda value: value == "drop"),
    "class_order": LIST,
    "groups": (
        'a rule such as "count:500,100", or a table of the lists head, medium and tail',
        lambda value: _is_text(value) or _is_table(value),
    ),
    "defaults": TABLE,
}
DEFAULTS: Mapping[str, Wanted] = {
    "image_size": (f"a whole number of pixels from {SMALLEST} to {LARGEST}", _is_size),
    "backbone": TEXT,
    "weights": TEXT,
}


def _check_keys(path: Path, content: Mapping[str, Any]) -> None:
    """Raises UserError for the first key that is unknown or has a value of another kind."""
    _check_table(path, "", content, KEYS)
    classes, groups = content.get("classes", {}), content.get("groups", {})
    _check_table(path, "columns", content.get("columns", {}), dict.fromkeys(COLUMNS, TEXT))
    _check_table(path, "classes", classes, dict.fromkeys(classes, TEXT))
    if _is_table(groups):
        _check_table(path, "groups", groups, dict.fromkeys(NAMES, LIST))
    _check_table(path, "defaults", content.get("defaults", {}), DEFAULTS)


def _check_table(
    path: Path, name: str, table: Mapping[str, Any], keys: Mapping[str, Wanted]
) -> None:
    for key, value in table.items():
        if key not in keys:
            raise UserError(
                f"{path}: {unknown(f'key in [{name}]' if name else 'key', key, [*keys])}"
            )
        words, holds = keys[key]
        if not holds(value):
            where = f"{name}.{key}" if name else key
            raise UserError(f"{path}: {where} is {value!r}, but wants {words}")
