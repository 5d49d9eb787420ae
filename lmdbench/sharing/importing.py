"""Runs from an archive into a results folder: all checked first, then each run put there whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lmdbench.comparison.results import Results
from lmdbench.core.errors import UserError
from lmdbench.core.files import read_bytes, read_text, sha256_of, write_bytes
from lmdbench.data.check import audit as audits
from lmdbench.runs.record import RunRecord
from lmdbench.sharing.archive import MANIFEST, Archive, new_folder
from lmdbench.sharing.check import CheckedRun, check_alike, check_run, same_predictions
from lmdbench.sharing.place import now, place_run
from lmdbench.sharing.shared import (
    AUDIT_FILES,
    FORMAT,
    NEEDED_FILES,
    README,
    RUN_FILES,
    ancestor_key,
    shared_record,
)
from lmdbench.sharing.sweeps import FILE, KEY, PLUGIN, TABLE, SharedSweep, digest_of, parse_table

State = Literal["new", "already there", "in the way"]


@dataclass(frozen=True)
class ArchivedEntry:
    """A run, an audit or a sweep of an archive: its key and its files' hashes, name → SHA-256."""

    key: str
    files: Mapping[str, str]
    id: str = ""  # of a run


@dataclass(frozen=True)
class CheckedEntry:
    """An entry that passed all checks, and what lies under its key here. ``reason``: what is in
    the way."""

    entry: ArchivedEntry
    state: State
    reason: str = ""


@dataclass(frozen=True)
class CheckedArchive:
    """A whole archive that passed all checks. ``ignored``: files that its manifest doesn't list."""

    runs: tuple[CheckedEntry, ...]
    audits: tuple[CheckedEntry, ...]
    sweeps: tuple[tuple[CheckedEntry, SharedSweep], ...]  # without their plug-ins
    ignored: tuple[str, ...]


def look(archive: Archive, results: Results) -> CheckedArchive:
    """Check all of an archive, by itself and against the runs that are here. Writes no results.

    Raises UserError, naming archive and file, for the first that is not what the manifest or its
    own record says, and where runs here and there of one split are of other images.
    """
    runs, audits, sweeps = _manifest(archive)
    seen: dict[str, tuple[str, CheckedRun]] = {}
    found_runs = []
    for entry in runs:
        where = f"{archive.path}: {entry.key}"
        with _unpacked(archive, entry) as folder:
            run = _checked(folder, entry, where)
            fingerprint = run.fingerprint
            if fingerprint not in seen:
                seen[fingerprint] = _reference(fingerprint, results) or (where, run)
            name, first = seen[fingerprint]
            check_alike(run, first, (where, name))
            found_runs.append(_against_local(entry, run, results.folder / entry.key))
    found_audits = []
    for entry in audits:
        with _unpacked(archive, entry) as folder:
            _check_audit(folder, entry, f"{archive.path}: {entry.key}")
            found_audits.append(_audit_here(entry, results.folder / entry.key))
    found_sweeps = []
    for entry in sweeps:
        sweep = _checked_sweep(archive, entry)
        found_sweeps.append((_there(entry, results.folder / entry.key), sweep))
    entries = (*runs, *audits, *sweeps)
    listed = {f"{entry.key}/{name}" for entry in entries for name in entry.files}
    ignored = tuple(sorted(archive.sizes.keys() - listed - {MANIFEST, README}))
    return CheckedArchive(tuple(found_runs), tuple(found_audits), tuple(found_sweeps), ignored)


def carry_out(archive: Archive, looked: CheckedArchive, results: Path) -> None:
    """Put what is new in place, run by run. Raises UserError for a full disk; the runs that are in
    place by then are whole, and the same import goes on with the others."""
    source = {"from": archive.path.resolve().name, "sha256": _source_sha256(archive), "date": now()}
    for found in looked.runs:
        if found.state == "new":
            content = _verified(archive, found.entry)
            record = RunRecord.from_json(json.loads(content.pop("run.json")))
            record = _own_record(record, source, results)
            place_run(results / found.entry.key, record, partial(_fill, content))
    for found in (*looked.audits, *(found for found, _ in looked.sweeps)):
        if found.state == "new":
            with new_folder(results / found.entry.key) as folder:
                _fill(_verified(archive, found.entry), folder)


