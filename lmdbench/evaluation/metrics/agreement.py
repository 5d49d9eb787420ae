"""Agreement of predictions and labels beyond what their shares give by chance."""

from __future__ import annotations

import numpy as np

from lmdbench.evaluation import influence
from lmdbench.evaluation.influence import Margins
from lmdbench.evaluation.metrics.metric import Metric


def _mcc(margins: Margins) -> float:
    """Matthews correlation coefficient for C classes (Gorodkin 2004).

    0 where every image is predicted as one class, NaN where every image is of one class.
    """
    true, predicted = margins.images, margins.predicted
    total = true.sum()
    spread_true = total**2 - (true**2).sum()
    spread_predicted = total**2 - (predicted**2).sum()
    if spread_predicted == 0:
        return 0.0
    covariance = margins.right.sum() * total - (true * predicted).sum()
    return float(covariance / np.sqrt(spread_true * spread_predicted))


ALL = (
    Metric(
        "mcc",
        "MCC",
        lambda s: _mcc(s.margins),
        lambda s: influence.mcc_gradient(s.margins, s.labels, s.predicted),
        lambda s: "all images are of one class" if (s.counts > 0).sum() == 1 else "",
        bounds=(-1.0, 1.0),
    ),
)
