"""The finished runs under a results folder, sorted into what may be compared and averaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lmdbench.core.errors import Damaged, UserError
from lmdbench.core.words import count
from lmdbench.data.dataset import DATASETS
from lmdbench.evaluation.metrics import Facts
from lmdbench.runs.index import RunIndex
from lmdbench.runs.record import MOVED_ASIDE, RunRecord, RunSpec, read_record
from lmdbench.runs.whole import WEIGHTS, damage

# What a row may differ in from the others of its table; everything else keeps runs apart.
OF_A_ROW = ("method", "method_version", "settings", "ancestor", "seed", "refit")

LONGEST_VALUE = 40  # letters of a setting's value in a label; the report's methods have it whole

# What an import of predictions may leave unsaid: then it has the usual value, to stand in a table.
OF_THE_TRAINING = ("selection", "backbone", "weights", "tuning", "image_size", "precision")
NOT_STATED = "not stated"

# Part of the code → its name where rows differ in it
CODE_IN_WORDS = {
    "method": "code",
    "loop": "training code",
    "views": "code of views",
    "samplers": "code of samplers",
    "backbone": "code of backbone",
    "weights": "file of weights",
    "begun": "begun by code",
    "begun_store": "begun with images",
    "begun_ancestor": "begun from model",
}
# Of the same what another began → the words of a note
BEGUN_IN_WORDS = {
    "begun": "by other code",
    "begun_store": "with other images",
    "begun_ancestor": "from another model",
}


@dataclass(frozen=True)
class Run:
    """A finished run: its directory and its ``run.json``.

    ``folds``: the runs of a k-fold split that this one stands for, see ``folds.pool_folds``.
    ``above``, of a row's run: those that it started from, nearest first, as far as they are found.
    """

    directory: Path
    record: RunRecord
    folds: tuple[Run, ...] = ()
    above: tuple[Run, ...] = ()

    def __repr__(self) -> str:
        return f"Run({self.method}, seed {self.seed}, {self.id[:8]})"

    @property
    def members(self) -> tuple[Run, ...]:
        """The runs on disk: itself, or those of the folds."""
        return self.folds or (self,)

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def spec(self) -> RunSpec:
        return self.record.spec

    @property
    def method(self) -> str:
        return self.spec.method

    @property
    def seed(self) -> int:
        return self.spec.seed

    @property
    def predictions_from(self) -> str | None:
        """The file its predictions were imported from; None for a run that was trained here or
        came with its record."""
        return (self.record.imported.predictions or {}).get("from")

    @property
    def lacking(self) -> set[str]:
        """The parts that its imported predictions are not of."""
        imported = self.record.imported.predictions
        return {"validation", "test"} - set(imported["parts"]) if imported else set()

    @property
    def unstated(self) -> tuple[str, ...]:
        """What of its training nobody said, as it is of imported predictions."""
        imported = self.record.imported.predictions
        stated = imported.get("stated", ()) if imported else OF_THE_TRAINING
        return tuple(name for name in OF_THE_TRAINING if name not in stated)

    @property
    def classes(self) -> list[str]:
        return list(self.record.classes)

    @property
    def groups(self) -> dict[str, list[int]]:
        """Group → class indices."""
        index = {name: k for k, name in enumerate(self.record.classes)}
        return {
            group: [index[name] for name in names if name in index]
            for group, names in self.record.groups.items()
        }

    @property
    def facts(self) -> Facts:
        """What the data set said of its classes, or says by now where the run recorded nothing."""
        record, name = self.record, self.spec.dataset
        grades, costs = record.ordered_classes, record.costs
        if name in DATASETS:
            grades = grades or list(DATASETS[name].ordered_classes)
            costs = costs or DATASETS[name].costs
        return Facts(tuple(dict.fromkeys(grades or ())), costs or {})

    @cached_property
    def setting(self) -> dict[str, Any]:
        """What must be equal for two runs to stand in one table: name → value."""
        spec = {**asdict(self.spec), **self.record.others_of_spec}
        common = {key: value for key, value in spec.items() if key not in OF_A_ROW}
        split = common.pop("split")
        return {
            "results_name": self.record.results_name,
            "split_label": self.record.split_label,
            **common,
            **{f"split_{key}": value for key, value in split.items()},
            "store": self.record.digests.get("store"),  # the images' content
            "groups": self.record.groups,
            "synthetic": self.record.synthetic,
        }


@dataclass(frozen=True)
class Link:
    """One stage of the chain a run ends: a method with its settings.

    ``settings`` is None where that run is no longer to be found; ``usual`` says that a method
    starts there by itself, None that it is not recorded. ``anew``: only one that was trained again
    since is to be found, so its code is not that of the chain.
    """

    method: str
    version: int | None
    settings: Mapping[str, Any] | None
    changed: Mapping[str, Any]
    code: Mapping[str, str] = field(default_factory=dict)  # part → digest, of what is recorded
    usual: bool | None = None
    anew: bool = False


@dataclass(frozen=True)
class MethodRuns:
    """Runs that differ in nothing but the seed, by seed; ``chain`` from the method backwards."""

    label: str
    chain: tuple[Link, ...]
    runs: tuple[Run, ...]
    remarks: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        return self.chain[0].method

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    @property
    def shares_start(self) -> bool:
        """Whether several seeds started, at any stage, from the same run: then the spread over
        seeds leaves out the chance of that run's training, and nothing can be tested by it."""
        starts = [
            {stage.spec.ancestor for one in run.members for stage in (one, *one.above)} - {None}
            for run in self.runs
        ]
        return len(set[str | None]().union(*starts)) < sum(map(len, starts))


