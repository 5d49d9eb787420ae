"""Fixtures that tests of every folder use."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lmdbench.data.batches import Task
    from lmdbench.models.classifier import Encoder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and official tables; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LMDBENCH_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set LMDBENCH_TEST_DATA)")
    return folder


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """Makes small tasks: random images whose brightness tells their class, on the CPU.

    ``make_task(counts, seed=0, validation=2, size=32)``: so many training images of each class, in
    mixed order; ``validation`` images of each class.
    """
    import torch

    from lmdbench.data.batches import Images, Task
    from lmdbench.randomness import Streams

    def make(
        counts: Sequence[int] = (12, 5, 2), *, seed: int = 0, validation: int = 2, size: int = 32
    ) -> Task:
        generator = torch.Generator().manual_seed(seed)

        def images(counts: Sequence[int]) -> Images:
            labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
            labels = labels[torch.randperm(len(labels), generator=generator)]
            noise = torch.randint(0, 128, (len(labels), 3, size, size), generator=generator)
            brightness = labels * 127 // max(1, len(counts) - 1)
            pixels = (noise + brightness[:, None, None, None]).to(torch.uint8)
            return Images(pixels, torch.arange(len(labels)), labels, torch.device("cpu"))

        return Task(
            classes=tuple(f"class {c}" for c in range(len(counts))),
            train=images(counts),
            validation=images([validation] * len(counts)),
            streams=Streams(seed, torch.device("cpu")),
            device=torch.device("cpu"),
        )

    return make


@pytest.fixture
def make_encoder() -> Callable[..., Encoder]:
    """Makes tiny encoders with a batch norm, the same one for the same seed."""
    import torch
    from torch import nn

    from lmdbench.models.classifier import Encoder

    def make(seed: int = 0, width: int = 8) -> Encoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = nn.Sequential(
                nn.Conv2d(3, width, 3, stride=2),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
            )
        return Encoder(body, width)

    return make
