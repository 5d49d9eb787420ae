"""A plug-in's plot: is what is right more often also surer than it should be?"""

from matplotlib.figure import Figure

from lmdbench import metrics, register_plot
from lmdbench.comparison.outcomes import outcomes
from lmdbench.comparison.types import ResultTable
from lmdbench.reporting.plots.style import bare, looks, seeds_sentence, write_footer, write_title


@register_plot("accuracy-calibration", title="accuracy against calibration error, a point a run")
def draw(table: ResultTable, width: float) -> Figure:
    figure = Figure(figsize=(width, 0.6 * width), layout="constrained")
    axes = figure.subplots()
    look_of = looks(table)
    for row in table.rows:
        seen = outcomes(table, row)
        logits, correct = seen.logits[seen.usable], seen.correct[seen.usable]
        errors = [100 * metrics.score("ece", seen.labels, one) for one in logits]
        shares = 100 * correct.mean(axis=1)
        axes.plot(errors, shares, linestyle="none", label=row.label, **look_of[row.label].points())
    axes.set_xlabel("expected calibration error, % (the smaller the better)")
    axes.set_ylabel("accuracy, %")
    axes.legend(frameon=False)
    bare(axes)
    write_title(figure, "Accuracy against calibration error", table.title)
    write_footer(
        figure,
        f"Both are of the {table.images[table.part]['all']:,} {table.part} images as they are: "
        "under other shares of the classes they are other numbers.",
        seeds_sentence(table.rows),
    )
    return figure
