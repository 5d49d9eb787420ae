import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from .helpers import moved


def test_a_weighted_mean_by_effective_numbers(make_task, make_method):
    method = make_method("rw-effective", make_task((9, 4, 1)), batch_size=14, beta=0.9)
    _, batch = next(method.batches())
    effective = np.array([(1 - 0.9**n) / 0.1 for n in (9, 4, 1)])
    logits = method.model(batch.images).detach().double().numpy()
    y = batch.labels.numpy()
    losses = -log_softmax(logits, axis=1)[np.arange(14), y]
    expected = np.average(losses, weights=1 / effective[y])
    assert method.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_beta_0_is_cross_entropy(make_task, make_method, train):
    trained = []
    for name, settings in (("ce", {}), ("rw-effective", {"beta": 0.0})):
        torch.manual_seed(0)
        trained.append(make_method(name, make_task(), **settings))
        train(trained[-1])
    for key, value in trained[0].state_dict().items():
        torch.testing.assert_close(trained[1].state_dict()[key], value, rtol=1e-4, atol=1e-6)


def test_resumed_training_draws_the_same(make_task, make_method, train):
    trained = []
    for _ in range(2):
        torch.manual_seed(0)
        trained.append(make_method("rw-effective", make_task()))
        train(trained[-1])
    assert not moved(trained[0], trained[1].state_dict())
