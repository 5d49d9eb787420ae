"""The notes below a table: what a reader must know beside the numbers."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from lmdbench.comparison.calibration import calibration_notes
from lmdbench.comparison.results import in_words as setting_in_words
from lmdbench.comparison.types import Cell, MethodResult, ResultTable, Subgroups
from lmdbench.comparison.versions import versions_of_table
from lmdbench.core.errors import UserError
from lmdbench.core.words import count, listed, some
from lmdbench.data.groups import in_words
from lmdbench.evaluation.differences import Difference
from lmdbench.evaluation.inference import SMALLEST_CLASS
from lmdbench.evaluation.metrics import (
    BUILT_IN,
    METRICS,
    RESAMPLES,
    SEED,
    class_stat,
    described,
    parse,
)


def notes_of(table: ResultTable) -> list[str]:
    """A sentence or two each."""
    return [
        *table.remarks,
        *_data_notes(table),
        *_setting_notes(table),
        *_seed_notes(table.rows),
        *_two_seeds(table.rows),
        *_row_notes(table.rows),
        *versions_of_table(table.rows),
        *calibration_notes(table),
        *map(table.sample.in_words, (*_interval_notes(table), *_difference_notes(table))),
        *_shared_start_notes(table),
        *_missing_notes(table),
    ]


def _data_notes(table: ResultTable) -> list[str]:
    notes = []
    if partial := table.partial:
        present = partial["total"] - partial["missing"]
        dropped = partial.get("dropped_classes") or ()
        dropped_text = f" Dropped classes: {listed(dropped)}." if dropped else ""
        damaged = partial.get("damaged") or ()
        left = f" {count(len(damaged), 'damaged image')} left out: {some(damaged, 3)}."
        left *= bool(damaged)
        notes.append(
            f"PARTIAL DATA: {present:,} of {partial['total']:,} images.{left}{dropped_text} "
            "Not comparable with results on all of them."
        )
    if table.synthetic:
        notes.append("SYNTHETIC DATA: drawn by a program; it says nothing about medical images.")
    notes += [f"Data: {line}." for line in _lines_of_data(table.rows)]
    parts = []
    for part, images in table.images.items():
        groups = ", ".join(f"{g} {n:,}" for g, n in images.items() if g != "all")
        what = table.counted if part == table.part and table.sample.units else part
        parts.append(f"{what} {images['all']:,}" + (f" ({groups})" if groups else ""))
    notes.append(f"Images: {'; '.join(parts)}. A group's value is the mean recall of its classes.")
    notes += table.of_units
    record = table.record
    rule = record.group_rule or ""
    notes.append(f"Groups: {in_words(table.setting['groups'], rule)}.")
    if table.dropped is not None:
        by = "the audit of this split found"
        if table.dropped_by == "tables":
            by = "its tables tell; pictures were not compared"
        notes.append(
            "Left out: test images that share a lesion, or a picture, with training or validation "
            f"images, as {by}."
        )
    counts = [cell.n for cell in table.rows[0].recalls.values()]
    absent = [name for name, n in zip(record.classes, counts, strict=True) if n == 0]
    if absent:
        notes.append(
            f"No {table.counted} of {listed(absent)}: averages over classes are over the "
            f"other {len(counts) - len(absent)}."
        )
    if table.part == "validation":
        notes.append(
            "Validation images: a method may choose epochs or parameters by them, so these scores "
            "are no test of it."
        )
    return notes


USUAL = ("tuning", "full")  # of which no note says a word


def _lines_of_data(rows: Sequence[MethodResult]) -> list[str]:
    """How the runs' tables and folders were understood, each line once."""
    records = [member.record for row in rows for run in row.runs for member in run.members]
    return list(dict.fromkeys(line for record in records for line in record.data_notes or ()))


def _setting_notes(table: ResultTable) -> list[str]:
    setting = table.stated
    fingerprint = setting_in_words("split_fingerprint", setting.get("split_fingerprint"))
    placed = ("results_name", "split_label", "dataset", "groups", "store", "synthetic")
    used = sorted(
        {
            str(member.record.precision_used)
            for row in table.rows
            for run in row.runs
            for member in run.members
            if member.record.precision_used
        }
    )
    asked_more = used == ["float32"] != [setting["precision"]]
    rest = [
        setting_in_words(name, value)
        + ", which came to float32" * (name == "precision" and asked_more)
        for name, value in setting.items()
        if name not in placed and not name.startswith("split_") and (name, value) != USUAL
    ]
    notes = [f"Split {setting['split_label']} ({fingerprint}); {', '.join(rest)}."]
    if len(used) > 1:
        notes.append(f"Runs were computed in different precision: {' and '.join(used)}.")
    return notes


