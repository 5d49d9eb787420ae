"""What finished runs said of themselves when they were last read, so that each is read once.

Beside the results, ``.index/<data set>/<split>.json`` keeps of each finished run its record and a
few facts that were worked out of its predictions. It saves time and nothing else: whoever deletes
it, damages it or cannot write it gets the same answers.

What it says of a run counts only while the run's directory, its record, predictions and weights
are those that were read: the same files (inode) of the same size and times. The directory's time
tells of all that comes, goes or is replaced in it, such as ``done`` or a new claim; those of the
files tell also of bytes that somebody changed in place. Times have grains, and a file that was
changed right after it was read may keep its time. So, as git does, nothing is remembered of what
was changed less than ``SETTLED`` seconds before, by the clock of the file system.

There are no locks: a file is replaced as a whole, the last who writes wins, and what that loses is
read once more. A database would need locks, which network file systems do not have for sure.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lmdbench.core.errors import UserError
from lmdbench.core.files import file_system_time, patiently, unreadable, write_text
from lmdbench.runs import record as records
from lmdbench.runs import state as states
from lmdbench.runs import whole
from lmdbench.runs.record import RunRecord, read_content, record_of
from lmdbench.runs.state import State, run_state
from lmdbench.version import __version__

FOLDER = ".index"
# Besides the directory, what is to be as it was; what is absent is to be absent
FILES = ("run.json", "predictions.npz", "model.safetensors", "heads.safetensors")
SETTLED = 2.0  # seconds; the grain of a file's time is up to 2 s on some shares
LEAST = 32  # newly read runs for which it is worth writing

Stamp = tuple[int, ...]  # inode, size and times of a thing on disk; () where there is none


@dataclass
class Remembered:
    """Of a finished run: what was on disk, and what that said.

    ``facts``: what was worked out of its files, by name.
    """

    directory: Stamp
    files: tuple[Stamp, ...]
    content: Mapping[str, Any]  # of run.json
    facts: dict[str, Any] = field(default_factory=dict)
    record: RunRecord | None = None

    def read(self) -> RunRecord:
        if self.record is None:
            self.record = RunRecord.from_json(self.content, checked=True)
        return self.record


class RunIndex:
    """The runs of a results folder, each finished one read once for as long as it stays as it is.

    Within a look (from one ``begin`` to the next) a run is looked at once. ``closely``: whether the
    files of a remembered run are looked at, too; without, a change in place goes unseen.
    """

    def __init__(self, results: Path, *, closely: bool = True) -> None:
        self.results = results
        self.closely = closely
        self._shards: dict[Path, dict[str, Remembered]] = {}
        self._fresh: dict[Path, int] = {}  # shard → what is remembered since it was written
        self.begin()

    def begin(self) -> None:
        """Look anew: what was seen before may have changed."""
        self._seen: dict[Path, tuple[State, RunRecord | None]] = {}
        self._names: dict[Path, dict[str, None]] = {}  # folder → names in it, sorted
        self._now: float | None = None

    def exists(self, directory: Path) -> bool:
        """Whether there is a run directory, from a listing of the folder that it is in."""
        return directory.name in self._folders(directory.parent)

    def directories(self) -> list[Path]:
        """Every run directory, sorted; also those that were moved aside."""
        level = [self.results]
        for _ in range(3):  # data set, split, method
            level = [folder / name for folder in level for name in self._folders(folder)]
        return [
            folder / name
            for folder in level
            for name in self._folders(folder)
            if name.startswith("seed")
        ]

    def read(self, directory: Path) -> tuple[State, RunRecord | None]:
        """A run's state, and its record if it is finished.

        Raises UserError for a finished run whose record cannot be used, and OSError where its
        directory can't be looked at.
        """
        if directory not in self._seen:
            self._seen[directory] = self._read(directory)
        return self._seen[directory]

    def finished(self, directory: Path) -> RunRecord | None:
        """The record of a finished run; None of another, of which nothing else is looked at.

        Raises the same.
        """
        shard, key = self._place(directory)
        if key not in self._known(shard) and not (directory / "done").exists():
            return None
        return self.read(directory)[1]

    def fact(self, directory: Path, name: str, work_out: Callable[[], Any]) -> Any:
        """What ``work_out`` makes of a finished run's files, as JSON has it; kept for later."""
        self.read(directory)
        shard, key = self._place(directory)
        kept = self._shards[shard].get(key)
        if kept is None:
            return work_out()
        if name not in kept.facts:
            kept.facts[name] = work_out()
            self._fresh[shard] = self._fresh.get(shard, 0) + 1
        return kept.facts[name]

    def save(self) -> None:
        """Keep what was newly read, where that is worth it and can be written."""
        for shard in [shard for shard, fresh in self._fresh.items() if fresh >= LEAST]:
            self._fresh[shard] = 0
            with suppress(OSError, UserError):  # read-only, full, somebody else's
                shard.parent.mkdir(parents=True, exist_ok=True)
                write_text(shard, _to_text(self._still_there(shard)))

    def _still_there(self, shard: Path) -> dict[str, Remembered]:
        """What is remembered but of runs that a listing of this look no longer has."""
        split = self.results / shard.parent.name / shard.stem
        gone = {
            f"{method}/{name}"
            for key in self._shards[shard]
            for method, _, name in [key.partition("/")]
            if name not in self._names.get(split / method, {name: None})
        }
        return {key: kept for key, kept in self._shards[shard].items() if key not in gone}

    def _folders(self, folder: Path) -> dict[str, None]:
        if folder not in self._names:
            self._names[folder] = dict.fromkeys(folders_in(folder))
        return self._names[folder]

    def _place(self, directory: Path) -> tuple[Path, str]:
        """The file that remembers a run, and the run's name in there."""
        split = directory.parents[1]
        shard = self.results / FOLDER / split.parent.name / f"{split.name}.json"
        return shard, f"{directory.parent.name}/{directory.name}"

    def _read(self, directory: Path) -> tuple[State, RunRecord | None]:
        shard, key = self._place(directory)
        runs = self._known(shard)
        kept = runs.get(key)
        if kept is not None:
            if self._holds(kept, directory):
                return "finished", kept.read()
            del runs[key]
            self._fresh[shard] = self._fresh.get(shard, 0) + 1
        return self._read_anew(directory, shard, key)

    def _known(self, shard: Path) -> dict[str, Remembered]:
        if shard not in self._shards:
            self._shards[shard] = _load(shard)
        return self._shards[shard]

    def _holds(self, kept: Remembered, directory: Path) -> bool:
        if _stamp(directory) != kept.directory:
            return False
        return not self.closely or _stamps(directory) == kept.files

    def _read_anew(self, directory: Path, shard: Path, key: str) -> tuple[State, RunRecord | None]:
        now = self._time()  # before anything is looked at: what is changed from here on is younger
        stamp, files = _stamp(directory), _stamps(directory)
        state = run_state(directory)
        if state != "finished":
            return state, None
        content = read_content(directory)
        record = record_of(directory, content)
        if stamp and all(max(one[2:]) < (now - SETTLED) * 1e9 for one in (stamp, *files) if one):
            self._shards[shard][key] = Remembered(stamp, files, content, record=record)
            self._fresh[shard] = self._fresh.get(shard, 0) + 1
        return state, record

    def _time(self) -> float:
        if self._now is None:
            self._now = file_system_time(self.results)
        return self._now


