import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.logit_adjustment import logit_adjusted_loss
from lmdbench.methods.vs import VectorScaling, vs_loss

from .helpers import random_batch, random_counts

COUNTS = torch.tensor([400.0, 90.0, 9.0, 1.0], dtype=torch.float64)


@given(st.floats(0, 1), st.floats(0, 2), st.integers(2, 30), st.integers(0, 5))
def test_formula(gamma, tau, classes, seed):
    logits, labels = random_batch(classes, seed=seed)
    counts = random_counts(classes, seed)
    total = 0.0
    n = counts.tolist()
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        adjusted = [
            z[j] * (n[j] / max(n)) ** gamma + tau * math.log(n[j] / sum(n)) for j in range(classes)
        ]
        total -= log_softmax(adjusted)[y]
    ours = vs_loss(logits, labels, counts, gamma, tau)
    assert ours.item() == pytest.approx(total / len(labels), rel=1e-9)


def test_gamma_0_is_logit_adjustment_and_both_0_cross_entropy():
    logits, labels = random_batch()
    torch.testing.assert_close(
        vs_loss(logits, labels, COUNTS, 0.0, 1.3), logit_adjusted_loss(logits, labels, COUNTS, 1.3)
    )
    torch.testing.assert_close(
        vs_loss(logits, labels, COUNTS, 0.0, 0.0), F.cross_entropy(logits, labels)
    )


def test_tau_0_is_the_cdt_loss():
    """Ye et al. 2020: each logit divided by a temperature (N_max / N_c)^γ in training."""
    logits, labels = random_batch()
    temperatures = torch.tensor([(400 / n) ** 0.3 for n in (400, 90, 9, 1)])
    torch.testing.assert_close(
        vs_loss(logits, labels, COUNTS, 0.3, 0.0), F.cross_entropy(logits / temperatures, labels)
    )


def test_a_rare_class_must_have_the_larger_logit_for_the_same_loss():
    def loss(c: int, size: float) -> float:
        logits = size * torch.eye(4, dtype=torch.float64)[c][None]
        return vs_loss(logits, torch.tensor([c]), COUNTS, 0.3, 0.0).item()

    assert loss(3, 5.0) > loss(0, 5.0)
    assert loss(3, 5.0 * 400**0.3) == pytest.approx(loss(0, 5.0))


def test_gradient():
    logits, labels = random_batch()
    assert torch.autograd.gradcheck(
        lambda x: vs_loss(x, labels, COUNTS, 0.3, 1.0), logits.requires_grad_()
    )


def test_trains_as_logit_adjustment_at_gamma_0(losses_of):
    assert losses_of("vs", gamma=0.0, warmup=0.0) == pytest.approx(
        losses_of("logit-adjustment"), rel=1e-5
    )


def test_plain_logits_at_test(make_task, make_method):
    method = make_method("vs", make_task()).eval()
    _, batch = next(method.batches())
    assert torch.equal(method.predict(batch.images), method.model(batch.images))


@pytest.mark.parametrize("key", ["gamma", "tau"])
def test_negative_settings_are_refused(key):
    with pytest.raises(UserError, match="at least 0"):
        resolve("vs", VectorScaling.Settings, [], {key: "-1"})
