"""Balanced softmax."""

from torch import Tensor

from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


@register_method("balanced-softmax")
class BalancedSoftmax(Method):
    """Cross-entropy of logits to which the log class counts are added in training, and only there:

        L = −log (n_y e^{z_y} / Σ_j n_j e^{z_j}),  prediction argmax_j z_j.

    The softmax takes the imbalance upon itself, and the logits are left to fit a balanced prior.
    `balms` is this loss on a frozen encoder, with a learned sampler."""

    title = "Balanced softmax"
    source = (
        "Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, NeurIPS 2020, "
        "theorem 1, end to end; official code jiawei-ren/BalancedMetaSoftmax-Classification"
    )
    deviations = (
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
    replayable = True

    def loss(self, batch: Batch) -> Tensor:
        logits = self.model(batch.images)
        return balanced_softmax_loss(logits, batch.labels, self.task.class_counts)
