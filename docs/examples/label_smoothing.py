"""A method of one's own: cross-entropy with smoothed labels."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from lmdbench import Batch, Method, at_least, at_most, register_method


@register_method("label-smoothing")
class LabelSmoothing(Method):
    """Cross-entropy against labels that leave a little probability to the other classes."""

    title = "Label smoothing"
    source = "Szegedy et al., CVPR 2016, section 7"

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        smoothing: float = 0.1  # share of the probability spread over all classes; 0 is ce

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, smoothing=0)
            at_most(self, smoothing=1)

    def loss(self, batch: Batch) -> Tensor:
        logits = self.model(batch.images)
        return F.cross_entropy(logits, batch.labels, label_smoothing=self.settings.smoothing)
