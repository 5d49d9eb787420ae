"""The plug-in of a disturbed sweep: a method whose runs, the first time, kill their own process or
hang."""

import os
import signal
import time
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from lmdbench import Batch, Method, register_method

TROUBLE = "LMDBENCH_CHAOS_TROUBLE"  # a folder that remembers what happened; unset: nothing does
AT_EPOCH = 3  # counted from 0; there is a checkpoint by then


@register_method("troubled")
class Troubled(Method):
    """Cross-entropy. Even seeds crash once, odd ones hang once, in their fourth epoch."""

    title = "Cross-entropy with trouble"

    def epoch(self, number: int) -> dict[str, float]:
        seed = self.task.streams.seed
        if number == AT_EPOCH and _first_time(f"{'hang' if seed % 2 else 'crash'}-{seed}"):
            if seed % 2:
                time.sleep(1e6)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().epoch(number)

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.model(batch.images), batch.labels)


def _first_time(what: str) -> bool:
    folder = os.environ.get(TROUBLE)
    if folder is None:
        return False
    try:
        (Path(folder) / what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
