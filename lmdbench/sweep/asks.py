"""What each run of a sweep asks of a queue: by its method, and by how long it will take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lmdbench.core.errors import UserError
from lmdbench.sweep.config.resources import Resources
from lmdbench.sweep.config.sbatch import asks_for_gpus
from lmdbench.sweep.estimate import (
    CALIBRATIONS,
    estimate,
    finished_records,
    load_calibrations,
)
from lmdbench.sweep.executors.batches import Ask
from lmdbench.sweep.plan import Node, SweepPlan

SAFETY = 2.0  # time asked for / time expected


def asks(plan: SweepPlan, nodes: Sequence[Node]) -> dict[str, Ask]:
    """By key, of the runs that ask for something else than the rest of the sweep.

    Raises UserError where the time is to be estimated and nothing is known of a run.
    """
    resources = plan.sweep.resources
    found = {node.key: _by_method(node, resources) for node in nodes}
    if resources.auto_time:
        open_ = [node for node in nodes if found[node.key].minutes is None]
        for key, minutes in _minutes(plan, open_, found).items():
            found[key] = Ask(found[key].options, minutes, summed=True)
    return {key: ask for key, ask in found.items() if ask != Ask()}


def _by_method(node: Node, resources: Resources) -> Ask:
    """From [slurm.METHOD], then from the tables of its labels."""
    labels = (entry.label for _, entry in node.asked if entry.label)
    names = dict.fromkeys((node.run.spec.method, *labels))
    tables = [resources.of_methods[name] for name in names if name in resources.of_methods]
    options: dict[str, str | int | bool] = {}
    for table in tables:
        options |= table.sbatch
    times = [table.time_minutes for table in tables if table.time_minutes is not None]
    return Ask(tuple(sorted(options.items())), times[-1] if times else None)


def _minutes(plan: SweepPlan, nodes: Sequence[Node], asked: Mapping[str, Ask]) -> dict[str, int]:
    """Key → minutes that a run may take: twice what it is expected to, on the kind of device that
    its job asks for."""
    sweep = plan.sweep
    calibrations = load_calibrations(plan.folder / CALIBRATIONS)
    records = finished_records(plan.results)
    found: dict[str, int] = {}
    unknown: dict[str, Node] = {}
    for on_gpu in (True, False):
        some = [node for node in nodes if _on_gpu(sweep.resources, asked[node.key]) == on_gpu]
        fitting = [record for record in records if _fits(str(record.device), on_gpu=on_gpu)]
        measured = {k: v for k, v in calibrations.items() if _fits(v.device, on_gpu=on_gpu)}
        guesses = estimate([node.run for node in some], fitting, measured)
        for node, guess in zip(some, guesses, strict=True):
            if guess is None:
                unknown.setdefault(node.label, node)
            else:
                found[node.key] = math.ceil(SAFETY * guess.seconds / 60)
    if unknown:
        first, *others = unknown
        device = "a GPU" if _on_gpu(sweep.resources, asked[unknown[first].key]) else "a CPU"
        raise UserError(
            f'{sweep.source}: time = "auto", but nothing tells how long {first} takes on {device}'
            f"{f' (nor {len(others)} other methods)' if others else ''}: lmdbench sweep plan "
            f'{sweep.argument} --calibrate on such a machine measures it; or give time = "8h"'
        )
    return found


def _on_gpu(resources: Resources, ask: Ask) -> bool:
    return asks_for_gpus({**resources.sbatch, **dict(ask.options)})


def _fits(device: str, *, on_gpu: bool) -> bool:
    """Whether what was timed on a device tells of a job. One that asks for no GPU may get one."""
    return not (on_gpu and device.startswith("cpu"))
