# LEAD → COMP (delete this block when done): you are on the critical path. I write lmdbench/reporting/ranking.py (rank(blocks) -> Ranks | None from scored
# blocks; you only call it) and benchmarks/compare_of_500.py now. You: scoring.py, compare() with reference/marks/pairwise/permutation/per_class/published,
# notes, terminal, cli/compare.py. Get compare() filling the cells FIRST (colleagues wait for it), then terminal, then the rest.
"""Methods × metrics: the numbers of a comparison, from saved predictions, and its notes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmdbench.audit.report import Leaks
from lmdbench.data.choice import training_counts
from lmdbench.data.groups import in_words, parse_groups
from lmdbench.errors import UserError
from lmdbench.evaluation import metrics
from lmdbench.evaluation.predictions import ARRAYS, Predictions, load_predictions
from lmdbench.registry import unknown
from lmdbench.reporting.folds import pool_folds, pooled_label
from lmdbench.reporting.results import Block, Results, Row, Run, blocks, with_part
from lmdbench.reporting.results import in_words as setting_in_words

if TYPE_CHECKING:
    from lmdbench.evaluation.statistics import Difference, Estimate
    from lmdbench.reporting.published import PublishedColumn

PARTS = ("test", "validation")
BASELINE = "ce"  # the method whose rows come first
NOT_THERE = "this data set has no such group"

LeaksOf = Callable[[Run], Leaks]  # a run on disk → its test images that leak


@dataclass(frozen=True)
class Cell:
    """One metric of one row. ``values`` by seed; ``mean`` is missing if any of them is."""

    values: tuple[float | None, ...]
    n: int  # images behind each value
    mean: float | None
    sd: float | None  # sample standard deviation over seeds; missing for one seed
    reason: str = ""  # why the mean is missing
    best: bool = False
    second: bool = False
    estimate: Estimate | None = None
    no_interval: str = ""  # why the estimate has no interval
    difference: Difference | None = None  # to the reference
    p_corrected: float | None = None  # of the primary metric only
    mark: str = ""  # "better", "worse" or "equal" to the reference


@dataclass(frozen=True)
class ScoredRow:
    """A row with its cells by metric, and the recall of each class by the class's name."""

    row: Row
    cells: Mapping[str, Cell]
    recalls: Mapping[str, Cell]


@dataclass(frozen=True)
class Pair:
    """Two rows by their labels, ``a`` minus ``b`` on the primary metric; ``p`` after Holm."""

    a: str
    b: str
    difference: Difference
    p_corrected: float | None


@dataclass(frozen=True)
class Rank:
    """A method across data sets: its mean rank with an interval; settings won, tied and lost."""

    label: str
    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True)
class Ranks:
    """Methods that all ``settings`` (titles of tables) have, by the primary metric.

    ``note``: the omnibus test, and what must be said where there are few settings.
    """

    primary: str
    settings: tuple[str, ...]
    rows: tuple[Rank, ...]
    note: str


@dataclass(frozen=True)
class ScoredBlock:
    """A table: rows in the order they are shown. ``images``: part → images, all and by group."""

    block: Block
    part: str
    metrics: tuple[str, ...]
    rows: tuple[ScoredRow, ...]
    images: Mapping[str, Mapping[str, int]]
    dropped: int | None = None  # test images left out because they leak; None: none was to be
    reference: str | None = None  # label of the row that others are compared with
    primary: str = "balanced_accuracy"
    per_class: bool = False  # whether the recalls of classes are shown
    pairwise: tuple[Pair, ...] = ()
    published: tuple[PublishedColumn, ...] = ()

    @property
    def partial(self) -> Mapping[str, Any] | None:
        partial: Mapping[str, Any] | None = self.block.record.get("partial")
        return partial

    @property
    def synthetic(self) -> bool:
        return bool(self.block.setting["synthetic"])

    @property
    def title(self) -> str:
        """Data set, split, part, what differs from other tables, and what must not be missed."""
        setting = self.block.setting
        words = [setting["results_name"], setting["split_label"], f"{self.part} images"]
        words += self.block.differs
        if self.dropped is not None:
            words.append(f"without the {self.dropped:,} that leak")
        if self.partial:
            words.append("PARTIAL DATA")
        if self.synthetic:
            words.append("SYNTHETIC DATA")
        return " · ".join(words)

    @property
    def notes(self) -> list[str]:
        """What a reader must know beside the numbers, a sentence or two each."""
        return [
            *self.block.notes,
            *_data_notes(self),
            *_setting_notes(self),
            *_seed_notes(self.rows),
            *_row_notes(self.rows),
            *_missing_notes(self),
        ]


