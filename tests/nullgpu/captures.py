"""Steps on the null GPU that can't be captured, or not for long, or that draw random numbers."""

from __future__ import annotations

import torch
from answer import answer
from workload import make_method, make_task, told

from lmdbench.runs.model import train_epoch
from lmdbench.training.method import METHODS, Method, register_method

CE = METHODS.get("ce")


@register_method("own-rate")
class OwnRate(CE):
    """A schedule of its own, of an optimiser that takes numbers."""

    def optimizers(self):
        return {"sgd": torch.optim.SGD(self.parameters(), lr=self.settings.lr)}

    def schedule_factor(self):
        return 1.0 if self.progress < 0.4 else 0.1


@register_method("waits")
class Waits(CE):
    """Looks at a number of the GPU."""

    def loss(self, batch):
        return super().loss(batch) * (1 + 0 * batch.images.mean().item())  # the line that waits


@register_method("reads-epoch")
class ReadsEpoch(CE):
    """Depends on the number of the epoch."""

    def loss(self, batch):
        return super().loss(batch) * (1 + self.task.streams.epoch)


def steps(name: str, mode: str = "compiled", epochs: int = 5) -> Method:
    method = make_method(name, make_task(mode))
    for number in range(epochs):
        train_epoch(method, method.task, number)
    return method


def looked_at(name: str) -> dict[str, object]:
    told.lines.clear()
    before = torch.cuda.current_stream()
    method = steps(name)
    return {
        "told": list(told.lines),
        "captured": [replay.captured for replay in method.stepper.replays.values()],
        "rate": float(method.running_optimizers["sgd"].param_groups[0]["lr"]),
        "stream": torch.cuda.current_stream() == before,
        "memory": method.task.execution._memory is not None,
    }


def drawn(mode: str) -> list[list[int]]:
    """How far each generator got in two epochs of a method whose steps draw noise."""
    streams = steps("gcl-stage1", mode, epochs=2).task.streams
    return [generator.get_state().tolist() for generator in streams.on_device()]


found = {name: looked_at(name) for name in ("own-rate", "waits", "reads-epoch")}
plain, replayed = drawn("plain"), drawn("compiled")
answer({**found, "plain": plain, "replayed": replayed})
