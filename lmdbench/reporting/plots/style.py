"""What the plots share: how methods look, the order of classes, title and footer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from lmdbench.comparison.compare import BASELINE
from lmdbench.comparison.notes import seeds_text
from lmdbench.comparison.types import MethodResult, ResultTable
from lmdbench.core.errors import UserError
from lmdbench.data.splits.spec import training_counts
from lmdbench.reporting.plots.figures import shortened, wrapped

WIDTH = 7.0  # inches: the text width of a page
NARROWEST, WIDEST = 3.3, 40.0  # from one column of a page
SMALL = 7.0  # points: no letter is smaller
TITLE_LETTER_INCHES = 0.075  # of the titles of panels, on average
LETTERS_PER_INCH = 18.0  # at 7 points
LETTER_INCHES = 0.06  # at 7 points, on average
LONGEST_LABEL = 44
LONGEST_CLASS = 28
MOST_CLASSES = 40  # that are drawn and named one by one
MOST_PANELS = 24  # of methods, a panel each
MOST_LINES = 250  # of methods, a line each; far more are no picture that can be written
GRID: dict[str, Any] = {"color": "#E4E4E4", "linewidth": 0.6, "zorder": 0}

# Colours of Okabe and Ito; ce, which others are measured by, is grey. In grey print markers and
# hatches tell methods apart.
BASELINE_COLOUR = "#6E6E6E"
METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("s", "^", "D", "v", "P", "X", "*")
METHOD_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")


@dataclass(frozen=True)
class Look:
    """How one method is drawn, everywhere in a figure."""

    colour: str
    marker: str
    hatch: str
    filled: bool

    def points(self, size: float = 4.5) -> dict[str, Any]:
        """Words for ``Axes.plot`` and ``Axes.errorbar``."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": size * (1.35 if self.marker == "*" else 1.0),
            "markerfacecolor": self.colour if self.filled else "white",
            "markeredgecolor": self.colour,
            "markeredgewidth": 0.8,
        }

    def bars(self) -> dict[str, Any]:
        """Words for ``Axes.bar``."""
        face = self.colour if self.filled else "white"
        edge = ("white" if self.hatch else "black") if self.filled else self.colour
        return {"facecolor": face, "edgecolor": edge, "hatch": self.hatch, "linewidth": 0.4}


def looks(table: ResultTable) -> dict[str, Look]:
    """Row's label → its look. Tables with the same rows have the same looks, whatever the order."""
    base = baseline_of(table.rows)
    by_label = {} if base is None else {base.label: Look(BASELINE_COLOUR, "o", "", True)}
    kinds = len(METHOD_COLOURS)
    others = sorted(row.label for row in table.rows if row is not base)
    for number, label in enumerate(others):
        # A second round has the next marker for each colour, hollow.
        k, times = number % kinds, number // kinds
        shape = (k + times) % kinds
        by_label[label] = Look(
            METHOD_COLOURS[k], MARKERS[shape], METHOD_HATCHES[shape], times % 2 == 0
        )
    return by_label


def baseline_of(rows: Sequence[MethodResult]) -> MethodResult | None:
    """The row of plain ce; where its settings were changed, the first one of ce."""
    of_baseline = [row for row in rows if row.method == BASELINE]
    plain = [row for row in of_baseline if row.label == BASELINE]
    return next(iter([*plain, *of_baseline]), None)


def drawn_rows(table: ResultTable, most: int) -> list[MethodResult]:
    """At most so many rows, in the table's order: ce, the reference, and of the others the best by
    the first column, which are the last of a table."""
    if len(table.rows) <= most:
        return list(table.rows)
    first = [row for row in table.rows if row.label == table.reference]
    if (base := baseline_of(table.rows)) is not None and base not in first:
        first.append(base)
    best = [row for row in reversed(table.rows) if row not in first]
    kept = {id(row) for row in [*first, *best][:most]}
    return [row for row in table.rows if id(row) in kept]


def not_drawn(table: ResultTable, drawn: Sequence[MethodResult]) -> str:
    """A sentence on the rows that ``drawn_rows`` left out; empty where it took all."""
    more = len(table.rows) - len(drawn)
    if not more:
        return ""
    what = "method is" if more == 1 else "methods are"
    return f"The best by the first column, and what they are compared with; {more} more {what} " + (
        "not drawn: --method chooses."
    )


