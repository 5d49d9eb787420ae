"""Confident errors, with their influences: the docs' second example of a metric."""

import numpy as np

from lmdbench.evaluation.metrics import register_metric, softmax


def errors(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    probabilities = softmax(logits)
    sure = probabilities.max(axis=1) > 0.9
    return (sure & (probabilities.argmax(axis=1) != labels)) / len(labels)


@register_metric("sure-but-wrong", title="Wrong at 90 %", lower_is_better=True, influences=errors)
def sure_but_wrong(labels: np.ndarray, logits: np.ndarray) -> float:
    """Share of the images that are given more than .9 to a wrong class."""
    return errors(labels, logits).sum()
