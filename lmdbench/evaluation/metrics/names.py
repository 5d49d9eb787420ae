"""Metrics by the names that people type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lmdbench.core.errors import UserError
from lmdbench.core.registry import unknown
from lmdbench.evaluation.metrics import agreement, calibration, decisions, ranking, recalls
from lmdbench.evaluation.metrics.classes import mean_of, of_sets
from lmdbench.evaluation.metrics.families import Family
from lmdbench.evaluation.metrics.metric import Classes, ClassStat, Facts, Metric
from lmdbench.evaluation.metrics.registry import METRICS, plain

# The metrics a table shows, before the groups, when none is asked for.
DEFAULT_METRICS = ("balanced_accuracy", "macro_f1", "macro_auroc", "accuracy")

# What ``scores`` gives, before those of plug-ins and the groups, when none is asked for.
SUMMARY = (*DEFAULT_METRICS, "mcc", "group_mean")

# Name → what can be asked of a class or group.
CLASS_STATS: Mapping[str, ClassStat] = {**recalls.STATS, **ranking.STATS}
# The beginning of a name, up to the = → statistics of classes at a share that is chosen
FAMILIES: Mapping[str, Family] = {
    f"{family.name}@{family.key}": family for family in (*ranking.FAMILIES, *decisions.FAMILIES)
}

_BUILT_IN = (
    *recalls.ALL,
    *ranking.ALL,
    *agreement.ALL,
    *calibration.ALL,
    *decisions.ALL,
)
BUILT_IN = tuple(metric.name for metric in _BUILT_IN)
for _metric in _BUILT_IN:
    METRICS.add(_metric.name, _metric, Metric)

# What statistics of classes are called too → their names
_OF_STATS = {
    "sensitivity": "recall",
    "tpr": "recall",
    "tnr": "specificity",
    "ppv": "precision",
    "auc": "auroc",
    "auprc": "average_precision",
    "ap": "average_precision",
    "lr+": "positive_likelihood_ratio",
    "lr-": "negative_likelihood_ratio",
}
# What metrics are called too → their names. A statistic's name alone is that of its mean over all
# classes. A plug-in's metric of such a name goes before.
ALIASES: Mapping[str, str] = {
    f"{macro}{name}": CLASS_STATS[stat].mean
    for name, stat in (*((name, name) for name in CLASS_STATS), *_OF_STATS.items())
    for macro in ("", "macro_")
    if f"{macro}{name}" != CLASS_STATS[stat].mean
} | {
    "uar": "balanced_accuracy",
    "cohen_kappa": "kappa",
    "qwk": "quadratic_weighted_kappa",
    "matthews": "mcc",
}


def parse(
    name: str,
    classes: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    facts: Facts | None = None,
) -> Metric:
    """The metric a user names, in any case, with - or space for _. ``groups``: name → indices.

    Raises UserError, with near matches, for an unknown metric, class or group, and for a share or
    a file behind an @ that is none.
    """
    members = {group: tuple(of) for group, of in groups.items()}
    known = Classes(tuple(classes), members, facts or Facts())
    base, colon, of = _divided(name)
    if colon:
        stat, found = class_stat(base, "metric before the colon")
        of = _find("class or group", of, [*known.names, *members])
        if of in known.names:
            own = ((of, (known.names.index(of),)),)
            return of_sets(f"{stat}:{of}", stat, found, own, True)
        name = of if found.linear else f"{stat}:{of}"
        return of_sets(name, stat, found, ((of, members[of]),))
    if "@" in base:
        metric = _with_words(base)
        return metric if metric.bind is None else metric.bind(known)
    meant = _find("metric", name, [*METRICS, *members], ALIASES)
    if meant in METRICS:
        metric = METRICS[meant]
        return metric if metric.bind is None else metric.bind(known)
    return of_sets(meant, "recall", recalls.RECALL, ((meant, members[meant]),))


def described(name: str) -> Metric:
    """The metric of a full name as far as it is known without classes and groups: its title,
    direction and format, not its value."""
    if name in METRICS:
        return METRICS[name]
    base, colon, _ = _divided(name)
    if colon and (base in CLASS_STATS or "@" in base):
        stat, found = class_stat(base)
        return of_sets(name, stat, found, ())
    if "@" in base:
        return _with_words(base)
    return of_sets(name, "recall", recalls.RECALL, ())


def class_stat(name: str, kind: str = "statistic of a class") -> tuple[str, ClassStat]:
    """Full name and statistic of each class that a user names, such as ``sensitivity`` or
    ``sensitivity@specificity=0.9``. Raises UserError, with near matches, for another name."""
    if "@" in name:
        return _family(name).at(name.partition("=")[2].strip())
    forms = [family.form for family in FAMILIES.values()]
    stat = _find(kind, name, [*CLASS_STATS, *forms], _OF_STATS)
    if stat in forms:
        return class_stat(stat)
    return stat, CLASS_STATS[stat]


def summary(groups: Iterable[str]) -> tuple[str, ...]:
    """The metrics of one run when none is asked for: ``SUMMARY``, those of plug-ins, the groups."""
    return (*SUMMARY, *(name for name in METRICS if name not in BUILT_IN), *groups)


def _divided(name: str) -> tuple[str, str, str]:
    """What stands before the colon, the colon, and the class or group behind it. The name of a file
    of costs may have colons of its own."""
    if plain(name).startswith(f"{decisions.NAME}@"):
        return name.strip(), "", ""
    return name.partition(":")


def _with_words(name: str) -> Metric:
    """The metric of all classes that a name with an @ is of."""
    before, _, said = name.partition("@")
    if plain(before) == decisions.NAME:
        return decisions.expected_cost(said)
    full, stat = class_stat(name)
    return mean_of(full, stat.title, stat)


def _family(name: str) -> Family:
    """The family of ``NAME@KEY=SHARE``."""
    before, _, said = name.partition("@")
    key = plain(said.partition("=")[0])
    aliases = {alias for alias, stat in _OF_STATS.items() if stat == "recall"} | {"recall"}
    for family in FAMILIES.values():
        names = aliases if family.name == "sensitivity" else {family.name}
        keys = aliases if family.key == "sensitivity" else {family.key}
        if plain(before) in names and key in keys:
            return family
    forms = [*(family.form for family in FAMILIES.values()), decisions.FORM]
    raise unknown("metric", name, forms)


def _find(kind: str, name: str, known: list[str], aliases: Mapping[str, str] = {}) -> str:
    """The known name that is meant."""
    if name in known:
        return name
    meant = {plain(alias): of for alias, of in aliases.items()}
    meant |= {plain(one): one for one in reversed(known)}
    if plain(name) in meant:
        return meant[plain(name)]
    for family in FAMILIES.values():
        if plain(name) == family.name:
            raise UserError(f"{kind} {name!r} needs a {family.key}, as in {family.form}")
    whole = kind == "metric"
    forms = [family.form for family in FAMILIES.values() if whole]
    listed = [*known, *forms, *(f"{stat}:CLASS" for stat in CLASS_STATS if whole), *aliases]
    hint = " All: `lmdbench metrics`; of a class or group as in recall:CLASS." * whole
    hint += " That of a plug-in needs --plugin FILE.py." * whole
    raise UserError(f"{unknown(kind, name, listed)}{hint}")
