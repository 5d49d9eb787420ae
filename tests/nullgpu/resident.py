"""Two short epochs beside many images on the null GPU, and where these lie after each.

resident.py METHOD:BACKBONE:SIZE:BATCH:IMAGES ...
"""

from __future__ import annotations

import resource
import sys

import numpy as np
import torch
from answer import answer
from workload import GPU, make_method, told

from lmdbench.core.randomness import Streams
from lmdbench.runs.model import logits_of, train_epoch
from lmdbench.training import method as method_module
from lmdbench.training import task as task_module
from lmdbench.training.graph_memory import give_back
from lmdbench.training.task import Images, Task


def trained(name: str, backbone: str, size: int, batch: int, n: int) -> dict[str, object]:
    # Three batches an epoch, whatever the number of images; numpy's zeros take no memory.
    for module in (task_module, method_module):
        module.batch_sizes = lambda *_, **__: [batch, batch, batch - 1]
    pixels = torch.from_numpy(np.zeros((n, 3, size, size), dtype=np.uint8))
    labels, few = torch.arange(n) % 5, torch.arange(300)
    torch.cuda.reset_peak_memory_stats()
    parts = Images(pixels, torch.arange(n), labels, GPU), Images(pixels, few, labels[few], GPU)
    task = Task(tuple("abcde"), *parts, Streams(0, GPU), GPU, torch.bfloat16, "compiled")
    method = make_method(name, task, backbone=backbone, batch_size=batch)
    vars(method)["usual_size"] = batch
    streamed = [task.train.streamed]
    for number in range(2):
        train_epoch(method, task, number)
        logits_of(method, task, task.validation)
        streamed.append(task.train.streamed)
    captured = [replay.captured for replay in method.stepper.replays.values()]
    return {"streamed": streamed, "captured": captured}


found = {}
for workload in sys.argv[1:]:
    name, backbone, *sizes = workload.split(":")
    found[workload] = trained(name, backbone, *map(int, sizes))
    give_back(GPU)
host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
answer({"found": found, "told": told.lines, "host": host})
