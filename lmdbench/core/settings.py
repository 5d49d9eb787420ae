"""Typed settings of a method: their description, and their values from text."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import io
import math
import operator
import textwrap
import tokenize
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.core.schema import type_name

# Where `lmdbench tune` looks for a setting's values, written beside the setting:
#     lr: Annotated[float, LogUniform(1e-3, 1e-1)] = 0.01


class Range:
    """The values worth trying for a setting."""

    def at(self, share: float, default: Any) -> Any:
        """The value a share of the way through the range, 0 ≤ share < 1, for a uniform share."""
        raise NotImplementedError


@dataclass(frozen=True)
class Uniform(Range):
    """Every value from ``low`` to ``high`` alike."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"{self!r}: the first number must be below the second")

    def at(self, share: float, default: Any) -> Any:  # noqa: ARG002
        return _readable(self.low + share * (self.high - self.low), self.low, self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class LogUniform(Range):
    """Every order of magnitude from ``low`` to ``high`` alike."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"{self!r}: the first number must be above 0 and below the second")

    def at(self, share: float, default: Any) -> Any:  # noqa: ARG002
        return _readable(self.low * (self.high / self.low) ** share, self.low, self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, log"


@dataclass(frozen=True)
class Times(LogUniform):
    """``LogUniform`` multiples of the default, where that depends on backbone or data set."""

    def at(self, share: float, default: Any) -> Any:
        if not default:
            return default  # what is switched off stays so
        ends = sorted((self.low * default, self.high * default))
        return _readable(default * self.low * (self.high / self.low) ** share, *ends)

    def __str__(self) -> str:
        return f"default × {super().__str__()}"


class Choice(Range):
    """One of some values."""

    def __init__(self, *values: Any) -> None:
        if len(values) < 2:
            raise ValueError("Choice: give two values or more")
        self.values = values

    def at(self, share: float, default: Any) -> Any:  # noqa: ARG002
        return self.values[int(share * len(self.values))]

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))


def _readable(value: float, low: float, high: float) -> float:
    """With three significant digits, within the ends."""
    return min(max(float(f"{value:.3g}"), low), high)


class WhereChanged:
    """Marks a setting that is part of a run's identity only where it differs from its default: one
    that came when there were runs without it."""


WHERE_CHANGED = WhereChanged()


@dataclass(frozen=True)
class Setting:
    """One field of a method's ``Settings``, as a user sees it. ``range``: where it is searched."""

    name: str
    type: Any
    default: Any
    help: str
    range: Range | None = None

    @property
    def type_name(self) -> str:
        return type_name(self.type)


@functools.cache
def describe(settings_class: type) -> dict[str, Setting]:
    """The settings of a class by name, those that are marked ``WHERE_CHANGED`` in it or its bases
    last; the help is the comment behind each field's definition."""
    hints = typing.get_type_hints(settings_class)
    annotated = typing.get_type_hints(settings_class, include_extras=True)
    shared = _where_changed(settings_class)
    comments: dict[str, str] = {}
    for cls in reversed(settings_class.__mro__):
        if dataclasses.is_dataclass(cls):
            comments.update(_field_comments(cls))
    return {
        field.name: Setting(
            field.name,
            hints[field.name],
            field.default,
            comments.get(field.name, ""),
            _range(annotated[field.name]),
        )
        for field in sorted(dataclasses.fields(settings_class), key=lambda f: f.name in shared)
    }


def recorded(settings: Any) -> dict[str, Any]:
    """The settings that identify a run, by name: all but those marked ``WHERE_CHANGED`` that have
    their default."""
    hints = typing.get_type_hints(type(settings), include_extras=True)
    return {
        field.name: value
        for field in dataclasses.fields(settings)
        if (value := getattr(settings, field.name)) != field.default
        or WHERE_CHANGED not in _marks(hints[field.name])
    }


def draw(setting: Setting, share: float, default: Any) -> str:
    """A value of a searched setting as text: ``share`` of the way through its range, 0 to 1.

    ``default``: what the setting is unless searched. Whole numbers are rounded.
    """
    assert setting.range is not None
    value = setting.range.at(min(share, math.nextafter(1, 0)), default)
    types = {setting.type, *typing.get_args(setting.type)}
    whole = int in types and float not in types and isinstance(value, float)
    return str(round(value) if whole else value)


def resolve(
    owner: str, settings_class: type, recipes: list[Mapping[str, Any]], texts: Mapping[str, str]
) -> Any:
    """A ``settings_class`` from its defaults, then each recipe in turn, then what the user wrote.

    Recipes act where the class has such a field; a text for an unknown field, or one that is not of
    the field's type, raises UserError. ``owner`` is the method's name, for the message.
    """
    settings = describe(settings_class)
    values: dict[str, Any] = {}
    for recipe in recipes:
        values.update({key: value for key, value in recipe.items() if key in settings})
    for key, text in texts.items():
        if key not in settings:
            raise unknown(f"setting of {owner}", key, list(settings))
        values[key] = parse(f"{owner}.{key}", settings[key].type, text)
    try:
        return settings_class(**values)
    except (ValueError, TypeError) as error:  # out of bounds, or a field without a default
        raise UserError(f"settings of {owner}: {error}") from None


def parse(name: str, hint: Any, text: str) -> Any:
    """The value of a text under a type hint: int, float, bool, str, Literal or an optional one."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        if text.lower() == "none" and type(None) in typing.get_args(hint):
            return None
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        return parse(name, hint, text)
    if origin is Literal:
        by_text = {str(choice): choice for choice in typing.get_args(hint)}
        if text in by_text:
            return by_text[text]
    elif hint is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() in words:
            return words[text.lower()]
    elif hint is str:
        return text
    elif hint in (int, float):
        try:
            value = hint(text.replace("_", ""))
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            return value
    raise UserError(f"{name} is {text!r}, but wants {type_name(hint)}")


def _bound(words: str, holds: Callable[[Any, float], bool]) -> Callable[..., None]:
    def check(settings: Any, **bounds: float) -> None:
        for name, bound in bounds.items():
            if not holds(value := getattr(settings, name), bound):
                raise ValueError(f"{name} is {value}, but must be {words} {bound:g}")

    check.__doc__ = (
        f"Raise ValueError for a setting that is not {words} its bound, as in "
        "``(self, lr=0)``. For a Settings class's ``__post_init__``."
    )
    return check


at_least, at_most = _bound("at least", operator.ge), _bound("at most", operator.le)
above, below = _bound("above", operator.gt), _bound("below", operator.lt)


def _range(hint: Any) -> Range | None:
    return next((mark for mark in _marks(hint) if isinstance(mark, Range)), None)


def _where_changed(settings_class: type) -> set[str]:
    """The settings that the class or one of its bases marks so."""
    return {
        name
        for cls in settings_class.__mro__
        if dataclasses.is_dataclass(cls)
        for name, hint in typing.get_type_hints(cls, include_extras=True).items()
        if WHERE_CHANGED in _marks(hint)
    }


def _marks(hint: Any) -> tuple[Any, ...]:
    """What stands beside a type in ``Annotated``."""
    return typing.get_args(hint)[1:] if typing.get_origin(hint) is typing.Annotated else ()


@functools.cache
def _field_comments(cls: type) -> dict[str, str]:
    """Field name → the comment on its lines, of the fields that the class itself defines."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return {}
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    fields: dict[str, str] = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            fields[node.target.id] = " ".join(comments[n] for n in lines if n in comments)
    return {name: comment for name, comment in fields.items() if comment}
