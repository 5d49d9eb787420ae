"""Names that a shell completes. What names there are is remembered in the cache, as to ask may take
seconds: torch is imported for it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache
from lmdbench.version import __version__

# Whose networks are backbones by name, too: ``models.backbones.LIBRARIES``, which takes torch
LIBRARIES = ("timm", "torchvision")
FROZEN = re.compile(r"(frozen(\+\d+)?/)?")  # what may stand before a backbone's name

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete(kind: str) -> Completer:
    """Completes names of a kind of ``lmdbench list``, with what each is, where a shell shows it."""

    def completer(
        _context: click.Context, _parameter: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        return _beginning(kind, typed)

    return completer


def _beginning(kind: str, typed: str, before: str = "") -> list[CompletionItem]:
    """The names that begin so, with what stands before each."""
    with suppress(UserError, OSError, ImportError):
        return [
            CompletionItem(before + name, help=title)
            for name, title in names_of(kind).items()
            if name.startswith(typed)
        ]
    return []


def complete_backbone(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Completes backbones, also behind ``frozen/``, and those of a library once its name is
    begun."""
    match = FROZEN.match(typed)
    before = match[0] if match else ""
    plain = typed.removeprefix(before)
    meant = [
        library
        for library in LIBRARIES
        if plain.startswith(f"{library}/") or (plain and f"{library}/".startswith(plain))
    ]
    return [item for kind in ("backbones", *meant) for item in _beginning(kind, plain, before)]


def complete_kind(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    from lmdbench.core.registry import KINDS

    return [CompletionItem(kind) for kind in KINDS if kind.startswith(typed)]


def complete_preset(
    _context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    from importlib.resources import files

    names = [path.name for path in (files("lmdbench.sweep") / "presets").iterdir()]
    presets = sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))
    return [CompletionItem(name) for name in presets if name.startswith(typed)]


def names_of(kind: str) -> dict[str, str]:
    """Name → title of what there is of a kind, built in and by entry points; of a library, of its
    backbones."""
    remembered = _remembered(kind)
    with suppress(OSError, ValueError):
        content: dict[str, str] = json.loads(remembered.read_text())
        return content
    names = _asked(kind)
    with suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        for old in remembered.parent.glob(f"{kind}-*.json"):
            old.unlink(missing_ok=True)
        own = remembered.with_suffix(f".{os.getpid()}")
        own.write_text(json.dumps(names))
        own.replace(remembered)
    return names


def _asked(kind: str) -> dict[str, str]:
    if kind in LIBRARIES:
        from lmdbench.models.backbones import library_names

        return dict.fromkeys(library_names(kind), "")
    from lmdbench.core.registry import registry_of

    registry = registry_of(kind)
    return {name: registry.title(registry[name]) for name in registry.names()}


def _remembered(kind: str) -> Path:
    """Where the names of a kind are remembered: another place when any file of lmdbench's, an entry
    point, or the library, is another one. Raises ImportError for a library that is not there."""
    state: list[Any] = [__version__]
    if kind in LIBRARIES:
        state.append(importlib.metadata.version(kind))
    for package in ("lmdbench", "lmdbench.methods", "lmdbench.datasets"):
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(folder).rglob("*.py")):
                found = path.stat()
                state.append((str(path), found.st_mtime_ns, found.st_size))
    points = importlib.metadata.entry_points(group=f"lmdbench.{kind}")
    state += sorted((point.name, point.value) for point in points)
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    return default_cache() / "completion" / f"{kind}-{digest[:16]}.json"