def _fill(content: Mapping[str, bytes], folder: Path) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / name, text)


def _own_record(record: RunRecord, source: Mapping[str, Any], results: Path) -> RunRecord:
    """The record of an archive as it stands in a results folder: nothing but what is shared, with
    where it came from."""
    own, key = shared_record(record), ancestor_key(record)
    directory = str(results / key) if key else ""
    ancestor = own.ancestor and replace(own.ancestor, directory=directory)
    return replace(own, ancestor=ancestor, imported=replace(own.imported, archive=source))


def _source_sha256(archive: Archive) -> str:
    """Of a zip file; of a folder that of its manifest, which vouches for the rest."""
    if archive.path.is_dir():
        return hashlib.sha256(archive.read(MANIFEST)).hexdigest()
    return sha256_of(archive.path)


# Reading


def _manifest(
    archive: Archive,
) -> tuple[list[ArchivedEntry], list[ArchivedEntry], list[ArchivedEntry]]:
    """The runs, the audits and the sweeps that a manifest lists."""
    where = f"{archive.path}: {MANIFEST}"
    text = archive.read(MANIFEST)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = "no JSON" if isinstance(error, ValueError) else "nested too deeply"
        raise UserError(f"{where}: damaged, {what}; get it anew") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: damaged, no JSON object; get it anew")
    try:
        version = content["format"]
        if version != FORMAT:
            raise UserError(
                f"{where}: written by another version of lmdbench (format {version!a}; this one "
                f"reads {FORMAT}): use that version"
            )
        runs = [
            ArchivedEntry(str(one["key"]), _files(one, RUN_FILES), str(one["id"]))
            for one in content["runs"]
        ]
        audits = [
            ArchivedEntry(str(one["key"]), _files(one, AUDIT_FILES)) for one in content["audits"]
        ]
        sweeps = [
            ArchivedEntry(str(one["key"]), _files(one, (TABLE, FILE)))
            for one in content.get("sweeps", ())
        ]
    except KeyError as error:
        raise UserError(f"{where}: damaged, lacks {error}; get it anew") from error
    except (TypeError, AttributeError) as error:
        raise UserError(f"{where}: damaged, not what an export writes; get it anew") from error
    except ValueError as error:
        raise UserError(f"{where}: damaged, {error}") from error
    if not all(entry.key.isprintable() for entry in (*runs, *audits, *sweeps)):
        raise UserError(f"{where}: damaged, a name in it is unprintable")
    for entry in runs:
        lacking = [name for name in NEEDED_FILES if name not in entry.files]
        if lacking:
            raise UserError(f"{where}: {entry.key} has no {' and no '.join(lacking)}")
    keys = [entry.key for entry in (*runs, *audits, *sweeps)]
    if len(set(keys)) < len(keys):
        raise UserError(f"{where}: a run, an audit or a sweep is listed twice")
    return runs, audits, sweeps


def _files(entry: Mapping[str, Any], allowed: tuple[str, ...]) -> dict[str, str]:
    files = {str(name): str(sha256) for name, sha256 in entry["files"].items()}
    unknown = {name for name in files if name not in allowed and not PLUGIN.fullmatch(name)}
    if unknown:
        raise ValueError(f"it lists {min(unknown)!r}, which no export has")
    return files


def _verified(archive: Archive, entry: ArchivedEntry) -> dict[str, bytes]:
    """The files of an entry, each with the hash that the manifest has."""
    content = {}
    for name, sha256 in entry.files.items():
        text = archive.read(f"{entry.key}/{name}")
        if hashlib.sha256(text).hexdigest() != sha256:
            raise UserError(
                f"{archive.path}: {entry.key}/{name} is not what was exported (its SHA-256 is "
                "another): get it anew"
            )
        content[name] = text
    return content


