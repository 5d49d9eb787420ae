"""Methods × metrics: the numbers of a comparison, from saved predictions, and its notes."""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmdbench.comparison import frames, scoring
from lmdbench.comparison.divided import Divided, Further, ScoreSample
from lmdbench.comparison.folds import pool_folds, pooled_label
from lmdbench.comparison.notes import notes_of
from lmdbench.comparison.outcomes import DamagedRun, calibrators, predictions_of
from lmdbench.comparison.published import published_for
from lmdbench.comparison.ranking import rank
from lmdbench.comparison.results import (
    MethodRuns,
    Results,
    Run,
    RunGroup,
    renamed,
    run_groups,
    with_part,
)
from lmdbench.comparison.samples import EVERYTHING, Sample
from lmdbench.comparison.scoring import LeaksOf, RowScores, ScoredImages
from lmdbench.comparison.stability import rank_stability
from lmdbench.comparison.types import Cell, MethodResult, Pair, Ranks, ResultTable
from lmdbench.comparison.versions import versions_of_row
from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.data.groups import parse_groups
from lmdbench.data.splits.spec import training_counts
from lmdbench.evaluation import inference, metrics
from lmdbench.evaluation.differences import LEVEL, Difference, Gap, corrected_for
from lmdbench.evaluation.metrics import Metric
from lmdbench.evaluation.moderation import RowSeeds, SeedVariance, moderated
from lmdbench.evaluation.recalibration import Calibration, ValidationFit

if TYPE_CHECKING:
    from pandas import DataFrame

PARTS = ("test", "validation")
BASELINE = "ce"  # the method whose rows come first
NOT_THERE = "this data set has no such class or group"

REFERENCE = "lmd"  # what the others are compared with, unless said otherwise
MARGIN = 1.0  # points: within it two methods are practically equal, unless said otherwise
SEED = 0  # of the generator behind permutations


@dataclass(frozen=True)
class Comparison:
    """All tables, and how many runs under the results folder are not finished."""

    results: Results
    part: str
    tables: tuple[ResultTable, ...]
    unfinished: int
    ranks: Ranks | None = None
    not_dropped: tuple[str, ...] = ()  # why tables have no second one without leaked images
    not_divided: tuple[str, ...] = ()  # why tables have none of lesions or patients, or subgroups

    def __repr__(self) -> str:
        return "\n".join([f"Comparison of {len(self.tables)} tables", *map(repr, self.tables)])

    def frame(self) -> DataFrame:
        """A row for each table, method and metric, in full precision; see ``frames.scores``."""
        return frames.scores(self.tables)

    def images(self) -> DataFrame:
        """A row for each table, run and image; see ``frames.images``."""
        return frames.images(self.tables)


