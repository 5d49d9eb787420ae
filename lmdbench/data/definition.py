"""What the class of a data set must say, looked at as it is registered."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.core.registry import misspelt
from lmdbench.data.sources import Downloads

# Method → how the harness calls it, and the parameters that it must take then
CALLED = {
    "__init__": ("root", "cache"),
    "records": (),
    "split": ("imbalance_factor", "seed"),
    "materialise": ("say",),
    "look_for": ("missing",),
    "is_official": ("records",),
    "metadata": (),
}
TEXTS = ("title", "source", "licence")  # none of them may be empty
SWITCHES = ("needs_root", "synthetic")
GROUP_UNITS = ("lesion", "patient", "")
PROPERTIES = (
    "image_root",
    "makes_images",
    "vectors",
    "results_name",
    "group_source",
    "remarks",
    "given_folds",
)


def check_dataset(name: str, cls: Any, base: Any) -> None:
    """Raise UserError for the first thing that makes no sense in a data set's class. ``base``:
    ``Dataset``. What its tables hold is looked at as they are read, see ``reading``."""
    for problem in _problems(cls, base):
        raise UserError(f"data set {name!r}: {problem}")


def check_recipes(recipes: Any) -> str:
    """What is wrong with the shape of a table of recipes; empty: nothing."""
    if not isinstance(recipes, Mapping):
        return (
            f"recipes is {recipes!r}, but must be a table of tables, as in "
            '{"all": {"epochs": 20}, "crt": {"lr": 0.1}}'
        )
    for key, recipe in recipes.items():
        if not isinstance(key, str) or not isinstance(recipe, Mapping):
            return (
                f"recipes[{key!r}] is {recipe!r}, but must be a table of settings of the method "
                'of that name ("all", "head": of those that train so), as in {"epochs": 20}'
            )
    return ""


def _problems(cls: Any, base: Any) -> Iterator[str]:
    yield from _problems_of_methods(cls)
    said = {key: getattr(cls, key) for key in dir(cls) if not key.startswith("__")}
    fixed = {k: v for k, v in said.items() if not isinstance(v, property | cached_property)}
    for key in TEXTS:
        if key in fixed and not (isinstance(fixed[key], str) and fixed[key].strip()):
            near = (slip for slip in _slips(cls, base) if slip.endswith(f" {key}?"))
            yield next(near, "") or f'{key} is {fixed[key]!r}, but must be text, as in {key} = "…"'
    yield from _slips(cls, base)
    for key in PROPERTIES:
        if callable(said[key]):
            yield f"{key} must be a property; write @property above def {key}(self)"
    citation = fixed.get("citation", ())
    if isinstance(citation, str) or not _all_of(citation, tuple | list, str):
        yield f'citation is {_short(citation)}, but must be a tuple of texts, as in ("…",)'
    for key in SWITCHES:
        if key in fixed and not isinstance(fixed[key], bool):
            yield f"{key} is {fixed[key]!r}, but must be True or False"
    size = fixed.get("image_size", 1)
    if type(size) is not int or size < 1:
        yield f"image_size is {size!r}, but must be a whole number of pixels, as in 224"
    backbone = fixed.get("backbone", "a")
    if not isinstance(backbone, str) or not re.fullmatch(
        r"(frozen(\+[1-9]\d{0,2})?/)?(timm/[\w./@:-]+|[\w.-]+|torchvision/\w+)", backbone
    ):
        yield f'backbone is {backbone!r}, but must be a name, as in "resnet18"'
    weights = fixed.get("weights", "none")
    known = isinstance(weights, str) and (
        weights in ("none", "imagenet", "pretrained") or "." in weights
    )
    if not known:
        yield (
            f'weights is {weights!r}, but must be "none", "imagenet", "pretrained" or the path of '
            "a file"
        )
    factor = fixed.get("default_imbalance_factor")
    if factor is not None and not (_is_number(factor) and factor >= 1):
        yield f"default_imbalance_factor is {factor!r}, but must be None or a number from 1 on"
    sizes = fixed.get("class_sizes", {})
    if not isinstance(sizes, Mapping) or not all(
        isinstance(label, str) and type(n) is int and n >= 0 for label, n in sizes.items()
    ):
        yield f"class_sizes is {_short(sizes)}, but must say class → images, as in {{'nevus': 120}}"
    grades = fixed.get("ordered_classes", ())
    if not _all_of(grades, tuple, str) or len(grades) == 1 or len(set(grades)) < len(grades):
        yield (
            f"ordered_classes is {_short(grades)}, but must be a tuple of classes, the lowest first"
        )
    if not are_costs(fixed.get("costs", {})):
        yield (
            f"costs is {_short(fixed['costs'])}, but must say true class → predicted class → a "
            "number from 0 on, as in {'melanoma': {'nevus': 5}}"
        )
    sides = fixed.get("side_range")
    if sides is not None and not (_all_of(sides, tuple, int) and len(sides) == 2):
        yield f"side_range is {sides!r}, but must be None or two numbers of pixels"
    downloads = fixed.get("downloads")
    if downloads is not None and not isinstance(downloads, Downloads):
        yield f"downloads is {_short(downloads)}, but must be Downloads(…) of data/sources.py"
    if fixed.get("group_unit", "") not in GROUP_UNITS:
        yield f'group_unit is {fixed["group_unit"]!r}, but must be "lesion", "patient" or ""'
    if problem := check_recipes(fixed.get("recipes", {})):
        yield problem


def are_costs(costs: Any) -> bool:
    """Whether it says true class → predicted class → a cost from 0 on."""
    return isinstance(costs, Mapping) and all(
        isinstance(true, str)
        and isinstance(row, Mapping)
        and all(isinstance(k, str) and _is_number(cost) and cost >= 0 for k, cost in row.items())
        for true, row in costs.items()
    )


def _problems_of_methods(cls: Any) -> Iterator[str]:
    for name, parameters in CALLED.items():
        written = f"def {name}({', '.join(('self', *parameters))})"
        if name in cls.__abstractmethods__:
            yield f"it has no {name}; write {written}"
        method = inspect.getattr_static(cls, name)
        if not inspect.isfunction(method):
            yield f"{name} must be a method; write {written}"
            continue
        try:
            inspect.signature(method).bind(None, *parameters)
        except TypeError:
            yield f"its {name}{inspect.signature(method)} can't be called; write {written}"
        given = [key for key in inspect.signature(method).parameters if key in parameters]
        if given != [key for key in parameters if key in given]:
            yield f"its {name} takes {' before '.join(given)}; write {written}"
    unfinished = sorted(cls.__abstractmethods__)
    if unfinished:
        yield f"it leaves {', '.join(unfinished)} abstract"


def _slips(cls: Any, base: Any) -> Iterator[str]:
    return misspelt(cls, base, [key for key in dir(base) if not key.startswith("_")])


def _all_of(values: Any, kind: Any, each: type) -> bool:
    return isinstance(values, kind) and all(type(value) is each for value in values)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
