"""The threads that read batches ahead, with ordinary memory: a GPU adds copies of its own."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from lmdbench.training.prefetch import prefetch, stream

CPU = torch.device("cpu")


@pytest.fixture
def pixels(tmp_path: Path) -> torch.Tensor:
    """Images over a memory map, as a store has them."""
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    return torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c"))


def random_rows(sizes: list[int], images: int = 60) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(images, (size,), generator=generator) for size in sizes]


def reading_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


@pytest.mark.parametrize("ahead", [1, 3, 8])
@pytest.mark.parametrize("sizes", [[], [16], [16] * 7 + [17], [5, 60, 1, 33]])
def test_batches_are_those_of_a_look_up_in_order(
    pixels: torch.Tensor, sizes: list[int], ahead: int
) -> None:
    rows = random_rows(sizes)
    for batches in (prefetch(pixels, iter(rows), CPU, ahead), stream(pixels, iter(rows), CPU)):
        found = list(batches)  # all kept: none may be overwritten by what is read after it
        assert len(found) == len(rows)
        for batch, wanted in zip(found, rows, strict=True):
            assert torch.equal(batch, pixels[wanted])
    assert not reading_threads()


def test_no_more_is_asked_for_than_is_read_ahead(pixels: torch.Tensor) -> None:
    asked = count()

    def rows() -> Iterator[torch.Tensor]:
        while True:
            next(asked)
            yield torch.arange(4)

    batches = prefetch(pixels, rows(), CPU, 3)
    for taken in range(1, 20):
        next(batches)
        assert next(asked) - (taken - 1) <= taken + 2  # ``asked`` counts this look as well
    batches.close()


def test_rows_are_drawn_in_the_callers_thread(pixels: torch.Tensor) -> None:
    drawn_by = []

    def rows() -> Iterator[torch.Tensor]:
        for _ in range(9):
            drawn_by.append(threading.current_thread())
            yield torch.arange(4)

    list(prefetch(pixels, rows(), CPU, 3))
    assert drawn_by == [threading.current_thread()] * 9


@pytest.mark.parametrize("row", [60, -1])
@pytest.mark.parametrize("place", [0, 1, 9])
def test_an_error_in_a_thread_reaches_the_caller(
    pixels: torch.Tensor, row: int, place: int
) -> None:
    rows = random_rows([4] * 12)
    rows[place][2] = row
    with pytest.raises(IndexError, match=f"{row} .*60 images"):
        list(prefetch(pixels, iter(rows), CPU, 3))
    assert not reading_threads()


def test_an_error_of_the_rows_reaches_the_caller(pixels: torch.Tensor) -> None:
    def rows() -> Iterator[torch.Tensor]:
        yield torch.arange(4)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(prefetch(pixels, rows(), CPU, 3))
    assert not reading_threads()


@pytest.mark.parametrize("end", ["close", "drop"])
def test_ending_early_stops_the_threads(pixels: torch.Tensor, end: str) -> None:
    batches = prefetch(pixels, (torch.arange(20) for _ in count()), CPU, 3)
    next(batches)
    assert 1 <= len(reading_threads()) <= 3
    if end == "close":
        batches.close()
    else:
        del batches
        gc.collect()
    assert not reading_threads()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gets_the_same_images_however_late_it_is(pixels: torch.Tensor) -> None:
    device = torch.device("cuda")
    rows = random_rows([32] * 40 + [33, 7])
    sums = []
    for batch in stream(pixels, iter(rows), device):
        torch.cuda._sleep(2_000_000)  # the GPU falls behind: buffers must not be filled too early
        sums.append(batch.long().sum())
        del batch
    assert torch.stack(sums).tolist() == [int(pixels[wanted].long().sum()) for wanted in rows]