def compare(
    results: Results,
    *,
    datasets: Sequence[str] = (),
    methods: Sequence[str] = (),
    splits: Sequence[str] = (),
    names: Sequence[str] = (),
    part: str = "test",
    pooled: bool = True,
    leaked: LeaksOf | None = None,
    groups: str | None = None,
    sweep: Mapping[str, str] | None = None,
    reference: str = REFERENCE,
    per_class: str | bool = "",
    pairwise: bool = False,
    stability: bool = False,
    published: bool = False,
    permutation: bool = False,
    margin: float = MARGIN,
    further: Further | None = None,
    simultaneous: bool = False,
    calibration: Calibration | None = None,
    check: Callable[[Sequence[RunGroup]], None] | None = None,
) -> Comparison:
    """Score the finished runs and sort them into tables.

    Empty selections mean everything. ``names`` of metrics, as ``metrics.parse`` takes them; by
    default the usual metrics and every group. The first is the primary one, which is tested against
    ``reference``, a row's label or a method. ``per_class``: a statistic of each class, True for the
    recall. ``pairwise`` tests all pairs of rows; ``stability`` tells how stable each table's
    ranking is; ``permutation`` adds the p over images; ``published`` sets papers' numbers beside.
    ``margin``, in points: within it methods are practically equal. ``simultaneous``: intervals of
    the tested differences hold together, as the corrected p does. ``pooled`` makes one table of
    the folds of a k-fold split. ``leaked`` tells the test images of a run that leak: where there
    are any, a second table leaves them out; where it can't tell for some tables, a note says so.
    ``groups``: head, medium and tail by another rule, as ``parse_groups`` takes it. ``sweep``: only
    runs in these directories, relative to the results, each with the name that its row goes by.
    ``further``: scores of lesions or patients, and of subgroups. ``calibration``: what is done to
    the logits of every run. ``check``: given what would be scored, before it is; may raise
    UserError.

    Raises UserError where nothing is left, with near matches for a name that no result has.
    """
    if leaked is not None and part != "test":
        raise UserError("--drop-leaked is for test images; leave --part out")
    if not 0 < margin <= 100:
        raise UserError(f"--margin {margin:g}: give points, above 0 and at most 100, such as 1")
    if not results.runs:
        raise UserError(nothing(results))
    given = {results.folder / key: name for key, name in (sweep or {}).items()}
    chosen = _chosen(results, datasets, methods, splits, groups, None if sweep is None else given)
    comparable = _comparable(results, chosen, part, pooled, given)
    if calibration is not None:
        _check_calibration(calibration, comparable, part)
    if check is not None:
        check(comparable)
    columns = _columns(names, comparable)
    reference = _meant_reference(reference, comparable)
    stat = "recall" if per_class is True else per_class or ""
    stat = metrics.class_stat(stat)[0] if stat else ""
    options = TableOptions(
        part,
        columns,
        reference,
        stat,
        pairwise,
        published,
        permutation,
        margin,
        simultaneous,
        calibration,
    )
    unfinished = [
        path
        for path in results.unfinished
        if (not datasets or path.parts[0] in {run.record.results_name for run in chosen})
        and (not splits or path.parts[1] in splits)
        and (not methods or path.parts[2] in methods)
        and (sweep is None or results.folder / path in given)
    ]
    scored = []
    problems: list[UserError] = []
    left_out = {
        results.folder / path: why
        for path, why in results.left_out.items()
        if _is_asked(path, results, datasets, methods, splits, sweep)
    }
    damaged: list[UserError] = []
    divided = Divided(further, part, columns)
    divided.check(comparable)
    for found in comparable:
        whole = _whole(found, options, damaged)
        if whole is None:
            continue
        group, full = whole
        full = _with_left_out(full, left_out)
        tables = [full]
        if leaked is not None:
            tables = _with_clean(group, full, options, leaked, problems)
        for table in tables:
            of_table = leaked if table.dropped is not None else None
            scored += divided.tables(table, _scorer(group, options, of_table))
    if damaged and not scored:
        raise damaged[0]
    if problems and len(problems) == len(comparable):
        raise problems[0]
    if stability:
        scored = [_with_stability(table) for table in scored]
    return Comparison(
        results,
        part,
        tuple(replace(table, notes=tuple(notes_of(table))) for table in scored),
        len(unfinished),
        rank(scored),
        tuple(dict.fromkeys(map(str, problems))),
        tuple(divided.told),
    )


def _with_clean(
    group: RunGroup,
    full: ResultTable,
    options: TableOptions,
    leaked: LeaksOf,
    problems: list[UserError],
) -> list[ResultTable]:
    """The table, and that without the images that leak, if there are any. What can't be told is
    added to ``problems``."""
    try:
        clean = _scored(group, options, leaked)
    except UserError as problem:
        problems.append(problem)
        note = "No table without leaked test images: this split has no audit that can be used."
        return [_noted(full, note)]
    if not clean.dropped:  # a second table would be the same
        note = f"No test image leaks, by its {clean.dropped_by}{_limits(group, leaked)}."
        return [_noted(full, note)]
    return [full, replace(clean, remarks=full.remarks)]


def _scorer(group: RunGroup, options: TableOptions, leaked: LeaksOf | None) -> ScoreSample:
    """What scores another sample of a group's images."""

    def score(sample: Sample, *, subgroup: str = "") -> ResultTable:
        asked = options
        if subgroup:
            asked = replace(
                options, per_class="", pairwise=False, permutation=False, published=False
            )
        return replace(_scored(group, asked, leaked, sample), subgroup=subgroup)

    return score


def _is_asked(
    path: Path,
    results: Results,
    datasets: Sequence[str],
    methods: Sequence[str],
    splits: Sequence[str],
    sweep: Mapping[str, str] | None,
) -> bool:
    """Whether a run of which no more is known than its directory is among those chosen."""
    asked = {run.record.results_name for run in results.runs if run.spec.dataset in datasets}
    return (
        (not datasets or path.parts[0] in (*datasets, *asked))
        and (not splits or path.parts[1] in splits)
        and (not methods or path.parts[2] in methods)
        and (sweep is None or path.as_posix() in sweep)
    )