@contextmanager
def _unpacked(archive: Archive, entry: ArchivedEntry) -> Iterator[Path]:
    """The files of an entry, verified, in a temporary folder outside the results."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise UserError(
            "nothing can be unpacked: there is no folder for temporary files that can be written; "
            "set TMPDIR to one"
        ) from None
    with tempfile.TemporaryDirectory(prefix="lmdbench-") as folder:
        _fill(_verified(archive, entry), Path(folder))
        yield Path(folder)


def _checked(folder: Path, entry: ArchivedEntry, where: str) -> CheckedRun:
    try:
        run = check_run(folder)
    except UserError as error:
        # Said of the archive, and without the advice for a run of one's own.
        problem = re.split("; (move|do) ", str(error).removeprefix(f"{folder}/"))[0]
        raise UserError(f"{where}/{problem}") from error
    except RecursionError as error:
        raise UserError(f"{where}/run.json: damaged, nested too deeply") from error
    if run.record.key != entry.key or run.record.id != entry.id:
        raise UserError(f"{where}: its run.json is of {run.record.key}")
    return run


def _checked_sweep(archive: Archive, entry: ArchivedEntry) -> SharedSweep:
    """The table of a sweep. Its plug-ins are not looked at: they are only to be read."""
    where = f"{archive.path}: {entry.key}"
    content = _verified(archive, entry)
    try:
        sweep = parse_table(json.loads(content[TABLE]), f"{where}/{TABLE}")
        content.get(FILE, b"").decode()
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: damaged, not what an export writes; get it anew") from error
    if entry.key != f"sweeps/{sweep.name}/shared-{digest_of(content)}" or not KEY.fullmatch(
        entry.key
    ):
        raise UserError(f"{where}: its {TABLE} is of another sweep, or damaged")
    return sweep


def _check_audit(folder: Path, entry: ArchivedEntry, where: str) -> None:
    facts: Any = None
    try:
        facts = json.loads(read_text(folder / audits.FACTS))
        split = facts["split"]
        own = audits.audit_folder(
            Path(), facts["results_name"], split["label"], split["fingerprint"]
        )
        whole = (
            own.as_posix() == entry.key
            and len(own.parts) == 3
            and {audits.FACTS, *facts["lists"]} == set(entry.files)
            and audits.kept_leaks(folder, split["fingerprint"]) is not None
        )
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError),
        *(RecursionError, UserError),
    ) as error:
        raise UserError(f"{where}: damaged audit, its {audits.FACTS} can't be read") from error
    if not whole:
        raise UserError(f"{where}: its {audits.FACTS} is of another audit, or damaged")


# Against what is here


def _reference(fingerprint: str, results: Results) -> tuple[str, CheckedRun] | None:
    """A sound run of that split among the results."""
    for run in results.runs:
        if run.spec.split.get("fingerprint") == fingerprint:
            try:
                return run.record.key, check_run(run.directory)
            except UserError:  # compare says so
                continue
    return None


def _against_local(entry: ArchivedEntry, run: CheckedRun, directory: Path) -> CheckedEntry:
    if not os.path.lexists(directory):
        return CheckedEntry(entry, "new")
    if not (directory / "done").exists():
        return CheckedEntry(entry, "in the way", "a run here that is not finished")
    try:
        local = check_run(directory)
    except UserError as error:
        return CheckedEntry(entry, "in the way", f"a damaged run here ({error})")
    if local.record.spec != run.record.spec:
        return CheckedEntry(entry, "in the way", "a run here whose id begins alike")
    if not same_predictions(local.parts, run.parts):
        return CheckedEntry(entry, "in the way", "a run here with other predictions")
    return CheckedEntry(entry, "already there")


def _audit_here(entry: ArchivedEntry, folder: Path) -> CheckedEntry:
    """An audit that is here stays: it is of the same split, whichever looked at more."""
    found = _there(entry, folder)
    if found.state == "new":
        return found
    same = all(
        (folder / name).is_file()
        and hashlib.sha256(read_bytes(folder / name)).hexdigest() == sha256
        for name, sha256 in entry.files.items()
    )
    return (
        found if same else CheckedEntry(entry, "already there", "another audit of this split, kept")
    )


def _there(entry: ArchivedEntry, folder: Path) -> CheckedEntry:
    return CheckedEntry(entry, "already there" if os.path.lexists(folder) else "new")
