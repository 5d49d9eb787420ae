"""Trains again and again in one process, and prints what torch holds of the GPU after each run."""

from __future__ import annotations

import json
import sys

from workload import GPU, make_method, make_task, runtime, told

from lmdbench.runs.train import logits_of, train_epoch
from lmdbench.training.graph_memory import give_back


def run(name: str) -> None:
    method = make_method(name, make_task("compiled"))
    for number in (0, method.epochs - 1):
        train_epoch(method, method.task, number)
        logits_of(method, method.task, method.task.validation)


held = []
for _ in range(int(sys.argv[2])):
    run(sys.argv[1])
    give_back(GPU)
    held.append(runtime.nullgpu_used(0))
print(json.dumps({"held": held, "told": told.lines}))