@dataclass(frozen=True)
class Comparison:
    """All tables, and how many runs under the results folder are not finished."""

    results: Results
    part: str
    blocks: tuple[ScoredBlock, ...]
    unfinished: int
    ranks: Ranks | None = None


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
    keys: Set[str] | None = None,
) -> Comparison:
    """Score the finished runs and sort them into tables.

    Empty selections mean everything. ``names`` of metrics: keys of ``metrics.TITLES`` or groups;
    by default the usual metrics and every group. ``pooled`` makes one table of the folds of a
    k-fold split. ``leaked`` tells the test images of a run that leak: where there are any, a
    second table leaves them out. ``groups``: head, medium and tail by another rule, as
    ``parse_groups`` takes it. ``keys``: only runs in these directories, relative to the results.

    Raises UserError where nothing is left, with near matches for a name that no result has.
    """
    if leaked is not None and part != "test":
        raise UserError("--drop-leaked is for test images; leave --part out")
    if not results.runs:
        raise UserError(_nothing(results))
    chosen = select_runs(results, datasets, methods, splits)
    if keys is not None:
        there = {run.directory.relative_to(results.folder).as_posix(): run for run in chosen}
        chosen = [run for key, run in there.items() if key in keys]
        if not chosen:
            raise UserError("no run of this sweep is finished (and chosen); see its status")
    if groups is not None:
        chosen = [_regrouped(run, groups) for run in chosen]
    found = with_part(blocks(results, chosen), part)
    if pooled and part == "test":
        found = pool_folds(found)
    columns = _columns(names, found)
    unfinished = [
        path
        for path in results.unfinished
        if (not datasets or path.parts[0] in {run.record["results_name"] for run in chosen})
        and (not splits or path.parts[1] in splits)
        and (not methods or path.parts[2] in methods)
        and (keys is None or path.as_posix() in keys)
    ]
    scored = []
    for block in found:
        full = _scored(block, part, columns)
        clean = full if leaked is None else _scored(block, part, columns, leaked)
        if leaked is None or clean.dropped:
            scored.append(full)
        else:  # a second table would be the same
            note = f"No test image leaks, by its audit{_limits(block, leaked)}."
            scored.append(replace(full, block=replace(block, notes=(*block.notes, note))))
        if clean.dropped:
            scored.append(clean)
    return Comparison(results, part, tuple(scored), len(unfinished))


def _limits(block: Block, leaked: LeaksOf) -> str:
    """What the audits behind a block did not look at, in words; empty if they looked at all."""
    runs = [member for row in block.rows for run in row.runs for member in run.members]
    unseen = dict.fromkeys(word for run in runs for word in leaked(run).unseen)
    return f", as far as it looked: {', '.join(unseen)}" if unseen else ""


def _regrouped(run: Run, text: str) -> Run:
    """The run with other groups in its record."""
    parts = {part: np.asarray(n) for part, n in run.record["class_counts"].items()}
    counts = training_counts(parts, run.spec["split"].get("folds"))
    where = f"--groups for {run.record['results_name']}"
    groups = parse_groups(text, run.record["classes"], counts, where)
    members = {group: list(labels) for group, labels in groups.members.items()}
    return Run(run.directory, {**run.record, "groups": members, "group_rule": groups.rule})


# Choosing


def _nothing(results: Results) -> str:
    if not results.folder.is_dir():
        where = f"no results folder {results.folder}"
    else:
        where = f"no finished runs under {results.folder}"
        if results.unfinished:
            some = "; ".join(str(path) for path in results.unfinished[:3])
            more = "; …" if len(results.unfinished) > 3 else ""
            where += f" ({len(results.unfinished)} unfinished: {some}{more})"
    return f"{where}; make some with `lmdbench run`"


