"""Time of work on a device: repeated spans, and what parts of it take. The same on CPU and GPU."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import torch

LEAST, MOST = 3, 50  # repeats of what is timed, the warm-up not counted
PATIENCE = 3  # times as long as asked for: then what is slow has fewer than LEAST


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.seconds) < 2:
            return 0.0
        first, _, third = quantiles(self.seconds, n=4, method="inclusive")
        return (third - first) / 2 / self.median


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_once(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def time_together(
    works: Mapping[str, Callable[[], object]],
    device: torch.device,
    seconds: float,
    least: int = LEAST,
) -> dict[str, Timing]:
    """Time several works in turn, after one call of each that is not counted, until each has had
    ``seconds`` on average and ``least`` repeats; of works so slow that these would take
    ``PATIENCE`` times as long there are fewer, one at least. In turn, so that what else the machine
    does hits them alike."""
    asked = seconds * len(works)
    for work in works.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    spent = 0.0
    for number in range(MOST):
        if (number >= least and spent >= asked) or (number and spent >= PATIENCE * asked):
            break
        for name, work in works.items():
            found[name].append(time_once(work, device))
            spent += found[name][-1]
    return {name: Timing(tuple(times)) for name, times in found.items()}


class Marks:
    """Points in time on a device's own clock, without waiting for it. The first is set at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._names: list[str] = []
        self._points = [self._now()]

    def mark(self, name: str) -> None:
        """The end of the part of that name, which began at the mark before."""
        self._names.append(name)
        self._points.append(self._now())

    def milliseconds(self) -> dict[str, float]:
        """Of each part, all its spans together. Waits for the device."""
        synchronise(self.device)
        totals: dict[str, float] = defaultdict(float)
        for name, before, after in zip(self._names, self._points, self._points[1:], strict=False):
            totals[name] += self._between(before, after)
        return dict(totals)

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _between(self, before: Any, after: Any) -> float:
        if self.device.type != "cuda":
            return 1000 * float(after - before)
        return float(before.elapsed_time(after))
