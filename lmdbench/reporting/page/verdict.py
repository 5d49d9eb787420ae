"""A table in sentences: is the gain real, is it in the tail, on how many images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmdbench.comparison.compare import BASELINE
from lmdbench.comparison.notes import in_text, untested
from lmdbench.comparison.types import Cell, MethodResult, ResultTable
from lmdbench.core.words import listed
from lmdbench.evaluation import metrics
from lmdbench.evaluation.differences import Difference
from lmdbench.evaluation.inference import SMALLEST_CLASS
from lmdbench.reporting.tables.words import MISSING, is_share, number, p_text, signed

TAIL = "tail"


@dataclass(frozen=True)
class Verdict:
    """``answer`` in a sentence, then ``details``, a sentence each.

    ``kind``: real, reversed, equal, open, one-seed, or none where nothing was tested.
    """

    kind: str
    answer: str
    details: tuple[str, ...]


def verdict(table: ResultTable) -> Verdict:
    """What a table's differences to its reference say on its primary metric.

    The reference is set against ce, else against the best of the others; where ce is the reference,
    the best of the others is set against it.
    """
    name = table.primary
    images = (_images(table),)
    reference = next((row for row in table.rows if row.label == table.reference), None)
    others = [row for row in table.rows if row is not reference and name in row.cells]
    if reference is None or not others:
        why = "no method to compare with" if reference else "the reference is not among these runs"
        return Verdict("none", f"No difference was tested: {why}.", (*_best(table), *images))
    baseline = reference.method == BASELINE
    plain = [row for row in others if row.method == BASELINE]
    other = plain[0] if plain and not baseline else max(others, key=lambda row: _rank(row, name))
    winner, loser = (other, reference) if baseline else (reference, other)
    sign = 1 if baseline else -1  # differences are of a row to the reference
    cell = other.cells[name]
    if cell.difference is None or math.isnan(cell.difference.low):
        apart = "" if set(other.seeds) & set(reference.seeds) else "no seed in common"
        why = f" ({reason})" if (reason := apart or cell.no_interval) else ""
        answer = f"{winner.label} against {loser.label}: no difference could be tested{why}."
        return Verdict("none", answer, (*_best(table), *images))
    stands = (
        f"{winner.label} {_against(cell.difference, name, sign)} {loser.label} in "
        f"{in_text(name)}{', where lower is better' * metrics.described(name).lower_is_better} "
        f"({_evidence(cell, name, sign)})."
    )
    if why := untested(table, other):
        return Verdict("none", f"Not tested, as {why}: {stands}", (*_best(table), *images))
    kind = _kind(cell, cell.difference, sign)
    opening = {
        "real": "The gain is real by these images and seeds",
        "reversed": "There is a loss, not a gain",
        "equal": "Practically equal",
        "open": "Not settled",
        "one-seed": "One seed, so this holds for these trained models alone",
    }[kind]
    details = [
        *_where(table, other, kind, sign),
        *_others(table, reference, others, other),
        *(line for line in _best(table) if not baseline),
        *images,
    ]
    if kind == "open":
        details.insert(0, _power(cell.difference, name))
    return Verdict(kind, f"{opening}: {stands}", tuple(filter(None, details)))


def _kind(cell: Cell, difference: Difference, sign: int) -> str:
    if difference.seeds == 1:
        return "one-seed"
    if cell.mark in ("better", "worse"):
        return "real" if (cell.mark == "better") == (sign > 0) else "reversed"
    return "equal" if cell.mark == "equal" else "open"


def _against(difference: Difference, name: str, sign: int) -> str:
    value = sign * difference.value
    amount = number(abs(value), is_share(name))
    if not amount.strip("0."):
        return "is level with"
    unit = " points" if is_share(name) else ""
    return f"is {amount}{unit} {'above' if value > 0 else 'below'}"


def _evidence(cell: Cell, name: str, sign: int) -> str:
    """Interval, p and what they rest on, of a cell with a difference."""
    difference = cell.difference
    assert difference is not None
    words = [f"95 % interval {_interval(difference, name, sign)}"]
    if cell.p_corrected is not None:
        adjusted = "simultaneous" if difference.simultaneous else "unadjusted"
        words = [f"{adjusted} {words[0]}", f"corrected {_p(cell.p_corrected)}"]
    seeds = difference.seeds
    words.append(f"{seeds} seeds" if seeds > 1 else "one seed: test images only")
    return ", ".join(words)


def _interval(difference: Difference, name: str, sign: int) -> str:
    """The interval of a difference in points, signs turned where ``sign`` is −1."""
    low, high = sorted((sign * difference.low, sign * difference.high))
    return f"{signed(low, is_share(name))} to {signed(high, is_share(name))}"


def _p(p: float) -> str:
    text = p_text(p)
    return f"p {text[0]} {text[1:]}" if text[0] == "<" else f"p = {text}"


def _rank(row: MethodResult, name: str) -> float:
    """The higher the better; lowest where the mean is missing."""
    mean = row.cells[name].mean
    if mean is None:
        return float("-inf")
    return -mean if metrics.described(name).lower_is_better else mean


def _best(table: ResultTable) -> list[str]:
    name = table.primary
    best = max(table.rows, key=lambda row: _rank(row, name))
    mean = best.cells[name].mean
    if mean is None:
        return []
    shown = number(mean, is_share(name)) + " %" * is_share(name)
    return [f"The best {in_text(name)} is that of {best.label}, {shown}."]


def _where(table: ResultTable, other: MethodResult, kind: str, sign: int) -> list[str]:
    """The difference in each group, the tail first."""
    members = table.setting["groups"]
    words = {}
    tail: tuple[Difference, int] | None = None
    for group in members:
        cell = other.cells.get(group)
        if cell is None or cell.difference is None:
            continue
        if group == TAIL:
            tail = (cell.difference, cell.n)
        classes = len(members[group])
        words[group] = (
            f"{signed(sign * cell.difference.value)} points of recall "
            f"({_interval(cell.difference, group, sign)}; {cell.n:,} images of "
            f"{classes} class{'es' * (classes != 1)})"
        )
    if not words:
        return []
    told = []
    if tail is not None:
        difference, n = tail
        low, high = sorted((sign * difference.low, sign * difference.high))
        opening = "In the tail"
        if kind == "real":
            opening = "It is in the tail" if low > 0 else "It is not in the tail"
            if low <= 0 <= high or n < SMALLEST_CLASS:
                opening = "Whether it is in the tail is not settled"
        told.append(f"{opening}: {words.pop(TAIL)}.")
    told += [f"{group.capitalize()}: {text}." for group, text in reversed(words.items())]
    return told


def _others(
    table: ResultTable, reference: MethodResult, others: Sequence[MethodResult], told: MethodResult
) -> list[str]:
    """How the reference stands against the rest."""
    by_mark: dict[str, list[str]] = {}
    for row in others:
        cell = row.cells[table.primary]
        if row is not told and cell.difference is not None:
            mark = "untested" if cell.p_corrected is None else cell.mark
            by_mark.setdefault(mark, []).append(row.label)
    ways = {  # a row's mark → how the reference stands to it
        "worse": "better than",
        "better": "worse than",
        "equal": "practically equal to",
        "": "not told apart from",
        "untested": "not tested against",
    }
    said = [f"{words} {listed(by_mark[mark])}" for mark, words in ways.items() if mark in by_mark]
    return [f"{reference.label} is {'; '.join(said)}."] if said else []


def _power(difference: Difference, name: str) -> str:
    least = number(difference.detectable, is_share(name))
    with_seeds = number(difference.detectable_more_seeds, is_share(name))
    unit = " points" if is_share(name) else ""
    if with_seeds == MISSING:
        return (
            "No true difference is large enough to be found four times in five with these images."
        )
    if least == MISSING:
        return (
            "No true difference is large enough to be found four times in five with these seeds "
            f"and images ({with_seeds}{unit} with any number of seeds)."
        )
    return (
        f"A true difference of {least}{unit} would have been found four times in five with these "
        f"seeds and images ({with_seeds} with any number of seeds)."
    )


def _images(table: ResultTable) -> str:
    classes = table.record.classes
    run = table.rows[0].runs[0]
    metric = metrics.parse(table.primary, classes, run.groups, run.facts)
    about = {classes[k] for _, members in metric.sets for k in members} or classes
    recalls = table.rows[0].recalls
    counts = {name: cell.n for name, cell in recalls.items() if cell.n and name in about}
    if not counts:
        return f"There are no {table.part} images of what it measures."
    if len(counts) == 1:
        ((name, n),) = counts.items()
        return f"It rests on {n:,} {table.part} image{'s' * (n != 1)} of {name}."
    fewest = min(counts.values())
    few = [name for name, n in counts.items() if n == fewest]
    named = few[0] if len(few) == 1 else f"{len(few)} classes" if len(few) < len(counts) else "each"
    return (
        f"It rests on {sum(counts.values()):,} {table.part} images of {len(counts)} classes; "
        f"{named} {'have' if len(few) > 1 and named != 'each' else 'has'} "
        f"{'only ' if fewest < 10 else ''}{fewest:,}"
        f"{'' if named == 'each' else ', the fewest'}."
    )
