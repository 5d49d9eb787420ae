"""A whole search: its trials and its choices as sweeps, and the files that say what was tried."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lmdbench.core.errors import UserError
from lmdbench.core.files import disk_errors, write_text
from lmdbench.runs.request import Contexts, RunContext, RunRequest
from lmdbench.sweep.config.file import Entry, Sweep
from lmdbench.sweep.config.written import sweep_text
from lmdbench.sweep.launch_record import SWEEPS
from lmdbench.sweep.plan import Node, SweepPlan, make_plan
from lmdbench.sweep.tune.search import (
    Trial,
    Validation,
    get_rule,
    read_validation,
    searched,
    trials,
    validation_score,
)

if TYPE_CHECKING:
    from lmdbench.sweep.status import Overview


@dataclass(frozen=True)
class Search:
    """How to search. ``trials``: of each method, its own settings among them; ``seed``: of the
    draws; ``trial_seeds``: what each trial is trained with."""

    trials: int = 8
    rule: str = "best"
    trial_seeds: tuple[int, ...] = (0,)
    seed: int = 0

    def __str__(self) -> str:
        seeds = ",".join(map(str, self.trial_seeds))
        return f"{self.trials} trials, rule {self.rule}, trial seeds {seeds}, tune seed {self.seed}"

    @property
    def folder(self) -> str:
        seeds = "-".join(map(str, self.trial_seeds))
        return f"{self.rule}-trials{self.trials}-seeds{seeds}-tune{self.seed}"


@dataclass(frozen=True)
class SetupTrials:
    """The trials of one set-up: a tuple for each method of the file."""

    setup: RunContext
    dataset: str  # as in the results folder
    split: str
    slug: str  # data set and split, for names of files; unlike those of other places
    methods: tuple[tuple[Trial, ...], ...]
    plan: SweepPlan

    def runs(self, trial: Trial) -> list[Node]:
        """Those of a trial, one a seed."""
        return runs_of(self.plan, trial.tried)


@dataclass(frozen=True)
class Study:
    """A sweep's search in a results folder."""

    sweep: Sweep
    search: Search
    folder: Path
    places: tuple[SetupTrials, ...]
    plan: SweepPlan  # of all trials together, so that one pool works on all
    contexts: Contexts = field(repr=False)  # of every plan, so that tables are read once


Fate = Literal["done", "failed", "pending"]


@dataclass(frozen=True)
class Result:
    """What came of a trial: of each of its runs, and on the validation images if none failed.

    ``fates``, ``notes`` (why it failed) and ``scores`` go with ``runs``.
    """

    trial: Trial
    runs: tuple[Node, ...]
    fates: tuple[Fate, ...]
    notes: tuple[str, ...]
    scores: tuple[float | None, ...]  # balanced accuracy on the validation images
    validation: Validation | None

    @property
    def fate(self) -> Fate:
        """Of the whole: as soon as a run failed there is no use in waiting for the others."""
        return next((fate for fate in ("failed", "pending") if fate in self.fates), "done")


@dataclass(frozen=True)
class MethodTrials:
    """The trials of a method in a set-up and which one is used, None while that is open or where
    all failed."""

    results: tuple[Result, ...]
    chosen: int | None

    @property
    def entry(self) -> Entry:
        return self.results[0].trial.entry

    @property
    def used(self) -> Result | None:
        return None if self.chosen is None else self.results[self.chosen]

    @property
    def pending(self) -> bool:
        return any(result.fate == "pending" for result in self.results)


def plan_study(
    sweep: Sweep, search: Search, results: Path, cache: Path, say: Callable[[str], None]
) -> Study:
    """Draw and plan every trial. Raises UserError for what cannot be planned or chosen."""
    get_rule(search.rule)
    contexts = Contexts(results, cache, files=False, say=say)
    folder = results / SWEEPS / sweep.name / "tune" / search.folder
    places: list[SetupTrials] = []
    for setup in sweep.setups:
        slugs = [place.slug for place in places]
        places.append(_place(sweep, search, setup, contexts, folder, slugs))
    plan = joined([place.plan for place in places], f"{sweep.name}-trials", sweep.name)
    return Study(sweep, search, folder, tuple(places), plan, contexts)


