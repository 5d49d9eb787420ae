"""Words and numbers that every form of a comparison shows the same."""

from __future__ import annotations

import math

from lmdbench.comparison.compare import Comparison
from lmdbench.comparison.types import ResultTable
from lmdbench.evaluation.metrics import described

MISSING = "–"
MARKS = {"better": "▲", "worse": "▼", "equal": "≈"}


def number(value: float | None, percent: bool = True) -> str:
    """A share in percent with one decimal, or as a fraction with three."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{100 * value:.1f}" if percent else f"{value:.3f}"
    return text.replace("-", "−") if text.strip("-0.") else text.lstrip("-")


def is_share(name: str) -> bool:
    """Whether percent and points make sense of a metric."""
    return described(name).percent


def signed(value: float | None, percent: bool = True) -> str:
    """A difference with its sign, as ``number`` rounds it."""
    text = number(value, percent)
    return f"+{text}" if text.strip("0.") and text[0] not in (MISSING, "−") else text


def p_text(p: float | None) -> str:
    """A p value to three decimals."""
    if p is None or math.isnan(p):
        return MISSING
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def images_of(table: ResultTable, name: str) -> str:
    """The images behind a column. A recall is of the images of its classes, other statistics of
    classes are of all images: ``50 of 400``."""
    n = table.rows[0].cells[name].n
    if ":" in name and described(name).weights is None:
        return f"{n:,} of {table.images[table.part]['all']:,}"
    return f"{n:,}"


def left_out(comparison: Comparison) -> str:
    """A line on unfinished runs, empty if there are none."""
    n = comparison.unfinished
    return f"{n} unfinished run{'s' * (n != 1)} left out." if n else ""
