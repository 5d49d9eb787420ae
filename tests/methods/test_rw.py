import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.utils.class_weight import compute_class_weight

from lmdbench.methods.rw import inverse_frequency_weights, weighted_cross_entropy

from .helpers import randn, random_batch


@given(st.lists(st.integers(1, 50), min_size=2, max_size=100))
def test_weights_are_those_of_scikit_learn(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    ours = inverse_frequency_weights(torch.tensor(counts, dtype=torch.float64))
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert np.average(ours, weights=counts) == pytest.approx(1)


@given(st.integers(1, 8), st.integers(2, 20), st.integers(0, 10))
def test_formula(batch, classes, seed):
    logits, labels = random_batch(classes, batch, seed)
    weights = np.random.default_rng(seed).uniform(0.1, 5, classes)
    log_p = log_softmax(logits.numpy(), axis=1)
    total = sum(-weights[y] * log_p[i, y] for i, y in enumerate(labels.tolist()))
    ours = weighted_cross_entropy(logits, labels, torch.from_numpy(weights))
    assert ours.item() == pytest.approx(total / batch, rel=1e-10)


def test_over_the_training_set_it_is_the_mean_of_the_classes_means():
    labels = torch.tensor([0] * 9 + [1] * 3 + [2])
    logits = randn(13, 3)
    weights = inverse_frequency_weights(torch.bincount(labels).double())
    losses = F.cross_entropy(logits, labels, reduction="none")
    expected = torch.stack([losses[labels == c].mean() for c in range(3)]).mean()
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights), expected)


def test_equal_counts_are_plain_cross_entropy():
    logits, labels = random_batch()
    weights = inverse_frequency_weights(torch.full((4,), 7.0, dtype=torch.float64))
    torch.testing.assert_close(
        weighted_cross_entropy(logits, labels, weights), F.cross_entropy(logits, labels)
    )


def test_divides_by_the_batch_and_not_by_its_weights():
    logits, labels = torch.zeros(4, 2, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    weights = torch.tensor([0.5, 8.0], dtype=torch.float64)
    loss = weighted_cross_entropy(logits, labels, weights)
    assert loss.item() == pytest.approx(0.5 * math.log(2))  # a weighted mean would give log 2


def test_gradient():
    logits, labels = random_batch()
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: weighted_cross_entropy(x, labels, weights), logits.requires_grad_()
    )


def test_uses_the_training_counts(make_task, make_method):
    method = make_method("rw", make_task((12, 5, 1))).eval()
    _, batch = next(method.batches())
    weights = torch.tensor([18 / 36, 18 / 15, 18 / 3])
    losses = F.cross_entropy(method.model(batch.images), batch.labels, reduction="none")
    torch.testing.assert_close(method.loss(batch), (weights[batch.labels] * losses).mean())


def test_a_balanced_task_trains_as_ce(losses_of):
    balanced = (5, 5, 5)
    assert losses_of("rw", balanced) == pytest.approx(losses_of("ce", balanced), rel=1e-5)
