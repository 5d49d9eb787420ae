"""What metrics there are, a line each."""

from __future__ import annotations

from dataclasses import dataclass

from lmdbench.evaluation.metrics.decisions import FORM
from lmdbench.evaluation.metrics.metric import Metric
from lmdbench.evaluation.metrics.names import ALIASES, CLASS_STATS, FAMILIES, described
from lmdbench.evaluation.metrics.registry import METRICS


@dataclass(frozen=True)
class Listed:
    """A metric as a list of all shows it.

    ``name`` as it is typed; ``aliases``: what else may be typed; ``better``: higher or lower;
    ``bounds``: its smallest and largest value; ``of_a_class``: how one of a class or group is
    asked for, empty if there is none; ``needs`` and ``interval`` as of a ``Metric``; ``whence``:
    lmdbench, or what added it.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    better: str
    bounds: tuple[float, float]
    of_a_class: str
    needs: str
    interval: str
    whence: str


def listing() -> list[Listed]:
    """All metrics that have a name: those of ``METRICS``, and those with a share or a file of the
    user's, with an example of it."""
    stats = {stat.mean: name for name, stat in CLASS_STATS.items()}
    listed = [
        _listed(name, metric, f"{stats[name]}:CLASS" if name in stats else "", METRICS.whence(name))
        for name, metric in METRICS.all().items()
    ]
    for family in FAMILIES.values():
        listed.append(_listed(family.form, described(family.form), f"{family.form}:CLASS"))
    return [*listed, _listed(FORM, described(FORM))]


def _listed(name: str, metric: Metric, of_a_class: str = "", whence: str = "lmdbench") -> Listed:
    aliases = tuple(alias for alias, of in ALIASES.items() if of == name and alias not in METRICS)
    better = "lower" if metric.lower_is_better else "higher"
    said = metric.title, aliases, better, metric.bounds, of_a_class, metric.needs, metric.interval
    return Listed(name, *said, whence)