def _seed_notes(rows: Sequence[MethodResult]) -> list[str]:
    by_seeds: dict[str, list[str]] = {}
    for row in rows:
        by_seeds.setdefault(seeds_text(row.seeds), []).append(row.label)
    if len(by_seeds) == 1:
        (seeds,) = by_seeds
        if len(rows[0].seeds) == 1:
            return [f"Seed {seeds}; one seed: its intervals are of the test images only."]
        return [f"Seeds {seeds}{' in every row' * (len(rows) > 1)}."]
    by_row = "; ".join(f"{seeds}: {', '.join(labels)}" for seeds, labels in by_seeds.items())
    notes = [f"Seeds differ between rows ({by_row})."]
    single = [row.label for row in rows if len(row.seeds) == 1]
    if single:
        whose = "its" if len(single) == 1 else "their"
        notes.append(
            f"{', '.join(single)}: one seed: {whose} intervals are of the test images only."
        )
    return notes


def _two_seeds(rows: Sequence[MethodResult]) -> list[str]:
    """That a third seed is worth more than any other."""
    two = [row.label for row in rows if len(row.seeds) == 2]
    if not two:
        return []
    of = f" of {listed(two)}" if len(two) < len(rows) else ""
    return [
        f"Two seeds{of} say little of how far seeds differ, so that intervals take up to 12.7 "
        "standard errors to each side. With a third seed it is 4.3."
    ]


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


def _row_notes(rows: Sequence[MethodResult]) -> list[str]:
    return [f"{row.label}: {note}." for row in rows for note in row.remarks]


def _missing_notes(table: ResultTable) -> list[str]:
    cells = {row.label: row.cells for row in table.rows}
    titles = {name: column_title(name) for name in table.metrics}
    return list(map(table.sample.in_words, _absent(cells, titles)))


def class_notes(table: ResultTable) -> list[str]:
    """What the statistic of the classes is, and why values and intervals are missing."""
    stat = class_stat(table.per_class)[1]
    made_so = [f"{stat.title}: {stat.note}."] if stat.note else []
    cells = {row.label: row.by_class for row in table.rows}
    titles = {name: name for name in table.record.classes}
    every = "any class"
    notes = [*made_so, *_without_interval(cells, titles, every), *_absent(cells, titles, every)]
    return list(map(table.sample.in_words, notes))


Cells = Mapping[str, Mapping[str, "Cell"]]  # row's label → column → cell


def _absent(cells: Cells, titles: Mapping[str, str], every: str = "") -> list[str]:
    reasons = _by_reason(cells, titles, every, lambda cell: cell.reason)
    return [f"– in {which}: {why}." for which, why in reasons]


def _without_interval(cells: Cells, titles: Mapping[str, str], every: str = "") -> list[str]:
    reasons = _by_reason(cells, titles, every, lambda cell: cell.no_interval)
    return [f"No interval for {which}: {why}." for which, why in reasons]


def subgroup_notes(subgroups: Subgroups, metric: str) -> list[str]:
    """Why values and intervals of a metric are missing in a table of subgroups."""
    labels = [row.label for row in subgroups.parts[0].table.rows]
    cells = {
        label: {
            part.name: row.cells[metric]
            for part in subgroups.parts
            for row in part.table.rows
            if row.label == label
        }
        for label in labels
    }
    titles = {part.name: part.name for part in subgroups.parts}
    every = "any subgroup"
    notes = [*_without_interval(cells, titles, every), *_absent(cells, titles, every)]
    return list(map(subgroups.parts[0].table.sample.in_words, notes))


def _by_reason(
    cells: Cells, titles: Mapping[str, str], every: str, reason: Callable[[Cell], str]
) -> list[tuple[str, str]]:
    """Each reason once, after the columns that it concerns, and the rows unless all.

    ``titles``: of the columns that are looked at; ``every``: what all of them are called together,
    empty to name each.
    """
    concerned: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, title in titles.items():
        by_reason: dict[str, list[str]] = {}
        for label, of_row in cells.items():
            if why := reason(of_row[name]):
                by_reason.setdefault(why, []).append(label)
        for why, labels in by_reason.items():
            concerned.setdefault((why, tuple(labels)), []).append(title)
    return [
        (
            (every if every and len(names) == len(titles) else listed(names))
            + (f" of {', '.join(labels)}" if len(labels) < len(cells) else ""),
            why,
        )
        for (why, labels), names in concerned.items()
    ]


