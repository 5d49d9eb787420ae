"""Which training images come next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


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

# Names a method can put in its ``sampler`` attribute → how to make one from labels (N,) int64.
SAMPLERS: dict[str, Callable[[Tensor], Sampler]] = {
    "instance": InstanceSampler,
    "class-balanced": ClassBalancedSampler,
}
