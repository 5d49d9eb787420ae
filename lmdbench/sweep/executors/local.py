"""Runs worked off on this machine: a worker for each GPU, or share of one, or for the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lmdbench.core.cores import usable_cores
from lmdbench.core.errors import Interrupted, UserError
from lmdbench.core.gpus import NoGpu, gpus, none_shown
from lmdbench.core.words import count
from lmdbench.sweep.executors.messages import Outcome
from lmdbench.sweep.executors.pool import Pool, PoolOptions
from lmdbench.sweep.executors.sources import FixedList, Source
from lmdbench.sweep.executors.watcher import PoolJob, PoolWatcher, Slot


@dataclass(frozen=True)
class PoolSummary:
    """Key → what became of it: done, failed, or gave-up with the reason."""

    outcomes: Mapping[str, Outcome]


def make_slots(options: PoolOptions) -> list[Slot]:
    """Where workers work. Raises UserError for a GPU that is not there, and NoGpu where one is
    asked for and there is none."""
    there = gpus() if options.workers is None else []
    chosen = range(len(there)) if options.gpus is None else options.gpus
    if options.workers is None and not there and (options.gpus or options.needs_gpu):
        raise NoGpu(
            f"a GPU is asked for, and this machine has none that can be used ({none_shown()})"
        )
    if options.workers is None and options.gpus is not None:
        for number in options.gpus:
            if not 0 <= number < len(there):
                raise UserError(
                    f"GPU {number} is asked for, and this machine shows {count(len(there), 'GPU')} "
                    "(the first is 0); choose others with --gpus, or work on the CPU with "
                    "--workers N"
                )
    if options.workers is not None or not chosen:
        return [Slot(f"CPU {n}", "cpu") for n in range(options.workers or 1)]
    shares = [""] if options.runs_per_gpu == 1 else [f".{n}" for n in range(options.runs_per_gpu)]
    return [Slot(f"GPU {n}{share}", "cuda", there[n]) for share in shares for n in chosen]


def run_locally(jobs: Sequence[PoolJob], options: PoolOptions, watcher: PoolWatcher) -> PoolSummary:
    """Work the jobs off. Takes until each is done, failed or given up.

    Raises Interrupted after Ctrl-C, with all workers stopped, and UserError where none can work.
    """
    source = FixedList(jobs, options.results, watcher)
    work_off(source, jobs, options, watcher)
    return PoolSummary({job.key: source.outcomes[job.key] for job in jobs})


def work_off(
    source: Source, jobs: Sequence[PoolJob], options: PoolOptions, watcher: PoolWatcher
) -> None:
    """Work on the jobs of a source until it is over. Raises as ``run_locally``."""
    slots = make_slots(options)
    # Of all slots, also those that find no run: bits depend on threads, and must not on how many
    # runs are left.
    threads = options.threads or max(1, usable_cores() // len(slots))
    slots = slots[: max(1, len(jobs))]
    pool = Pool(source, replace(options, threads=threads), watcher, slots)
    watcher.begin(slots, jobs)
    try:
        with pool.stopping():
            pool.work()
    except KeyboardInterrupt:
        raise Interrupted(
            "stopped; what was saved last stays: the same command goes on from there"
        ) from None
    finally:
        watcher.end()
