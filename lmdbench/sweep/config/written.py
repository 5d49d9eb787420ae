"""A sweep as the text of a sweep file, which ``read_sweep`` reads back as the same sweep."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmdbench.runs.options import IN_SWEEPS
from lmdbench.runs.request import RunContext
from lmdbench.sweep.config.entries import Entry, to_text
from lmdbench.sweep.config.file import Sweep
from lmdbench.sweep.config.resources import OF_RESOURCES, OF_RUNS, OF_SLURM, Resources
from lmdbench.sweep.config.retry import retry_table
from lmdbench.sweep.config.sbatch import option_problem
from lmdbench.sweep.config.values import AUTO


def sweep_text(sweep: Sweep, comment: str) -> str:
    """The text of the file that is to be written at the sweep's source, under a comment of one or
    more lines. Paths are absolute, but for plug-ins that move with the file."""
    folder = Path(sweep.source).parent.absolute()
    plugins = [_beside(path, folder) for path in sweep.plugins]
    if any(map(os.path.isabs, plugins)):
        comment += (
            "\nAbsolute paths of plug-ins are this machine's: elsewhere, write where they lie."
        )
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += _pairs({"name": sweep.name, "seeds": sweep.seeds, "plugins": plugins or None})
    for setup in sweep.setups:
        lines += ["", "[[datasets]]", *_pairs(_dataset(setup))]
    for entry in sweep.entries:
        lines += ["", "[[methods]]", *_pairs(_method(entry))]
    for name, table in _resources(sweep.resources).items():
        if table:
            lines += ["", f"[{name}]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def shareable_text(sweep: Sweep) -> str:
    """The file's text as others get it: what its runs are, without what only this machine has.

    Folders and how runs are carried out are left out. Lists of a split and weights are told by the
    names of their files, a run that others start from by its id. No plug-in is named where it would
    be loaded.
    """
    setups = tuple(
        replace(
            setup,
            data_root=None,
            split=replace(setup.split, name=setup.split.name and Path(setup.split.name).name),
            weights=setup.weights and Path(setup.weights).name,
        )
        for setup in sweep.setups
    )
    entries = tuple(
        replace(entry, starts_from=entry.starts_from and _id_of(entry.starts_from))
        for entry in sweep.entries
    )
    resources = Resources(run=replace(IN_SWEEPS, validate_every=sweep.resources.run.validate_every))
    comment = f"The runs of the sweep {sweep.name}. Give --data-root for where its images lie."
    if sweep.plugins:
        names = ", ".join(f'"plugins/{path.name}"' for path in sweep.plugins)
        comment += (
            f"\nTo train by its plug-ins, look at them, then write above: plugins = [{names}]"
        )
    plain = replace(
        sweep, setups=setups, entries=entries, resources=resources, plugins=(), places={}
    )
    return sweep_text(plain, comment)


def _id_of(starts_from: str) -> str:
    """Of a run's directory the 8 digits of its id; a method or an id as it is."""
    found = re.search(r"/seed\d+-([0-9a-f]{8})$", starts_from)
    return found[1] if found else starts_from


def _dataset(setup: RunContext) -> dict[str, Any]:
    split = setup.split
    return {
        "name": setup.dataset,
        "data_root": setup.data_root and _absolute(setup.data_root),
        "split": split.name,
        "imbalance_factor": split.imbalance_factor,
        "split_seed": split.seed,
        "folds": split.folds,
        "fold": split.fold,
        "test_per_class": split.test_per_class,
        "groups": split.groups,
        "allow_missing": setup.allow_missing,
        "skip_damaged": setup.skip_damaged or None,
        "backbone": setup.backbone,
        "weights": setup.weights,
        "weights_partial": setup.weights_partial or None,
        "tuning": setup.tuning,
        "feature_views": setup.feature_views or None,
        "image_size": setup.image_size,
        "selection": setup.selection,
        "precision": setup.precision,
    }


def _method(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.method,
        "label": entry.label,
        "starts_from": entry.starts_from,
        "set": {key: _plain(text) for key, text in entry.settings.items()} or None,
    }


def _plain(text: str) -> Any:
    """A setting's text as the number or truth value that reads back as the same text."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, int | float) and to_text(value) == text else text


def _resources(resources: Resources) -> dict[str, dict[str, Any]]:
    """Table → what it says that is not the default."""
    said = {
        name: value
        for part, usual in ((resources, Resources()), (resources.run, IN_SWEEPS))
        for name, value in vars(part).items()
        if value != getattr(usual, name)
    }
    if "time_minutes" in said or "auto_time" in said:
        said["time"] = said.get("time_minutes", AUTO)
    known = _known(resources.sbatch)
    of_methods: dict[str, dict[str, Any]] = {}
    for name, of in resources.of_methods.items():
        known_of = _known(of.sbatch)
        time = {"time": of.time_minutes} if of.time_minutes else {}
        of_methods[f"slurm.{_key(name)}"] = {**time, **known_of}
        rest = {k: v for k, v in of.sbatch.items() if k not in known_of}
        of_methods[f"slurm.{_key(name)}.extra"] = rest
    own_names = {"workers": "worker_jobs"}  # in [slurm], unlike those of [resources]
    slurm = {key: own for key in OF_SLURM if (own := own_names.get(key, key)) in said}
    return {
        "resources": {key: said[key] for key in OF_RESOURCES | OF_RUNS if key in said},
        "slurm": {**{key: said[own] for key, own in slurm.items()}, **known},
        "retry": retry_table(resources.retry),
        "slurm.extra": {k: v for k, v in resources.sbatch.items() if k not in known},
        **of_methods,
    }


def _known(options: Mapping[str, str | int | bool]) -> dict[str, str | int | bool]:
    return {key: value for key, value in options.items() if option_problem(key, []) is None}


def _beside(path: Path, folder: Path) -> str:
    """A path as a file in ``folder`` names it: relative where it lies in that folder, below it, or
    beside a folder that it is in (a project's plug-in and its results); else absolute."""
    path = path.absolute()
    if not (path.is_relative_to(folder) or folder.is_relative_to(path.parent)):
        return str(path)
    found = Path(os.path.relpath(path, folder)).as_posix()
    return found if found.startswith("../") else f"./{found}"


def _absolute(path: Path) -> str:
    return str(path.absolute())


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None]


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
