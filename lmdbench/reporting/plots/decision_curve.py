"""Decision curves of one class: net benefit against the threshold probability."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lmdbench.comparison.outcomes import Outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.core.errors import UserError
from lmdbench.evaluation.curves import Band, band, net_benefits, treat_all
from lmdbench.evaluation.metrics import softmax
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.one_vs_rest import (
    MethodBands,
    OneVsRest,
    add_legend,
    band_sentence,
    codes_of,
    curve_axes,
    draw_bands,
    fitting,
    method_bands,
    needs_class,
)
from lmdbench.reporting.plots.style import (
    WIDTH,
    label_of,
    training_images,
    write_footer,
    write_title,
)

# Above one half a false alarm would count for more than a missed case.
THRESHOLDS = np.linspace(0, 0.5, 51)
BELOW = 0.4  # of the largest net benefit: how far below 0 the axis reaches


@register_plot(
    "decision-curve",
    title="net benefit of a class against the threshold probability",
    of="class",
    one_class=True,
)
def draw_decision_curve(data: OneVsRest, width: float = WIDTH) -> Figure:
    """Net benefit (Vickers & Elkin 2006) of each method, of treating all and of treating none.

    Probabilities are those of the runs, unless the table is calibrated. Mean over seeds with a
    pointwise band: t over the seeds' spread and the variance owed to the test images. Of more than
    ``MOST_METHODS`` methods, ``drawn_rows``. Raises UserError without a class.
    """
    table = data.table
    if data.name is None:
        raise needs_class("decision-curve", table.record.classes)
    (of,) = data.classes

    def net_benefit(seen: Outcomes) -> Band:
        probabilities = np.stack([softmax(one)[:, of] for one in seen.logits])
        curve = net_benefits(probabilities, seen.labels, of, THRESHOLDS, codes_of(seen))
        return band([curve], (-np.inf, data.prevalence))

    drawn = method_bands(data, net_benefit)
    labels = {row.label: fitting(row, width) for row in drawn.rows}
    figure, axes = curve_axes([*labels.values(), "treat none"], width, square=False)
    x = 100 * THRESHOLDS
    treated = 100 * treat_all(data.prevalence, THRESHOLDS)
    axes.plot(x, treated, color="black", linewidth=0.9, linestyle=(0, (1, 1.2)), label="treat all")
    axes.axhline(0, color="black", linewidth=0.9, label="treat none")
    draw_bands(axes, x, drawn, table, labels)
    highest = max(100 * data.prevalence, *(100 * b.high.max() for b in drawn.bands.values()))
    lowest = -BELOW * highest
    axes.set_ylim(lowest, 1.05 * highest)
    axes.set_xlim(0, x[-1])
    axes.set_xlabel("threshold probability, %")
    axes.set_ylabel("net benefit,\ntrue positives per 100 images")
    add_legend(axes, width)
    write_title(figure, f"Net benefit: {data.words}", table.title)
    write_footer(
        figure,
        "True positives less false positives weighted by the odds of the threshold. Probabilities "
        f"are {_probabilities(table, of)}. Net benefit is for the share in these images, "
        f"{100 * data.prevalence:.1f} %.",
        band_sentence(drawn),
        _below(drawn, lowest / 100),
        data.of_images,
        *drawn.notes,
    )
    return figure


def _below(drawn: MethodBands, lowest: float) -> str:
    """A sentence on methods of which next to nothing is seen, as they lie below the axes."""
    values = {label_of(row): drawn.bands[row.label].value[1:] for row in drawn.rows}
    names = [name for name, value in values.items() if (value < lowest).all()]
    return f"Below what is shown but for a threshold of 0: {', '.join(names)}." if names else ""


def _probabilities(table: ResultTable, of: int) -> str:
    """What was done to them, and under which shares of the classes they are."""
    done = table.calibration
    if done is None:
        return f"the runs' own, not recalibrated: {_prior(table, of)}"
    words = f"recalibrated ({', '.join(done.words)})"
    return words if done.prior is not None else f"{words}: {_prior(table, of)}"


def _prior(table: ResultTable, of: int) -> str:
    """Under which shares of the classes the probabilities are."""
    try:
        counts = training_images(table)
    except UserError:  # as of imported predictions
        return "the shares of the classes they hold under are not known"
    share = 100 * counts[of] / counts.sum()
    return (
        f"they hold under the class's share in training, {share:.1f} %, or under the shares that a "
        "method puts in its place"
    )