@dataclass(frozen=True)
class RunGroup:
    """Rows that may be compared: same images, same split, same backbone, same everything else."""

    setting: Mapping[str, Any]
    differs: tuple[str, ...]  # from the other groups of this data set and split, in words
    rows: tuple[MethodRuns, ...]
    remarks: tuple[str, ...] = ()

    @property
    def stated(self) -> dict[str, Any]:
        """The setting as it may be shown: ``NOT_STATED`` where nobody said it of any run."""
        return _stated(self.setting, [run for row in self.rows for run in row.runs])

    @property
    def record(self) -> RunRecord:
        """``run.json`` of one of the runs, for what is equal in all."""
        return self.rows[0].runs[0].record


@dataclass(frozen=True)
class Results:
    """What lies under a results folder."""

    folder: Path
    runs: tuple[Run, ...]
    unfinished: tuple[Path, ...]  # directories, relative to the folder
    unreadable: tuple[str, ...] = ()  # why a finished run can't be used
    left_out: Mapping[Path, str] = field(default_factory=dict)  # the same by directory, relative

    @property
    def by_id(self) -> dict[str, Run]:
        return {run.id: run for run in self.runs}


def read_results(folder: Path) -> Results:
    """Find all runs under a results folder and read the records of the finished ones.

    Directories moved aside are no runs. Runs that are damaged, and records of another format, are
    left out; where there are no others, the first of them raises UserError.
    """
    runs, unfinished = [], []
    left_out: dict[Path, str] = {}
    index = RunIndex(folder)
    for directory in index.directories():
        if MOVED_ASIDE in directory.name:
            continue
        try:
            record = index.finished(directory)
            if record is None and (directory / "done").exists():
                record = _of_whole_numbers(directory)
        except UserError as problem:
            left_out[directory.relative_to(folder)] = str(problem)
        except OSError as problem:
            why = f"{directory} cannot be read: {problem.strerror}"
            left_out[directory.relative_to(folder)] = why
        else:
            if record is not None:
                runs.append(Run(directory, record))
            else:
                unfinished.append(directory.relative_to(folder))
    index.save()
    unreadable = tuple(left_out.values())
    if unreadable and not runs:
        raise UserError(unreadable[0])
    return Results(folder, tuple(runs), tuple(unfinished), unreadable, left_out)


def _of_whole_numbers(directory: Path) -> RunRecord:
    """The record of a run that is done and damaged, if only its weights are: no number comes from
    them. Raises UserError."""
    why = damage(directory) if (directory / "run.json").exists() else ""
    if why and not why.startswith(tuple(str(directory / name) for name in WEIGHTS)):
        raise Damaged(f"{why}; lmdbench sweep retry, or lmdbench run, trains it anew")
    return read_record(directory)


