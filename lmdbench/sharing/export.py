"""Finished runs to an archive: records, histories, predictions, audits of the splits, sweeps."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmdbench.comparison.results import Results, Run, ancestor_of
from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes
from lmdbench.data.check import audit as audits
from lmdbench.runs.sources import PLUGINS
from lmdbench.runs.whole import PREDICTIONS, RECORD
from lmdbench.sharing.archive import MANIFEST, check_output, new_archive
from lmdbench.sharing.check import CheckedRun, check_alike, check_run
from lmdbench.sharing.shared import FORMAT, README, RUN_FILES, shared_record
from lmdbench.sharing.sweeps import PLUGIN, SharedSweep, compare_command
from lmdbench.version import __version__


@dataclass(frozen=True)
class Exported:
    """What an archive got: keys (directories below the results), and what to know about it."""

    asked: tuple[str, ...]
    started_from: tuple[str, ...]  # not asked for, but needed to tell what the others are
    audits: tuple[str, ...]
    plugins: tuple[str, ...]  # their source, by name in the archive
    notes: tuple[str, ...]
    sweeps: Mapping[str, str]  # key → the reference of its table


def export(
    results: Results,
    chosen: Sequence[Run],
    output: Path,
    sweeps: Sequence[SharedSweep] = (),
    *,
    plugins: bool = True,
) -> Exported:
    """Write runs, what they started from, the audits of their splits and the sweeps that they are
    of to a new zip or folder; ``plugins``: with the source of plug-ins.

    Raises UserError, before anything is written, where ``output`` is there already, and for a run
    that contradicts itself: no archive is left then.
    """
    check_output(output)
    asked = {run.record.key: run for run in chosen}
    needed, notes = _started_from(chosen, results)
    above = {run.record.key: run for run in needed}
    everything = dict(sorted({**above, **asked}.items()))
    seen: dict[str, tuple[str, CheckedRun]] = {}
    listed: list[dict[str, Any]] = []
    with new_archive(output) as add:
        for key, run in everything.items():
            sound = check_run(run.directory)
            name, first = seen.setdefault(sound.fingerprint, (str(run.directory), sound))
            check_alike(sound, first, (str(run.directory), name))
            names = [name for name in RUN_FILES if (run.directory / name).exists()]
            names += _plugins(run.directory) if plugins else []
            content = {name: _content(run, name) for name in names}
            content[RECORD] = _record(run, content[PREDICTIONS])
            listed.append({"key": key, "id": run.id, "files": _hashes(content)})
            for name, text in content.items():
                add(f"{key}/{name}", text)
        sweeps = [sweep if plugins else replace(sweep, plugins={}) for sweep in sweeps]
        audits = _audits(everything.values(), results.folder)
        shared = {sweep.key: sweep.files for sweep in sweeps}
        for key, content in {**audits, **shared}.items():
            for name, text in content.items():
                add(f"{key}/{name}", text)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "lmdbench": __version__,
            "runs": listed,
            "audits": [{"key": key, "files": _hashes(files)} for key, files in audits.items()],
            "sweeps": [{"key": key, "files": _hashes(files)} for key, files in shared.items()],
        }
        add(README, _readme(everything.values(), sweeps).encode())
        add(MANIFEST, _json(manifest))
    own = sorted({r.record.results_name for r in everything.values() if _is_own(r)})
    notes += tuple(
        f"{name} is your own data: look whether its image names (and those of its "
        "lesions or patients, if any) may be seen by others"
        for name in own
    )
    source = [
        f"{entry['key']}/{name}"
        for entry in manifest["runs"] + manifest["sweeps"]
        for name in entry["files"]
        if PLUGIN.fullmatch(name)
    ]
    started_from = tuple(sorted(above.keys() - asked))
    references = {sweep.key: sweep.reference for sweep in sweeps}
    return Exported(
        tuple(sorted(asked)), started_from, tuple(audits), tuple(source), notes, references
    )


def _readme(runs: Iterable[Run], sweeps: Sequence[SharedSweep]) -> str:
    """What an archive is, for whoever unpacks it, and how its tables come back."""
    places = Counter(f"{r.record.results_name} {r.record.split_label}" for r in runs)
    commands = [f"    {compare_command('results', s.key, s.reference)}" for s in sweeps]
    return "\n".join(
        [
            "# Finished runs of lmdbench",
            "",
            *(f"- {place}: {number} run{'s' * (number > 1)}" for place, number in places.items()),
            "",
            "To look at their table anywhere, with this file (or folder) as FILE; it needs neither",
            "the images nor a GPU:",
            "",
            "    lmdbench results import FILE --results results",
            *(commands or [f"    {compare_command('results')}"]),
            "",
            "Of each run there are run.json, predictions.npz and history.csv, without weights. The",
            "Python files in plugins/ are only to be read: no command executes them unless you",
            "name one by --plugin.",
            "",
        ]
    )


def _plugins(directory: Path) -> list[str]:
    """The source of plug-ins that a run keeps, by name below its directory."""
    files = (p.relative_to(directory).as_posix() for p in (directory / PLUGINS).rglob("*.py"))
    return sorted(name for name in files if PLUGIN.fullmatch(name))


def _started_from(chosen: Iterable[Run], results: Results) -> tuple[list[Run], tuple[str, ...]]:
    """What runs started from, what that started from and so on; and which of it is gone."""
    known = results.by_id
    found, gone = [], []
    for run in chosen:
        stage: Run | None = run
        while stage is not None and stage.record.ancestor:
            there = known.get(stage.record.ancestor.id) or ancestor_of(stage)
            if there is None or not (there.directory / "done").exists():
                gone.append(
                    f"{run.record.key}: the {stage.record.ancestor.method} run it "
                    "started from is gone, so its settings can't be checked by others"
                )
                break
            found.append(there)
            stage = there
    return found, tuple(dict.fromkeys(gone))


def _record(run: Run, predictions: bytes) -> bytes:
    """``run.json`` as others get it."""
    digests = {**run.record.digests, "predictions": hashlib.sha256(predictions).hexdigest()}
    return _json(replace(shared_record(run.record), digests=digests).to_json())


def _content(run: Run, name: str) -> bytes:
    path = run.directory / name
    try:
        return read_bytes(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _audits(runs: Iterable[Run], results: Path) -> dict[str, dict[str, bytes]]:
    """Key → file → content, of the whole audits of the splits of these runs."""
    found: dict[str, dict[str, bytes]] = {}
    for run in runs:
        fingerprint = run.spec.split["fingerprint"]
        name, label = run.record.results_name, run.record.split_label
        folder = audits.audit_folder(results, name, label, fingerprint)
        facts = audits.load(folder, fingerprint)
        if facts is not None and audits.kept_leaks(folder, fingerprint) is not None:
            key = folder.relative_to(results).as_posix()
            found[key] = {
                file: read_bytes(folder / file) for file in (audits.FACTS, *facts["lists"])
            }
    return dict(sorted(found.items()))


def _is_own(run: Run) -> bool:
    return run.spec.dataset == "folder"


def _hashes(content: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(text).hexdigest() for name, text in content.items()}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
