"""The metrics that are known by name, and how one is added."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from lmdbench.core.errors import UserError
from lmdbench.core.registry import Registry, registrar
from lmdbench.evaluation.metric_check import check_influences, check_metric, influences_of, tried
from lmdbench.evaluation.metrics.metric import Metric, Scorer

Function = TypeVar("Function", bound=Callable[[np.ndarray, np.ndarray], float])

METRICS: Registry[Metric] = Registry(
    "metric", "lmdbench.evaluation.metrics", group="lmdbench.metrics"
)


@registrar
def register_metric(
    name: str,
    *,
    title: str,
    bounds: tuple[float, float] = (0.0, 1.0),
    lower_is_better: bool = False,
    percent: bool | None = None,
    influences: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Callable[[Function], Function]:
    """Decorator of a function of labels (N,) int64 and logits (N, C) float32 that returns a number.

    ``bounds``: the smallest and the largest value it can have, perhaps ±inf. ``percent``: show it
    in percent; if not said, where it lies between −1 and 1. ``influences``: a function of the same
    arguments, (N,) floats: what one more copy of each image adds to the metric, to first order;
    without it intervals come from a bootstrap of images (or lesions, patients) within classes.
    Where the function raises or returns NaN, the metric has no value, and tables say why.

    It is tried on a few images. Raises UserError, in one line, for what makes no sense as a metric,
    and for a taken name or title.
    """

    def decorate(function: Function) -> Function:
        check_metric(name, function, title, bounds, lower_is_better)
        for other, one in METRICS.all().items():
            if plain(other) != plain(str(name)) and plain(one.title) == plain(title):
                raise UserError(
                    f"metric {name!r}: {other!r} has the title {one.title!r} already; give another"
                )
        same = [one for one in METRICS if plain(one) == plain(str(name))]
        if influences is not None:
            check_influences(name, function, influences)

        def value(scorer: Scorer) -> float:
            return tried(function, scorer.labels, scorer.logits, bounds)[0]

        def undefined(scorer: Scorer) -> str:
            return tried(function, scorer.labels, scorer.logits, bounds)[1]

        def influence_of(scorer: Scorer) -> np.ndarray:
            assert influences is not None
            return influences_of(name, influences, scorer.labels, scorer.logits)

        metric = Metric(
            name,
            title,
            value,
            influence_of if influences is not None else None,
            undefined,
            bounds=(float(bounds[0]), float(bounds[1])),
            lower_is_better=lower_is_better,
            percent=bounds[0] >= -1 and bounds[1] <= 1 if percent is None else percent,
            needs="logits",
        )
        METRICS.add(same[0] if same else name, metric, function)
        return function

    return decorate


def plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