def run_groups(results: Results, runs: Iterable[Run]) -> list[RunGroup]:
    """Sort runs into groups, and within a group into rows. ``results`` knows their ancestors."""
    by_id = results.by_id
    by_setting: dict[str, list[Run]] = {}
    for run in runs:
        by_setting.setdefault(_canonical(run.setting), []).append(run)
    by_setting = _of_known_files(by_setting)
    settings = [members[0].setting for members in by_setting.values()]
    shown = [_stated(members[0].setting, members) for members in by_setting.values()]
    groups = [
        RunGroup(setting, _differences(stated, shown), tuple(_rows(members, by_id)))
        for setting, stated, members in zip(settings, shown, by_setting.values(), strict=True)
    ]
    return sorted(groups, key=lambda group: (*_place(group.setting), group.differs))


def with_part(groups: Sequence[RunGroup], part: str) -> list[RunGroup]:
    """The groups without rows that have no predictions of a part, as imported ones may have none.

    A note says which. Raises UserError where nothing is left.
    """
    kept = []
    for group in groups:
        lacking = [row for row in group.rows if any(part in run.lacking for run in row.runs)]
        notes = (f"{row.label} is left out: it has no {part} predictions." for row in lacking)
        rows = tuple(row for row in group.rows if row not in lacking)
        if rows:
            kept.append(replace(group, rows=rows, remarks=(*group.remarks, *notes)))
    if groups and not kept:
        raise UserError(f"no run that is chosen has {part} predictions: all were imported without")
    return kept


def _of_known_files(by_setting: Mapping[str, list[Run]]) -> dict[str, list[Run]]:
    """The same with runs of which the content of the images is not known, as imported predictions,
    among those that agree in everything else, where these all had the same."""
    merged = {key: list(runs) for key, runs in by_setting.items()}
    for key, runs in by_setting.items():
        setting = runs[0].setting
        if setting["store"] is None:
            fitting = [
                other
                for other, (first, *_) in by_setting.items()
                if other != key and {**first.setting, "store": None} == setting
            ]
            if len(fitting) == 1:
                merged[fitting[0]] += merged.pop(key)
    return merged


def _stated(setting: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, Any]:
    silent = set.intersection(*(set(run.unstated) for run in runs))
    return {name: NOT_STATED if name in silent else value for name, value in setting.items()}


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _place(setting: Mapping[str, Any]) -> tuple[str, str]:
    return setting["results_name"], setting["split_label"]


