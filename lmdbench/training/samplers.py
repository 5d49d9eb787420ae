"""Which training images come next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lmdbench.core.errors import UserError
from lmdbench.core.registry import Registry, first_line, registrar


class Sampler(Protocol):
    """Anything with ``draw``: the positions of the next n training images, (n,) int64 or fewer."""

    def draw(self, n: int, generator: torch.Generator) -> Tensor: ...


class InstanceSampler:
    """Every image once an epoch, in random order; the last batch of a pass may be shorter."""

    def __init__(self, labels: Tensor) -> None:
        self._size = len(labels)
        self._order = torch.empty(0, dtype=torch.int64)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        if len(self._order) == 0:
            self._order = torch.randperm(self._size, generator=generator)
        batch, self._order = self._order[:n], self._order[n:]
        return batch


class ClassBalancedSampler:
    """Class-aware sampling: every class equally often (Kang et al., ICLR 2020, official code).

    A shuffled list of the classes is cycled, shuffled again in each cycle; each class hands out its
    images from a shuffled list of its own, shuffled again when used up. Classes without images are
    left out.

    As many cycles as make up an epoch are drawn at once, so that a draw is a slice.
    """

    def __init__(self, labels: Tensor) -> None:
        self._members = [torch.nonzero(labels == c).flatten() for c in labels.unique()]
        self._cycles = -(-len(labels) // len(self._members))
        self._unused = [members[:0] for members in self._members]  # each class's list, as it stands
        self._queue = torch.empty(0, dtype=torch.int64)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        while len(self._queue) < n:
            self._queue = torch.cat([self._queue, self._next_cycles(generator)])
        batch, self._queue = self._queue[:n], self._queue[n:]
        return batch

    def _next_cycles(self, generator: torch.Generator) -> Tensor:
        classes = _permutations(self._cycles, len(self._members), generator)
        images = [self._hand_out(c, generator) for c in range(len(self._members))]
        return torch.stack(images, dim=1).gather(1, classes).flatten()

    def _hand_out(self, c: int, generator: torch.Generator) -> Tensor:
        """The next image of class c for each cycle, (cycles,)."""
        members, images = self._members[c], self._unused[c]
        lists = -(-(self._cycles - len(images)) // len(members))
        shuffled = _permutations(max(0, lists), len(members), generator)
        images = torch.cat([images, members[shuffled.flatten()]])
        images, self._unused[c] = images[: self._cycles], images[self._cycles :]
        return images


def _permutations(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random permutations of range(size), (count, size)."""
    keys = torch.rand(count, size, generator=generator, dtype=torch.float64)
    return keys.argsort(dim=1)


SamplerChoice = str | Sampler | Callable[[Tensor], Sampler]

SamplerFactory = Callable[[Tensor], Sampler]  # of the training labels (N,) int64

# Names a method can put in its ``sampler`` attribute → how to make one.
SAMPLERS: Registry[SamplerFactory] = Registry(
    "sampler", __name__, group="lmdbench.samplers", title=first_line
)


@registrar
def register_sampler(name: str) -> Callable[[SamplerFactory], SamplerFactory]:
    """Decorator of a class or function that makes a sampler of labels (N,) int64.

    It is tried on three labels. Raises UserError where that gives nothing with a ``draw`` of
    positions, and for a taken name.
    """

    def decorate(make: SamplerFactory) -> SamplerFactory:
        check_sampler(name, make)
        SAMPLERS.add(name, make, make)
        return make

    return decorate


def check_sampler(name: str, make: SamplerFactory) -> None:
    """Raise UserError for what is no sampler, or draws what are no positions of images."""
    try:
        sampler = make(torch.tensor([0, 1, 1]))
        drawn = sampler.draw(2, torch.Generator().manual_seed(0))
    except Exception as error:
        raise UserError(
            f"sampler {name!r} can't be made of labels and drawn from: {type(error).__name__}: "
            f"{error}; it takes labels (N,), and its draw takes n and a generator"
        ) from error
    if not (isinstance(drawn, Tensor) and drawn.dtype == torch.int64 and drawn.ndim == 1):
        raise UserError(f"sampler {name!r}: draw must return positions of images, (n,) int64")
    if not 0 < len(drawn) <= 2 or drawn.min() < 0 or drawn.max() > 2:
        raise UserError(
            f"sampler {name!r}: draw(2, …) of 3 images returned {drawn.tolist()}; it must return "
            "one or two positions from 0 to 2"
        )
    if not torch.equal(_drawn(make, 1), _drawn(make, 2)):
        raise UserError(
            f"sampler {name!r} draws other images with a generator of the same seed; draw from the "
            "generator that draw is given, and from nothing else"
        )


def _drawn(make: SamplerFactory, seed: int) -> Tensor:
    """What it draws of 64 images with the same generator; ``seed``: torch's own, for this only."""
    labels = torch.arange(64) % 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(labels).draw(32, torch.Generator().manual_seed(0))


register_sampler("instance")(InstanceSampler)
register_sampler("class-balanced")(ClassBalancedSampler)
