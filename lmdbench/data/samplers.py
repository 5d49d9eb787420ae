"""Which training images come next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    A shuffled list of the classes is cycled; each class hands out its images from a shuffled list of
    its own, shuffled again when used up.
    """

    def __init__(self, labels: Tensor) -> None:
        self._members = [torch.nonzero(labels == c).flatten() for c in labels.unique()]
        self._classes: Iterator[int] = iter(())
        self._images: list[Iterator[int]] = [iter(()) for _ in self._members]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.tensor([self._next(generator) for _ in range(n)], dtype=torch.int64)

    def _next(self, generator: torch.Generator) -> int:
        c = next(self._classes, None)
        if c is None:
            order = torch.randperm(len(self._members), generator=generator)
            self._classes = iter(order.tolist())
            c = next(self._classes)
        image = next(self._images[c], None)
        if image is None:
            members = self._members[c]
            shuffled = members[torch.randperm(len(members), generator=generator)]
            self._images[c] = iter(shuffled.tolist())
            image = next(self._images[c])
        return image


# Names a method can put in its ``sampler`` attribute → how to make one from labels (N,) int64.
SAMPLERS: dict[str, Callable[[Tensor], Sampler]] = {
    "instance": InstanceSampler,
    "class-balanced": ClassBalancedSampler,
}