def _place(
    sweep: Sweep,
    search: Search,
    setup: RunContext,
    contexts: Contexts,
    folder: Path,
    taken: Sequence[str],
) -> SetupTrials:
    prepared = contexts.of(setup).prepared
    dataset, split = prepared.dataset.results_name, prepared.split.label
    if not len(prepared.split.parts["validation"]):
        raise UserError(
            f"{dataset} {split}: no validation images, so there is nothing to choose by"
        )
    slug = re.sub(r"[^\w.-]", "-", f"{dataset}-{split}", flags=re.ASCII)
    if slug in taken:  # with another backbone, image size or the like
        slug += f"-{len(taken)}"
    methods = []
    for entry in sweep.entries:
        request = RunRequest(setup, entry.method, 0, entry.settings, entry.starts_from)
        defaults = request.plan(contexts.of(setup)).spec.settings
        drawn = trials(entry, defaults, search.trials - 1, search.seed)
        methods.append(tuple(drawn))
    tried = replace(
        sweep,
        name=f"{sweep.name}-trials-{slug}",
        source=str(folder / f"trials-{slug}.toml"),
        setups=(setup,),
        entries=_distinct(_labelled(trial) for row in methods for trial in row),
        seeds=search.trial_seeds,
    )
    plan = make_plan(tried, contexts)
    return SetupTrials(setup, dataset, split, slug, tuple(methods), plan)


def _labelled(trial: Trial) -> Entry:
    """A trial with a name that tells it from the others of its method."""
    entry = trial.tried
    return replace(entry, label=f"{entry.label or entry.method} trial {trial.number}")


def _same(a: Entry, b: Entry) -> bool:
    """Whether two entries come to the same runs."""
    return replace(a, label=None) == replace(b, label=None)