def _whole(
    group: RunGroup, options: TableOptions, damaged: list[UserError]
) -> tuple[RunGroup, ResultTable] | None:
    """A group without its damaged runs, which are noted, and its table; None if nothing is left.
    What is damaged is added to ``damaged``."""
    while group.rows:
        try:
            return group, _scored(group, options)
        except DamagedRun as problem:
            damaged.append(problem)
            group = _without(group, problem)
    return None


def _without(group: RunGroup, problem: DamagedRun) -> RunGroup:
    rows = []
    for row in group.rows:
        kept = tuple(
            run
            for run in row.runs
            if problem.directory not in {member.directory for member in run.members}
        )
        rows += [replace(row, runs=kept)] if kept else []
    note = f"{_name(problem.directory)} is left out: {problem}"
    return replace(group, rows=tuple(rows), remarks=(*group.remarks, note))


def _name(directory: Path) -> str:
    return f"{directory.parent.name} {directory.name}"


def _with_left_out(table: ResultTable, left_out: Mapping[Path, str]) -> ResultTable:
    """The table with a note for each damaged run of its data set and split."""
    place = table.setting["results_name"], table.setting["split_label"]
    for directory, why in left_out.items():
        if directory.parts[-4:-2] == place:
            table = _noted(table, f"{_name(directory)} is left out: {why}")
    return table


def _noted(scored: ResultTable, note: str) -> ResultTable:
    return replace(scored, remarks=(*scored.remarks, note))


def _with_stability(table: ResultTable) -> ResultTable:
    try:
        return replace(table, stability=rank_stability(table))
    except UserError as problem:  # too few rows that can be ranked
        return _noted(table, f"No stability of the ranking: {problem}.")


def _limits(group: RunGroup, leaked: LeaksOf) -> str:
    """What was not looked at for a group's leaks, in words; empty if all was."""
    unseen = dict.fromkeys(word for run in _members(group) for word in leaked(run).unseen)
    return f", as far as was looked: {', '.join(unseen)}" if unseen else ""


def _dropped_by(group: RunGroup, leaked: LeaksOf) -> str:
    """What tells the leaks of a group's runs: audit, or tables if only these do for some."""
    return "tables" if any(leaked(run).by == "tables" for run in _members(group)) else "audit"


def _members(group: RunGroup) -> list[Run]:
    return [member for row in group.rows for run in row.runs for member in run.members]


def _regrouped(run: Run, text: str) -> Run:
    """The run with other groups in its record."""
    parts = {part: np.asarray(n) for part, n in run.record.class_counts.items()}
    counts = training_counts(parts, run.spec.split.get("folds"))
    where = f"--groups for {run.record.results_name}"
    groups = parse_groups(text, run.record.classes, counts, where)
    members = {group: list(labels) for group, labels in groups.members.items()}
    record = replace(run.record, groups=members, group_rule=groups.rule)
    return Run(run.directory, record)


def _check_calibration(calibration: Calibration, groups: Sequence[RunGroup], part: str) -> None:
    """Raise UserError where some run can't be calibrated: a table has either all of its rows
    calibrated or none."""
    if part != "test":
        raise UserError(
            "--calibrate and --prior go by the validation images, so scores on these would say "
            "nothing; leave --part out"
        )
    for group in groups:
        for member in _members(group):
            if not sum(member.record.class_counts.get("validation", ())):
                raise UserError(
                    f"{member.directory} has no predictions of validation images, which "
                    "--calibrate and --prior go by: leave it out by --method, --split or "
                    "--dataset, or compare without these"
                )
        run = group.rows[0].runs[0]
        tested = run.record.class_counts["test"]
        try:
            for member in run.members:
                calibration.shift(run.classes, {**member.record.class_counts, "test": tested})
        except UserError as error:
            raise UserError(f"{run.record.results_name}: {error}") from None


# Choosing


def nothing(results: Results) -> str:
    """Why there are no finished runs, and what to do."""
    if results.folder.is_file():
        where = f"{results.folder} is a file, no results folder"
    elif not results.folder.is_dir():
        where = f"no results folder {results.folder}"
    else:
        where = f"no finished runs under {results.folder}"
        if results.unfinished:
            some = "; ".join(str(path) for path in results.unfinished[:3])
            more = "; …" if len(results.unfinished) > 3 else ""
            where += f" ({len(results.unfinished)} unfinished: {some}{more})"
    return f"{where}; make some with `lmdbench run`"


