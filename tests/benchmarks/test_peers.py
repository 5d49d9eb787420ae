"""What ours is compared with does what it is said to do."""

import numpy as np
import torch
from peers import measure_peer, numpy_features, train_head
from torch import nn

from lmdbench.bench.workload import Workload


def test_draws_have_the_mean_and_covariance_of_their_class():
    rng = np.random.default_rng(0)
    mixing = np.array([[1.0, 0.0], [2.0, 0.5]])
    features = rng.normal(size=(400, 2)) @ mixing.T
    labels = np.repeat([0, 1], 200)
    features[labels == 1] += 10
    drawn, drawn_labels = numpy_features(features, labels, 20_000, 0.25)
    assert drawn_labels.bincount().tolist() == [20_000, 20_000]
    for c in (0, 1):
        own, like = features[labels == c], drawn[drawn_labels == c].double().numpy()
        assert np.allclose(like.mean(axis=0), own.mean(axis=0), atol=0.1)
        wanted = np.cov(own, rowvar=False) + 0.25 * np.eye(2)
        assert np.allclose(np.cov(like, rowvar=False), wanted, rtol=0.1)


def test_the_head_learns():
    torch.manual_seed(0)
    labels = torch.arange(2).repeat_interleave(50)
    features = torch.randn(100, 3) + 4.0 * labels[:, None]
    head = nn.Linear(3, 2)
    sgd = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(5):
        train_head(head, sgd, features, labels, 10)
    assert (head(features).argmax(dim=1) == labels).float().mean() > 0.9


def test_both_are_measured():
    small = Workload(torch.device("cpu"), "plain", None, "small", 32, 4, 60, 3, 40, 0.0)
    found = measure_peer(small)
    assert found["times_as_fast"] == found["peer_seconds"] / found["ours_seconds"]
    assert (found["features_wide"], found["classes"]) == (96, 3)
