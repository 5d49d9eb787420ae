"""What the runs of a sweep file work on: [resources], [slurm] and [retry]."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lmdbench.core.lines import KeyPath
from lmdbench.core.registry import registry_of, unknown
from lmdbench.core.schema import Check, Document, flag, number, one_of, text, whole
from lmdbench.runs.options import IN_SWEEPS, KEEPS, RunOptions, checkpoint_interval
from lmdbench.sweep.config.retry import AS_USUAL, Retry, read_retry
from lmdbench.sweep.config.sbatch import OF_MEMORY, OF_PROCESSES, OURS, mebibytes, option_problem
from lmdbench.sweep.config.values import (
    AUTO,
    NAME,
    alone_option,
    duration,
    duration_or_auto,
    gpus,
    memory_option,
    option,
    texts,
)
from lmdbench.training.loggers import LOGGERS

OF_RESOURCES: dict[str, Check] = {
    "on": text,
    "workers": whole(1),
    "gpus": gpus,
    "runs_per_gpu": whole(1),
    "runs_per_job": whole(1),
    "threads": whole(1),
    "patience": number(0),
}
OF_RUNS: dict[str, Check] = {  # in [resources], too
    "log": texts,
    "validate_every": whole(1),
    "execution": one_of("auto", "plain", "compiled"),
    "deterministic": flag,
    "checkpoint_every": checkpoint_interval,
    "keep_weights": one_of(*KEEPS),
}
OF_SLURM: dict[str, Check] = {
    "time": duration_or_auto,
    "time_most": duration,
    "signal_seconds": whole(1),
    "setup": texts,
    "srun_args": texts,
    "use_srun": flag,
    "python": text,
    "array_parallelism": whole(1),
    "max_jobs": whole(1),
    "workers": whole(1),
}


@dataclass(frozen=True)
class OfMethod:
    """What the runs of a method get otherwise than those of others: [slurm.METHOD]."""

    time_minutes: int | None = None
    sbatch: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Resources:
    """What runs work on. ``sbatch``: by sbatch's long names; False or "" leaves one out."""

    on: str = "local"  # an executor
    workers: int | None = None  # on the CPU of this machine; None: 1
    gpus: tuple[int, ...] | None = None  # of this machine; None: all
    runs_per_gpu: int = 1  # side by side, here and in a job
    runs_per_job: int = 1  # on SLURM, one after another
    threads: int | None = None  # of the CPU for a run; None: those there are, shared out
    patience: float = 600.0  # seconds to wait for a disk that is full, read-only or away
    run: RunOptions = IN_SWEEPS
    retry: Retry = AS_USUAL
    time_minutes: int | None = None  # of a SLURM job; there where ``on`` is slurm, unless auto_time
    auto_time: bool = False  # by estimates
    time_most: int | None = None  # minutes that estimates may come to
    signal_seconds: int = 90  # before a job's time limit it is told
    setup: tuple[str, ...] = ()  # shell lines before the run
    srun_args: tuple[str, ...] = ()
    use_srun: bool = True
    python: str | None = None  # None: the one that launches
    array_parallelism: int | None = None  # jobs of an array at a time
    max_jobs: int | None = None  # of a sweep in the queue at a time; None: as many as it takes
    worker_jobs: int | None = None  # that take runs as they become ready; None: a job has its runs
    sbatch: Mapping[str, str | int | bool] = field(default_factory=dict)
    of_methods: Mapping[str, OfMethod] = field(default_factory=dict)  # by method or label

    @property
    def packed(self) -> int:
        """Runs in a job: ``runs_per_gpu`` side by side, ``runs_per_job`` of those in turn."""
        return self.runs_per_gpu * self.runs_per_job

    @property
    def remarks(self) -> list[str]:
        """What of [resources] has no part in what it is for."""
        here = {"workers": self.workers, "gpus": self.gpus} if self.on == "slurm" else {}
        instead = {"workers": "workers", "gpus": "gpus_per_node"}
        return [
            f"{name} in [resources] is of this machine and has no part in jobs of SLURM, which "
            f"{instead[name]} in [slurm] is for"
            for name, value in here.items()
            if value is not None
        ]


def read_resources(doc: Document, methods: Iterable[str] = ()) -> Resources:
    """``methods``: names and labels of the sweep's, of which [slurm] may have tables."""
    values = doc.fields(("resources",), OF_RESOURCES | OF_RUNS)
    for name in values.get("log", ()):
        if name not in LOGGERS:
            raise doc.error(("resources", "log"), unknown("logger", name, LOGGERS.names()))
    run = replace(IN_SWEEPS, **{k: values.pop(k) for k in OF_RUNS if k in values})
    if "workers" in values and "gpus" in values:
        raise doc.error(("resources", "workers"), "workers are of the CPU; leave it or gpus out")
    values |= _of_slurm(doc, list(methods))
    with doc.told_of(("resources", "on")):
        registry_of("executors").get(values.get("on", Resources.on))
    found = Resources(**values, run=run, retry=read_retry(doc))
    _check_times(doc, found)
    _check_retry(doc, found)
    return found