def folders_in(folder: Path) -> tuple[str, ...]:
    """The names of the folders in a folder, sorted; none where it is absent or no folder.

    Raises DiskError where it can't be read.
    """
    try:
        return patiently(lambda: _listing(folder))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise unreadable(folder, error) from error


def _listing(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir()))


def _stamp(path: Path) -> Stamp:
    """What tells a file from what it was before; () where it can't be looked at."""
    try:
        one = os.stat(path)
    except OSError:
        return ()
    return one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns


def _stamps(directory: Path) -> tuple[Stamp, ...]:
    return tuple(_stamp(directory / name) for name in FILES)


# On disk


def _to_text(runs: Mapping[str, Remembered]) -> str:
    """Runs as text, below a line with a digest of it. What many runs have in common stands once."""
    values: list[Any] = []
    numbers: dict[Any, int] = {}
    known: dict[int, int] = {}  # address of a list or mapping that several share → its number

    def number(value: Any) -> int:
        if id(value) in known:
            return known[id(value)]
        nested = isinstance(value, dict | list)
        key = json.dumps(value) if nested else (type(value), value)
        if key not in numbers:
            numbers[key] = len(values)
            values.append(value)
        if nested:
            known[id(value)] = numbers[key]
        return numbers[key]

    def parted(content: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: parted(value) if key in PARTED and isinstance(value, dict) else number(value)
            for key, value in content.items()
        }

    found = {
        key: [run.directory, run.files, parted(run.content), run.facts] for key, run in runs.items()
    }
    body = json.dumps({"values": values, "runs": found}, separators=(",", ":"))
    return f"{json.dumps(_head(body))}\n{body}\n"


PARTED = ("spec", "digests")  # parts of a record of which much, but not all, is equal in many runs


def _load(shard: Path) -> dict[str, Remembered]:
    """What a file remembers; nothing where it is absent, damaged or of another version."""
    try:
        head, _, body = shard.read_text(encoding="utf-8").partition("\n")
        whole = json.loads(head) == _head(body.removesuffix("\n"))
        return _from_json(json.loads(body)) if whole else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _from_json(content: Mapping[str, Any]) -> dict[str, Remembered]:
    values = content["values"]

    def whole(parts: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: whole(part) if isinstance(part, dict) else values[part]
            for key, part in parts.items()
        }

    return {
        key: Remembered(tuple(directory), tuple(map(tuple, files)), whole(parts), facts)
        for key, (directory, files, parts, facts) in content["runs"].items()
    }


def _head(body: str) -> dict[str, str]:
    return {"by": _made_by(), "sha256": hashlib.sha256(body.encode()).hexdigest()}


@cache
def _made_by() -> str:
    """The code that judges runs and reads their records: what other code found is not believed."""
    digest = hashlib.sha256(__version__.encode())
    for module in (__file__, records.__file__, states.__file__, whole.__file__):
        with suppress(OSError):  # without sources, as in an archive
            digest.update(Path(module).read_bytes())
    return digest.hexdigest()
