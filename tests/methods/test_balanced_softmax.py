"""Balanced softmax end to end; its loss is tested beside `balms`."""

import math

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


def test_a_balanced_task_trains_as_ce(make_task, make_method, train):
    losses = [
        train(make_method(name, make_task((5, 5, 5))))[-1]["loss"]
        for name in ("balanced-softmax", "ce")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("counts", [(9, 1), (3,) + (1,) * 99])
def test_trains_with_2_and_100_classes(make_task, make_method, train, counts):
    task = make_task(counts, validation=1)
    method = make_method("balanced-softmax", task, epochs=1, batch_size=16)
    before = [p.clone() for p in method.parameters()]
    (logs,) = train(method)
    assert math.isfinite(logs["loss"])
    assert all(not torch.equal(a, b) for a, b in zip(before, method.parameters(), strict=True))
