"""Trains on the second of two null GPUs, and prints where things lie and what waits."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from answer import answer
from workload import Told, make_method, make_task

from lmdbench.bench.timing import Marks
from lmdbench.core.environment import choose_device
from lmdbench.runs.model import logits_of, train_epoch

told = Told()
device = choose_device("cuda:1")
method = make_method("ce", make_task("compiled", device=device))
train_epoch(method, method.task, 0)
marks = Marks(device)
torch.cuda.set_sync_debug_mode("warn")
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    train_epoch(method, method.task, 1)
torch.cuda.set_sync_debug_mode("default")
marks.mark("epoch")
logits_of(method, method.task, method.task.validation)
found = {
    "current": torch.cuda.current_device(),
    "allocated": [torch.cuda.max_memory_allocated(n) > 0 for n in range(2)],
    "came_to": method.task.execution.came_to,
    "told": told.lines,
    "marked": list(marks.milliseconds()),
    "waits": sorted({Path(w.filename).name for w in seen if "synchron" in str(w.message)}),
}
answer(found)
