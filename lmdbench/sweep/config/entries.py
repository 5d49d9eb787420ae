"""The methods of a sweep file with their settings, as entries."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.core.lines import KeyPath
from lmdbench.core.registry import unknown
from lmdbench.core.schema import Check, Document, text
from lmdbench.core.settings import describe, parse, resolve
from lmdbench.data.dataset import DATASETS
from lmdbench.models.backbones import get_backbone
from lmdbench.runs.request import RunContext
from lmdbench.training.method import METHODS, Start
from lmdbench.training.recipes import in_order, recipes_for

ALL = "all"  # [settings.all]: of every method that has the setting


@dataclass(frozen=True)
class Entry:
    """One way to make runs: a method with its settings, after lists were crossed.

    ``settings``: as text, ``key`` for the method, ``ancestor.key`` for what it starts from, as
    ``run.plan`` takes them. ``label``: the user's own name for it, with the values that tell it
    from others of the same list. ``place``: FILE:LINE, for messages.
    """

    method: str
    starts_from: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class Axis:
    """A setting with its values as text, to be crossed with others."""

    scope: str  # a method, or ``ALL``
    key: str
    path: KeyPath
    values: tuple[str, ...]


def chain_of(method: str, starts_from: str | None = None) -> list[str]:
    """The methods from the first ancestor to this one.

    ``starts_from``: another method than its definition says. Raises UserError for an unknown name
    and for a method that comes to start from itself.
    """
    chain = [method]
    start: str | Start | None = starts_from or METHODS.get(method).starts_from
    while start is not None:
        name = start.method if isinstance(start, Start) else start
        if name in chain:
            raise UserError(f"{' ← '.join([*chain[::-1], name])}: it can't start from itself")
        chain.insert(0, name)
        start = METHODS.get(name).starts_from
    return chain


def to_text(value: Any) -> str:
    """A TOML value as ``settings.parse`` reads it back: the same number, truth value or text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_entries(doc: Document, setups: Sequence[RunContext]) -> list[Entry]:
    """The entries in the order they are written, each with its lists crossed.

    [settings.NAME] acts on a method wherever it stands in a chain, so that those that start from it
    share its runs; [settings.all] on all of a chain that have the setting; what an entry's own
    ``set`` says wins. Raises UserError for what is unknown, out of bounds or without effect.
    """
    common = _common_settings(doc)
    used: set[KeyPath] = set()
    found: list[Entry] = []
    seen: dict[tuple[Any, ...], str] = {}  # what tells runs apart → where it stands
    chains: set[str] = set()
    labels: set[str | None] = set()
    for path, item in doc.items("methods", "ce"):
        doc.known(path, item, ["name", "starts_from", "label", "set"])
        if item["name"] not in METHODS.names():
            problem = unknown("method", item["name"], METHODS.names())
            raise doc.error((*path, "name"), problem)
        label = doc.check((*path, "label"), item["label"], text) if "label" in item else None
        if label is not None and label in labels:
            raise doc.error((*path, "label"), f"label {label!r} stands twice; give each its own")
        labels.add(label)
        starts = [None]
        if "starts_from" in item:
            starts = doc.axis((*path, "starts_from"), item["starts_from"], text)
        own = _axes(doc, (*path, "set"), item["name"])
        reached: set[KeyPath] = set()
        for start in starts:
            origin, chain = _chain(doc, path, item["name"], start)
            chains |= set(chain)
            axes = [axis for axis in (*common, *own) if _targets(axis, chain)]
            reached |= {axis.path for axis in axes}
            entry = Entry(item["name"], origin, label=label, place=doc.place(path))
            varied = [("starts_from", start)] if len(starts) > 1 else []
            for one in _combinations(entry, chain, axes, varied):
                _check_settings(doc, path, one, chain, axes, setups)
                science = one.method, one.starts_from, frozenset(one.settings.items())
                if science in seen:
                    raise doc.error(path, f"the same runs as those of {seen[science]}; drop one")
                seen[science] = one.place
                found.append(one)
        for axis in own:
            if axis.path not in reached:
                _, chain = _chain(doc, path, item["name"], starts[0])
                raise doc.error(
                    axis.path,
                    f"{item['name']} does not start from {axis.scope}: {' → '.join(chain)}; "
                    f"leave {axis.key} out",
                )
        used |= reached
    for axis in common:
        if axis.path in used:
            continue
        if axis.scope != ALL:
            raise doc.error(
                axis.path[:2],
                f"no method of this sweep is {axis.scope} or starts from it; "
                f"leave [settings.{axis.scope}] out",
            )
        having = sorted({key for name in chains for key in _settings(name)})
        raise doc.error(axis.path, unknown("setting of all methods", axis.key, having))
    return _told_apart(found)


