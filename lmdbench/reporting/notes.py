"""The notes below a table: what a reader must know beside the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lmdbench.data.groups import in_words
from lmdbench.evaluation import metrics
from lmdbench.reporting.results import in_words as setting_in_words

if TYPE_CHECKING:
    from lmdbench.reporting.comparison import Cell, ScoredBlock, ScoredRow


def notes_of(block: ScoredBlock) -> list[str]:
    """A sentence or two each."""
    return [
        *block.block.notes,
        *_data_notes(block),
        *_setting_notes(block),
        *_seed_notes(block.rows),
        *_row_notes(block.rows),
        *_interval_notes(block),
        *_difference_notes(block),
        *_missing_notes(block),
    ]


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
            return [f"Seed {seeds}; one seed: its intervals are of the test images only."]
        return [f"Seeds {seeds}{' in every row' * (len(rows) > 1)}."]
    listed = "; ".join(f"{seeds}: {', '.join(labels)}" for seeds, labels in by_seeds.items())
    notes = [f"Seeds differ between rows ({listed})."]
    single = [scored.row.label for scored in rows if len(scored.row.seeds) == 1]
    if single:
        notes.append(f"{', '.join(single)}: one seed: its intervals are of the test images only.")
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
    return [f"– in {which}: {why}." for which, why in _by_reason(block, lambda cell: cell.reason)]


def _by_reason(block: ScoredBlock, reason: Callable[[Cell], str]) -> list[tuple[str, str]]:
    """Each reason once, after the columns that it concerns, and the rows unless all."""
    concerned: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in block.metrics:
        by_reason: dict[str, list[str]] = {}
        for scored in block.rows:
            if why := reason(scored.cells[name]):
                by_reason.setdefault(why, []).append(scored.row.label)
        for why, labels in by_reason.items():
            concerned.setdefault((why, tuple(labels)), []).append(column_title(name))
    return [
        (", ".join(names) + _of_rows(labels, block), why)
        for (why, labels), names in concerned.items()
    ]


def _of_rows(labels: Sequence[str], block: ScoredBlock) -> str:
    return "" if len(labels) == len(block.rows) else f" of {', '.join(labels)}"


def _interval_notes(block: ScoredBlock) -> list[str]:
    """What the intervals hold, and what has none."""
    notes = []
    several = any(len(scored.row.seeds) > 1 for scored in block.rows)
    what = "seeds and test images" if several else "test images only"
    unit = "an image, as no lesion or patient is recorded"
    if block.grouped:
        whole = block.images[block.part]["all"]
        unit = f"the lesion or patient, known for {block.grouped:,} of {whole:,} images"
    notes.append(f"95 % intervals: {what}; unit of resampling: {unit}.")
    without = _by_reason(block, lambda cell: cell.no_interval)
    return [*notes, *(f"No interval for {which}: {why}." for which, why in without)]


def _difference_notes(block: ScoredBlock) -> list[str]:
    """What was tested against what, how it was corrected, and what could have been found."""
    primary = column_title(block.primary)
    pairs = []
    if block.pairwise:
        tested = sum(pair.p_corrected is not None for pair in block.pairwise)
        pairs = [f"All pairs: p of {primary}, corrected after Holm for {tested} comparisons."]
    if block.reference is None:
        if len(block.rows) > 1:
            return [f"No row is {block.wanted}, so nothing is tested against it.", *pairs]
        return pairs
    compared = [row for row in block.rows if row.cells[block.primary].difference is not None]
    if not compared:
        return pairs
    found = {row.row.label: row.cells[block.primary] for row in compared}
    differences = {k: cell.difference for k, cell in found.items() if cell.difference is not None}
    tested = sum(cell.p_corrected is not None for cell in found.values())
    notes = []
    if tested:
        notes.append(
            f"Tested: {primary} against {block.reference}, paired by image and seed, p corrected "
            f"after Holm for {tested} comparison{'s' * (tested != 1)}. Better or worse: p < .05; "
            "practically equal: the interval lies inside ±1 point. Other metrics are not tested."
        )
    now, ever = (
        _range([getattr(d, name) for d in differences.values()], _share(block.primary))
        for name in ("detectable", "detectable_more_seeds")
    )
    if now:
        notes.append(
            f"Smallest difference to {block.reference} found at 80 % power: {now} with these seeds "
            f"and test images; {ever} with any number of seeds."
        )
    fewer = [
        f"{row.row.label} ({differences[row.row.label].seeds} of {len(row.row.seeds)} seeds)"
        for row in compared
        if differences[row.row.label].seeds < len(row.row.seeds)
    ]
    if fewer:
        notes.append(f"Paired over the seeds in common with {block.reference}: {', '.join(fewer)}.")
    if any(d.seeds == 1 for d in differences.values()):
        single = [label for label, d in differences.items() if d.seeds == 1]
        who = "" if len(single) == len(differences) else f" of {', '.join(single)}"
        notes.append(f"Differences{who} on one seed: test images only; retraining may turn them.")
    chance = {k: cell.permutation_p for k, cell in found.items() if cell.permutation_p is not None}
    if chance:
        listed = ", ".join(f"{label} {p:.4f}" for label, p in chance.items())
        notes.append(
            "Permutation over images, these trained models only (10,000 rounds, generator seed 0, "
            f"not corrected): p = {listed}."
        )
    return [*notes, *pairs]


def _range(values: Sequence[float], share: bool) -> str:
    """From the smallest to the largest, shares in points; empty where there is none."""
    there = [value for value in values if not math.isnan(value)]
    if not there:
        return ""
    shown = [f"{100 * v:.1f}" if share else f"{v:.3f}" for v in (min(there), max(there))]
    return " to ".join(dict.fromkeys(shown)) + " points" * share


def _share(name: str) -> bool:
    return name.removesuffix("_balanced") not in ("nll", "brier")


def column_title(name: str) -> str:
    """What a metric or group is called at the head of its column."""
    stat, colon, of = name.partition(":")
    if colon and stat in metrics.CLASS_STATS:
        return f"{metrics.CLASS_STATS[stat]} of {of}"
    return metrics.TITLES.get(name, name[:1].upper() + name[1:])
