"""Re-weighting by inverse class frequency."""

import torch.nn.functional as F
from torch import Tensor

from lmdbench.training.method import Method, register_method
from lmdbench.training.task import Batch


def inverse_frequency_weights(class_counts: Tensor) -> Tensor:
    """w_j = N / (C n_j), (C,): their mean over the training images is 1."""
    return class_counts.sum() / (len(class_counts) * class_counts)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Σ_i w_{y_i} CE_i / B: divided by the batch size, not by the weights in the batch.

    logits (B, C) float, labels (B,) int64, weights (C,).
    """
    return (weights[labels] * F.cross_entropy(logits, labels, reduction="none")).mean()


@register_method("rw")
class Reweighting(Method):
    """Cross-entropy in which every class weighs the same over an epoch:

        L = 1/B Σ_i w_{y_i} CE(z_i, y_i),  w_j = N / (C n_j).

    With these weights ("balanced" in scikit-learn) the expected loss is the mean of the classes'
    mean losses, on the scale of plain cross-entropy."""

    title = "Inverse-frequency re-weighting"
    source = (
        "weights of King and Zeng, Logistic Regression in Rare Events Data, Political Analysis "
        "2001, for a uniform target; credited for long tails to Huang et al., CVPR 2016"
    )
    deviations = (
        "The sum is divided by the batch size, which leaves it an unbiased estimate; much code, "
        "LDAM-DRW's too, divides by the weights in the batch, so that one rare image silences its "
        "whole batch.",
    )
    replayable = True

    def loss(self, batch: Batch) -> Tensor:
        weights = inverse_frequency_weights(self.task.class_counts)
        return weighted_cross_entropy(self.model(batch.images), batch.labels, weights)
