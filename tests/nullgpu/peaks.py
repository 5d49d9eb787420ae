"""Trains on the null GPU, plainly and compiled, and prints the most memory that torch took of it.

    peaks.py METHOD:BACKBONE:SIZE:BATCH ...

Of whole batches, a last one that is nearly whole, and validation, in the first epoch and the last.
"""

from __future__ import annotations

import sys

import torch
from answer import answer
from workload import GPU, make_method, make_task, runtime, told

from lmdbench.runs.model import logits_of, train_epoch
from lmdbench.training.graph_memory import give_back


def train(mode: str, name: str, backbone: str, size: int, batch: int) -> list[bool]:
    task = make_task(mode, images=3 * batch - 1, size=size, validation=600)
    method = make_method(name, task, backbone=backbone, batch_size=batch)
    for number in (0, method.epochs - 1):
        train_epoch(method, task, number)
        logits_of(method, task, task.validation)
    return [replay.captured for replay in method.stepper.replays.values()]


def measured(mode: str, *workload: str) -> dict[str, object]:
    """Peaks in bytes: ``taken`` from the GPU, and ``allocated`` of that at one time."""
    name, backbone, size, batch = workload
    give_back(GPU)
    runtime.nullgpu_reset_peak(0)
    torch.cuda.reset_peak_memory_stats()
    captured = train(mode, name, backbone, int(size), int(batch))
    allocated = torch.cuda.max_memory_allocated()
    peaks = {"taken": runtime.nullgpu_peak(0), "allocated": allocated}
    return {**peaks, "captured": captured, "told": told.lines}


def main() -> None:
    train("compiled", "ce", "small", 32, 8)  # what is kept for good, as cuBLAS's workspaces
    found = {
        workload: {mode: measured(mode, *workload.split(":")) for mode in ("plain", "compiled")}
        for workload in sys.argv[1:]
    }
    answer(found)


main()