def _told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Entries of one method without labels get what they differ in for a label."""
    found = []
    for entry in entries:
        alike = [other for other in entries if (other.method, other.label) == (entry.method, None)]
        if entry.label is None and len(alike) > 1:
            words = [] if entry.starts_from is None else [f"from {entry.starts_from}"]
            for key, value in entry.settings.items():
                if any(other.settings.get(key) != value for other in alike):
                    words.append(f"{key}={value}")
            if words:
                entry = replace(entry, label=" ".join([entry.method, *words]))
        found.append(entry)
    return found


def _common_settings(doc: Document) -> list[Axis]:
    """What [settings.NAME] say, of all methods first."""
    found: list[Axis] = []
    for scope in doc.table(("settings",)):
        path = ("settings", scope)
        if scope != ALL and scope not in METHODS.names():
            raise doc.error(path, unknown("method", scope, [ALL, *METHODS.names()]))
        axes = _axes(doc, path, scope)
        found = [*axes, *found] if scope == ALL else [*found, *axes]
    return found


def _axes(doc: Document, path: KeyPath, owner: str) -> list[Axis]:
    """A table of settings of ``owner``; in a method's ``set`` also those of others above it.

    ``"rrl.epochs" = 5`` and ``rrl.epochs = 5`` (to TOML a table in the table) are the same.
    """
    found: list[Axis] = []
    for key, value in doc.table(path).items():
        here = (*path, key)
        scope, dot, name = key.rpartition(".")
        inner: dict[KeyPath, tuple[str, str, Any]]
        if isinstance(value, dict) and not dot:
            inner = {(*here, k): (key, k, v) for k, v in value.items()}
        else:
            inner = {here: (scope if dot else owner, name, value)}
        for where, (scope, name, one) in inner.items():
            if scope != owner and path[0] == "settings":
                raise doc.error(here, f"{key} stands in another method; give [settings.NAME]")
            if owner != ALL and scope not in METHODS.names():
                raise doc.error(where, unknown("method", scope, METHODS.names()))
            if owner != ALL and name not in _settings(scope):
                problem = unknown(f"setting of {scope}", name, list(_settings(scope)))
                raise doc.error(where, problem)
            if any((axis.scope, axis.key) == (scope, name) for axis in found):
                raise doc.error(where, f"{name} of {scope} stands here twice; leave one out")
            values = doc.axis(where, one, _setting(scope, name))
            found.append(Axis(scope, name, where, tuple(values)))
    return found


def _setting(scope: str, key: str) -> Check:
    """What turns a value of a setting into text, if it is of its type."""

    def check(value: Any) -> str:
        if not isinstance(value, str | int | float):
            raise ValueError("a number, true or false, or a text")
        written = to_text(value)
        if scope != ALL:
            try:
                parse(key, _settings(scope)[key].type, written)
            except UserError:
                raise ValueError(_settings(scope)[key].type_name) from None
        return written

    return check


def _chain(
    doc: Document, path: KeyPath, method: str, start: str | None
) -> tuple[str | None, list[str]]:
    """What it starts from as a plan takes it, and the methods whose settings it has."""
    where = (*path, "starts_from")
    if start is not None and METHODS.get(method).starts_from is None:
        raise doc.error(where, f"{method} starts from no other run; leave starts_from out")
    if start is not None and start not in METHODS.names():
        if doc.resolved(start).is_dir():
            return str(doc.resolved(start)), [method]
        if re.fullmatch(r"[0-9a-f]{8,64}", start):
            return start, [method]
        problem = unknown("method", start, METHODS.names())
        raise doc.error(where, f"neither a run's id nor a run directory, and {problem}")
    with doc.told_of(where):
        chain = chain_of(method, start)
    return start, chain


def _targets(axis: Axis, chain: Sequence[str]) -> list[str]:
    """The methods of a chain that a setting acts on."""
    if axis.scope == ALL:
        return [name for name in chain if axis.key in _settings(name)]
    return [axis.scope] if axis.scope in chain else []


def _combinations(
    entry: Entry,
    chain: Sequence[str],
    axes: Sequence[Axis],
    varied: Sequence[tuple[str, str | None]],
) -> list[Entry]:
    """The entry with every combination of its settings; the later of two axes for one setting
    wins, so that lists of the earlier one come to nothing."""
    winner = {(name, axis.key): axis for axis in axes for name in _targets(axis, chain)}
    acting = [axis for axis in axes if axis in winner.values()]
    found = []
    for combination in itertools.product(*(axis.values for axis in acting)):
        value = {axis.path: text for axis, text in zip(acting, combination, strict=True)}
        settings = {
            key if name == entry.method else f"{name}.{key}": value[axis.path]
            for (name, key), axis in winner.items()
        }
        words = [f"{key}={text}" for key, text in varied]
        for axis in acting:
            if len(axis.values) > 1:
                above = "" if axis.scope in (ALL, entry.method) else f"{axis.scope}."
                words.append(f"{above}{axis.key}={value[axis.path]}")
        label = " ".join([entry.label or entry.method, *words]) if words else entry.label
        found.append(replace(entry, settings=settings, label=label))
    return found


def _check_settings(
    doc: Document,
    path: KeyPath,
    entry: Entry,
    chain: Sequence[str],
    axes: Sequence[Axis],
    setups: Sequence[RunContext],
) -> None:
    """Refuse settings out of bounds, in any of the set-ups, on the line that is to blame."""
    kinds = {(s.dataset, s.backbone): None for s in setups}
    for name, (dataset, backbone) in itertools.product(chain, kinds):
        own = {
            key.rpartition(".")[2]: text
            for key, text in entry.settings.items()
            if (key.rpartition(".")[0] or entry.method) == name
        }
        data, method = DATASETS.get(dataset), METHODS.get(name)
        net = get_backbone(backbone or data.backbone)
        try:
            recipes = in_order(
                recipes_for(method, f"backbone {net.architecture!r}", net.recipes),
                {},
                recipes_for(method, f"data set {dataset!r}", data.recipes),
            )
            resolve(name, method.Settings, recipes, own)
        except UserError as error:
            acting = [axis for axis in axes if name in _targets(axis, chain)]
            named = [axis for axis in acting if re.search(rf"\b{axis.key}\b", str(error))]
            blamed = [path, *(axis.path for axis in named or acting)][-1]
            raise doc.error(blamed, error) from None


def _settings(method: str) -> Mapping[str, Any]:
    return describe(METHODS.get(method).Settings)
