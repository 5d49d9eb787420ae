"""Cross-entropy."""

import torch.nn.functional as F
from torch import Tensor

from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


@register_method("ce")
class CrossEntropy(Method):
    """Cross-entropy on instance-sampled images in the strong view: the recipe of LMD's stage 1
    without its relation losses. The stage 1 that classifier re-training starts from."""

    title = "Cross-entropy"
    source = "the plain baseline; recipe of stage 1 of LMD, arXiv 2502.03238"
    replayable = True

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.model(batch.images), batch.labels)
