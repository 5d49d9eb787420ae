"""How a method's steps are carried out: plain, or compiled, and replayed where they can be."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lmdbench.models.classifier import Encoder, FrozenEncoder
from lmdbench.training.engine import Execution, Replay
from lmdbench.training.task import Raw, Task


class Stepped(Protocol):
    """What a stepper asks of a ``Method``."""

    task: Task
    settings: Any
    running_optimizers: dict[str, torch.optim.Optimizer]

    @property
    def views(self) -> tuple[str, ...]: ...
    @property
    def replayable(self) -> bool: ...
    @property
    def usual_size(self) -> int: ...
    @property
    def goes_back_twice(self) -> bool: ...
    def phase(self) -> Hashable: ...
    def step(self, batch: Any) -> dict[str, Tensor]: ...
    def set_rates(self, optimizer: torch.optim.Optimizer) -> None: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...
    def buffers(self) -> Iterator[Tensor]: ...


class Stepper:
    """Calls a method's ``step`` as the execution of its task has it."""

    def __init__(self, method: Stepped) -> None:
        self.method = method
        self.replays: dict[Hashable, Replay] = {}  # by the method's phase
        self._phase: Hashable = None
        self._returns = False  # whether a phase was met again
        self._compiled = False

    def __call__(self, raws: tuple[Raw, ...]) -> Mapping[str, Tensor]:
        """A step on the batches of its samplers; compiled, and replayed where it can be, if they
        are of the usual size."""
        method, execution = self.method, self.method.task.execution
        if execution.mode == "plain" or any(len(raw) != method.usual_size for raw in raws):
            if execution.mode == "plain":
                execution.note("training", "plain")
            with execution.eagerly():
                return method.step(self.batch(raws))
        self._compile(raws[0])
        if not self.replayable:
            self._note(captured=False)
            return method.step(self.batch(raws, execution))
        phase = method.phase()
        if phase != self._phase:
            self._begin(phase)
        if phase not in self.replays:
            self.replays[phase] = execution.replay(
                partial(self._replayed, raws),
                self.tensors,
                "step",
                self.numbers,
                method.task.streams.on_device,
            )
        for optimizer in method.running_optimizers.values():
            method.set_rates(optimizer)
        logs = self.replays[phase](*(t for raw in raws for t in raw.tensors()))
        self._note(captured=self.replays[phase].captured)
        return logs

    @property
    def replayable(self) -> bool:
        """Whether every step does the same: not where several make one update, and not where what
        is computed anew must draw what it drew before."""
        s = self.method.settings
        accumulates = getattr(s, "accumulate", 1) > 1
        checkpoints = getattr(s, "grad_checkpointing", False)
        return self.method.replayable and not accumulates and not checkpoints

    def _note(self, *, captured: bool) -> None:
        execution = self.method.task.execution
        compiled = "compiled" if execution.compiled_encoders else "plain"
        execution.note("training", "graphs" if captured else compiled)

    def _begin(self, phase: Hashable) -> None:
        """Another phase than before. As a rule it is for good, and the graphs of others may go: in
        what they leave between them its larger tensors would find no room."""
        self._returns |= phase in self.replays
        for parameter in self.method.parameters():
            parameter.grad = None  # which lies among a graph's memory
        for replay in () if self._returns else self.replays.values():
            replay.release()
        self._phase = phase

    def batch(self, raws: tuple[Raw, ...], execution: Execution | None = None) -> Any:
        """What ``step`` is given: a ``Batch``, or a tuple of them for several samplers."""
        batches = tuple(raw.batch(self.method.views, execution) for raw in raws)
        return batches if len(batches) > 1 else batches[0]

    def _replayed(self, form: tuple[Raw, ...], *tensors: Tensor) -> Mapping[str, Tensor]:
        flat = iter(tensors)
        raws = tuple(raw.with_tensors(flat) for raw in form)
        return self.method.step(self.batch(raws, self.method.task.execution))

    def _compile(self, raw: Raw) -> None:
        """Once in a run, before its first step on a batch of the usual size."""
        if self._compiled:
            return
        self._compiled = True
        method, task = self.method, self.method.task
        with task.execution.preparing("views and encoder"):
            images = raw.batch(method.views, task.execution).images
            encoders = [
                part
                for part in method.modules()
                if isinstance(part, Encoder) and not isinstance(part, FrozenEncoder)
            ]
            task.execution.compile_encoders(
                encoders, images, task.autocast, back_twice=method.goes_back_twice
            )
        groups = [g for o in method.running_optimizers.values() for g in o.param_groups]
        for group in groups if self.replayable else ():
            rate = group.setdefault("base_lr", group["lr"])
            if group.get("fused") or group.get("capturable"):
                group["lr"] = torch.tensor(float(rate), device=task.device)

    def numbers(self) -> list[dict[str, Any]]:
        """What the optimisers are told and is no tensor: a graph would not see it change."""
        groups = [g for o in self.method.running_optimizers.values() for g in o.param_groups]
        return [
            {k: v for k, v in group.items() if k != "params" and not isinstance(v, Tensor)}
            for group in groups
        ]

    def tensors(self) -> Iterator[Tensor]:
        """All that training changes: parameters, buffers, what the optimisers keep, and a loss's
        scale."""
        yield from self.method.task.scaler.tensors()
        yield from self.method.parameters()
        yield from self.method.buffers()
        for optimizer in self.method.running_optimizers.values():
            for kept in optimizer.state.values():
                yield from (value for value in kept.values() if isinstance(value, Tensor))