def _differences(
    setting: Mapping[str, Any], others: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """What tells this setting from the others of the same data set and split label."""
    rivals = [other for other in others if _place(other) == _place(setting)]
    names = dict.fromkeys(name for rival in rivals for name in rival)
    return tuple(
        in_words(name, setting.get(name))
        for name in names
        if len({_canonical(rival.get(name)) for rival in rivals}) > 1
        and not (name == "tuning" and is_frozen(setting))
    )


def is_frozen(setting: Mapping[str, Any]) -> bool:
    """Whether nothing of the encoder is trained, as its name says, whatever the tuning."""
    return str(setting.get("backbone")).startswith("frozen")


def in_words(name: str, value: Any) -> str:
    """One part of a setting as a title or note says it."""
    if value == NOT_STATED:
        return f"{name.replace('_', ' ')} {value}"
    if name == "backbone":
        return str(value)
    if name == "image_size" and value == 0:
        return "features in place of images"
    if name == "weights":
        return f"weights {short_weights(str(value))}"
    if name == "split_fingerprint":
        return f"images {str(value)[:12]}"
    if name == "store":
        return f"files {str(value or 'unknown')[:12]}"
    if name == "groups":
        sizes = (f"{group} {len(names)}" for group, names in value.items())
        return f"groups of {', '.join(sizes)} classes"
    return f"{name.replace('_', ' ')} {value}"


def short_weights(identity: str) -> str:
    """``sha256:…`` cut to twelve digits; other identities as they are."""
    kind, colon, digest = identity.partition(":")
    return f"{kind}:{digest[:12]}" if colon else identity


# Rows


def _rows(runs: Sequence[Run], by_id: Mapping[str, Run]) -> list[MethodRuns]:
    by_chain: dict[str, list[Run]] = {}
    chains = {}
    for run in runs:
        chain = _chain(run, by_id)
        key = chain_key(chain)
        above = tuple(stage for stage, known in _stages(run, by_id) if known)[1:]
        by_chain.setdefault(key, []).append(replace(run, above=above))
        chains[key] = chain
    rows = []
    for key, members in by_chain.items():
        for together in _by_ancestry(members, by_id):
            chosen, notes = _one_a_seed(together)
            rows.append(_with_doubts(MethodRuns(_label(chains[key]), chains[key], chosen, notes)))
    return _told_apart(rows)


def _chain(run: Run, by_id: Mapping[str, Run]) -> tuple[Link, ...]:
    """The run's method and settings, then those of the run it started from, and so on.

    An ancestor given by hand may have other weights or another selection rule than the run: what
    is other counts as a setting of that stage.
    """
    links: list[Link] = []
    usual: bool | None = None
    for stage, known in _stages(run, by_id):
        other = {
            k: v for k, v in stage.setting.items() if k != "groups" and v != run.setting.get(k)
        }
        spec, ancestor = stage.spec, stage.record.ancestor
        links.append(
            Link(
                stage.method,
                spec.method_version,
                {**spec.settings, **other},
                {**stage.record.changed_settings, **other},
                stage.record.code if known else {},
                usual,
                anew=not known and not any(link.anew for link in links),
            )
        )
        usual = ancestor.usual if ancestor else None
    if ancestor:
        links.append(Link(ancestor.method, None, None, {}, usual=usual))
    return tuple(links)


def chain_key(chain: Sequence[Link]) -> str:
    """What two rows have in common that are the same methods with the same settings and code."""
    return _canonical(
        [[link.method, link.version, link.settings, link.code, link.anew] for link in chain]
    )


def _stages(run: Run, by_id: Mapping[str, Run]) -> Iterator[tuple[Run, bool]]:
    """A run, what it started from, and so on; with False for one that was trained anew since, and
    for what is behind that: of these no more is known than their ids promise."""
    stage: Run | None = run
    known = True
    while stage is not None:
        yield stage, known
        above = _at_ancestor(stage, by_id)
        fitting = next((one for one in above if _is_start(one, stage)), None)
        known = known and fitting is not None
        stage = fitting or next(iter(above), None)


def ancestor_of(run: Run, by_id: Mapping[str, Run] | None = None) -> Run | None:
    """What a run started from: among the known ones, beside it, where it lay then, or moved aside.

    None if it started from nothing, or that is gone or was trained anew since.
    """
    return next((one for one in _at_ancestor(run, by_id) if _is_start(one, run)), None)


def _at_ancestor(run: Run, by_id: Mapping[str, Run] | None) -> list[Run]:
    """What is found of the id that a run started from, those moved aside last."""
    ancestor = run.record.ancestor
    if not ancestor:
        return []
    found = [by_id[ancestor.id]] if by_id and ancestor.id in by_id else []
    if found and _is_start(found[0], run):
        return found
    there = Path(ancestor.directory or "/nowhere")
    name = f"seed*-{ancestor.id[:8]}*"
    beside = sorted(run.directory.parent.parent.glob(f"{ancestor.method}/{name}"))
    places = dict.fromkeys([*beside, there, *sorted(there.parent.glob(name))])
    for directory in sorted(places, key=lambda place: MOVED_ASIDE in place.name):
        with contextlib.suppress(UserError):  # what is damaged is as good as gone
            candidate = Run(directory, read_record(directory))
            found += [candidate] * (candidate.id == ancestor.id)
    return found


def _is_start(candidate: Run, run: Run) -> bool:
    """Whether a run of the right id has the model that another started from, where that is
    recorded."""
    return run.record.digests.get("ancestor") in (None, candidate.record.digests.get("model"))


def _by_ancestry(runs: Sequence[Run], by_id: Mapping[str, Run]) -> list[list[Run]]:
    """Runs that each started from a run of their own seed, and runs that share one, apart."""
    unshared, shared = [], dict[str, list[Run]]()
    for run in runs:
        ancestor = next(iter(_at_ancestor(run, by_id)), None)
        if ancestor is None or ancestor.seed == run.seed:
            unshared.append(run)
        else:
            shared.setdefault(ancestor.id, []).append(run)
    for id_, members in shared.items():
        members.extend(run for run in unshared if run.spec.ancestor == id_)
    if any(all(run in members for run in unshared) for members in shared.values()):
        unshared = []
    return [members for members in (unshared, *shared.values()) if members]


def _one_a_seed(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The runs by seed, and a note for each that is left out because a newer copy is there."""
    oldest_first = list(runs)
    if len({run.seed for run in runs}) < len(runs):
        oldest_first.sort(key=lambda run: (run.directory / "done").stat().st_mtime)
    chosen = {run.seed: run for run in oldest_first}
    notes = tuple(
        f"{run.directory.name} is left out for {chosen[run.seed].directory.name}, "
        "the same run finished later"
        for run in oldest_first
        if chosen[run.seed] is not run
    )
    return tuple(chosen[seed] for seed in sorted(chosen)), notes


def _with_doubts(row: MethodRuns) -> MethodRuns:
    """The row with notes on what its mean and deviation don't show."""
    notes = list(row.remarks)
    for k, link in enumerate(row.chain):
        if other := [words for part, words in BEGUN_IN_WORDS.items() if part in link.code]:
            who = f"the {link.method} run it started from" if k else "its training"
            notes.append(f"{who} was begun {' and '.join(other)} than it was finished")
        if link.settings is None:
            notes.append(
                f"the {link.method} run it started from is gone, so its settings are not checked"
            )
        if link.anew:
            notes.append(
                f"the {link.method} run it started from was trained anew since, so by which code "
                "it was trained before is not known"
            )
    notes += [
        f"seed {run.seed} started from {stage.method}/{stage.directory.name}, "
        "which was trained anew since"
        for run in row.runs
        for stage in run.above
        if MOVED_ASIDE in stage.directory.name
    ]
    imported = [run for run in row.runs if run.predictions_from]
    if imported:
        silent = {name for run in imported for name in run.unstated}
        words = [name.replace("_", " ") for name in OF_THE_TRAINING if name in silent]
        notes.append(
            "imported predictions: what they were trained with is as whoever imported them says"
            + (f"; {NOT_STATED}: {', '.join(words)}" if words else "")
        )
    if row.shares_start:
        method, runs = _shared_start(row)
        notes.append(
            f"{len(row.runs)} seeds start from {count(runs, f'{method} run')}, "
            "so deviation and intervals leave out the chance of that training"
        )
    return replace(row, remarks=tuple(notes))


def _shared_start(row: MethodRuns) -> tuple[str, int]:
    """The nearest stage that has fewer runs than the row has seeds: its method, and how many."""
    for k, link in enumerate(row.chain[1:]):
        chains = [(run, *run.above) for run in row.runs]
        starts = {chain[k].spec.ancestor for chain in chains if k < len(chain)}
        if len(starts) < len(row.runs):
            return link.method, len(starts)
    raise ValueError(f"{row.label}: its seeds share no run")


# Labels


def renamed(group: RunGroup, given: Mapping[Path, str]) -> RunGroup:
    """The group with rows named as somebody named their runs' directories, where that tells them
    apart; what the names leave out stands in a note."""
    names = [
        {given.get(m.directory) for run in row.runs for m in run.members} for row in group.rows
    ]
    counts = Counter(name for each in names for name in each)
    rows = []
    for row, each in zip(group.rows, names, strict=True):
        (name,) = each if len(each) == 1 else (None,)
        rows.append(replace(row, label=name) if name and counts[name] == 1 else row)
    note = _settings_note([row for row, old in zip(rows, group.rows, strict=True) if row != old])
    return replace(group, rows=tuple(rows), remarks=(*group.remarks, *note))


def _settings_note(rows: Sequence[MethodRuns]) -> list[str]:
    """The settings that were changed: what most rows share once, the others by row."""
    links = [link for row in rows for link in row.chain]
    usual = _shared(links)
    besides = []
    for row in rows:
        words = _label([replace(link, changed=_other_than(usual, link)) for link in row.chain])
        if words != row.label:
            besides.append(words if row.label == row.method else f"{row.label} is {words}")
    notes = []
    if usual:
        notes.append(
            f"Settings, where a method has them and nothing else is said: {_in_a_row(usual)}."
        )
    if besides:
        notes.append(f"{'Besides' if usual else 'Settings'}: {'; '.join(besides)}.")
    return notes


def _shared(links: Sequence[Link]) -> dict[str, Any]:
    """Settings that were changed in several methods, to what most stages have that know them."""
    shared = {}
    for name in dict.fromkeys(name for link in links for name in link.changed):
        changed = Counter(_canonical(link.changed[name]) for link in links if name in link.changed)
        value, times = changed.most_common(1)[0]
        methods = {link.method for link in links if _canonical(link.changed.get(name)) == value}
        having = sum(name in (link.settings or {}) for link in links)
        if len(methods) > 1 and 2 * times > having:
            shared[name] = json.loads(value)
    return shared


def _other_than(usual: Mapping[str, Any], link: Link) -> dict[str, Any]:
    """What a stage has other than the usual, and what it changed besides."""
    settings = link.settings or {}
    names = [name for name in usual if settings.get(name, usual[name]) != usual[name]]
    others = {name: value for name, value in link.changed.items() if name not in usual}
    return {name: settings[name] for name in names} | others


def label_of(run: Run, by_id: Mapping[str, Run], first: Collection[str] = ()) -> str:
    """The method with what was set, some settings ``first``, and what it started from where that is
    not the usual one."""
    stage, *above = _chain(run, by_id)
    changed = dict(sorted(stage.changed.items(), key=lambda setting: setting[0] not in first))
    return _label([replace(stage, changed=changed), *above])


def _label(chain: Sequence[Link]) -> str:
    """``method (changed=setting) ← ancestor (changed=setting)``; a usual ancestor goes unsaid."""
    words = []
    for k, link in enumerate(chain):
        if k and all(further.usual and not further.anew for further in chain[k:]):
            break
        facts = [_in_a_row(link.changed)] * bool(link.changed) + ["trained anew since"] * link.anew
        words.append(f"{link.method} ({', '.join(facts)})" if facts else link.method)
    return " ← ".join(words)


def _in_a_row(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={_brief(setting_text(v))}" for k, v in settings.items())


def _brief(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def setting_text(value: Any) -> str:
    """A setting's value as ``--set`` takes it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, list):
        return ",".join(setting_text(item) for item in value)
    return str(value)


def _told_apart(rows: Sequence[MethodRuns]) -> list[MethodRuns]:
    """Rows whose labels are equal get what differs between them added."""
    alike: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        alike.setdefault(row.label, []).append(number)
    result = list(rows)
    for label, numbers in alike.items():
        if len(numbers) == 1:
            continue
        facts = [_facts(rows[number]) for number in numbers]
        differing = [
            name
            for name in dict.fromkeys(name for fact in facts for name in fact)
            if len({fact.get(name) for fact in facts}) > 1
        ]
        for number, fact in zip(numbers, facts, strict=True):
            words = ", ".join(f"{name}={_digested(fact.get(name, '–'))}" for name in differing)
            result[number] = replace(rows[number], label=f"{label} [{words}]")
    return result


def _digested(text: str) -> str:
    """A long text as the beginning of it and of its SHA-256: others begin alike."""
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[: LONGEST_VALUE - 9]}…{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _facts(row: MethodRuns) -> dict[str, str]:
    """Everything a row is, flat: name → value."""
    facts: dict[str, str] = {}
    for k, link in enumerate(row.chain):
        prefix = f"{link.method}." if k else ""
        facts[f"{prefix}version"] = str(link.version)
        for part, digest in link.code.items():
            facts[prefix + CODE_IN_WORDS[part]] = digest[:8]
        for name, value in (link.settings or {}).items():
            facts[prefix + name] = setting_text(value)
    ancestors = {str(run.spec.ancestor) for run in row.runs}
    if len(row.chain) > 1 and len(ancestors) == 1:
        facts["from"] = ancestors.pop()[:8]
    return facts
