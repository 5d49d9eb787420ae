"""CUDA graphs played on the CPU, with real numbers: what a capture would freeze shows in them.

While a step is captured each call that it makes of torch is recorded, and what it wrote is undone,
as a capture computes nothing. A replay makes the same calls on the same tensors. So a number that
Python held at the capture stays what it was; and memory that a GPU would have used again by then,
of graphs and of work between replays, is filled with NaN before each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lmdbench.training import engine
from lmdbench.training.views import blurs

# Calls for whose result, or its shape, the host would wait
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "_linalg_eigh")


@contextlib.contextmanager
def played_graphs() -> Iterator[None]:
    """Within it compiled execution replays on the CPU what it captured, and compiles nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "GraphMemory", PlayedMemory)
        for name, value in {
            "captures": property(lambda self: self.mode == "compiled"),
            "compile": lambda self, function: function,
            "compile_encoders": lambda self, *_, **__: None,
        }.items():
            patch.setattr(engine.Execution, name, value)
        # As on a GPU: neither picks by values.
        patch.setattr(blurs, "_apply_where", everywhere)
        patch.setattr(torch.nn.functional, "one_hot", one_hot)
        yield


def everywhere(chosen: Tensor, images: Tensor, operation: Any, *arguments: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], operation(images, *arguments), images)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    made = labels.new_zeros(*labels.shape, num_classes)
    return made.scatter_(-1, labels.unsqueeze(-1), 1)


class PlayedMemory:
    """In the place of ``GraphMemory``."""

    def __init__(self, _: torch.device) -> None:
        self.made: list[Made] = []  # and used again by the next replay

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        with Watching() as watched:
            yield
        self.made += map(Made, watched.fresh)

    def capture(self, work: Any, _: Any) -> tuple[PlayedGraph, Any]:
        random = torch.get_rng_state()
        with Recording() as recording:
            try:
                found = work()
            finally:
                torch.set_rng_state(random)
        recording.undo()
        self.made += map(Made, recording.fresh)
        return PlayedGraph(self, recording), found

    def poison(self) -> None:
        for made in self.made:
            made.poison()


class Made:
    """Memory that was allocated, for as long as anything holds it."""

    def __init__(self, tensor: Tensor) -> None:
        self.storage, self.dtype = StorageWeakRef(tensor.untyped_storage()), tensor.dtype

    def poison(self) -> None:
        if self.dtype.is_floating_point and not self.storage.expired():
            living = torch.UntypedStorage._new_with_weak_ptr(self.storage.cdata)
            torch.empty(0, dtype=self.dtype).set_(living).fill_(float("nan"))


class PlayedGraph:
    def __init__(self, memory: PlayedMemory, recording: Recording) -> None:
        self.memory, self.recording = memory, recording

    @torch.no_grad()
    def replay(self) -> None:
        self.memory.poison()
        for function, arguments, options, given in self.recording.calls:
            for was, now in zip(given, tensors(function(*arguments, **options)), strict=True):
                if storage(was) != storage(now):
                    was.copy_(now)


class Watching(TorchDispatchMode):
    """Keeps what is made within, in memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh: list[Tensor] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = function(*args, **(kwargs or {}))
        known = set(map(storage, tensors((args, kwargs))))
        self.fresh += [tensor for tensor in tensors(given) if storage(tensor) not in known]
        return given


class Recording(Watching):
    """Also keeps all calls, and what they write over."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        name = function._schema.name.partition("::")[2]
        indices = args[1] if name.startswith("index") and isinstance(args[1], list | tuple) else ()
        by_mask = any(i is not None and i.dtype == torch.bool for i in indices)
        if name in WAITING or by_mask:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        self.before += [(t, t.detach().clone()) for t in written(function, name, args, kwargs)]
        given = super().__torch_dispatch__(function, types, args, kwargs)
        self.calls.append((function, args, kwargs, tensors(given)))
        return given

    @torch.no_grad()
    def undo(self) -> None:
        for tensor, value in reversed(self.before):
            tensor.copy_(value)


def written(function: Any, name: str, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """The tensors that a call writes over; batch norm does not say so of its statistics."""
    for place, argument in enumerate(function._schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        statistics = name == "native_batch_norm" and argument.name.startswith("running_")
        if statistics or (argument.alias_info is not None and argument.alias_info.is_write):
            yield from tensors(value)


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
