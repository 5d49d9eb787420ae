"""What the code behind a run's numbers is, part by part, in digests that texts don't change."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from lmdbench.core.code import (
    closure,
    code_of,
    definitions,
    file_of,
    files_of,
    imported_by,
    is_loose,
    source_of,
)
from lmdbench.core.fileless import fileless
from lmdbench.core.registry import PLUGIN_MODULE
from lmdbench.models.backbones import BACKBONES, Backbone
from lmdbench.runs.record import BEGUN, CODE_PARTS
from lmdbench.training.method import METHODS, Method
from lmdbench.training.samplers import SAMPLERS
from lmdbench.training.views.augmentation import VIEWS

# lmdbench's modules that act on the numbers of every run
LOOP = tuple(
    f"lmdbench.{name}"
    for name in (
        *(
            "runs.model",
            "runs.train",
            "runs.frozen",
            "core.randomness",
            *(f"data.store.{name}" for name in ("decoding", "deep", "dicom", "png", "scale")),
            "models.classifier",
            "models.normalisation",
            "models.parts",
            "models.stages",
            "models.tuning",
        ),
        *("training.method", "training.optimisation", "training.stepper", "training.engine"),
        *("training.graph_memory", "training.task", "training.prefetch"),
    )
)
SELECTING = (  # what the balanced accuracy that selects an epoch is made of
    ("lmdbench.evaluation.metrics.recalls", "_recalls"),
    ("lmdbench.evaluation.metrics.classes", "set_weights"),
    ("lmdbench.evaluation.influence", "Margins"),
)
BUILDING = tuple(  # what every backbone is built by
    ("lmdbench.models.backbones", name)
    for name in ("build_encoder", "_encoder", "torchvision_backbone")
)
# Beginnings of the names of those that act on numbers only where they are imported
NETWORKS = ("lmdbench.models.small", "lmdbench.models.efficientnet_lite")
FOLLOWED = (
    *("lmdbench.methods.", "lmdbench.training.gaussians", "lmdbench.training.views."),
    *("lmdbench.training.samplers", *NETWORKS),
)
TEST_VIEW = "test"  # of validation and test images, whatever a method trains on


def code_digests(method: type[Method], backbone: Backbone) -> dict[str, str]:
    """SHA-256 of all code that acts on a run's numbers, by ``CODE_PARTS``.

    Comments, docstrings, formatting and descriptions don't count. Of lmdbench's views and samplers
    those count that the method names, and what they use.
    """
    views = [VIEWS[name] for name in sorted({*method.views, TEST_VIEW}) if name in VIEWS]
    return {
        "method": method_digest(method),
        "loop": _digest([*_modules(files_of(LOOP)), *_texts(definitions(SELECTING))]),
        "views": _of_functions(
            (f for view in views for f in (view.draw, view.apply)),
            [file for name in method.views for file in VIEWS.plugin(name)],
        ),
        "samplers": _of_functions(
            (SAMPLERS[name] for name in _samplers(method)),
            [file for name in _samplers(method) for file in SAMPLERS.plugin(name)],
        ),
        "backbone": backbone_digest(backbone),
    }


def backbone_digest(backbone: Backbone) -> str:
    """SHA-256 of the code that defines and builds a network; of one of a library's, of the
    library's version and its configuration there."""
    network = [backbone.network] if backbone.network else []
    building = _texts(definitions(BUILDING))
    modules = [*backbone.code, *BACKBONES.plugin(backbone.architecture)]
    library = [("library", backbone.configuration.encode())] if backbone.configuration else []
    return _digest([*building, *_code(network, modules, NETWORKS), *library])


def combined(digests: Mapping[str, str]) -> str:
    """One digest of several."""
    return hashlib.sha256("".join(digests.values()).encode()).hexdigest()


def changed_part(recorded: Mapping[str, str | None], now: Mapping[str, str]) -> str | None:
    """The first of the ``changed_parts``; None if there is none."""
    return next(iter(changed_parts(recorded, now)), None)


def changed_parts(recorded: Mapping[str, str | None], now: Mapping[str, str]) -> list[str]:
    """Those of the ``CODE_PARTS`` that are others now than in a record. What the record lacks, as
    one of an earlier version may, can't be told."""
    return [part for part in CODE_PARTS if recorded.get(part) not in (None, now[part])]


