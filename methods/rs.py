"""Class-balanced re-sampling."""

import torch.nn.functional as F
from torch import Tensor

from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


@register_method("rs")
class Resampling(Method):
    """Cross-entropy on batches in which every class is equally often, from the first epoch on:

        L = CE(z, y),  y uniform over the classes, the image uniform within its class.

    An epoch is as many draws as there are training images, so images of large classes are seen less
    often than by `ce`, and those of small ones again and again."""

    title = "Class-balanced re-sampling"
    source = (
        "class-balanced sampling of Kang et al., Decoupling Representation and Classifier for "
        "Long-Tailed Recognition, ICLR 2020, eq. 1 with q = 0"
    )
    deviations = (
        "One image of a class at a time; the official ImageNet-LT recipe draws four in a row.",
        "The recipe is the benchmark's; the official one for ImageNet-LT has 90 epochs at .2, "
        "batch 512, weight decay .0005 and a cosine.",
    )
    authors = {
        "epochs": 90,
        "batch_size": 512,
        "lr": 0.2,
        "weight_decay": 5e-4,
        "schedule": "cosine",
    }
    sampler = "class-balanced"
    replayable = True

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.model(batch.images), batch.labels)
