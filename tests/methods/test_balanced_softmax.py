"""Balanced softmax end to end; its loss is tested beside `balms`."""

import numpy as np
import pytest
import torch
from scipy.special import softmax


def test_loss_is_that_of_the_paper_with_the_training_counts(make_task, make_method):
    method = make_method("balanced-softmax", make_task((12, 5, 1))).eval()
    _, batch = next(method.batches())
    with torch.no_grad():
        logits = method.model(batch.images).double().numpy()
    p = softmax(logits, axis=1) * [12, 5, 1]
    p = (p / p.sum(1, keepdims=True))[np.arange(len(batch)), batch.labels.numpy()]
    assert method.loss(batch).item() == pytest.approx(-np.log(p).mean(), rel=1e-5)


def test_plain_logits_at_test(make_task, make_method):
    method = make_method("balanced-softmax", make_task()).eval()
    _, batch = next(method.batches())
    assert torch.equal(method.predict(batch.images), method.model(batch.images))


def test_a_balanced_task_trains_as_ce(losses_of):
    balanced = (5, 5, 5)
    expected = pytest.approx(losses_of("ce", balanced), rel=1e-5)
    assert losses_of("balanced-softmax", balanced) == expected