def _of_slurm(doc: Document, methods: Sequence[str]) -> dict[str, Any]:
    """Fields of ``Resources`` that [slurm] and its tables say."""
    values: dict[str, Any] = {}
    options: dict[str, str | int | bool] = {}
    of_methods: dict[str, OfMethod] = {}
    for key, value in doc.table(("slurm",)).items():
        path = ("slurm", key)
        name = key.replace("-", "_")
        if isinstance(value, dict) and (key != "extra" or key in methods):
            of_methods[key] = _of_method(doc, path, value, methods)
        elif key == "extra" and isinstance(value, dict):  # else the option of that name
            for extra, one in value.items():
                _add_option(doc, options, (*path, extra), one, any_name=True)
        elif name in OF_SLURM:
            values[name] = doc.check(path, value, OF_SLURM[name])
        else:
            _add_option(doc, options, path, value, any_name=False)
    time = values.pop("time", None)
    if "time_most" in values and time != AUTO:
        raise doc.error(("slurm", "time_most"), 'time_most is for time = "auto"; leave it out')
    if "workers" in values:
        values["worker_jobs"] = values.pop("workers")
        if of_methods or time == AUTO:
            own = 'time = "auto"' if time == AUTO else f"[slurm.{next(iter(of_methods))}]"
            text = (
                f"workers take runs of every method, so what they ask for is one: leave {own} out"
            )
            raise doc.error(("slurm", "workers"), text)
    found = {"auto_time": True} if time == AUTO else {"time_minutes": time} if time else {}
    return {**values, **found, "sbatch": options, "of_methods": of_methods}


def _of_method(
    doc: Document, path: KeyPath, table: Mapping[str, Any], methods: Sequence[str]
) -> OfMethod:
    name = str(path[-1])
    if name not in methods:
        near = difflib.get_close_matches(name, methods, n=1, cutoff=0.5)
        hint = f"Did you mean [slurm.{near[0]}]? " if near else ""
        have = ", ".join(methods)
        raise doc.error(path, f"no method of this sweep is {name}. {hint}It has {have}")
    options: dict[str, str | int | bool] = {}
    minutes = None
    for key, value in table.items():
        if key == "time":
            minutes = doc.check((*path, key), value, duration)
        elif key.replace("-", "_") in OF_SLURM:
            raise doc.error((*path, key), f"{key} is of all jobs; give it under [slurm]")
        elif key == "extra" and isinstance(value, dict):
            for extra, one in value.items():
                _add_option(doc, options, (*path, key, extra), one, any_name=True)
        else:
            _add_option(doc, options, (*path, key), value, any_name=False)
    return OfMethod(minutes, options)


def _check_times(doc: Document, resources: Resources) -> None:
    """Raise UserError where a time limit lacks, or leaves no time to be told of it."""
    if resources.on == "slurm" and resources.time_minutes is None and not resources.auto_time:
        raise doc.error(
            ("slurm",) if "slurm" in doc.content else ("resources", "on"),
            'on = "slurm" needs the time limit of a job; add time = "8h" under [slurm]',
        )
    own = "signal_seconds" if "signal_seconds" in doc.table(("slurm",)) else "time"
    times: dict[KeyPath, int | None] = {
        ("slurm", own): resources.time_minutes,
        ("slurm", "time_most"): resources.time_most,
    }
    times |= {("slurm", name, "time"): of.time_minutes for name, of in resources.of_methods.items()}
    notice = resources.signal_seconds
    for path, minutes in times.items():
        if minutes is not None and 2 * notice > 60 * minutes:
            raise doc.error(
                path,
                f"a job of {minutes} min is told {notice} s before its end, and SLURM may be a "
                "minute early: give more time, or signal_seconds of less than half of it",
            )


def _check_retry(doc: Document, resources: Resources) -> None:
    """Raise UserError where [retry] raises what nobody gave, or bounds it below what was given."""
    retry, of_methods = resources.retry, resources.of_methods.values()
    tables = [resources.sbatch, *(of.sbatch for of in of_methods)]
    given = [str(table.get(name)) for table in tables for name in OF_MEMORY]
    memory = [size for text in given if (size := mebibytes(text))]
    if resources.on == "slurm" and retry.mem > 1 and not memory:
        text = 'mem has nothing to raise; add what a job has, mem = "32G", under [slurm]'
        raise doc.error(("retry", "mem"), text)
    times = [
        time for time in (resources.time_minutes, *(of.time_minutes for of in of_methods)) if time
    ]
    for name, most, has in (("mem", retry.mem_most, memory), ("time", retry.time_most, times)):
        if most is not None and has and most < min(has):
            value = doc.table(("retry",))[f"{name}_most"]
            text = f"{name}_most is {value!r}, less than the {name} in [slurm]; give more"
            raise doc.error(("retry", f"{name}_most"), text)


def _add_option(
    doc: Document,
    options: dict[str, str | int | bool],
    path: KeyPath,
    value: Any,
    *,
    any_name: bool,
) -> None:
    """An option of sbatch, under its name with dashes."""
    name = str(path[-1]).replace("_", "-")
    problem = option_problem(name, [key.replace("_", "-") for key in OF_SLURM])
    newer = any_name and name not in OURS and NAME.fullmatch(name)
    if problem is not None and not newer:
        raise doc.error(path, problem)
    if name in options:
        raise doc.error(path, f"{name} stands here twice; leave one out")
    special = dict.fromkeys(OF_MEMORY, memory_option) | dict.fromkeys(OF_PROCESSES, alone_option)
    options[name] = doc.check(path, value, special.get(name, option))
