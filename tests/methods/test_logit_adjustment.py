import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.balms import balanced_softmax_loss
from lmdbench.methods.logit_adjustment import LogitAdjustment, log_prior, logit_adjusted_loss

from .helpers import random_batch, random_counts

COUNTS = torch.tensor([400.0, 90.0, 9.0, 1.0], dtype=torch.float64)


def test_log_prior():
    np.testing.assert_allclose(log_prior(COUNTS).exp(), [0.8, 0.18, 0.018, 0.002], rtol=1e-12)


@given(st.floats(0, 3), st.integers(2, 30), st.integers(0, 5))
def test_formula_of_pairwise_margins(tau, classes, seed):
    """The paper's second form: log(1 + Σ_{j≠y} (π_j/π_y)^τ e^{z_j − z_y})."""
    logits, labels = random_batch(classes, seed=seed)
    counts = random_counts(classes, seed)
    total = 0.0
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        others = (
            (counts[j].item() / counts[y].item()) ** tau * math.exp(z[j] - z[y])
            for j in range(classes)
            if j != y
        )
        total += math.log(1 + sum(others))
    ours = logit_adjusted_loss(logits, labels, counts, tau)
    assert ours.item() == pytest.approx(total / len(labels), rel=1e-8)


def test_tau_0_is_cross_entropy_and_tau_1_balanced_softmax():
    logits, labels = random_batch()
    torch.testing.assert_close(
        logit_adjusted_loss(logits, labels, COUNTS, 0.0), F.cross_entropy(logits, labels)
    )
    torch.testing.assert_close(
        logit_adjusted_loss(logits, labels, COUNTS, 1.0),
        balanced_softmax_loss(logits, labels, COUNTS),
    )


def test_the_sign_is_plus():
    """With equal logits a rare class's image costs more than a common one's."""
    logits = torch.zeros(1, 4, dtype=torch.float64)
    costs = [logit_adjusted_loss(logits, torch.tensor([c]), COUNTS, 1.0).item() for c in range(4)]
    np.testing.assert_allclose(costs, -np.log([0.8, 0.18, 0.018, 0.002]), rtol=1e-12)


def test_gradient():
    logits, labels = random_batch()
    assert torch.autograd.gradcheck(
        lambda x: logit_adjusted_loss(x, labels, COUNTS, 1.3), logits.requires_grad_()
    )


def test_trains_as_ce_at_tau_0_and_as_balanced_softmax_at_tau_1(losses_of):
    ours = [losses_of("logit-adjustment", tau=tau) for tau in (0.0, 1.0)]
    assert ours[0] == pytest.approx(losses_of("ce"), rel=1e-5)
    assert ours[1] == pytest.approx(losses_of("balanced-softmax"), rel=1e-5)


def test_plain_logits_at_test(make_task, make_method):
    method = make_method("logit-adjustment", make_task()).eval()
    _, batch = next(method.batches())
    assert torch.equal(method.predict(batch.images), method.model(batch.images))


def test_negative_tau_is_refused():
    with pytest.raises(UserError, match=r"tau is -1\.0, but must be at least 0"):
        resolve("logit-adjustment", LogitAdjustment.Settings, [], {"tau": "-1"})