def _chosen(
    results: Results,
    datasets: Sequence[str],
    methods: Sequence[str],
    splits: Sequence[str],
    groups: str | None,
    given: Mapping[Path, str] | None,
) -> list[Run]:
    """The runs chosen, by other groups if asked; ``given``: only these directories."""
    chosen = select_runs(results, datasets, methods, splits)
    if given is not None:
        chosen = [run for run in chosen if run.directory in given]
        if not chosen:
            raise UserError("no run of this sweep is finished (and chosen); see its status")
    return chosen if groups is None else [_regrouped(run, groups) for run in chosen]


def _comparable(
    results: Results, chosen: Sequence[Run], part: str, pooled: bool, given: Mapping[Path, str]
) -> list[RunGroup]:
    comparable = with_part(run_groups(results, chosen), part)
    if pooled and part == "test":
        comparable = pool_folds(comparable)
    return [renamed(group, given) for group in comparable]


def select_runs(
    results: Results, datasets: Sequence[str], methods: Sequence[str], splits: Sequence[str]
) -> list[Run]:
    wanted = (
        ("data set", datasets, lambda run: {run.spec.dataset, run.record.results_name}),
        ("method", methods, lambda run: {run.method}),
        ("split", splits, lambda run: {run.record.split_label, pooled_label(run.setting)}),
    )
    chosen = list(results.runs)
    for kind, names, names_of in wanted:
        valid = sorted(set[str]().union(*(names_of(run) for run in results.runs)))
        for name in names:
            if name not in valid:
                raise UserError(
                    f"{unknown(kind, name, valid)} These have finished runs under {results.folder}."
                )
        if names:
            chosen = [run for run in chosen if names_of(run) & set(names)]
    if not chosen:
        together = " and ".join(
            f"{kind} {' or '.join(names)}" for kind, names, _ in wanted if names
        )
        raise UserError(
            f"no finished runs of {together} together under {results.folder}; "
            "leave one out, or make some with `lmdbench run`"
        )
    return chosen


def _columns(names: Sequence[str], comparable: Iterable[RunGroup]) -> tuple[str, ...]:
    """The metrics asked for by their own names, () if none is."""
    comparable = list(comparable)
    classes = list(dict.fromkeys(name for group in comparable for name in group.record.classes))
    groups: dict[str, tuple[int, ...]] = {g: () for b in comparable for g in b.setting["groups"]}
    return tuple(dict.fromkeys(metrics.parse(name, classes, groups).name for name in names))


def _meant_reference(reference: str, comparable: Sequence[RunGroup]) -> str:
    """The method or label that is meant, in any case.

    Raises UserError for one that no table has, unless it is the usual one.
    """
    rows = [row for group in comparable for row in group.rows]
    names = [REFERENCE, *(row.method for row in rows), *(row.label for row in rows)]
    if reference in names:
        return reference
    meant = [name for name in names if name.lower() == reference.lower()]
    if not meant:
        raise unknown("reference", reference, list(dict.fromkeys(names[1:])))
    return meant[0]


def _reference_row(rows: Sequence[MethodRuns], reference: str) -> MethodRuns | None:
    """The row of this label, else of this method, with the fewest settings changed."""
    for row in rows:
        if row.label == reference:
            return row
    fitting = [row for row in rows if row.method == reference]
    return min(fitting, key=lambda r: sum(len(k.changed) for k in r.chain), default=None)


# Scoring


@dataclass(frozen=True)
class TableOptions:
    """What is to be said of every table."""

    part: str
    columns: tuple[str, ...]
    reference: str
    per_class: str
    pairwise: bool
    published: bool
    permutation: bool
    margin: float = MARGIN
    simultaneous: bool = False
    calibration: Calibration | None = None


