"""Plots by name: functions ``(data, width in inches) -> Figure`` of matplotlib, without pyplot.
``figures.save_figure`` and ``figures.svg_text`` write what they return."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from lmdbench.comparison.results import RunGroup
from lmdbench.core.errors import UserError
from lmdbench.core.registry import PLUGIN_MODULE, Registry, registrar, unknown
from lmdbench.reporting.plots.figures import drawing

# What a plot is of → what its function is given of it
DATA = {
    "table": "a ResultTable, one of what `lmdbench compare` shows",
    "comparison": "the Comparison: all tables, and the ranks across them",
    "class": "a OneVsRest: a ResultTable, and the class that --class names",
    "run": "a Run: its directory and its record",
    "features": "an Embedding: features of a run's images, before and after its training",
}

Draw = Callable[[Any, float], Figure]
Check = Callable[[Sequence[RunGroup]], None]  # of a comparison's groups of rows


@dataclass(frozen=True)
class Plot:
    """``of``: a key of ``DATA``. ``one_class``: it is of one class, never of the mean over all."""

    name: str
    title: str
    of: str
    function: Draw
    check: Check | None = None
    one_class: bool = False

    def draw(self, data: Any, width: float) -> Figure:
        """The figure, ``width`` inches wide. Raises UserError where the function makes none, and
        for whatever that of a plug-in raises."""
        try:
            figure = self.function(data, width)
        except UserError:
            raise
        except Exception as error:
            if PLOTS.is_built_in(self.name):
                raise
            said = " ".join(f"{type(error).__name__}: {error}".split())
            where = PLOTS.origin(self.name).partition(":")[0].removeprefix(PLUGIN_MODULE)
            raise UserError(f"plot {self.name!r} of plug-in {where} raised {said}") from error
        if not isinstance(figure, Figure):
            raise UserError(
                f"plot {self.name!r} must return a matplotlib Figure; it returned "
                f"{None if figure is None else type(figure).__name__}"
            )
        return figure


PLOTS: Registry[Plot] = Registry("plot", __name__, group="lmdbench.plots")


@registrar
def register_plot(
    name: str,
    *,
    title: str,
    of: str = "table",
    check: Check | None = None,
    one_class: bool = False,
) -> Callable[[Draw], Draw]:
    """Decorator of a function ``(data, width in inches) -> Figure``, which then draws in the common
    style. ``title``: a line on what it shows; ``of``: what it is given, a key of ``DATA``.
    ``check``: of a comparison, given its groups of rows before they are scored; raises UserError
    for those of which nothing can be drawn. ``one_class``: of a class, and without --class refused.

    Raises UserError for what can't draw, and for a taken name.
    """

    def decorate(function: Draw) -> Draw:
        if of not in DATA:
            raise UserError(f"plot {name!r}: {unknown('of', of, list(DATA))}")
        if not (isinstance(title, str) and title.strip() and title.isprintable()):
            raise UserError(f"plot {name!r}: title must say in a line what it shows")
        try:
            if inspect.isclass(function):
                raise TypeError
            inspect.signature(function).bind(None, None)
        except (TypeError, ValueError):
            raise UserError(
                f"plot {name!r} must be a function of two parameters: {DATA[of]}; and the width in "
                "inches"
            ) from None
        styled = drawing()(function)
        PLOTS.add(name, Plot(name, title, of, styled, check, one_class), function)
        return styled

    return decorate
