"""The settings that a data set or a backbone recommends, looked at before they act on a method."""

from __future__ import annotations

from collections.abc import Mapping
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