@dataclass(frozen=True)
class _Table:
    """The scores of rows, by label, and what their cells are made with."""

    scores: Mapping[str, RowScores]
    images: ScoredImages
    metrics: Mapping[str, Metric]

    def cell(self, row: MethodRuns, name: str) -> Cell:
        metric = self.metrics.get(name)
        if metric is None:
            return Cell((None,) * len(row.runs), 0, None, None, NOT_THERE)
        scores = self.scores[row.label]
        reasons = [run.reasons.get(name, "") for run in scores.runs]
        n = metric.images(self.images.counts)
        cell = _cell(scores.values(name), n, row.seeds, reasons)
        if cell.mean is None:
            return cell
        estimate = scoring.estimate(scores, metric, self.images)
        return replace(
            cell,
            estimate=estimate,
            no_interval=scoring.no_interval(scores, metric, self.images, estimate),
        )


@dataclass
class _Seeds:
    """How each metric varies over the seeds of each row, by (label, metric), gathered row by row;
    and the differences that follow once all rows are known."""

    metrics: Mapping[str, Metric]
    margin: float  # points
    simultaneous: bool  # intervals of what is tested
    shared: frozenset[str]  # rows whose seeds are not independent trainings
    reference: str | None
    rows: dict[str, dict[str, RowSeeds]] = field(default_factory=dict)  # metric → label → seeds
    gaps: dict[tuple[str, str, str], Gap] = field(default_factory=dict)  # metric, A, B

    def add(self, label: str, scores: RowScores, images: ScoredImages) -> None:
        for name, metric in self.metrics.items():
            of_row = scoring.row_seeds(scores, metric, images)
            self.rows.setdefault(name, {})[label] = of_row

    def pair(self, a: str, b: str, scores: Mapping[str, RowScores], images: ScoredImages) -> None:
        for name, metric in self.metrics.items():
            found = scoring.gap(scores[a], scores[b], metric, images)
            if found is not None:
                self.gaps[name, a, b] = found

    @cached_property
    def moderated(self) -> dict[str, dict[str, SeedVariance]]:
        """Metric → label → variance over seeds. Rows whose seeds share a run lend nothing."""
        return {name: self._moderated(name, rows) for name, rows in self.rows.items()}

    def _moderated(self, name: str, rows: Mapping[str, RowSeeds]) -> dict[str, SeedVariance]:
        lending = {label: row for label, row in rows.items() if label not in self.shared}
        labels = list(lending)
        at = labels.index(self.reference) if self.reference in lending else None
        of_rows = moderated(list(lending.values()), at, self._of_images(name))
        found = dict(zip(labels, of_rows, strict=True))
        return {label: found.get(label) or moderated([row])[0] for label, row in rows.items()}

    def _of_images(self, name: str) -> float:
        """The mean variance that the images leave of a difference from the reference; 0 where none
        is known."""
        known = [
            gap.test.variance
            for (metric, a, b), gap in self.gaps.items()
            if metric == name and self.reference in (a, b) and np.isfinite(gap.test.variance)
        ]
        return float(np.mean(known)) if known else 0.0

    def difference(self, a: str, b: str, name: str, images: ScoredImages) -> Difference | None:
        found = self.gaps.get((name, a, b))
        if found is None:
            return None
        variances, rows = self.moderated[name], self.rows[name]
        return scoring.difference(
            found,
            (variances[a], variances[b]),
            (rows[a], rows[b]),
            self.metrics[name],
            images,
            self.margin,
            independent=not self.shared & {a, b},
        )