def _distinct(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Entries of different runs: a sweep file names each but once."""
    found: list[Entry] = []
    for entry in entries:
        if not any(_same(entry, other) for other in found):
            found.append(entry)
    return tuple(found)


def runs_of(plan: SweepPlan, entry: Entry) -> list[Node]:
    """The runs of an entry of a sweep that has one set-up, by seed."""
    found = [
        node for node in plan.nodes.values() if any(_same(entry, other) for _, other in node.asked)
    ]
    return sorted(found, key=lambda node: node.run.spec.seed)


# What came of it


def judge(
    study: Study, overview: Overview, *, accept_changed: bool = False
) -> list[list[MethodTrials]]:
    """For each place what each method's trials came to, and which is chosen.

    Nothing is chosen for a method before all of its trials are over. Raises UserError for trials
    made by code that has changed since, unless that is accepted.
    """
    rule = get_rule(study.search.rule)
    found = []
    for place in study.places:
        choices = []
        for row in place.methods:
            results = tuple(_result(place, trial, overview, accept_changed) for trial in row)
            tried = [result.validation for result in results]
            over = all(result.fate != "pending" for result in results)
            usable = over and any(one is not None for one in tried)
            choices.append(MethodTrials(results, rule(tried) if usable else None))
        found.append(choices)
    return found


def _result(place: SetupTrials, trial: Trial, overview: Overview, accept_changed: bool) -> Result:
    runs = tuple(place.runs(trial))
    told = [_fate(place.plan, overview, node, accept_changed) for node in runs]
    fates = tuple(fate for fate, _ in told)
    scores = tuple(
        validation_score(node.run.directory) if fate == "done" else None
        for node, fate in zip(runs, fates, strict=True)
    )
    directories = [node.run.directory for node in runs]
    validation = None if None in scores else read_validation(directories)
    return Result(trial, runs, fates, tuple(note for _, note in told), scores, validation)


def _fate(
    plan: SweepPlan, overview: Overview, node: Node, accept_changed: bool
) -> tuple[Fate, str]:
    """What became of a run, and why if it failed: also where what it starts from failed."""
    status = overview.runs[node.key]
    if status.state == "changed" and not accept_changed:
        raise UserError(
            f"{node.run.directory}: {status.note}; `lmdbench sweep launch "
            f"{plan.sweep.source} --redo-changed` trains it anew, --accept-changed trusts it"
        )
    if status.state == "damaged":
        raise UserError(
            f"{status.note}; `lmdbench run --method {node.run.spec.method} …` moves it aside and "
            "trains it anew"
        )
    if status.state in ("done", "changed"):
        return "done", ""
    if status.state == "failed":
        return "failed", status.note
    if status.state in ("missing", "lost") and node.needs is not None:
        above = plan.nodes[node.needs]
        if _fate(plan, overview, above, accept_changed=True)[0] == "failed":
            return "failed", f"{above.title} failed, which it starts from"
    return "pending", ""


def chosen_plans(study: Study, found: Sequence[Sequence[MethodTrials]]) -> list[SweepPlan]:
    """For each place its methods with what was chosen, planned for all seeds of the sweep.

    Methods of which every trial failed are left out.
    """
    plans = []
    for place, choices in zip(study.places, found, strict=True):
        chosen = replace(
            study.sweep,
            name=f"{study.sweep.name}-chosen-{place.slug}",
            source=str(study.folder / f"chosen-{place.slug}.toml"),
            setups=(place.setup,),
            entries=_distinct(c.used.trial.tried for c in choices if c.used is not None),
        )
        plans.append(make_plan(chosen, study.contexts))
    return plans


def joined(plans: Sequence[SweepPlan], name: str, owner: str) -> SweepPlan:
    """One plan of several, so that one pool works on all their runs; ``owner``: the sweep tuned."""
    nodes = sorted(
        (node for plan in plans for node in plan.nodes.values()), key=lambda node: node.job.depth
    )
    sweep = replace(plans[0].sweep, name=name)
    others = (owner, *(plan.sweep.name for plan in plans))
    return SweepPlan(sweep, plans[0].results, {node.key: node for node in nodes}, others)


# Files

# Of ``trials.csv``. ``settings``: those searched. ``state``: done, failed, pending. ``directory``:
# below the results folder. ``note``: why it failed.
COLUMNS = (
    *("data_set", "split", "method", "label", "trial", "seed", "settings", "state"),
    *("validation_balanced_accuracy", "chosen", "id", "directory", "note"),
)


def write_sweeps(study: Study) -> None:
    """Write the trials of each place as a sweep file. Raises UserError where it cannot."""
    with disk_errors(study.plan.results):
        study.folder.mkdir(parents=True, exist_ok=True)
    for place in study.places:
        comment = f"The trials of {study.sweep.source}: {study.search}."
        write_text(Path(place.plan.sweep.source), sweep_text(place.plan.sweep, comment))


def write_trials(study: Study, found: Sequence[Sequence[MethodTrials]]) -> Path:
    """Write ``trials.csv``, a row a run, beside the sweep files."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for place, choices in zip(study.places, found, strict=True):
        for choice in choices:
            for number, result in enumerate(choice.results):
                table.writerows(_rows(place, result, number == choice.chosen))
    path = study.folder / "trials.csv"
    write_text(path, text.getvalue())
    return path


def _rows(place: SetupTrials, result: Result, chosen: bool) -> list[dict[str, object]]:
    """The lines of a trial in ``trials.csv``."""
    trial = result.trial
    told = zip(result.runs, result.fates, result.scores, result.notes, strict=True)
    return [
        {
            "data_set": place.dataset,
            "split": place.split,
            "method": trial.entry.method,
            "label": trial.entry.label,
            "trial": trial.number,
            "seed": node.run.spec.seed,
            "settings": settings_text(result),
            "state": fate,
            "validation_balanced_accuracy": score,
            "chosen": "yes" if chosen else "no",
            "id": node.run.spec.id,
            "directory": node.key,
            "note": note,
        }
        for node, fate, score, note in told
    ]


def write_chosen(study: Study, sweep: Sweep) -> None:
    """Write the sweep file of a place's choices, at the path that is its source."""
    comment = (
        f"Chosen by validation balanced accuracy from the trials of {study.sweep.source}:\n"
        f"{study.search}. What was tried: trials.csv beside this file."
    )
    write_text(Path(sweep.source), sweep_text(sweep, comment))


def settings_text(result: Result) -> str:
    """The settings that were searched, as they were in a trial; empty where there are none."""
    used = result.runs[0].run.spec.settings
    return " ".join(f"{name}={used[name]}" for name in searched(result.trial.entry))
