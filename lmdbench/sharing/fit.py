"""Whether runs that passed all checks of an import are fit to be referred to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmdbench.comparison.results import MethodRuns, Results, Run, run_groups
from lmdbench.core.errors import UserError
from lmdbench.core.settings import recorded, resolve
from lmdbench.core.words import count, listed, some
from lmdbench.data.dataset import DATASETS
from lmdbench.evaluation.predictions import load_predictions
from lmdbench.models.backbone import split_name
from lmdbench.models.backbones import get_backbone, is_of_library
from lmdbench.models.tuning import parse_tuning
from lmdbench.runs.record import RunRecord, RunSpec
from lmdbench.runs.sources import PLUGINS
from lmdbench.training.method import METHODS
from lmdbench.training.optimisation import Optimisation

LEAST_SEEDS = 3


@dataclass
class Splits:
    """What the splits of a repository are called, and of which images each is.

    ``images``: what a split is called → its fingerprint. ``labels``: data set, and label without
    capitals → the label.
    """

    images: dict[tuple[str, ...], str] = field(default_factory=dict)
    labels: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, run: Run) -> None:
        record = run.record
        self.images.setdefault(_split_of(run), _fingerprint(run))
        place = (record.results_name, record.split_label.casefold())
        self.labels.setdefault(place, record.split_label)

    def problem(self, run: Run) -> str:
        """Why the split of a run can't stand beside those; empty if it can."""
        record, fingerprint = run.record, _fingerprint(run)
        place = (record.results_name, record.split_label.casefold())
        if (label := self.labels.get(place, record.split_label)) != record.split_label:
            return f"its split {record.split_label} is called {label} by the entries there"
        known = self.images.get(_split_of(run), fingerprint)
        if known != fingerprint:
            return (
                f"its split {record.split_label} is of other images than that of the entries there "
                f"(fingerprint {fingerprint[:12]}, not {known[:12]})"
            )
        return ""


def refuse_unfit(
    path: Path, source: str, keys: Collection[str], before: Results, now: Results
) -> None:
    """Raise UserError for the first run of these keys that is not fit to be referred to.

    ``source``: where the code is of methods that lmdbench does not have; else empty. ``before``:
    the results without it, ``now``: with it."""
    splits = Splits()
    for run in before.runs:
        splits.add(run)
    ids = {run.id for run in now.runs}
    for run in now.runs:
        if run.record.key in keys:
            problem = (
                _problem_of_data(run)
                or splits.problem(run)
                or _problem_of_method(run, source)
                or _problem_of_ancestor(run, ids)
                or _problem_of_images(run)
            )
            if problem:
                raise UserError(f"{path}: {run.record.key}: {problem}")
            splits.add(run)
    for group in run_groups(now, now.runs):
        for row in group.rows:
            own = {one.record.key for run in row.runs for one in run.members}
            if own & {*keys} and (problem := _problem_of_seeds(row, group.record)):
                raise UserError(f"{path}: {problem}")


def _fingerprint(run: Run) -> str:
    return str(run.spec.split["fingerprint"])


def _split_of(run: Run) -> tuple[str, ...]:
    """What a split is called; splits that are called alike must be of the same images."""
    split = {key: value for key, value in run.spec.split.items() if key != "fingerprint"}
    record = run.record
    partial = json.dumps(record.partial, sort_keys=True)
    return record.results_name, record.split_label, json.dumps(split, sort_keys=True), partial


# Each of these says why a run is not fit; empty if it is


def _problem_of_data(run: Run) -> str:
    spec, record = run.spec, run.record
    known = spec.dataset in DATASETS and spec.dataset != "folder"
    if not known and (spec.dataset == "folder" or not _has_plugins(run)):
        return (
            f"of {record.results_name}, images that nobody else has: only data sets of lmdbench or "
            "of a plug-in whose source comes along can be checked"
        )
    if known and record.results_name != spec.dataset:
        return f"its data set {spec.dataset} is called {record.results_name}"
    classes = DATASETS.get(spec.dataset).class_sizes if known else {}
    if classes and (strange := [name for name in record.classes if name not in classes]):
        return f"{spec.dataset} has no class {strange[0]!r}"
    return ""


