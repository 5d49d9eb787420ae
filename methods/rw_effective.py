"""Re-weighting by the effective number of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor

from lmdbench.core.settings import Choice, at_least, below
from lmdbench.methods.cb_focal import class_balanced_weights
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


@register_method("rw-effective")
class EffectiveNumberReweighting(Method):
    """Cross-entropy weighted by the inverse of each class's effective number of images, as a
    weighted mean over the batch:

        L = Σ_i w_{y_i} CE(z_i, y_i) / Σ_i w_{y_i},  w_j ∝ (1 − β) / (1 − β^{n_j}).

    At β = 0 it is `ce`; in the limit of 1 the weights are those of `rw`, which divides by the
    batch size."""

    title = "Effective-number re-weighting"
    source = (
        "Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, section "
        "4; as RW of PyJulie/MONICA, and as LDAM-DRW's code weights cross-entropy"
    )
    deviations = (
        "The sum is divided by the weights in the batch, as in both codes; the paper's own code "
        "divides by the batch size, as `cb-focal` does with gamma=0.",
    )
    replayable = True

    @dataclass(frozen=True, kw_only=True)
    class Settings(Method.Settings):
        beta: Annotated[float, Choice(0.9, 0.99, 0.999, 0.9999)] = (
            0.9999  # how fast images of a class come to overlap; 0 weighs all classes alike
        )

        def __post_init__(self) -> None:
            super().__post_init__()
            at_least(self, beta=0)
            below(self, beta=1)

    def loss(self, batch: Batch) -> Tensor:
        weights = class_balanced_weights(self.task.class_counts, self.settings.beta)
        return F.cross_entropy(self.model(batch.images), batch.labels, weight=weights)
