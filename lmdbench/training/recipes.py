"""The settings that a data set or a backbone recommends, looked at before they act on a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from lmdbench.core.errors import UserError, told_of
from lmdbench.core.registry import unknown
from lmdbench.core.schema import fits, type_name
from lmdbench.core.settings import describe, resolve
from lmdbench.training.method import METHODS, Method

Recipes = Mapping[str, Mapping[str, Any]]  # a method's name, or what it trains → settings
OF_MANY = ("all", "head")


def recipes_for(method: type[Method], owner: str, recipes: Recipes) -> list[Mapping[str, Any]]:
    """Those that act on a method: of all that train as it does, then its own.

    ``owner`` is what the recipes are of, for messages. Raises UserError where any of them names a
    method or a setting that does not exist, or a value that such a setting can't have.
    """
    check_recipes(owner, recipes)
    acting = [recipes[key] for key in (method.trains, method.name) if key in recipes]
    with told_of(f"{owner}: recipes"):
        resolve(method.name, method.Settings, acting, {})
    return acting


def in_order(
    of_backbone: Sequence[Mapping[str, Any]],
    asked: Mapping[str, Any],
    of_dataset: Sequence[Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
    """The recipes that act on a method, of which the last has the last word; ``asked`` is what the
    method that starts from it asks for.

    A data set's rates and decays are those of its usual backbone's optimiser. What a backbone says
    beside an optimiser of its own, they leave as it is.
    """
    held = {key for recipe in of_backbone if "optimizer" in recipe for key in recipe}
    rest = [{k: v for k, v in recipe.items() if k not in held} for recipe in of_dataset]
    return [*of_backbone, asked, *rest]


def check_recipes(owner: str, recipes: Recipes) -> None:
    """Raise UserError for the first recipe that acts on nothing, or can't act."""
    for key, recipe in recipes.items():
        if key in OF_MANY:
            of = f"method that trains {key!r}"
            methods = [m for m in METHODS.all().values() if m.trains == key]
        elif key in METHODS:
            of, methods = key, [METHODS.get(key)]
        else:
            raise UserError(f"{owner}: recipes: {unknown('method', key, [*OF_MANY, *METHODS])}")
        settings = _types(tuple(method.Settings for method in methods))
        for name, value in recipe.items():
            where = f"{owner}: recipes[{key!r}]"
            if name not in settings:
                raise UserError(f"{where}: {unknown(f'setting of {of}', name, list(settings))}")
            if not fits(settings[name], value):
                raise UserError(
                    f"{where}: {name} is {value!r}, but wants {type_name(settings[name])}"
                )


@cache
def _types(classes: tuple[type, ...]) -> Mapping[str, Any]:
    """The type of each setting that one of these has."""
    return {name: setting.type for one in classes for name, setting in describe(one).items()}