def begun_by(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """The ``BEGUN`` digests of an attempt that goes on with what is ``now``, where a record has
    another; each of all that took part before."""
    last = {
        f"begun_{what}": str(recorded[what])
        for what in ("store", "ancestor")
        if recorded.get(what) not in (None, now[what])
    }
    if changed_part(recorded, now) is not None:
        last["begun"] = combined({part: str(recorded.get(part)) for part in CODE_PARTS})
    before = {key: str(recorded[key]) for key in BEGUN if recorded.get(key)}
    both = {key: combined({"1": before[key], "2": last[key]}) for key in before if key in last}
    return {**before, **last, **both}


def method_digest(method: type[Method]) -> str:
    """SHA-256 of the code that defines a method: its own file, the method files it builds on, and
    what a plug-in imports from files beside it or elsewhere outside the installed packages."""
    classes = [cls for cls in method.__mro__ if cls not in Method.__mro__]
    return _digest(_code(classes, METHODS.plugin(getattr(method, "name", ""))))


def plugin_sources(method: type[Method], backbone: Backbone) -> dict[str, bytes]:
    """The source files that a run has from plug-ins, by their place beside each other: those that
    define its method, backbone, views and samplers, and what these import from outside the
    installed packages."""
    sources = {}
    for name, file in closure(_roots(method, backbone), FOLLOWED).items():
        if is_loose(file) and file.suffix == ".py":
            parts = name.removeprefix(PLUGIN_MODULE).split(".")
            parts += ["__init__"] if file.stem == "__init__" else []
            sources["/".join(parts) + ".py"] = source_of(name, file)
    return sources


def package_versions(method: type[Method], backbone: Backbone) -> dict[str, str]:
    """The versions of installed packages that a plug-in lies in or imports, by name."""
    names: dict[str, None] = {}
    for name, file in closure(_roots(method, backbone), FOLLOWED).items():
        if not name.startswith("lmdbench."):
            names |= dict.fromkeys(
                one.partition(".")[0] for one in (name, *imported_by(name, file))
            )
    tops = names.keys() - sys.stdlib_module_names - {"lmdbench"}
    return {
        distribution: metadata.version(distribution)
        for top in sorted(tops)
        for distribution in _distributions().get(top, ())
    }


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _roots(method: type[Method], backbone: Backbone) -> list[str]:
    views = [VIEWS[name] for name in method.views if name in VIEWS]
    functions: list[Any] = [f for view in views for f in (view.draw, view.apply)]
    functions += [SAMPLERS[name] for name in _samplers(method)]
    files = [*METHODS.plugin(method.name), *BACKBONES.plugin(backbone.architecture)]
    files += [file for name in method.views for file in VIEWS.plugin(name)]
    files += [file for name in _samplers(method) for file in SAMPLERS.plugin(name)]
    places = (_place(f)[0] for f in functions)
    return [*_defined_in(method), *backbone.code, *files, *places]


def _defined_in(method: type[Method]) -> list[str]:
    """The modules of a method's classes, but for what all methods have in common."""
    return [cls.__module__ for cls in method.__mro__ if cls not in Method.__mro__]


def _samplers(method: type[Method]) -> list[str]:
    """The names of registered samplers among a method's; others are in the code that names them."""
    chosen = method.sampler if isinstance(method.sampler, tuple) else (method.sampler,)
    return sorted({name for name in chosen if isinstance(name, str) and name in SAMPLERS})


def _place(function: Any) -> tuple[str, str]:
    """The module and the name of a function or class; of another object those of its class."""
    thing = function if hasattr(function, "__qualname__") else type(function)
    return thing.__module__, thing.__qualname__.partition(".")[0]


def _of_functions(functions: Iterable[Any], modules: Iterable[str]) -> str:
    """Digest of lmdbench's functions by what they use, and of others by all of their files."""
    placed = [(_place(function), function) for function in functions]
    ours = [place for place, _ in placed if place[0].startswith("lmdbench.")]
    others = [function for place, function in placed if place not in ours]
    return _digest([*_texts(definitions(ours)), *_code(others, modules)])


def _code(
    things: Sequence[Any], modules: Iterable[str] = (), followed: tuple[str, ...] = FOLLOWED
) -> list[tuple[str, bytes]]:
    """Of functions and classes the files that define them, with what these import, and the code of
    what is in no file, as in a notebook. ``modules``: more of the former."""
    text, used = fileless(things, Method)
    loose = {name for name in used if (file := file_of(name)) and is_loose(file)}
    homes = {*modules, *(_place(thing)[0] for thing in things), *loose}
    files = _modules(closure(sorted(homes), followed))
    return [*files, ("", "\n".join(text).encode())] if text else files


def _modules(files: Mapping[str, Path]) -> list[tuple[str, bytes]]:
    return [(name, code_of(name, file)) for name, file in sorted(files.items())]


def _texts(parts: Mapping[tuple[str, str], bytes]) -> list[tuple[str, bytes]]:
    return [(".".join(place), text) for place, text in sorted(parts.items())]


def _digest(code: Iterable[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256()
    for name, text in code:
        digest.update(f"{name}\n".encode() + text)
    return digest.hexdigest()
