"""What ``lmdbench predict`` says of flags and of answers that are withheld."""

from __future__ import annotations

from lmdbench.cli.predict_outcome import Outcome
from lmdbench.core.words import count, listed
from lmdbench.reporting.tables.words import MISSING, number
from lmdbench.runs.decisions import Abstention, OperatingPoint, Share


def decided(outcome: Outcome) -> str:
    """What the thresholds are, what they reached on validation images, and what they do here."""
    chosen, reached = outcome.decisions, outcome.reached
    lines = []
    for place, point in enumerate(chosen.points):
        flagged = int(outcome.marks[f"flag {point.name}"].sum())
        lines += [
            f"{point.name}: flagged from a probability of {_percent(point.threshold)} up, for a "
            f"{point.kind} of {_percent(point.wanted)}",
            f"  validation: {_of_point(point)}",
            f"  here: {flagged:,} of {_readable(outcome)} are flagged"
            + (f"; {_of_point(reached.points[place])}" if reached else ""),
        ]
    if chosen.abstention is not None:
        lines += _of_abstention(chosen.abstention, outcome)
    lines.append(
        f"thresholds: chosen on {count(chosen.images, 'validation image')}; measured on the same, "
        "they look a little better than they are; intervals (95 %) count the images alone"
    )
    if not chosen.whole:
        lines.append(
            "  the runs have other validation images each: there an image has the mean of those "
            "runs alone that were not trained on it, here of all"
        )
    return "\n".join(lines)


def _of_point(point: OperatingPoint) -> str:
    return f"sensitivity {_share(point.sensitivity)}, specificity {_share(point.specificity)}"


def _of_abstention(chosen: Abstention, outcome: Outcome) -> list[str]:
    wanted = f"an error of {_percent(chosen.wanted)}"
    if chosen.kind == "share":
        wanted = f"answering {_percent(chosen.wanted)}"
    answered = int(outcome.marks["answered"].sum())
    lines = [
        f"answered: from a largest probability of {_percent(chosen.threshold)} up, for {wanted}",
        f"  validation: {_share(chosen.share)} are answered, error of these {_share(chosen.error)}",
        f"  here: {answered:,} of {_readable(outcome)} are answered",
    ]
    here = outcome.reached and outcome.reached.abstention
    if here:
        shares = [
            f"{name} {one.value * one.images:.0f} of {one.images:,}"
            for name, one in zip(outcome.classes, here.by_class, strict=True)
            if one.images
        ]
        lines[-1] += f"; error of these {_share(here.error)}"
        lines.append(f"  here by class: {listed(shares)}")
    return lines


def _share(share: Share | None) -> str:
    if share is None or not share.images:
        return MISSING
    images = count(share.images, "image")
    return f"{_percent(share.value)} ({number(share.low)} to {number(share.high)}; {images})"


def _percent(share: float) -> str:
    return f"{number(share)} %"


def _readable(outcome: Outcome) -> str:
    return count(len(outcome.target) - len(outcome.answers.unreadable), "image")