def select_runs(
    results: Results, datasets: Sequence[str], methods: Sequence[str], splits: Sequence[str]
) -> list[Run]:
    wanted = (
        ("data set", datasets, lambda run: {run.spec["dataset"], run.record["results_name"]}),
        ("method", methods, lambda run: {run.method}),
        ("split", splits, lambda run: {run.record["split_label"], pooled_label(run.setting)}),
    )
    chosen = list(results.runs)
    for kind, names, names_of in wanted:
        known = sorted(set[str]().union(*(names_of(run) for run in results.runs)))
        for name in names:
            if name not in known:
                raise UserError(
                    f"{unknown(kind, name, known)} These have finished runs under {results.folder}."
                )
        if names:
            chosen = [run for run in chosen if names_of(run) & set(names)]
    if not chosen:
        asked = " and ".join(f"{kind} {' or '.join(names)}" for kind, names, _ in wanted if names)
        raise UserError(
            f"no finished runs of {asked} together under {results.folder}; "
            "leave one out, or make some with `lmdbench run`"
        )
    return chosen


def _columns(names: Sequence[str], found: Iterable[Block]) -> tuple[str, ...]:
    """The metrics asked for by their own names, () if none is."""
    groups = dict.fromkeys(group for block in found for group in block.setting["groups"])
    known = [*metrics.TITLES, *groups]
    plain = {_plain(name): name for name in known}
    for name in names:
        if _plain(name) not in plain:
            raise unknown("metric", name, known)
    return tuple(dict.fromkeys(plain[_plain(name)] for name in names))


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


# Scoring


def _scored(
    block: Block, part: str, columns: Sequence[str], leaked: LeaksOf | None = None
) -> ScoredBlock:
    shown = tuple(columns) or (*metrics.DEFAULT_METRICS, *block.setting["groups"])
    classes = block.record["classes"]
    rows = [_scored_row(row, part, shown, classes, leaked) for row in block.rows]
    rows = _with_best(rows, shown)
    first = shown[0]

    def place(scored: ScoredRow) -> tuple[bool, bool, float, str]:
        mean = scored.cells[first].mean
        return scored.row.method != BASELINE, mean is None, mean or 0.0, scored.row.label

    run = block.rows[0].runs[0]
    counts = {name: np.asarray(n) for name, n in run.record["class_counts"].items()}
    dropped = None
    if leaked is not None:
        _, left = _scores(run, part, leaked)
        dropped = int(counts[part].sum() - left.sum())
        counts[part] = left
    images = {name: _images(run, n) for name, n in counts.items()}
    return ScoredBlock(block, part, shown, tuple(sorted(rows, key=place)), images, dropped)


def _images(run: Run, counts: np.ndarray) -> dict[str, int]:
    """Images of a part, all and by group, from its images of each class (C,)."""
    return metrics.images_per_group(
        np.repeat(np.arange(len(counts)), counts), run.groups, len(counts)
    )


@dataclass(frozen=True)
class _Scores:
    """Of one run: metric → value or None, metric → reason, class → recall (None without images)."""

    values: Mapping[str, float | None]
    reasons: Mapping[str, str]
    recalls: Mapping[str, float | None]


def _predictions(run: Run, part: str, leaked: LeaksOf | None) -> Predictions:
    """The predictions of a run on disk, without those that leak."""
    path = run.directory / "predictions.npz"
    predictions = load_predictions(path, [part])[part]
    counts = np.bincount(predictions.labels, minlength=predictions.logits.shape[1])
    if counts.tolist() != run.record["class_counts"].get(part):
        raise UserError(
            f"{path}: its {part} labels are not those that run.json counts; "
            "do the run again with --force"
        )
    if leaked is None:
        return predictions
    kept = ~np.isin(predictions.ids, sorted(leaked(run).images))
    return Predictions(
        *(a[kept] for a in (predictions.ids, predictions.labels, predictions.logits))
    )


