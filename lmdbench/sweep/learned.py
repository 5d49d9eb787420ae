"""What a launch learns from how runs ended before: more memory or time, and a job of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lmdbench.runs import attempts
from lmdbench.runs.attempts import Cause
from lmdbench.sweep.config.resources import Resources
from lmdbench.sweep.config.sbatch import OF_MEMORY, mebibytes
from lmdbench.sweep.executors.batches import Ask, job_minutes
from lmdbench.sweep.plan import Node, SweepPlan


def learned(
    plan: SweepPlan, nodes: Sequence[Node], asked: Mapping[str, Ask]
) -> tuple[dict[str, Ask], list[str]]:
    """What runs ask for, by key, after what became of them before; and what to say of it.

    A run that died shares no job with others. One that ran out of memory or time gets more, as
    ``[retry]`` says, for each job in which it did.
    """
    found, grown = dict(asked), {}
    for node in nodes:
        known = attempts.attempts(node.run.directory)
        if not known:
            continue
        ask = found.get(node.key, Ask())
        if attempts.deaths(node.run.directory):
            ask = replace(ask, alone=True)
        more = with_more(ask, plan.sweep.resources, _jobs(known, "memory"), _jobs(known, "time"))
        if more != ask:
            grown[node.title] = ", ".join(_changes(ask, more))
        if more != Ask():
            found[node.key] = more
    lines = [f"{title} gets {what}, as it ran out of it before" for title, what in grown.items()]
    if len(lines) > 1:
        lines = [f"{len(lines)} runs get more than before, such as: {lines[0]}"]
    return found, lines


def with_more(ask: Ask, resources: Resources, memory: int, time: int) -> Ask:
    """What a run asks for that ran out of memory in so many jobs, and of time in so many."""
    retry = resources.retry
    if memory and retry.mem > 1:
        given = {k.replace("_", "-"): v for k, v in resources.sbatch.items()} | dict(ask.options)
        options = dict(ask.options)
        for name in OF_MEMORY:
            size = mebibytes(str(given.get(name, "")))
            if size:
                wanted = round(size * retry.mem**memory)
                options[name] = f"{max(size, min(wanted, retry.mem_most or wanted))}M"
        ask = replace(ask, options=tuple(sorted(options.items())))
    minutes = job_minutes(ask, resources)
    if time and retry.time > 1 and minutes:
        wanted = round(minutes * retry.time**time)
        most = max(minutes, min(wanted, retry.time_most or wanted))
        ask = replace(ask, minutes=most, summed=False, alone=True)
    return ask


def _jobs(known: Sequence[attempts.Attempt], cause: Cause) -> int:
    """In how many jobs a run ended by a cause; tries in one job count once."""
    return len({one.job or one.token for one in known if one.cause == cause})


def _changes(before: Ask, after: Ask) -> Iterator[str]:
    for name, value in after.options:
        if (name, value) not in before.options:
            yield f"{name} {value}"
    if after.minutes != before.minutes:
        yield f"time {after.minutes} min"
