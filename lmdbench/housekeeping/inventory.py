"""Every run under a results folder: what it is, its state, its scores and its size."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from lmdbench.comparison.results import Run, label_of, setting_text, short_weights
from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.files import read_text, sha256_of
from lmdbench.core.registry import unknown
from lmdbench.core.words import pixels
from lmdbench.data.dataset import DATASETS, Dataset
from lmdbench.evaluation import metrics
from lmdbench.evaluation.metrics import scores
from lmdbench.runs.index import RunIndex
from lmdbench.runs.record import MOVED_ASIDE, AncestorRecord, RunRecord, read_record
from lmdbench.runs.state import PRUNED, State, last_error, run_state
from lmdbench.runs.whole import damage, saved_predictions


@dataclass(frozen=True)
class KeptRun:
    """A run directory, in whatever state it is.

    ``run``: with its record; None where there is none, or none that can be read. ``note``: why it
    failed, or why its record can't be read. ``label``: its method with what was set, and what it
    started from where that is not the usual.
    """

    key: str  # its directory below the results
    directory: Path
    state: State
    run: Run | None
    note: str
    label: str
    above: KeptRun | None = field(default=None, repr=False)  # what it started from, where it is
    index: RunIndex | None = field(default=None, repr=False, compare=False)  # that it was read by

    @property
    def data_set(self) -> str:
        return self.key.split("/")[0]

    @property
    def split(self) -> str:
        return self.key.split("/")[1]

    @property
    def method(self) -> str:
        return self.key.split("/")[2]

    @property
    def name(self) -> str:
        """Of its directory: ``seed0-1a2b3c4d``."""
        return self.directory.name

    @property
    def seed(self) -> int:
        return seed_of(self.name)

    @property
    def id(self) -> str:
        """All of it, or the 8 digits in the directory's name."""
        return self.run.id if self.run is not None else self.name.partition("-")[2]

    @property
    def settings(self) -> dict[str, Any]:
        """Its own by name and as METHOD.NAME, and those of what it started from as METHOD.NAME."""
        found: dict[str, Any] = {} if self.above is None else self.above.settings
        found = {key: value for key, value in found.items() if "." in key}
        own = self.run.spec.settings if self.run is not None else {}
        return {**found, **{f"{self.method}.{k}": v for k, v in own.items()}, **own}

    @property
    def ancestor(self) -> AncestorRecord | None:
        """What its record says of the run that it started from."""
        return self.run.record.ancestor if self.run is not None else None

    @property
    def imported_from(self) -> str | None:
        if self.run is None:
            return None
        archive = self.run.record.imported.archive or {}
        return archive.get("from") or self.run.predictions_from

    @property
    def kept_weights(self) -> str:
        """What it kept of its weights as it was finished: all, heads or none."""
        return (self.run.record.kept_weights if self.run is not None else None) or "all"

    @property
    def shares_encoder(self) -> bool:
        """Whether its heads need the weights of the run that it started from."""
        return self.run is not None and bool(self.run.record.digests.get("encoder"))

    @property
    def has_weights(self) -> bool:
        return (self.directory / "model.safetensors").exists()

    @property
    def is_pruned(self) -> bool:
        """Whether its weights were removed on purpose."""
        return (self.directory / PRUNED).exists()

    @property
    def setup(self) -> tuple[str, ...]:
        """Backbone, weights, image size, selection and precision, where they are not those that
        the data set's runs usually have."""
        if self.run is None:
            return ()
        spec = self.run.spec
        kind = DATASETS.get(spec.dataset) if spec.dataset in DATASETS else Dataset
        words = [spec.backbone] if spec.backbone != kind.backbone else []
        if spec.tuning != "full":
            words.append(f"tuning {spec.tuning}")
        weights = str(spec.weights)
        if weights.startswith("sha256:") or (weights == "none") != (kind.weights == "none"):
            words.append(f"weights {short_weights(weights)}")
        if spec.image_size != kind.image_size:
            words.append(pixels(spec.image_size))
        if spec.selection != "last":
            words.append(f"selection {spec.selection}")
        if spec.precision != "mixed":
            words.append(spec.precision)
        return tuple(words)

    @property
    def epoch(self) -> int | None:
        """The last one that its history has."""
        try:
            last = read_text(self.directory / "history.csv").split("\n")[-2]
            return int(last.partition(",")[0])
        except (OSError, ValueError, IndexError):
            return None

    @cached_property
    def when(self) -> float:
        """When it finished, or else when something was last done to it: seconds since 1970."""
        done = self.directory / "done"
        try:
            return (done if self.state == "finished" else self.directory).stat().st_mtime
        except OSError:  # it has gone meanwhile
            return time.time()

    @cached_property
    def size(self) -> int:
        """Bytes of its files."""
        return int(self._fact("size", lambda: disk_usage(self.directory)))

    @cached_property
    def scores(self) -> dict[str, float | None]:
        """Balanced accuracy on test images, and the recall of each group; {} where it has none,
        None for what is undefined."""
        if self.state != "finished" or self.run is None:
            return {}
        try:
            found: dict[str, float | None] = self._fact(f"scores {_scored_by()}", self._scores)
        except UserError:  # compare says so
            return {}
        return found

    def _scores(self) -> dict[str, float | None]:
        assert self.run is not None
        test = saved_predictions(self.directory, self.run.record, ["test"])["test"]
        names = ["balanced_accuracy", *self.run.groups]
        return scores(test.labels, test.logits, self.run.groups, names)

    def _fact(self, name: str, work_out: Callable[[], Any]) -> Any:
        """Something of its files, which is worked out once while a finished run stays as it is."""
        if self.index is None or self.state != "finished" or self.run is None:
            return work_out()
        return self.index.fact(self.directory, name, work_out)