def _scores(run: Run, part: str, leaked: LeaksOf | None = None) -> tuple[_Scores, np.ndarray]:
    """The scores of a run, and its images of each class (C,)."""
    pieces = [_predictions(member, part, leaked) for member in run.members]
    ids, labels, logits = (
        np.concatenate([getattr(piece, name) for piece in pieces]) for name in ARRAYS
    )
    if len(np.unique(ids)) < len(ids):
        raise UserError(f"{run.directory}: an image is tested twice; do the run again with --force")
    counts = np.bincount(labels, minlength=logits.shape[1])
    values = metrics.scores(labels, logits, run.groups)
    reasons = metrics.missing(labels, logits, run.groups)
    recalls = metrics.class_recalls(labels, logits)
    by_class = {
        name: None if np.isnan(recall) else float(recall)
        for name, recall in zip(run.classes, recalls, strict=True)
    }
    return _Scores(values, reasons, by_class), counts


def _scored_row(
    row: Row, part: str, shown: Sequence[str], classes: Sequence[str], leaked: LeaksOf | None
) -> ScoredRow:
    scores, counts = zip(*(_scores(run, part, leaked) for run in row.runs), strict=True)
    images = _images(row.runs[0], counts[0])
    cells = {}
    for name in shown:
        reasons = [score.reasons.get(name, NOT_THERE) for score in scores]
        n = images["all"] if name in metrics.TITLES else images.get(name, 0)
        cells[name] = _cell([s.values.get(name) for s in scores], n, row.seeds, reasons)
    by_class = dict(zip(row.runs[0].classes, counts[0].tolist(), strict=True))
    broken = [score.reasons.get("accuracy", "there are no images") for score in scores]
    recalls = {
        name: _cell([s.recalls[name] for s in scores], by_class[name], row.seeds, broken)
        for name in classes
    }
    return ScoredRow(row, cells, recalls)


