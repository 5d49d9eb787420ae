import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import log_softmax

from lmdbench.core.errors import UserError
from lmdbench.core.settings import resolve
from lmdbench.methods.mixup import Mixup, draw_beta, mixed_cross_entropy

from .helpers import moved


@given(st.integers(2, 100), st.floats(0, 1), st.integers(0, 9))
def test_loss_is_cross_entropy_with_mixed_one_hot_labels(classes, share, seed):
    rng = np.random.default_rng(seed)
    logits, one, other = rng.normal(0, 3, (6, classes)), *rng.integers(classes, size=(2, 6))
    mixed = share * np.eye(classes)[one] + (1 - share) * np.eye(classes)[other]
    expected = -(mixed * log_softmax(logits, axis=1)).sum(axis=1).mean()
    ours = mixed_cross_entropy(*map(torch.from_numpy, (logits, one, other)), share)
    assert ours.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.2), (1.0, 1.0), (0.1, 1.0), (0.3, 1.0)])
def test_draws_are_beta_distributed(a, b):
    generator = torch.Generator().manual_seed(0)
    draws = [draw_beta(a, b, generator) for _ in range(2000)]
    assert stats.kstest(draws, stats.beta(a, b).cdf).pvalue > 0.01
    again = torch.Generator().manual_seed(0)
    assert draws[:5] == [draw_beta(a, b, again) for _ in range(5)]


def watched(method):
    """What the network is given, in turn."""
    seen = []
    method.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    return seen


def test_images_and_labels_are_mixed_alike(make_task, make_method):
    """λ and the partners are read from the mixed images, the loss is made of them anew."""
    method = make_method("mixup", make_task((8, 4, 1)), batch_size=13, alpha=1.0)
    _, batch = next(method.batches())
    seen = watched(method)
    loss = method.loss(batch)
    (mixed,) = seen
    x = batch.images.double().flatten(1)
    found = []
    for i in range(len(batch)):
        d = x - x[i]  # x̃_i − x_i = (1 − λ)(x_j − x_i)
        shift = (mixed[i].double() - batch.images[i].double()).flatten()
        scale = (d @ shift) / d.square().sum(1).clamp(min=1e-9)
        error = (scale[:, None] * d - shift).norm(dim=1)
        j = int(error.argmin()) if shift.norm() > 1e-3 else i  # i: mixed with itself
        assert error[j] < 1e-3
        found.append((j, float(scale[j])))
    rest = np.median([scale for j, scale in found if scale > 0])
    partners = torch.tensor([j for j, _ in found])
    assert sorted(partners.tolist()) == list(range(13))  # a permutation
    for i, (j, scale) in enumerate(found):
        assert i == j or scale == pytest.approx(rest, abs=1e-4)  # one λ for the batch
    logits = method.model(mixed).detach()
    both = [F.cross_entropy(logits, y) for y in (batch.labels, batch.labels[partners])]
    assert loss.item() == pytest.approx(float((1 - rest) * both[0] + rest * both[1]), rel=1e-4)


def test_alpha_0_is_cross_entropy(make_task, make_method, train):
    task = make_task()
    torch.manual_seed(0)
    ce = make_method("ce", task)
    torch.manual_seed(0)
    mixup = make_method("mixup", task, alpha=0.0)
    assert train(ce) == train(mixup)
    assert not moved(mixup, ce.state_dict())


def test_the_other_streams_are_left_alone(make_task, make_method):
    """The images come in the order and views in which they come to ce."""
    task = make_task()
    batches = []
    for name in ("ce", "mixup"):
        method = make_method(name, task)
        task.streams.start_epoch(1)
        positions = []
        for _, batch in method.batches():
            method.step(batch)
            positions.append((batch.positions.tolist(), float(batch.images.sum())))
        batches.append(positions)
    assert batches[0] == batches[1]


def test_a_resumed_epoch_draws_the_same(make_task, make_method, train):
    logs = []
    for _ in range(2):
        torch.manual_seed(0)
        logs.append(train(make_method("mixup", make_task())))
    assert logs[0] == logs[1]


def test_a_negative_alpha_is_refused():
    with pytest.raises(UserError, match="alpha is -1"):
        resolve("mixup", Mixup.Settings, [], {"alpha": "-1"})