def _interval_notes(table: ResultTable) -> list[str]:
    """What the intervals hold, and what has none."""
    notes = []
    several = any(len(row.seeds) > 1 for row in table.rows)
    what = "seeds and test images" if several else "test images only"
    unit = "an image, as no lesion or patient is recorded"
    whole = table.images[table.part]["all"]
    if table.sample.units is not None:
        unit = f"the {table.sample.counted}"
        if table.sample.units.patients:
            unit = f"the patient, known for {table.grouped:,} of {whole:,} {unit[4:]}s"
    elif table.grouped:
        unit = f"the lesion or patient, known for {table.grouped:,} of {whole:,} images"
    notes.append(f"95 % intervals: {what}; unit of resampling: {unit}.")
    drawn = [column_title(name) for name in table.metrics if described(name).resampled]
    if drawn:
        notes.append(
            f"Intervals of {', '.join(drawn)}: test images by a bootstrap within classes "
            f"({RESAMPLES} samples, generator seed {SEED}), as influences of images are not known."
        )
    cells = {row.label: row.cells for row in table.rows}
    titles = {name: column_title(name) for name in table.metrics}
    return [*notes, *_made_so(table), *_without_interval(cells, titles)]


def _made_so(table: ResultTable) -> list[str]:
    """What a reader must know of single metrics, once for all that it is true of."""
    run = table.rows[0].runs[0]
    titles: dict[str, list[str]] = {}
    for name in table.metrics:
        with contextlib.suppress(UserError):  # a group of another data set
            metric = parse(name, run.classes, run.groups, run.facts)
            titles.setdefault(metric.note, []).append(metric.title)
    return [f"{listed(of)}: {note}." for note, of in titles.items() if note]


def _difference_notes(table: ResultTable) -> list[str]:
    """What was tested against what, how it was corrected, and what could have been found."""
    primary = column_title(table.primary)
    pairs = []
    if table.pairwise:
        tested = sum(pair.p_corrected is not None for pair in table.pairwise)
        if tested:
            pairs = [f"All pairs: p of {primary}, corrected after Holm for {tested} comparisons."]
        single = [f"{pair.a} and {pair.b}" for pair in table.pairwise if pair.difference.seeds == 1]
        pairs += _one_seed("; ".join(single), len(single), len(table.pairwise))
        couples = itertools.combinations(table.rows, 2)
        apart = [f"{b.label} and {a.label}" for a, b in couples if not {*a.seeds} & {*b.seeds}]
        if apart:
            pairs.append(f"No seed in common, so no pair: {'; '.join(apart)}.")
    if table.reference is None:
        if len(table.rows) > 1:
            rows = listed([row.label for row in table.rows])
            return [
                f"No row is {table.wanted}, so nothing is tested against it; --reference names "
                f"another: {rows}.",
                *pairs,
            ]
        return pairs
    compared = [row for row in table.rows if row.cells[table.primary].difference is not None]
    if lone := without_common_seed(table):
        named = ", ".join(f"{row.label} ({seeds_text(row.seeds)})" for row in lone)
        pairs.insert(0, f"No seed in common with {table.reference}, so not compared: {named}.")
    if broken := [row for row in table.rows if row.cells[table.primary].mean is None]:
        whom = "" if table.reference in [row.label for row in broken] else " of these rows"
        told = "; ".join(f"{row.label} ({row.cells[table.primary].reason})" for row in broken)
        pairs.insert(0, f"Not tested{whom}, as {primary} is not known: {told}.")
    if not compared:
        return pairs
    cells = {row.label: row.cells[table.primary] for row in compared}
    differences = {k: cell.difference for k, cell in cells.items() if cell.difference is not None}
    tested = sum(cell.p_corrected is not None for cell in cells.values())
    notes = []
    if tested:
        notes.append(
            f"Tested: {primary} against {table.reference}, paired by image and seed, p corrected "
            f"after Holm for {tested} comparison{'s' * (tested != 1)}. Better or worse: p < .05"
            f"{_equality(table)}. Other metrics are not tested."
        )
        notes += _out_of_reach(table, differences.values())
    elif few := too_few(table):
        notes.append(f"Not tested, so without p and marks: {few}.")
    now, ever = (
        _range(
            [getattr(d, name) for d in differences.values() if not math.isnan(d.p)],
            described(table.primary).percent,
        )
        for name in ("detectable", "detectable_more_seeds")
    )
    if tested:
        notes.append(
            f"Smallest difference to {table.reference} found at 80 % power after that correction: "
            f"{now or 'none'} with these seeds and test images; {ever or 'none'} with any number "
            "of seeds."
        )
    fewer = [
        f"{row.label} ({differences[row.label].seeds} of {len(row.seeds)} seeds)"
        for row in compared
        if differences[row.label].seeds < len(row.seeds)
    ]
    if fewer:
        notes.append(f"Paired over the seeds in common with {table.reference}: {', '.join(fewer)}.")
    single = [label for label, d in differences.items() if d.seeds == 1]
    notes += _one_seed(", ".join(single), len(single), len(differences))
    chance = {k: cell.permutation_p for k, cell in cells.items() if cell.permutation_p is not None}
    if chance:
        by_row = ", ".join(f"{label} {p:.4f}" for label, p in chance.items())
        notes.append(
            "Permutation over images, these trained models only (10,000 rounds, generator seed 0, "
            f"not corrected): p = {by_row}."
        )
    return list(dict.fromkeys([*notes, *pairs]))


