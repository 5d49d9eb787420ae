"""Sweep files: data sets, methods, settings, seeds and resources, checked line by line.

A list stands for each of its values in turn. Where an entry has several lists they are crossed: in
the order they are written, the later one changing faster. Those of [run] come before a data set's
own, those of [settings] before an entry's ``set``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from lmdbench.core.errors import UserError
from lmdbench.core.folders import expanded
from lmdbench.core.registry import load_plugin, unknown
from lmdbench.core.schema import Document, read_document, text
from lmdbench.runs.plan import check_interval
from lmdbench.runs.request import RunContext
from lmdbench.sweep.config.entries import Entry, chain_of, read_entries
from lmdbench.sweep.config.resources import Resources, read_resources
from lmdbench.sweep.config.setups import read_setups
from lmdbench.sweep.config.values import NAME, seeds, texts
from lmdbench.training.method import METHODS

MOST_RUNS = 100_000  # of set-ups × entries × seeds: more is a list too many
TOP = (
    *("name", "seeds", "methods", "datasets", "plugins", "run", "settings", "resources", "slurm"),
    "retry",
)


@dataclass(frozen=True)
class Sweep:
    """``source``: the file, or "preset NAME". ``places``: FILE:LINE of each set-up."""

    name: str
    source: str
    setups: tuple[RunContext, ...]
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    resources: Resources
    plugins: tuple[Path, ...] = ()
    places: Mapping[RunContext, str] = field(default_factory=dict, compare=False)

    @property
    def argument(self) -> str:
        """What names the sweep in a command."""
        return self.source.removeprefix("preset ")


def presets() -> dict[str, str]:
    """Name → text of the sweeps that come with lmdbench."""
    folder = files("lmdbench.sweep") / "presets"
    found = {
        item.name.removesuffix(".toml"): item.read_text(encoding="utf-8")
        for item in folder.iterdir()
        if item.name.endswith(".toml")
    }
    return dict(sorted(found.items()))


def read_sweep(file_or_preset: str, data_root: Path | None) -> Sweep:
    """The sweep of a file, or of a preset where no file has that name.

    ``data_root``: of data sets whose table names none. Loads the file's plug-ins. No table of a
    data set is read: what only those can tell is left to planning. Raises UserError, FILE:LINE
    first, for whatever is wrong.
    """
    path = expanded(file_or_preset)
    if path.is_file():
        return _sweep(read_document(path, file_or_preset), path.stem, data_root)
    known = presets()
    if file_or_preset in known:
        preset = Document(f"preset {file_or_preset}", known[file_or_preset], Path())
        return _sweep(preset, file_or_preset, data_root)
    if file_or_preset.endswith(".toml") or "/" in file_or_preset:
        raise UserError(f"{path}: no such file; presets are {', '.join(known)}")
    raise unknown("sweep file or preset", file_or_preset, list(known))


def _sweep(doc: Document, default_name: str, data_root: Path | None) -> Sweep:
    content = doc.content
    doc.known((), content, TOP)
    name = doc.check(("name",), content["name"], text) if "name" in content else default_name
    if not NAME.fullmatch(name):
        raise doc.error(
            ("name",), f'name {name!r} names a folder; name = "..." of letters, digits, - _ and .'
        )
    plugins = _plugins(doc)
    setups = read_setups(doc, data_root)
    entries = read_entries(doc, list(setups))
    chosen = doc.check(("seeds",), content.get("seeds", 0), seeds)
    if len(setups) * len(entries) * len(chosen) > MOST_RUNS:
        raise doc.error(
            (), f"{len(setups)} × {len(entries)} × {len(chosen)} runs; make it several sweeps"
        )
    resources = read_resources(doc, _names(entries))
    for setup in setups:
        with doc.told_of(("resources", "validate_every")):
            check_interval(setup.selection, resources.run.validate_every)
    return Sweep(
        name=name,
        source=doc.source,
        setups=tuple(setups),
        entries=tuple(entries),
        seeds=chosen,
        resources=resources,
        plugins=plugins,
        places=setups,
    )


def _names(entries: Sequence[Entry]) -> list[str]:
    """Labels and methods of a sweep, with those that they start from."""
    found: dict[str, None] = {}
    for entry in entries:
        start = entry.starts_from
        names = chain_of(entry.method, start if start in METHODS.names() else None)
        found |= dict.fromkeys(filter(None, (entry.label, *names)))
    return list(found)


def _plugins(doc: Document) -> tuple[Path, ...]:
    found = []
    if "plugins" in doc.content:
        value = doc.content["plugins"]
        for position, name in enumerate(doc.check(("plugins",), value, texts)):
            path = doc.resolved(name)
            with doc.told_of(("plugins", position)):
                load_plugin(path)
            found.append(path)
    return tuple(found)