def grid_of(panels: int, most: int) -> tuple[int, int]:
    """Lines and columns for so many panels, at most ``most`` beside each other, evenly filled."""
    lines = -(-panels // max(most, 1))
    return lines, -(-panels // lines)


def label_of(row: MethodResult, letters: int = LONGEST_LABEL) -> str:
    return shortened(row.label, letters)


def class_order(table: ResultTable) -> list[int]:
    """Class indices by training images, the largest class first."""
    return order_of(training_images(table))


def order_of(counts: np.ndarray) -> list[int]:
    """The same from the training images (C,)."""
    return [int(c) for c in np.argsort(-counts, kind="stable")]


def training_images(table: ResultTable) -> np.ndarray:
    """Training images of each class (C,); of pooled folds what a fold has, on average."""
    run = table.rows[0].runs[0]
    counts = [member.record.class_counts for member in run.members]
    if not all(parts.get("train") for parts in counts):
        raise UserError(
            f"{run.directory}: its run.json does not tell the training images of each class"
        )
    return np.mean([training_counts(_arrays(parts)) for parts in counts], axis=0)


def _arrays(parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {part: np.asarray(n) for part, n in parts.items()}


def group_edges(table: ResultTable, order: Sequence[int]) -> list[tuple[str, int, int]]:
    """Stretches of one group in an order of classes: group, first place, place after the last.

    A class in no group has the group "".
    """
    classes = table.record.classes
    of = {name: group for group, names in table.setting["groups"].items() for name in names}
    stretches: list[tuple[str, int, int]] = []
    for place, c in enumerate(order):
        group = of.get(classes[c], "")
        if stretches and stretches[-1][0] == group:
            stretches[-1] = (group, stretches[-1][1], place + 1)
        else:
            stretches.append((group, place, place + 1))
    return stretches


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many labels fit beside each other in so many inches, with a marker before each."""
    return max(1, min(len(labels), int(width / (0.5 + LETTER_INCHES * max(map(len, labels))))))


def legend_above(axes: Axes, columns: int, points: float = 4) -> None:
    """A legend over axes that span the figure, so many points above them."""
    figure = axes.figure
    above = ScaledTranslation(0, points / 72, figure.dpi_scale_trans)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        bbox_transform=axes.transAxes + above,
        borderaxespad=0,
        ncols=columns,
        frameon=False,
        fontsize=SMALL + 0.5,
    )


def fitted(text: str, width: float) -> str:
    """The text in lines of so many inches at the usual size."""
    return "\n".join(wrapped(text, width / (1.15 * LETTER_INCHES)))


def write_title(figure: Figure, what: str, title: str) -> None:
    """What is shown, in bold, and below it of what, in lines of the figure's width.

    The figure grows by them, as it does by the footer: its size before is for what is drawn.
    """
    letters = figure.get_figwidth() * LETTERS_PER_INCH * 0.72
    lines = [*wrapped(what, letters), *wrapped(title, letters)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9, fontweight="bold")
    figure.set_figheight(figure.get_figheight() + _title_inches(len(lines)))


def write_footer(figure: Figure, *sentences: str) -> None:
    """What a reader must know beside the picture, below everything."""
    text = " ".join(sentence for sentence in sentences if sentence)
    lines = wrapped(text, figure.get_figwidth() * LETTERS_PER_INCH)
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL)
    figure.set_figheight(figure.get_figheight() + _footer_inches(len(lines)))


def take_caption(figure: Figure) -> str:
    """Take title and footer away, and the room they have; returns their text, line by line."""
    title, footer = figure.get_suptitle(), figure.get_supxlabel()
    inches = figure.get_figheight()
    if title:
        figure.suptitle("").set_in_layout(False)
        inches -= _title_inches(title.count("\n") + 1)
    if footer:
        figure.supxlabel("").set_in_layout(False)
        inches -= _footer_inches(footer.count("\n") + 1)
    figure.set_figheight(inches)
    return "\n".join(filter(None, (title, footer)))


def _title_inches(lines: int) -> float:
    return 0.15 * lines + 0.1


def _footer_inches(lines: int) -> float:
    return 0.12 * lines + 0.08


def seeds_sentence(rows: Sequence[MethodResult]) -> str:
    """The seeds behind a figure's numbers."""
    by_seeds = dict.fromkeys(seeds_text(row.seeds) for row in rows)
    several = "; they differ between methods" if len(by_seeds) > 1 else ""
    one = len(by_seeds) == 1 and len(rows[0].seeds) == 1
    return f"Seed{'' if one else 's'} {' / '.join(by_seeds)}{several}."


def bare(axes: Axes, *sides: str) -> None:
    """Take away the frame's sides; by default top and right."""
    for side in sides or ("top", "right"):
        axes.spines[side].set_visible(False)


def whiskers(
    axes: Axes, x: Any, values: Any, low: Any, high: Any, **words: Any
) -> ErrorbarContainer:
    """Vertical intervals; where there is none (NaN) only the value is drawn."""
    values, low, high = (np.asarray(a, dtype=float) for a in (values, low, high))
    sizes = np.nan_to_num(np.stack([values - low, high - values]))
    return axes.errorbar(x, values, yerr=np.maximum(sizes, 0), capsize=1.5, capthick=0.7, **words)
