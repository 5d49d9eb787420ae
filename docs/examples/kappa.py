"""Cohen's kappa: the docs' example of a metric."""

import numpy as np

from lmdbench.evaluation.metrics import register_metric


@register_metric("kappa", title="Cohen's kappa", bounds=(-1, 1))
def kappa(labels: np.ndarray, logits: np.ndarray) -> float:
    """Agreement of prediction and label beyond what their shares give by chance (Cohen 1960)."""
    predicted = logits.argmax(axis=1)
    agreed = np.mean(predicted == labels)
    true, guessed = (np.bincount(x, minlength=logits.shape[1]) for x in (labels, predicted))
    chance = true @ guessed / len(labels) ** 2
    return (agreed - chance) / (1 - chance)
