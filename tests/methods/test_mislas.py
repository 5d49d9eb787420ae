import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from lmdbench.methods.mislas import MiSLAS, label_aware_smoothing_loss, smoothing_factors
from lmdbench.training.method import Start

from .helpers import drawn_by_class, moved, random_batch, snapshot


@pytest.fixture
def stage1(trained):
    return trained("mixup")


@given(st.lists(st.integers(1, 9999), min_size=2, max_size=100, unique=True))
def test_factors_rise_from_the_smallest_class_to_the_largest(counts):
    ours = smoothing_factors(torch.tensor(counts, dtype=torch.float64), 0.4, 0.1).numpy()
    low, high = min(counts), max(counts)
    for n, factor in zip(counts, ours, strict=True):
        expected = 0.1 + 0.3 * math.sin(math.pi * (n - low) / (2 * (high - low)))
        assert factor == pytest.approx(expected, rel=1e-9)
    order = np.argsort(counts)
    assert (np.diff(ours[order]) >= 0).all()
    assert ours[order[[0, -1]]] == pytest.approx([0.1, 0.4])


def test_classes_of_one_size_have_the_tails_factor():
    assert smoothing_factors(torch.full((3,), 7.0), 0.3, 0.0).tolist() == [0, 0, 0]


@given(st.integers(2, 100), st.integers(0, 9))
def test_loss_is_cross_entropy_with_smoothed_labels(classes, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(0, 3, (6, classes)), rng.integers(classes, size=6)
    factors = rng.uniform(0, 0.5, classes)
    total = 0.0
    for z, y in zip(logits, labels, strict=True):
        target = np.full(classes, factors[y] / classes)
        target[y] += 1 - factors[y]
        total -= (target * log_softmax(z)).sum() / 6
    ours = label_aware_smoothing_loss(*map(torch.from_numpy, (logits, labels, factors)))
    assert ours.item() == pytest.approx(total, rel=1e-9)


def test_limits_and_gradient():
    logits, labels = random_batch()
    logits.requires_grad_()
    none, same = torch.zeros(4).double(), torch.full((4,), 0.3).double()
    loss = label_aware_smoothing_loss
    torch.testing.assert_close(loss(logits, labels, none), F.cross_entropy(logits, labels))
    smooth = F.cross_entropy(logits, labels, label_smoothing=0.3)
    torch.testing.assert_close(loss(logits, labels, same), smooth)
    factors = torch.tensor([0.3, 0.2, 0.1, 0.0]).double()
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, factors), logits)


def test_it_begins_with_the_mixup_run(stage1, make_method):
    assert isinstance(MiSLAS.starts_from, Start)
    assert (MiSLAS.starts_from.method, dict(MiSLAS.starts_from.settings)) == (
        "mixup",
        {"alpha": type(stage1).Settings().alpha},  # the run of mixup itself, as it is by default
    )
    method = make_method("mislas", stage1.task, stage1).eval()
    (batch,) = stage1.task.in_order(stage1.task.train)
    assert torch.equal(method.predict(batch.images), stage1.predict(batch.images))


def test_what_moves(stage1, make_method, train):
    """Scale and linear head; of the encoder the statistics of batch norm, or nothing."""
    for bn in ("train", "eval"):
        method = make_method("mislas", stage1.task, stage1, bn=bn)
        before = snapshot(method)
        train(method)
        statistics = {f"model.encoder.{n}" for n, _ in method.model.encoder.named_buffers()}
        head = {f"model.head.{name}" for name in ("scale", "linear.weight", "linear.bias")}
        assert moved(method, before) == head | (statistics if bn == "train" else set())
    assert MiSLAS.Settings().bn == "train"
    assert MiSLAS.Settings().epochs == 10


def test_the_linear_head_learns_at_its_own_rate(stage1, make_method):
    """One plain step: each moves by its rate times its gradient, also under the schedule."""
    method = make_method("mislas", stage1.task, stage1, lr=0.1, momentum=0.0, linear_lr=0.2)
    head = method.model.head
    method.train()
    method.progress = 0.5  # half the rate by the cosine
    _, batch = next(method.batches())
    before = [p.detach().clone() for p in (head.scale, head.linear.weight)]
    method.step(batch)
    for was, p, rate in zip(before, (head.scale, head.linear.weight), (0.05, 0.01), strict=True):
        torch.testing.assert_close(p.detach(), was - rate * p.grad)


def test_balanced_batches(stage1, make_method):
    method = make_method("mislas", stage1.task, stage1, batch_size=9)
    assert drawn_by_class(method) == [6, 6, 6]
