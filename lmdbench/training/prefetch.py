"""Images from the memory map to a GPU that can't hold them all, some batches ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import islice

import numpy as np
import torch
from torch import Tensor

AHEAD = 3  # batches; as many threads read them, for a disk that answers slowly


def stream(
    pixels: Tensor, rows: Iterator[Tensor], device: torch.device, ahead: int = AHEAD
) -> Iterator[Tensor]:
    """``pixels[wanted]`` (B, 3, H, W) uint8 on the device for each ``wanted`` (B,) of ``rows``, in
    order. ``pixels`` and ``rows`` are on the CPU.

    For a GPU threads read up to ``ahead`` batches early, so ``rows`` must not depend on what is
    done with the batches; it is advanced in the caller's thread. The threads never call CUDA: a
    graph may be captured meanwhile. The caller is held up where the GPU is that many batches
    behind, so that batches don't pile up in its memory. Closing it stops the threads, as does its
    end. What goes wrong in one is raised here, at once.
    """
    if device.type == "cuda":
        return prefetch(pixels, rows, device, ahead)
    return (pixels[wanted].to(device) for wanted in rows)


def prefetch(
    pixels: Tensor, rows: Iterator[Tensor], device: torch.device, ahead: int
) -> Iterator[Tensor]:
    """``stream`` by threads, on any device."""
    source = pixels.numpy()
    # Enough for a buffer to rest while ``ahead`` others are used: then no wait for it is long.
    free = deque(_Buffer(device) for _ in range(2 * ahead))
    reading: deque[tuple[_Buffer, Future[None]]] = deque()
    sent: deque[tuple[_Buffer, Tensor]] = deque()
    threads = ThreadPoolExecutor(ahead, thread_name_prefix="prefetch")
    try:
        while True:
            for wanted in islice(rows, ahead - len(reading) - len(sent)):
                buffer = free.popleft()
                pages = buffer.room(len(wanted), pixels)
                reading.append((buffer, threads.submit(_gather, source, wanted.numpy(), pages)))
            while reading and (reading[0][1].done() or not sent):
                buffer, read = reading.popleft()
                read.result()
                sent.append((buffer, buffer.send()))
            if not sent:
                return
            buffer, batch = sent.popleft()
            buffer.hand_over(batch)
            yield batch
            del batch  # the caller may be done with it
            buffer.used()
            free.append(buffer)
    finally:
        # Waits for them: the buffers must not be given back to CUDA in another thread.
        threads.shutdown(cancel_futures=True)


def _gather(source: np.ndarray, wanted: np.ndarray, pages: np.ndarray) -> None:
    """``pages[:] = source[wanted]`` in one thread: torch would start a team of them for each."""
    if wanted.min() < 0 or wanted.max() >= len(source):
        raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {len(source)} images")
    np.take(source, wanted, axis=0, out=pages, mode="clip")  # the default mode copies twice


@cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    """The stream of all copies: memory that was allocated on one is only used again on it."""
    return torch.cuda.Stream(device)


class _Buffer:
    """Memory that batches pass through, pinned for a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._pages = self._memory
        if device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._used = torch.cuda.Event(blocking=True)  # the thread sleeps while it waits

    def room(self, images: int, pixels: Tensor) -> np.ndarray:
        """Memory for so many images, once the GPU is done with what was in it."""
        if self._device.type == "cuda":
            self._used.synchronize()
        shape = (images, *pixels.shape[1:])
        if len(self._memory) < images:
            pinned = self._device.type == "cuda"
            self._memory = torch.empty(shape, dtype=pixels.dtype, pin_memory=pinned)
        self._pages = self._memory[:images]
        return self._pages.numpy()

    def send(self) -> Tensor:
        """Begin the copy to the device."""
        if self._device.type != "cuda":
            return self._pages.to(self._device, copy=True)
        with torch.cuda.stream(_copies(self._device)):
            batch = self._pages.to(self._device, non_blocking=True)
            self._copied.record()
        return batch

    def hand_over(self, batch: Tensor) -> None:
        """Make the caller's stream wait for the copy, and the batch's memory for that stream."""
        if self._device.type == "cuda":
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(self._copied)
            batch.record_stream(stream)

    def used(self) -> None:
        """Note that what the caller does with the batch is on its stream by now."""
        if self._device.type == "cuda":
            self._used.record(torch.cuda.current_stream(self._device))