def _cell(
    values: Sequence[float | None], n: int, seeds: Sequence[int], reasons: Sequence[str]
) -> Cell:
    """Mean and deviation over seeds. ``reasons`` by seed, heeded where the value is missing."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        first = values.index(None)
        reason = reasons[first] if not there else f"seed {seeds[first]}: {reasons[first]}"
        return Cell(tuple(values), n, None, None, reason)
    sd = statistics.stdev(there) if len(there) > 1 else None
    return Cell(tuple(values), n, statistics.fmean(there), sd)


def shown_digits(value: float) -> float:
    """A share as every table rounds it: tenths of a percent."""
    return float(f"{100 * value:.1f}")


def _with_best(rows: Sequence[ScoredRow], shown: Sequence[str]) -> list[ScoredRow]:
    """Mark the best of each column where two or more rows have a value; equal digits tie."""
    best = {}
    for name in shown:
        means = [row.cells[name].mean for row in rows]
        digits = [shown_digits(mean) for mean in means if mean is not None]
        best[name] = max(digits) if len(digits) > 1 else None
    return [
        replace(row, cells={name: _marked(cell, best[name]) for name, cell in row.cells.items()})
        for row in rows
    ]


def _marked(cell: Cell, best: float | None) -> Cell:
    is_best = cell.mean is not None and shown_digits(cell.mean) == best
    return replace(cell, best=is_best)


# Notes


def _data_notes(block: ScoredBlock) -> list[str]:
    notes = []
    if partial := block.partial:
        there = partial["total"] - partial["missing"]
        dropped = partial.get("dropped_classes") or ()
        dropped_text = f" Dropped classes: {', '.join(dropped)}." if dropped else ""
        notes.append(
            f"PARTIAL DATA: {there:,} of {partial['total']:,} images.{dropped_text} "
            "Not comparable with results on all of them."
        )
    if block.synthetic:
        notes.append("SYNTHETIC DATA: drawn by a program; it says nothing about medical images.")
    parts = []
    for part, images in block.images.items():
        groups = ", ".join(f"{g} {n:,}" for g, n in images.items() if g != "all")
        parts.append(f"{part} {images['all']:,}" + (f" ({groups})" if groups else ""))
    notes.append(f"Images: {'; '.join(parts)}. A group's value is the mean recall of its classes.")
    record = block.block.record
    rule = record.get("group_rule", "")
    notes.append(f"Groups: {in_words(block.block.setting['groups'], rule)}.")
    if block.dropped is not None:
        notes.append(
            "Left out: test images that share a lesion, or a picture, with training or validation "
            "images, as the audit of this split found."
        )
    counts = [cell.n for cell in block.rows[0].recalls.values()]
    absent = [name for name, n in zip(record["classes"], counts, strict=True) if n == 0]
    if absent:
        notes.append(
            f"No {block.part} images of {', '.join(absent)}: averages over classes are over the "
            f"other {len(counts) - len(absent)}."
        )
    if block.part == "validation":
        notes.append(
            "Validation images: a method may choose epochs or parameters by them, so these scores "
            "are no test of it."
        )
    return notes


def _setting_notes(block: ScoredBlock) -> list[str]:
    setting = block.block.setting
    fingerprint = setting_in_words("split_fingerprint", setting.get("split_fingerprint"))
    placed = ("results_name", "split_label", "dataset", "groups", "store", "synthetic")
    rest = [
        setting_in_words(name, value)
        for name, value in setting.items()
        if name not in placed and not name.startswith("split_")
    ]
    notes = [f"Split {setting['split_label']} ({fingerprint}); {', '.join(rest)}."]
    used = {
        str(member.record["precision_used"])
        for scored in block.rows
        for run in scored.row.runs
        for member in run.members
        if member.record.get("precision_used")
    }
    if len(used) > 1:
        notes.append(f"Runs were computed in different precision: {' and '.join(sorted(used))}.")
    return notes


def _seed_notes(rows: Sequence[ScoredRow]) -> list[str]:
    by_seeds: dict[str, list[str]] = {}
    for scored in rows:
        by_seeds.setdefault(seeds_text(scored.row.seeds), []).append(scored.row.label)
    if len(by_seeds) == 1:
        (seeds,) = by_seeds
        if len(rows[0].row.seeds) == 1:
            return [f"Seed {seeds}; one seed: no deviation."]
        return [f"Seeds {seeds}{' in every row' * (len(rows) > 1)}."]
    listed = "; ".join(f"{seeds}: {', '.join(labels)}" for seeds, labels in by_seeds.items())
    notes = [f"Seeds differ between rows ({listed})."]
    single = [scored.row.label for scored in rows if len(scored.row.seeds) == 1]
    if single:
        notes.append(f"{', '.join(single)}: one seed: no deviation.")
    return notes


def seeds_text(seeds: Sequence[int]) -> str:
    """Sorted seeds, with runs of three or more closed up: ``0–4, 7``."""
    words: list[str] = []
    start = 0
    for k in range(1, len(seeds) + 1):
        if k == len(seeds) or seeds[k] != seeds[k - 1] + 1:
            run = [str(seed) for seed in seeds[start:k]]
            words += [f"{run[0]}–{run[-1]}"] if len(run) > 2 else run
            start = k
    return ", ".join(words)


def _row_notes(rows: Sequence[ScoredRow]) -> list[str]:
    return [f"{scored.row.label}: {note}." for scored in rows for note in scored.row.notes]


def _missing_notes(block: ScoredBlock) -> list[str]:
    """One note for each reason, with the columns it concerns, and the rows unless all."""
    concerned: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in block.metrics:
        by_reason: dict[str, list[str]] = {}
        for scored in block.rows:
            if reason := scored.cells[name].reason:
                by_reason.setdefault(reason, []).append(scored.row.label)
        for reason, labels in by_reason.items():
            concerned.setdefault((reason, tuple(labels)), []).append(column_title(name))
    return [
        f"– in {', '.join(columns)}"
        + ("" if len(labels) == len(block.rows) else f" of {', '.join(labels)}")
        + f": {reason}."
        for (reason, labels), columns in concerned.items()
    ]


def column_title(name: str) -> str:
    """What a metric or group is called at the head of its column."""
    return metrics.TITLES.get(name, name[:1].upper() + name[1:])
