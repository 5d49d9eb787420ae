"""The Jaccard index: the docs' example of a metric."""

import numpy as np

from lmdbench.evaluation.metrics import confusion_matrix, register_metric


@register_metric("jaccard", title="Jaccard index")
def jaccard(labels: np.ndarray, logits: np.ndarray) -> float:
    """Mean over the classes of TP / (TP + FP + FN) (Jaccard 1912)."""
    matrix = confusion_matrix(labels, logits)
    right, true, guessed = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    there = true > 0
    return (right / np.maximum(true + guessed - right, 1))[there].mean()
