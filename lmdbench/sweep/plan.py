"""Every run of a sweep, and those that they start from, in order of dependency."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lmdbench.comparison.results import in_words, is_frozen
from lmdbench.core.errors import DiskError, UserError
from lmdbench.core.folders import default_cache
from lmdbench.data.reading import read_remarks
from lmdbench.runs.code_digest import combined
from lmdbench.runs.plan import PlannedRun
from lmdbench.runs.record import RunSpec
from lmdbench.runs.request import Contexts, RunContext, RunRequest
from lmdbench.sweep.config.file import Entry, Sweep, read_sweep
from lmdbench.sweep.executors.jobs import RunJob
from lmdbench.sweep.launch_record import SWEEPS

# What set-ups on one data set and split may differ in, the most telling first
OF_A_SETUP = ("backbone", "tuning", "weights", "image_size", "selection", "precision")


@dataclass(frozen=True)
class Node:
    """A run of a sweep. ``needs``: key of the run it starts from; None: of none, or a given one.

    ``asked``: the set-ups and entries that name it; empty where it is only started from.
    ``setup``: what tells its set-up from others on the same data set and split, in words.
    """

    job: RunJob
    run: PlannedRun
    needs: str | None
    asked: tuple[tuple[RunContext, Entry], ...] = ()
    setup: str = ""

    @property
    def key(self) -> str:
        return self.job.key

    @property
    def label(self) -> str:
        """The user's own name for it, else the method's."""
        labels = dict.fromkeys(entry.label or entry.method for _, entry in self.asked)
        return ", ".join(labels) or self.run.spec.method

    @property
    def place(self) -> str:
        """Data set and split, as in its directory."""
        return self.key.rsplit("/", 2)[0]

    @property
    def where(self) -> str:
        """Data set and split, and the set-up where there are several."""
        return f"{self.place} ({self.setup})" if self.setup else self.place

    @property
    def title(self) -> str:
        return f"{self.label} seed {self.run.spec.seed} on {self.where}"


@dataclass(frozen=True)
class SweepPlan:
    """The runs of a sweep by key, each after the one it needs."""

    sweep: Sweep
    results: Path
    nodes: Mapping[str, Node]
    belongs_to: tuple[str, ...] = ()  # names of other sweeps, whose ``cancel`` stops it as well

    @property
    def folder(self) -> Path:
        """Where the sweep keeps what it launched, and its logs."""
        return self.results / SWEEPS / self.sweep.name

    @cached_property
    def dependants(self) -> Mapping[str, tuple[Node, ...]]:
        """Key → the runs that start from it."""
        found: dict[str, list[Node]] = {key: [] for key in self.nodes}
        for node in self.nodes.values():
            if node.needs is not None:
                found[node.needs].append(node)
        return {key: tuple(nodes) for key, nodes in found.items()}

    @property
    def remarks(self) -> list[str]:
        """What the data sets of its runs remark of their tables, each once, and what of the file
        has no part in it."""
        datasets = [node.run.context.prepared.dataset for node in self.nodes.values()]
        told = (f"{data.results_name}: {line}" for data in datasets for line in read_remarks(data))
        return [*dict.fromkeys(told), *self.sweep.resources.remarks]

    @property
    def shared(self) -> list[Node]:
        """The runs that several others start from, or that are asked for and started from."""
        return [
            node
            for node in self.nodes.values()
            if len(self.dependants[node.key]) + bool(node.asked) > 1
        ]

    def times_needed(self, node: Node) -> int:
        """How often it would be trained if every run that is asked for trained its own chain."""
        return bool(node.asked) + sum(map(self.times_needed, self.dependants[node.key]))


def load_plan(
    source: str, results: Path, data_root: Path | None, say: Callable[[str], None] = lambda _: None
) -> SweepPlan:
    """Read and plan a sweep, by its file or a preset's name. Raises UserError for what is wrong."""
    sweep = read_sweep(source, data_root and data_root.absolute())
    # Workers elsewhere must find the same folders, wherever they are started.
    folders = results.absolute(), default_cache().absolute()
    return make_plan(sweep, Contexts(*folders, files=False, say=say))


def make_plan(sweep: Sweep, contexts: Contexts) -> SweepPlan:
    """Plan a sweep from tables alone: no image, no GPU and no network is needed.

    All runs of the first seed come first, so that a whole table is there early. Plans that share
    ``contexts`` read the tables once. Raises UserError for what cannot be planned.
    """
    results = contexts.results
    found: dict[str, Node] = {}
    codes: dict[tuple[str, str], str] = {}  # method and backbone → digest of the code
    for setup, entry, request in _requests(sweep):
        needs = None
        chain = _chain(sweep, setup, entry, request, contexts)
        for depth, run in enumerate(chain):
            if run.given:
                continue
            key = run.directory.relative_to(results).as_posix()
            what = run.spec.method, run.spec.backbone
            if what not in codes:
                codes[what] = combined(run.code)
            node = found.get(key)
            if node is None:
                job = RunJob(key, run.spec.id, codes[what], request, depth)
                node = found[key] = Node(job, run, needs)
            if depth == len(chain) - 1 and (setup, entry) not in node.asked:
                asked = (*node.asked, (setup, entry))
                found[key] = replace(node, asked=asked)
            needs = key
    for key in {node.needs for node in found.values() if node.needs is not None}:
        node = found[key]
        found[key] = replace(node, job=replace(node.job, starts_others=True))
    return SweepPlan(sweep, results, _told_apart(found))


def _told_apart(nodes: Mapping[str, Node]) -> dict[str, Node]:
    """The runs, each with the words that tell its set-up from others in the same place."""
    by_place: dict[str, list[RunSpec]] = {}
    for node in nodes.values():
        by_place.setdefault(node.place, []).append(node.run.spec)
    telling = {place: _telling(specs) for place, specs in by_place.items()}
    return {
        key: replace(node, setup=_setup(node.run.spec, telling[node.place]))
        for key, node in nodes.items()
    }


def _telling(specs: Collection[RunSpec]) -> list[str]:
    """As few of ``OF_A_SETUP`` as tell all set-ups apart."""
    chosen: list[str] = []
    told = 1
    for name in OF_A_SETUP:
        found = len({tuple(getattr(spec, one) for one in (*chosen, name)) for spec in specs})
        if found > told:
            chosen.append(name)
            told = found
    return chosen


def _setup(spec: RunSpec, names: Collection[str]) -> str:
    values = {name: getattr(spec, name) for name in names}
    if is_frozen({"backbone": spec.backbone}):
        values.pop("tuning", None)
    return ", ".join(in_words(name, value) for name, value in values.items())


def _chain(
    sweep: Sweep, setup: RunContext, entry: Entry, request: RunRequest, contexts: Contexts
) -> list[PlannedRun]:
    """The planned chain of a request; what only tables can tell is told with the file's line."""
    place = sweep.places.get(setup, sweep.source)
    try:
        context = contexts.of(setup)
        place = entry.place or sweep.source
        return request.plan(context).chain
    except DiskError:
        raise
    except UserError as error:
        raise UserError(f"{place}: {error}") from None


def _requests(sweep: Sweep) -> Iterator[tuple[RunContext, Entry, RunRequest]]:
    for seed in sweep.seeds:
        for setup in sweep.setups:
            for entry in sweep.entries:
                request = RunRequest(setup, entry.method, seed, entry.settings, entry.starts_from)
                yield setup, entry, request
