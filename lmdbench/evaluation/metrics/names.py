"""Metrics by the names that people type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.evaluation.metrics import agreement, calibration, ranking, recalls
from lmdbench.evaluation.metrics.classes import mean_of, of_sets
from lmdbench.evaluation.metrics.metric import ClassStat, Metric
from lmdbench.evaluation.metrics.recalls import GROUP_MEAN, RECALL
from lmdbench.evaluation.metrics.registry import METRICS, plain

# The metrics a table shows, before the groups, when none is asked for.
DEFAULT_METRICS = ("balanced_accuracy", "macro_f1", "macro_auroc", "accuracy")

# What ``scores`` gives, before those of plug-ins and the groups, when none is asked for.
SUMMARY = (*DEFAULT_METRICS, "mcc", "group_mean")

# Name → what can be asked of a class or group.
CLASS_STATS: Mapping[str, ClassStat] = {**recalls.STATS, **ranking.STATS}

_BUILT_IN = (*recalls.ALL, *ranking.ALL, *agreement.ALL, *calibration.ALL)
BUILT_IN = tuple(metric.name for metric in _BUILT_IN)
for _metric in _BUILT_IN:
    METRICS.add(_metric.name, _metric, Metric)


def parse(name: str, classes: Sequence[str], groups: Mapping[str, Sequence[int]]) -> Metric:
    """The metric a user names, in any case, with - or space for _. ``groups``: name → indices.

    Raises UserError, with near matches, for an unknown metric, class or group.
    """
    stat, colon, of = name.partition(":")
    if colon:
        stat = _find("metric before the colon", stat, list(CLASS_STATS))
        of = _find("class or group", of, [*classes, *groups])
        if of in classes:
            own = ((of, (list(classes).index(of),)),)
            return of_sets(f"{stat}:{of}", stat, CLASS_STATS[stat], own, True)
    else:
        of = _find("metric", name, [*METRICS, *groups, *(f"{s}:CLASS" for s in CLASS_STATS)])
        if of == GROUP_MEAN:
            sets = tuple((group, tuple(members)) for group, members in groups.items())
            return mean_of(of, METRICS[of].title, RECALL, sets)
        if of in METRICS:
            return METRICS[of]
        stat = "recall"
    name = of if stat == "recall" else f"{stat}:{of}"
    return of_sets(name, stat, CLASS_STATS[stat], ((of, tuple(groups[of])),))


def described(name: str) -> Metric:
    """The metric of a full name as far as it is known without classes and groups: its title,
    direction and format, not its value."""
    if name in METRICS:
        return METRICS[name]
    stat = name.partition(":")[0]
    stat = stat if ":" in name and stat in CLASS_STATS else "recall"
    return of_sets(name, stat, CLASS_STATS[stat], ())


def summary(groups: Iterable[str]) -> tuple[str, ...]:
    """The metrics of one run when none is asked for: ``SUMMARY``, those of plug-ins, the groups."""
    return (*SUMMARY, *(name for name in METRICS if name not in BUILT_IN), *groups)


def _find(kind: str, name: str, known: list[str]) -> str:
    """The known name that is meant."""
    if name in known:
        return name
    meant = {plain(one): one for one in reversed(known)}
    if plain(name) not in meant:
        hint = " That of a plug-in needs --plugin FILE.py." * (kind == "metric")
        raise UserError(f"{unknown(kind, name, known)}{hint}")
    return meant[plain(name)]
