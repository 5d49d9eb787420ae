"""Fixtures that tests of several methods use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lmdbench.models.classifier import Encoder
    from lmdbench.training.method import Method


@pytest.fixture
def trained(
    make_task: Callable[..., Any], make_method: Callable[..., Method], train: Callable[..., Any]
) -> Callable[..., Method]:
    """A trained method on a small task: ``trained("ce", counts=…, validation=…)``."""

    def make(name: str, counts: tuple[int, ...] = (12, 5, 1), **task: Any) -> Method:
        method = make_method(name, make_task(counts, **task))
        train(method)
        return method

    return make


@pytest.fixture
def stage1(trained: Callable[..., Method]) -> Method:
    """A trained cross-entropy run on a task with a class of one image."""
    return trained("ce")


@pytest.fixture
def losses_of(
    make_task: Callable[..., Any], make_method: Callable[..., Method], train: Callable[..., Any]
) -> Callable[..., list[float]]:
    """The loss of each epoch: ``losses_of("focal", gamma=0.0)``, or of a task with other counts."""

    def losses(name: str, counts: tuple[int, ...] = (12, 5, 2), **settings: Any) -> list[float]:
        return [row["loss"] for row in train(make_method(name, make_task(counts), **settings))]

    return losses


@pytest.fixture
def make_staged_encoder() -> Callable[[], Encoder]:
    """Makes small networks with stages, which some methods divide: for use as ``make_encoder``."""
    import torch

    from lmdbench.models.classifier import Encoder
    from lmdbench.models.small import SmallNet

    def make() -> Encoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Encoder(SmallNet(), SmallNet.out_features)

    return make