def _scored(
    group: RunGroup,
    options: TableOptions,
    leaked: LeaksOf | None = None,
    sample: Sample = EVERYTHING,
) -> ResultTable:
    run = group.rows[0].runs[0]
    classes = group.record.classes
    shown = options.columns or (*metrics.DEFAULT_METRICS, *group.setting["groups"])
    recalls = {name: f"recall:{name}" for name in classes}
    of_class = {name: f"{options.per_class}:{name}" for name in classes if options.per_class}
    chosen: dict[str, Metric] = {}
    for name in (*shown, *recalls.values(), *of_class.values()):
        with contextlib.suppress(UserError):  # a group of another data set
            chosen[name] = metrics.parse(name, classes, run.groups, run.facts)
    out: frozenset[str] = frozenset()
    if leaked is not None:
        out = out.union(*(leaked(member).images for member in _members(group)))
    sample = replace(sample, leaked=out, calibration=options.calibration)
    reference = _reference_row(group.rows, options.reference)
    against = reference.label if reference is not None else None
    primary = shown[0]
    shared = frozenset(row.label for row in group.rows if row.shares_start)
    told = {name: chosen[name] for name in shown if name in chosen}
    seeds = _Seeds(told, options.margin, options.simultaneous, shared, against)
    kept: dict[str, RowScores] = {}  # for pairs

    def result(
        number: int, scores: RowScores, of_reference: RowScores | None, images: ScoredImages
    ) -> MethodResult:
        row = group.rows[number]
        known = {} if against is None or of_reference is None else {against: of_reference}
        table = _Table({**known, row.label: scores}, images, chosen)
        seeds.add(row.label, scores, images)
        for label in known.keys() - {row.label}:
            seeds.pair(row.label, label, table.scores, images)
        if options.pairwise:
            kept[row.label] = scores.of_metric(primary)
        told = MethodResult(
            **{**vars(row), "remarks": (*row.remarks, *versions_of_row(row))},
            cells={name: table.cell(row, name) for name in shown},
            recalls={name: table.cell(row, metric) for name, metric in recalls.items()},
            by_class={name: table.cell(row, metric) for name, metric in of_class.items()},
            fits=_fits(row, options.calibration),
        )
        if options.permutation and against is not None and primary in chosen:
            return _permuted(told, table, primary, against)
        return told

    images, rows = scoring.score_rows(
        [row.runs for row in group.rows],
        options.part,
        list(chosen.values()),
        result,
        None if reference is None else group.rows.index(reference),
        sample,
    )
    if against is not None:
        rows = [_with_differences(row, against, seeds, images) for row in rows]
    rows = _tested(_with_best(rows, shown), primary, chosen.get(primary), options.simultaneous)
    sign = -1 if metrics.described(primary).lower_is_better else 1

    def place(scored: MethodResult) -> tuple[bool, bool, float, str]:
        mean = scored.cells[primary].mean
        return scored.method != BASELINE, mean is None, sign * (mean or 0.0), scored.label

    counts = {name: np.asarray(n) for name, n in run.record.class_counts.items()}
    dropped, dropped_by = None, "audit"
    if leaked is not None:
        dropped_by = _dropped_by(group, leaked)
        dropped = int(np.isin(predictions_of(run, options.part).ids, sorted(out)).sum())
    counts[options.part] = images.counts
    rows = sorted(rows, key=place)
    everything = replace(sample, calibration=None) == EVERYTHING
    whole = options.part == "test" and everything and not group.record.partial
    pairs: tuple[Pair, ...] = ()
    if options.pairwise:
        pairs = _pairs(kept, [row.label for row in rows], primary, seeds, images)
    return ResultTable(
        **{**vars(group), "rows": tuple(rows)},
        part=options.part,
        metrics=tuple(shown),
        images={name: _images(run, n) for name, n in counts.items()},
        dropped=dropped,
        sample=sample,
        dropped_by=dropped_by,
        reference=against,
        primary=primary,
        per_class=options.per_class,
        pairwise=pairs,
        published=tuple(published_for(group.setting)) if options.published and whole else (),
        wanted=options.reference,
        grouped=images.grouped,
        margin=options.margin,
    )


def _fits(
    row: MethodRuns, calibration: Calibration | None
) -> tuple[tuple[ValidationFit, ...], ...]:
    if calibration is None:
        return ()
    return tuple(tuple(one.fit for one in calibrators(run, calibration)) for run in row.runs)


def _images(run: Run, counts: np.ndarray) -> dict[str, int]:
    """Images of a part, all and by group, from its images of each class (C,)."""
    return metrics.images_per_group(
        np.repeat(np.arange(len(counts)), counts), run.groups, len(counts)
    )


