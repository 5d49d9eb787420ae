"""Features in the plane (t-SNE), coloured by class, before and after a run's training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lmdbench.core.errors import UserError
from lmdbench.reporting.plots import register_plot
from lmdbench.reporting.plots.figures import shortened
from lmdbench.reporting.plots.style import (
    LONGEST_CLASS,
    MARKERS,
    METHOD_COLOURS,
    MOST_CLASSES,
    SMALL,
    WIDTH,
    legend_columns,
    write_footer,
    write_title,
)

SEED = 0  # of the embedding
PERPLEXITY = 30.0
PER_CLASS = 100  # images of a class, at most
FEWEST = 5  # images that can be laid out


@dataclass(frozen=True)
class Embedding:
    """Features of the same images by several encoders.

    ``features``: what the encoder is → (N, D) float;
    ``labels`` (N,) into ``classes``, which stand in the order of the legend. ``counts``: images of
    each class there were to choose from, (C,). ``notes``: sentences for the footer.
    """

    title: str
    part: str
    classes: Sequence[str]
    labels: np.ndarray
    counts: np.ndarray
    features: Mapping[str, np.ndarray]
    per_class: int = PER_CLASS
    notes: Sequence[str] = ()
    groups: Sequence[str] = ()  # of each class, empty where it is in none

    @property
    def shown(self) -> np.ndarray:
        """Images of each class that are drawn, (C,)."""
        return np.bincount(self.labels, minlength=len(self.classes))


@register_plot(
    "embedding", title="features by t-SNE, before and after a run's training", of="features"
)
def draw_embedding(embedding: Embedding, width: float = WIDTH) -> Figure:
    """A panel for each encoder. Raises UserError for too few images, or features not finite."""
    n = len(embedding.labels)
    if n < FEWEST:
        raise UserError(
            f"{embedding.title}: {n} image{'s' * (n != 1)} cannot be laid out by t-SNE; "
            f"{FEWEST} are the fewest"
        )
    panels = len(embedding.features)
    embedding = by_group(embedding)
    names = [
        f"{c + 1} {shortened(name, LONGEST_CLASS)} ({shown:,} / {there:,})"
        for c, (name, shown, there) in enumerate(
            zip(embedding.classes, embedding.shown, embedding.counts, strict=True)
        )
    ]
    per_line = legend_columns(names, width)
    legend = 0.17 * -(-len(names) // per_line)
    side = min(width / panels, 4.5)
    figure = Figure(figsize=(width, side + legend + 0.2), layout="constrained")
    grid = figure.add_gridspec(2, panels, height_ratios=(side, legend))
    for number, (name, features) in enumerate(embedding.features.items()):
        axes = figure.add_subplot(grid[0, number])
        _draw(axes, embedding, plane(features), names)
        axes.set_title(name, fontsize=8.5)
    below = figure.add_subplot(grid[1, :])
    below.axis("off")
    below.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="upper left",
        borderaxespad=0,
        ncols=per_line,
        frameon=False,
        fontsize=SMALL,
        handletextpad=0.2,
        columnspacing=1.0,
    )
    write_title(figure, "Features of images, laid out by t-SNE", embedding.title)
    limited = (
        f"At most {embedding.per_class} {embedding.part} images of a class (shown / there are)."
    )
    write_footer(
        figure,
        limited,
        *embedding.notes,
        f"Each panel: t-SNE from the first two principal components, perplexity "
        f"{_perplexity(n):g}, seed {SEED}. Distances between clusters and their sizes mean little.",
    )
    return figure


def by_group(embedding: Embedding) -> Embedding:
    """Of more than ``MOST_CLASSES`` classes their groups in the classes' place."""
    classes = len(embedding.classes)
    if classes <= MOST_CLASSES:
        return embedding
    named = [group or "in no group" for group in embedding.groups] or ["any class"] * classes
    groups = list(dict.fromkeys(named))
    place = np.array([groups.index(group) for group in named])
    return replace(
        embedding,
        classes=groups,
        labels=place[embedding.labels],
        counts=np.bincount(place, embedding.counts, len(groups)).astype(int),
        notes=[*embedding.notes, f"Groups stand for the {classes:,} classes."],
    )


def plane(features: np.ndarray) -> np.ndarray:
    """t-SNE of features (N, D) into (N, 2); the same features give the same places."""
    from sklearn.manifold import TSNE

    if not np.isfinite(features).all():
        raise UserError("the features of some images are not finite; the run diverged")
    tsne = TSNE(perplexity=_perplexity(len(features)), init="pca", random_state=SEED)
    return tsne.fit_transform(features.astype(np.float64))


def _perplexity(images: int) -> float:
    """scikit-learn needs fewer neighbours than images."""
    return min(PERPLEXITY, (images - 1) // 3)


def _draw(axes: Axes, embedding: Embedding, places: np.ndarray, names: Sequence[str]) -> None:
    kinds = len(METHOD_COLOURS)
    for c, label in enumerate(names):
        of_class = places[embedding.labels == c]
        colour = METHOD_COLOURS[c % kinds]
        axes.plot(
            of_class[:, 0],
            of_class[:, 1],
            MARKERS[(c + c // kinds) % kinds],
            color=colour,
            markerfacecolor=colour if c // kinds % 2 == 0 else "none",
            markersize=3.2,
            markeredgewidth=0.5,
            alpha=0.8,
            label=label,
        )
    for c in range(len(names)):
        of_class = places[embedding.labels == c]
        if len(of_class):
            x, y = np.median(of_class, axis=0)
            axes.text(
                x,
                y,
                str(c + 1),
                ha="center",
                va="center",
                fontsize=SMALL,
                fontweight="bold",
                bbox={"boxstyle": "round,pad=0.12", "facecolor": "#FFFFFFC0", "linewidth": 0.4},
                zorder=5,
            )
    axes.set_xticks([])
    axes.set_yticks([])