def _equality(table: ResultTable) -> str:
    """What is called practically equal; empty of a metric whose unit is no point."""
    if not described(table.primary).percent:
        return ""
    return (
        f"; practically equal: the 90 % interval lies inside ±{points(table.margin)} (two "
        "one-sided tests at .05, each for itself)"
    )


def _out_of_reach(table: ResultTable, differences: Iterable[Difference]) -> list[str]:
    """That no row could be called practically equal, whatever its difference came out as."""
    least = [d.equal_within - abs(d.value) for d in differences if not math.isnan(d.equal_within)]
    if not described(table.primary).percent or min(least, default=0.0) < table.margin / 100:
        return []
    return [
        f"No row can be found practically equal within ±{points(table.margin)}: with these seeds "
        "and test images the 90 % interval reaches "
        f"{math.ceil(1000 * min(least)) / 10:.1f} points or more to each side. It takes more of "
        "them, or a wider margin (--margin) that is justified without these results."
    ]


def points(margin: float) -> str:
    return f"{margin:g} point{'s' * (margin != 1)}"


def _shared_start_notes(table: ResultTable) -> list[str]:
    """Which rows are not tested, as their seeds are not independent trainings, and what to do."""
    sharing = [row.label for row in table.rows if row.shares_start]
    if not sharing or len(table.rows) < 2:
        return []
    nothing = f", so nothing is tested against {table.reference}" if _of_reference(table) else ""
    return [
        f"Seeds of {listed(sharing)} share a run that they start from. The chance of its training "
        f"is in no interval, and no difference to such a row has a p or a mark{nothing}. Train it "
        "for each seed: lmdbench run does, if --starts-from names no finished run."
    ]


def untested(table: ResultTable, row: MethodResult) -> str:
    """Why a row with several seeds is not tested against the reference; empty if it is."""
    if few := too_few(table):
        return few
    sharing = [one.label for one in (row, *_of_reference(table)) if one.shares_start]
    return f"seeds of {' and '.join(sharing)} share a run that they start from" * bool(sharing)


def _of_reference(table: ResultTable) -> list[MethodResult]:
    """The reference, if it is a row whose seeds share a run."""
    return [row for row in table.rows if row.label == table.reference and row.shares_start]


def too_few(table: ResultTable) -> str:
    """Why nothing is tested on a table's primary metric, if that is for want of images."""
    n = table.rows[0].cells[table.primary].n
    if n >= SMALLEST_CLASS:
        return ""
    return (
        f"{in_text(table.primary)} rests on {n:,} {table.part} image{'s' * (n != 1)}, fewer than "
        f"{SMALLEST_CLASS}"
    )


def without_common_seed(table: ResultTable) -> list[MethodResult]:
    """The rows that can't be compared with the reference, as they share no seed with it."""
    seeds = [set(row.seeds) for row in table.rows if row.label == table.reference]
    return [row for row in table.rows if seeds and not seeds[0] & set(row.seeds)]


def _one_seed(named: str, some: int, of: int) -> list[str]:
    """What is said of ``some`` of so many differences; they are ``named`` unless it is all."""
    if not some:
        return []
    who = f" of {named}" if some < of else ""
    return [
        f"Differences{who} on one seed: intervals for the test images only, and no p, as "
        "retraining may turn them."
    ]


def _range(values: Sequence[float], share: bool) -> str:
    """From the smallest to the largest, shares in points; NaN is more than is possible."""
    finite = [value for value in values if not math.isnan(value)]
    if not finite:
        return "none possible"
    shown = [f"{100 * v:.1f}" if share else f"{v:.3f}" for v in (min(finite), max(finite))]
    words = " to ".join(dict.fromkeys(shown)) + " points" * share
    return words + ", for some rows none possible," * (len(finite) < len(values))


def column_title(name: str) -> str:
    """What a metric or group is called at the head of its column."""
    return described(name).title


def in_text(name: str) -> str:
    """What a metric or group is called within a sentence: acronyms keep their letters, as what is
    plugged in does."""
    title = column_title(name)
    if name not in METRICS and not set(":@") & set(name):  # a group's
        return f"{name} recall"
    kept = title.split()[0].isupper() or (name in METRICS and name not in BUILT_IN)
    return title if kept else title[:1].lower() + title[1:]
