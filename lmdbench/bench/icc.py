"""A round of ICC measured: as a whole, and what its parts take."""

from __future__ import annotations

from statistics import median
from typing import Any

from lmdbench.bench.timing import Spans, time_together
from lmdbench.bench.training import checkpoint_seconds
from lmdbench.bench.workload import Workload
from lmdbench.core.environment import peak_memory_mib, reset_peak_memory
from lmdbench.runs.train import train_epoch
from lmdbench.training import gaussians as cal
from lmdbench.training.method import Method

LATE = 2  # number of a round that is like most: it no longer says what the first one says
PARTS = ("features", "gaussians", "sampling", "m_step", "e_step")


def measure_round(w: Workload, least: int = 2) -> dict[str, Any]:
    """Seconds of a round of LMD, and of its parts in rounds of their own.

    ``gaussians``: with the factors that sampling and FDC need; ``sampling``: with shuffling.
    """
    task = w.task()
    method = w.method("lmd", task)
    reset_peak_memory(w.device)

    def work() -> None:
        train_epoch(method, task, LATE)

    timing = time_together({"round": work}, w.device, w.seconds, least)["round"]
    rounds = []
    for _ in range(least):
        with Spans(w.device).of(watched(method)) as spans:
            work()
        rounds.append(dict(spans.seconds))
    return {
        **{f"{part}_seconds": median(r.get(part, 0.0) for r in rounds) for part in PARTS},
        "round_seconds": timing.median,
        "round_spread_percent": 100 * timing.spread,
        "round_repeats": len(timing.seconds),
        "rounds": method.epochs,
        "checkpoint_seconds": checkpoint_seconds(method),
        "features_wide": method.model.encoder.out_features,
        "preparing_seconds": task.execution.preparing_seconds,
        "peak_memory_mib": peak_memory_mib(w.device),
    }


def watched(method: Method) -> list[tuple[Any, str, str]]:
    """The functions that make up a round, with the part that each counts for."""
    return [
        (method, "features", "features"),
        (method, "gaussians", "gaussians"),
        (method.running, "follow", "gaussians"),
        (method.running, "settle", "gaussians"),
        (cal, "covariance_roots", "gaussians"),
        (cal, "virtual_features", "sampling"),
        (cal, "shuffled", "sampling"),
        (method, "m_step", "m_step"),
        (method, "e_step", "e_step"),
    ]