@cache
def _scored_by() -> str:
    """The code of metrics, in 12 digits: what other code worked out is not taken."""
    files = sorted(Path(metrics.__file__).parent.glob("*.py"))
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()[:12]


def remember(runs: Sequence[KeptRun]) -> None:
    """Keep what was found out of runs for who lists them next, where that can be written."""
    for index in {id(run.index): run.index for run in runs}.values():
        if index is not None:
            index.save()


def seed_of(name: str) -> int:
    """The seed in the name of a run's directory; -1 where it says none."""
    found = re.match(r"seed(\d+)", name)
    return int(found[1]) if found else -1


def disk_usage(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what vanishes meanwhile counts as nothing.
    Links are not followed."""
    total = 0
    try:
        if not path.is_dir() or path.is_symlink():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += disk_usage(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        pass
    return total


def read_inventory(results: Path, *, moved_aside: bool = False) -> list[KeptRun]:
    """All runs under a results folder, by data set, split, method and seed; or the directories that
    were moved aside, which else are none. Reads records, but neither predictions nor sizes."""
    index = RunIndex(results)
    found = {
        directory.relative_to(results).as_posix(): (directory, *_read(index, directory))
        for directory in index.directories()
        if (MOVED_ASIDE in directory.name) == moved_aside
    }
    index.save()
    runs = {run.id: run for _, _, run, _ in found.values() if run is not None}
    places = {run.id: key for key, (_, _, run, _) in found.items() if run is not None}
    telling = _telling(runs.values())
    kept: dict[str, KeptRun] = {}

    def keep(key: str) -> KeptRun:
        if key not in kept:
            directory, state, run, note = found[key]
            folder = key.rpartition("/")[0]
            label = folder.rpartition("/")[2]
            if run is not None:
                label = label_of(run, runs, telling.get(folder, ()))
            origin = run and run.record.ancestor and run.record.ancestor.id
            above = keep(places[origin]) if origin in places else None
            kept[key] = KeptRun(key, directory, state, run, note, label, above, index)
        return kept[key]

    return _told_apart(sorted(map(keep, found), key=_place))


def _read(index: RunIndex, directory: Path) -> tuple[State, Run | None, str]:
    """The state of a run directory, its run as far as it can be read, and a note."""
    run, note = None, ""
    state: State = "missing"
    try:
        state, record = _state(index, directory)
        note = last_error(directory) if state == "failed" else ""
        if state == "damaged":
            note = damage(directory).removeprefix(f"{directory}/")
        if record is None and (directory / "run.json").exists():
            record = read_record(directory)
        run = None if record is None else Run(directory, record)
    except UserError as problem:
        note = str(problem).removeprefix(f"{directory}/")
        if isinstance(problem, Damaged) and state == "finished":
            state = "damaged"
    except OSError as problem:  # a directory of somebody else's
        note = f"cannot be read: {problem.strerror}"
    return state, run, note


def _state(index: RunIndex, directory: Path) -> tuple[State, RunRecord | None]:
    try:
        return index.read(directory)
    except UserError:  # of its record, unless it is raised again
        return run_state(directory), None


def _told_apart(runs: Sequence[KeptRun]) -> list[KeptRun]:
    """Runs of one place and seed whose labels are equal get the settings that differ added."""
    alike: dict[tuple[Any, ...], list[KeptRun]] = {}
    for run in runs:
        alike.setdefault((*_place(run)[:4], run.setup, run.label), []).append(run)
    words: dict[str, str] = {}
    for twins in (runs for runs in alike.values() if len(runs) > 1):
        several = [_facts(run) for run in twins]
        names = dict.fromkeys(name for facts in several for name in facts)
        for run, facts in zip(twins, several, strict=True):
            differing = [
                f"{name}={facts.get(name, '–')}"
                for name in names
                if any(other.get(name) != facts.get(name) for other in several)
            ]
            words[run.key] = f" [{', '.join(differing)}]" if differing else ""
    return [replace(run, label=run.label + words.get(run.key, "")) for run in runs]


def _facts(run: KeptRun) -> dict[str, str]:
    """Its settings and its method's version; settings of what it started from as METHOD.NAME."""
    found = {
        name: setting_text(value)
        for name, value in run.settings.items()
        if not name.startswith(f"{run.method}.")
    }
    return found | ({"version": str(run.run.spec.method_version)} if run.run is not None else {})


def _telling(runs: Iterable[Run]) -> dict[str, set[str]]:
    """Data set, split and method, as in a key → the settings that were not changed alike in all of
    its runs: a label that is cut short should begin with these."""
    changes: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        folder = run.record.key.rpartition("/")[0]
        changes.setdefault(folder, []).append(run.record.changed_settings)
    return {
        folder: {
            name
            for changed in several
            for name in changed
            if any(other.get(name) != changed[name] for other in several)
        }
        for folder, several in changes.items()
    }


def _place(run: KeptRun) -> tuple[str, str, str, int, str]:
    return run.data_set, run.split, run.method, run.seed, run.name


# Choosing


@dataclass(frozen=True)
class Filters:
    """Which runs are meant; empty ones mean all. ``settings``: name → text, as ``--set`` takes
    them, of the method or of METHOD.NAME in its chain. ``other_code``: only runs that it says
    something of, as ``code.changed_code`` does."""

    datasets: Sequence[str] = ()
    methods: Sequence[str] = ()
    splits: Sequence[str] = ()
    seeds: Sequence[int] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    unfinished: bool = False
    failed: bool = False
    other_code: Callable[[KeptRun], str] | None = None

    @property
    def chooses(self) -> bool:
        """Whether any of them leaves out anything."""
        return self != Filters()

    def fit(self, run: KeptRun) -> bool:
        """Whether a run is meant."""
        settings = run.settings if self.settings else {}
        return (
            (not self.datasets or not _data_sets(run).isdisjoint(self.datasets))
            and (not self.splits or run.split in self.splits)
            and (not self.methods or run.method in self.methods)
            and (not self.seeds or run.seed in self.seeds)
            and all(k in settings and _is(settings[k], text) for k, text in self.settings.items())
            and (not self.unfinished or run.state != "finished")
            and (not self.failed or run.state == "failed")
            and (self.other_code is None or bool(self.other_code(run)))
        )


def choose(runs: Sequence[KeptRun], filters: Filters) -> list[KeptRun]:
    """The runs that are meant. Raises UserError, with near matches, for a name that none has, and
    where no run is left."""
    wanted: tuple[tuple[str, Iterable[str], Callable[[KeptRun], Iterable[str]]], ...] = (
        ("data set", filters.datasets, _data_sets),
        ("split", filters.splits, lambda run: (run.split,)),
        ("method", filters.methods, lambda run: (run.method,)),
        ("setting", filters.settings, lambda run: run.settings),
    )
    for kind, names, names_of in wanted:
        known = sorted({name for run in runs for name in names_of(run)}) if names else []
        for name in names:
            if name not in known:
                raise unknown(f"{kind} (of the runs that are here)", name, known)
    chosen = [run for run in runs if filters.fit(run)]
    if chosen:
        return chosen
    fitting = [run.settings for run in runs if replace(filters, settings={}).fit(run)]
    for name, text in filters.settings.items():
        values = [settings[name] for settings in fitting if name in settings]
        if values and not any(_is(value, text) for value in values):
            there = ", ".join(sorted(set(map(setting_text, values))))
            raise UserError(f"no run has {name}={text}; there are {there}")
    raise UserError("no run fits all of what was asked for; leave something out")


def _data_sets(run: KeptRun) -> set[str]:
    return {run.data_set} | ({str(run.run.spec.dataset)} if run.run is not None else set())


def _is(value: Any, text: str) -> bool:
    """Whether a setting has the value that is written so."""
    if text.strip().lower() == setting_text(value).lower():
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return float(text) == value
    except ValueError:
        return False
