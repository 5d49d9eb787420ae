"""A round of ICC measured: as a whole, and what its parts take; and what a checkpoint takes."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from lmdbench.bench.timing import synchronise, time_together
from lmdbench.bench.workload import Workload
from lmdbench.core.environment import peak_memory_mib, reset_peak_memory
from lmdbench.core.files import atomic
from lmdbench.runs.model import train_epoch
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


class Spans:
    """Seconds spent within functions, by name; what one spends in another counts for that only."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._within: list[float] = []  # of each open span: seconds of the spans inside it

    @contextmanager
    def of(self, functions: Sequence[tuple[Any, str, str]]) -> Iterator[Spans]:
        """Watches functions, each given as its owner, its attribute there and the span's name."""
        owned = [
            (owner, attribute, vars(owner).get(attribute)) for owner, attribute, _ in functions
        ]
        for owner, attribute, name in functions:
            setattr(owner, attribute, self._timed(getattr(owner, attribute), name))
        try:
            yield self
        finally:
            for owner, attribute, original in owned:
                if original is None:  # of its class: the watched one stood before it
                    delattr(owner, attribute)
                else:
                    setattr(owner, attribute, original)

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **words: Any) -> Any:
            if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
                return function(*arguments, **words)  # nothing may be waited for in a capture
            self._within.append(0.0)
            synchronise(self.device)
            started = time.perf_counter()
            try:
                return function(*arguments, **words)
            finally:
                synchronise(self.device)
                spent = time.perf_counter() - started
                self.seconds[name] += spent - self._within.pop()
                if self._within:
                    self._within[-1] += spent

        return timed


def checkpoint_seconds(method: Method) -> float:
    """What saving the method at an epoch's end takes, the disk included."""
    saved = {
        "method": method.state_dict(),
        "optimizers": {name: o.state_dict() for name, o in method.running_optimizers.items()},
    }
    with tempfile.TemporaryDirectory(prefix="lmdbench-bench-") as place:

        def save() -> None:
            with atomic(Path(place) / "checkpoint.pt") as path:
                torch.save(saved, path)

        return time_together({"save": save}, method.task.device, 0.5)["save"].median
