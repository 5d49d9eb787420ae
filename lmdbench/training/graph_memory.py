"""The memory that a run's CUDA graphs share, and other work in it between their replays."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")


class GraphMemory:
    """A pool of memory, and the one stream on which it is used.

    A graph keeps the memory that it was captured in, so whatever else is done in a run beside its
    replays (warm-ups, batches of odd sizes, evaluation) would need as much again. Here it works in
    the same memory: nothing of a graph's is needed between two replays. In return a replay writes
    over whatever is allocated here meanwhile.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self.device = torch.device("cuda", index)
        self.stream = _stream(index)
        torch.cuda.empty_cache()  # what is cached outside can't be used inside
        self.pool = torch.cuda.MemPool()
        _pools.append((weakref.ref(self), self.pool))

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Within it, work is done in this memory and on its stream; the stream before waits for it
        at the end. What is made within is lost with the next replay."""
        before = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(before)
        try:
            with (
                torch.cuda.stream(self.stream),
                torch.cuda.use_mem_pool(self.pool, self.device),
                # By its own threads a backward pass would allocate elsewhere.
                torch.autograd.set_multithreading_enabled(False),
            ):
                yield
        finally:
            before.wait_stream(self.stream)

    def capture(
        self, work: Callable[[], T], generators: Sequence[torch.Generator]
    ) -> tuple[torch.cuda.CUDAGraph, T]:
        """The graph of what some work does on the device, and what it gave. The generators are
        those that it may draw from.

        Raises what the work raises, also where the end of the capture fails on top of it. The
        stream is the one before in any case.
        """
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self.device)
        if torch.__version__ < "2.14":  # later ones register what is drawn from by themselves
            for generator in generators:
                graph.register_generator_state(generator)
        cause = None
        try:
            with (
                torch.autograd.set_multithreading_enabled(False),
                torch.cuda.graph(
                    graph,
                    pool=self.pool.id,  # type: ignore[arg-type]
                    stream=self.stream,
                    # A thread that fetches images meanwhile doesn't spoil it.
                    capture_error_mode="thread_local",
                ),
            ):
                try:
                    return graph, work()
                except Exception as error:
                    cause = error
                    raise
        except Exception as error:
            raise (cause or error) from None
        finally:
            torch.cuda.set_stream(before)


# torch wants no pool to go before its graphs, and a garbage collection knows no order.
_pools: list[tuple[weakref.ref[GraphMemory], torch.cuda.MemPool]] = []


@cache
def _stream(index: int) -> torch.cuda.Stream:
    """The stream beside the usual one: cuBLAS keeps memory for each that it ever worked on."""
    return torch.cuda.Stream(index)


def give_back(device: torch.device) -> None:
    """Return to a GPU what nothing holds any more: graphs, their memory, what torch kept for later.

    Nothing is done on another device, nor on a GPU that broke.
    """
    if device.type != "cuda" or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return
    gc.collect()
    _pools[:] = [(of, pool) for of, pool in _pools if of() is not None or pool.use_count() > 1]
    with torch.cuda.device(device):
        torch.cuda.empty_cache()