def _cell(
    values: Sequence[float | None], n: int, seeds: Sequence[int], reasons: Sequence[str]
) -> Cell:
    """Mean and deviation over seeds. ``reasons`` by seed, heeded where the value is missing."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        first = values.index(None)
        reason = reasons[first] if not present else f"seed {seeds[first]}: {reasons[first]}"
        return Cell(tuple(values), n, None, None, reason)
    sd = statistics.stdev(present) if len(present) > 1 else None
    return Cell(tuple(values), n, statistics.fmean(present), sd)


def shown_digits(value: float) -> float:
    """A share as every table rounds it: tenths of a percent."""
    return float(f"{100 * value:.1f}")


def _with_best(rows: Sequence[MethodResult], shown: Sequence[str]) -> list[MethodResult]:
    """Mark the best of each column where two or more rows have a value, and the second best where
    three or more have; equal digits tie. Nothing is best where all are equal, nor at 0
    (at the least, of what is never above 0)."""
    places: dict[str, list[float]] = {}
    for name in shown:
        means = [row.cells[name].mean for row in rows]
        digits = [shown_digits(mean) for mean in means if mean is not None]
        metric = metrics.described(name)
        lower, nothing = metric.lower_is_better, 0.0 if metric.bounds[1] > 0 else metric.bounds[0]
        ordered = sorted(set(digits), reverse=not lower)
        told = 0 if len(ordered) < 2 else 1 if len(digits) < 3 else 2
        places[name] = [value for value in ordered[:told] if lower or value > nothing]
    return [
        replace(row, cells={name: _marked(cell, places[name]) for name, cell in row.cells.items()})
        for row in rows
    ]


def _marked(cell: Cell, places: Sequence[float]) -> Cell:
    if cell.mean is None or shown_digits(cell.mean) not in places:
        return cell
    at = places.index(shown_digits(cell.mean))
    return replace(cell, best=at == 0, second=at == 1)


# Testing


def _with_differences(
    row: MethodResult, against: str, seeds: _Seeds, images: ScoredImages
) -> MethodResult:
    cells = {
        name: replace(cell, difference=seeds.difference(row.label, against, name, images))
        for name, cell in row.cells.items()
    }
    return replace(row, cells=cells)


def _tested(
    rows: Sequence[MethodResult], primary: str, metric: Metric | None, simultaneous: bool
) -> list[MethodResult]:
    """The rows with corrected p and marks on the primary metric, and what among so many
    comparisons would be detectable."""
    differences = [row.cells[primary].difference for row in rows]
    corrected = _corrected(differences)
    told = _for_comparisons(differences, metric, simultaneous)
    return [
        _with_cell(
            row,
            primary,
            difference=difference,
            p_corrected=p,
            mark=_mark(row.cells[primary], p, primary),
        )
        for row, difference, p in zip(rows, told, corrected, strict=True)
    ]


def _for_comparisons(
    differences: Sequence[Difference | None], metric: Metric | None, simultaneous: bool
) -> list[Difference | None]:
    """Those that are tested, with what would be detectable among them."""
    many = sum(d is not None and not np.isnan(d.p) for d in differences)
    return [
        d
        if d is None or metric is None or np.isnan(d.p)
        else scoring.possible(corrected_for(d, many, simultaneous), metric)
        for d in differences
    ]


def _with_cell(row: MethodResult, name: str, **what: Any) -> MethodResult:
    return replace(row, cells={**row.cells, name: replace(row.cells[name], **what)})


def _corrected(differences: Sequence[Difference | None]) -> list[float | None]:
    """Holm's p over those that have one."""
    p = inference.holm(np.array([np.nan if d is None else d.p for d in differences]))
    return [None if np.isnan(value) else float(value) for value in p]


def _mark(cell: Cell, p: float | None, name: str) -> str:
    """A difference that is practically nothing is called equal even where it is significant."""
    if cell.difference is None:
        return ""
    if cell.difference.equal:
        return "equal"
    if p is None or p >= LEVEL:
        return ""
    above = cell.difference.value > 0
    return "better" if above != metrics.described(name).lower_is_better else "worse"


def _permuted(row: MethodResult, table: _Table, primary: str, against: str) -> MethodResult:
    if row.label == against:
        return row
    p = scoring.permutation(
        table.scores[row.label], table.scores[against], table.metrics[primary], table.images, SEED
    )
    return _with_cell(row, primary, permutation_p=p)


def _pairs(
    scores: Mapping[str, RowScores],
    labels: Sequence[str],
    primary: str,
    seeds: _Seeds,
    images: ScoredImages,
) -> tuple[Pair, ...]:
    """Every pair that has a difference, the later row minus the earlier."""
    metric = seeds.metrics.get(primary)
    if metric is None:
        return ()
    of_primary = replace(seeds, metrics={primary: metric}, gaps={})
    couples = [(a, b) for b, a in itertools.combinations(labels, 2)]
    for a, b in couples:
        of_primary.pair(a, b, scores, images)
    found = [of_primary.difference(a, b, primary, images) for a, b in couples]
    corrected = _corrected(found)
    told = _for_comparisons(found, metric, seeds.simultaneous)
    return tuple(
        Pair(a, b, difference, p)
        for (a, b), difference, p in zip(couples, told, corrected, strict=True)
        if difference is not None
    )
