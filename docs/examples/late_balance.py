"""Cross-entropy, late with class-balanced batches: the docs' example of samplers and schedules."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lmdbench import Batch, Method, at_least, register_method


@register_method("late-balance")
class LateBalance(Method):
    """Cross-entropy on images as they come; late in training on class-balanced ones as well."""

    title = "Cross-entropy, balanced late"
    sampler = ("instance", "class-balanced")  # a batch of each
    passes = (2, 2)
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        weight: float = 1.0  # of the balanced batches; 0 is ce
        after: float = 0.8  # share of the epochs before they count

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, weight=0, after=0)

    def phase(self) -> bool:
        return self.progress >= self.settings.after

    def loss(self, batches: tuple[Batch, Batch]) -> Tensor:
        plain, balanced = (F.cross_entropy(self.model(b.images), b.labels) for b in batches)
        return plain + self.settings.weight * balanced if self.phase() else plain