def _problem_of_method(run: Run, source: str) -> str:
    spec = run.spec
    if run.predictions_from is not None:
        return "" if source else "imported predictions: say by --source where their code is"
    if spec.method not in METHODS:
        if not _has_plugins(run):
            return (
                f"{spec.method} is no method of lmdbench, and the archive lacks the source of its "
                "plug-in: export it without --without-plugins"
            )
    elif spec.method_version != METHODS[spec.method].version:
        return (
            f"trained by version {spec.method_version} of {spec.method}, which has version "
            f"{METHODS[spec.method].version} here: train it anew"
        )
    elif problem := _problem_of_settings(spec):
        return problem
    try:
        if str(parse_tuning(spec.tuning)) != spec.tuning:
            return f"its tuning {spec.tuning} is none that a run records"
        _, network = split_name(spec.backbone)
        if not (is_of_library(network) or _has_plugins(run)):
            get_backbone(spec.backbone)
    except UserError as error:
        return str(error)
    return ""


def _problem_of_settings(spec: RunSpec) -> str:
    """Whether they are what the method takes: no more, no fewer, each of its kind."""
    texts = {name: str(value) for name, value in spec.settings.items()}
    try:
        settings = recorded(resolve(spec.method, METHODS[spec.method].Settings, [], texts))
    except UserError as error:
        return str(error)
    if lacking := [name for name in settings if name not in spec.settings]:
        return f"its settings lack {lacking[0]} of {spec.method}"
    return ""


def _problem_of_ancestor(run: Run, ids: Collection[str]) -> str:
    above = run.record.ancestor
    if above is None or above.id in ids:
        return ""
    return (
        f"it starts from {above.method} {above.id[:8]}, which is neither in the archive nor in an "
        "entry: export it with what it starts from"
    )


def _problem_of_images(run: Run) -> str:
    counts, classes = run.record.class_counts, run.record.classes
    pairs = zip(classes, counts["train"], counts["test"], strict=True)
    if unseen := [name for name, trained, tested in pairs if tested and not trained]:
        return f"no training image of {listed(unseen)}, which its test images have"
    parts = load_predictions(run.directory / "predictions.npz")
    if "validation" in parts:
        both = np.intersect1d(parts["validation"].ids, parts["test"].ids)
        if len(both):
            return f"{count(len(both), 'test image')} in its validation set: {some(both, 2)}"
    return ""


def _problem_of_seeds(row: MethodRuns, record: RunRecord) -> str:
    """Why the seeds of a row tell nothing of chance; empty if they do."""
    named = f"{row.label} on {record.results_name}"
    if len(row.runs) < LEAST_SEEDS:
        return (
            f"{named} has {count(len(row.runs), 'seed')}; an entry needs {LEAST_SEEDS} of each "
            "row, with what they start from"
        )
    if not _is_trained(row.runs[0].members[0]):
        return ""
    seeds: dict[str, int] = {}
    for run in row.runs:
        for one in run.members:
            seed = seeds.setdefault(_logits(one), one.spec.seed)
            if seed != one.spec.seed:
                return (
                    f"{named}: seeds {seed} and {one.spec.seed} have the same predictions to the "
                    "bit, which no two trainings have"
                )
    return ""


def _is_trained(run: Run) -> bool:
    """Whether chance has a part in it. What is only computed of another run, as class means of
    frozen features, may come out alike in every seed."""
    name = run.spec.method
    return name not in METHODS or issubclass(METHODS[name].Settings, Optimisation)


def _logits(run: Run) -> str:
    """SHA-256 of a run's test logits, whatever order its images are in."""
    test = load_predictions(run.directory / "predictions.npz")["test"]
    return hashlib.sha256(test.logits[np.argsort(test.ids)].tobytes()).hexdigest()


def _has_plugins(run: Run) -> bool:
    return (run.directory / PLUGINS).is_dir()
