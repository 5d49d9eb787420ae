"""Names that a shell completes. What names there are is remembered in the cache, as to ask may take
seconds: torch is imported for it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from lmdbench.core.errors import UserError
from lmdbench.core.folders import default_cache
from lmdbench.version import __version__

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete(kind: str) -> Completer:
    """Completes names of a kind of ``lmdbench list``, with what each is, where a shell shows it."""

    def completer(
        _context: click.Context, _parameter: click.Parameter, typed: str
    ) -> list[CompletionItem]:
        with suppress(UserError, OSError, ImportError):
            return [
                CompletionItem(name, help=title)
                for name, title in names_of(kind).items()
                if name.startswith(typed)
            ]
        return []

    return completer


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
    """Name → title of what there is, built in and by entry points."""
    remembered = _remembered(kind)
    with suppress(OSError, ValueError):
        content: dict[str, str] = json.loads(remembered.read_text())
        return content
    from lmdbench.core.registry import registry_of

    registry = registry_of(kind)
    names = {name: registry.title(registry[name]) for name in registry.names()}
    with suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        for old in remembered.parent.glob(f"{kind}-*.json"):
            old.unlink(missing_ok=True)
        own = remembered.with_suffix(f".{os.getpid()}")
        own.write_text(json.dumps(names))
        own.replace(remembered)
    return names


def _remembered(kind: str) -> Path:
    """Where the names of a kind are remembered: another place when any file of lmdbench's, or an
    entry point, is another one."""
    state: list[Any] = [__version__]
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
